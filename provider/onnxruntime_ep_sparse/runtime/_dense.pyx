"""Products with few pixels and few zeros: the weights with all their zeros, in slices of as many rows as a vector has lanes.

Where few pixels share a weight, its way from memory and the place of its column cost more than the multiplication. Above some 20 to 40 %
nonzeros it is cheaper to read and multiply the zeros too, column after column, with nothing to look up (runtime/_few.pyx has the choice).
A zero adds nothing to a finite chain, so results are those of the other layouts bit for bit.
"""

from libc.stdint cimport int32_t, int64_t

from ._packed cimport GatherGroup, Panel, Product, ProductPlan, column, counts
from ._structs cimport *
from ._weight_store cimport shared_new, shared_settled
cimport onnxruntime_ep_sparse_kernels.table as t

cdef enum:
    NEAR_SLICES = 12      # whose weights stay near from the first pixels to the last; kernels take 4, 3 or 2 at a time

cdef float* dense_of(const GatherGroup* group, int64_t lanes) noexcept nogil:
    """Make a group's dense layout out of its panel; NULL without memory."""
    cdef const Panel* panel = &group.panel
    cdef int64_t mr = panel.mr, depth = group.channels, slices = ceil_div(panel.rows, lanes), b, g, r, j, k
    cdef const int32_t* row
    cdef float* value = <float*>shared_new(slices * depth * lanes * sizeof(float))
    if value == NULL:
        return NULL
    for b in range(group.blocks):
        for g in range(panel.groups):
            row = panel.row + (b * panel.groups + g) * mr
            for j in range(panel.row_start[b * (panel.groups + 1) + g], panel.row_start[b * (panel.groups + 1) + g + 1]):
                for r in range(mr):
                    # what packing has added to fill a group stands at the place of a nonzero
                    if counts(row, r) and panel.value[j * mr + r] != 0:
                        k = column(panel, j * mr + r if panel.columns == mr else j)
                        value[(row[r] // lanes * depth + k) * lanes + row[r] % lanes] = panel.value[j * mr + r]
    return <float*>shared_settled(value)


cdef void dense_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some rows of one image, for all its pixels: a part of the weights is read once, and stays near for the pixels after the first."""
    cdef Step* step = job.step
    cdef Product* p = <Product*>step.spec
    cdef ProductPlan* q = <ProductPlan*>job.sp.own
    cdef t.KernelTable* kernels = job.program.kernels
    cdef int64_t chunk = index % q.chunks, image = index // q.chunks, slices, blocks, begin, end, pixel, pixels, parts, part, row, rows
    cdef const float* x = job.x + (q.image_x[image] if q.image_x != NULL else image * q.x_image)
    cdef const float* r = job.r + image * q.y_image if job.r != NULL else NULL
    cdef float* y = job.y + image * q.y_image
    cdef Panel* panel = &p.groups[q.image_group[image] if q.image_group != NULL else 0].panel
    cdef t.DenseCall call
    slices = ceil_div(panel.rows, kernels.lanes)
    blocks = ceil_div(slices, DENSE_SLICES)
    begin = chunk * blocks // q.chunks * DENSE_SLICES
    end = (chunk + 1) * blocks // q.chunks * DENSE_SLICES
    end = end if end < slices else slices
    row = begin * kernels.lanes
    rows = end * kernels.lanes - row
    rows = rows if row + rows < panel.rows else panel.rows - row
    parts = ceil_div(q.pixels, kernels.dense_rows)
    call.value = panel.dense
    call.slice_step = p.channels * kernels.lanes
    call.value_step = kernels.lanes
    call.bias = p.bias + panel.row_begin % p.M
    call.bias_stride = 0
    call.x_stride = p.channels
    call.y_stride = p.M
    call.scale = 1
    call.depth = p.channels
    call.rows = panel.rows
    while begin < end:
        call.slice_begin = begin
        begin = begin + NEAR_SLICES if begin + NEAR_SLICES < end and parts > 1 else end
        call.slice_end = begin
        for part in range(parts):
            pixel = part * q.pixels // parts
            pixels = (part + 1) * q.pixels // parts - pixel
            call.x = x + pixel * p.channels
            call.y = y + pixel * p.M
            kernels.dense[pixels](&call)
    if p.scale != NULL:
        for pixel in range(q.pixels):
            kernels.binary(y + pixel * p.M + row, y + pixel * p.M + row, 1, p.scale + panel.row_begin % p.M + row, 1, rows, BINARY_MUL)
    if r != NULL or step.act != ACT_NONE:
        for pixel in range(q.pixels):
            kernels.activate(y + pixel * p.M + row, y + pixel * p.M + row, r + pixel * p.M + row if r != NULL else NULL, rows,
                             <t.Act>step.act, step.alpha, step.beta)
