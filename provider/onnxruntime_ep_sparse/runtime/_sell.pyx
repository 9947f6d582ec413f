"""Products with few pixels: a classifier after a pool, one token of a sequence, one step of a recurrent net.

With one pixel there is nothing to multiply a weight with but one number, so a vector holds rows instead of pixels: slices of as many rows
as it has lanes, entry by entry, the rows of a strip ordered by length (SELL-C-sigma, Kreutzer et al. 2014, with C = lanes and
sigma = STRIP). The weights are read once, all of K in one go. With some pixels a vector holds all of them for some rows of the slice; with
as many as it has lanes, for one row. The chain of every output is that of the tile kernels, so results are the same bit for bit.
"""

from libc.stdint cimport int32_t, int64_t, uint16_t
from libc.stdlib cimport calloc, free, malloc

from ._packed cimport GatherGroup, Panel, Product, ProductPlan, Sell, column, counts, scale_rows, sell_free
from ._structs cimport *
from ._weight_store cimport shared_drop, shared_new, shared_settled
cimport onnxruntime_ep_sparse_kernels.table as t

cdef Sell* sell_of(const GatherGroup* group, int64_t lanes) noexcept nogil:
    """Make a group's SELL out of its panel; NULL without memory."""
    cdef const Panel* panel = &group.panel
    cdef int64_t mr = panel.mr, rows = panel.rows, slices = (rows + lanes - 1) // lanes, b, g, r, m, i, j, n = 0, longest, slice_
    cdef const int32_t* row
    cdef int32_t* length_of
    cdef int32_t* order
    cdef int64_t* next_
    cdef Sell* sell
    length_of = <int32_t*>calloc(rows + 1, sizeof(int32_t))
    order = <int32_t*>shared_new(slices * lanes * sizeof(int32_t))
    next_ = <int64_t*>malloc((rows + 1) * sizeof(int64_t))
    sell = <Sell*>calloc(1, sizeof(Sell))
    if sell != NULL:
        sell.slices = <int32_t>slices
        sell.start = <int32_t*>shared_new((slices + 1) * sizeof(int32_t))
    if length_of == NULL or order == NULL or next_ == NULL or sell == NULL or sell.start == NULL:
        free(length_of)
        shared_drop(order)
        free(next_)
        sell_free(sell)
        return NULL
    for b in range(group.blocks):
        for g in range(panel.groups):
            row = panel.row + (b * panel.groups + g) * mr
            for j in range(panel.row_start[b * (panel.groups + 1) + g], panel.row_start[b * (panel.groups + 1) + g + 1]):
                for r in range(mr):
                    if counts(row, r):
                        length_of[row[r]] += panel.value[j * mr + r] != 0
    for m in range(rows):
        # insertion sort within the strip: stable, and strips are short
        i = m
        while i > m - m % STRIP and length_of[order[i - 1]] > length_of[m]:
            order[i] = order[i - 1]
            i -= 1
        order[i] = <int32_t>m
    for i in range(rows, slices * lanes):
        order[i] = order[rows - 1]
    sell.row = order
    for slice_ in range(slices):
        sell.start[slice_] = <int32_t>n
        longest = 0
        for i in range(lanes):
            m = order[slice_ * lanes + i]
            longest = length_of[m] if length_of[m] > longest else longest
        n += longest
    sell.start[slices] = <int32_t>n
    sell.k = <uint16_t*>shared_new(n * lanes * sizeof(uint16_t))
    sell.value = <float*>shared_new(n * lanes * sizeof(float))
    if sell.k == NULL or sell.value == NULL:
        free(length_of)
        free(next_)
        sell_free(sell)
        return NULL
    for i in range(rows):
        next_[order[i]] = sell.start[i // lanes] * lanes + i % lanes
    for b in range(group.blocks):
        for g in range(panel.groups):
            row = panel.row + (b * panel.groups + g) * mr
            for j in range(panel.row_start[b * (panel.groups + 1) + g], panel.row_start[b * (panel.groups + 1) + g + 1]):
                for r in range(mr):
                    if counts(row, r) and panel.value[j * mr + r] != 0:
                        m = row[r]
                        sell.k[next_[m]] = <uint16_t>column(panel, j * mr + r if panel.columns == mr else j)
                        sell.value[next_[m]] = panel.value[j * mr + r]
                        next_[m] += lanes
    for slice_ in range(slices):
        for i in range(slice_ * lanes, (slice_ + 1) * lanes):
            m = order[i]
            if i >= rows:
                # the last row again: same result, same place
                for j in range(sell.start[slice_], sell.start[slice_ + 1]):
                    sell.k[j * lanes + i % lanes] = sell.k[j * lanes + (rows - 1) % lanes]
                    sell.value[j * lanes + i % lanes] = sell.value[j * lanes + (rows - 1) % lanes]
                continue
            # the shorter ones end with zeros at their own last column
            for j in range(sell.start[slice_] + length_of[m], sell.start[slice_ + 1]):
                if length_of[m]:
                    sell.k[j * lanes + i % lanes] = sell.k[(j - 1) * lanes + i % lanes]
    free(length_of)
    free(next_)
    sell.start = <int32_t*>shared_settled(sell.start)
    sell.row = <int32_t*>shared_settled(sell.row)
    sell.k = <uint16_t*>shared_settled(sell.k)
    sell.value = <float*>shared_settled(sell.value)
    return sell


cdef int64_t sell_floats(const Product* p, const ProductPlan* q, int64_t lanes) noexcept nogil:
    """Scratch of a worker: a tile of x and one of y, where there is more than one pixel."""
    return (p.channels + p.M) * lanes + 16 if q.pixels > 1 else 0


cdef void sell_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some rows of one image and one tile of pixels."""
    cdef Step* step = job.step
    cdef Product* p = <Product*>step.spec
    cdef ProductPlan* q = <ProductPlan*>job.sp.own
    cdef t.KernelTable* kernels = job.program.kernels
    cdef const float* x = job.x
    cdef const float* r = job.r
    cdef float* y = job.y
    cdef int64_t chunk = index % q.chunks, tile, image, pixel, pixels, row, rows, width
    cdef GatherGroup* group
    cdef Sell* sell
    cdef t.SellCall call
    index //= q.chunks
    tile = index % q.tiles
    image = index // q.tiles
    group = &p.groups[q.image_group[image] if q.image_group != NULL else 0]
    sell = group.panel.sell
    row = chunk * group.panel.strips // q.chunks * STRIP
    rows = (chunk + 1) * group.panel.strips // q.chunks * STRIP
    if rows > group.panel.rows:
        rows = group.panel.rows
    rows -= row
    call.start = sell.start
    call.row = sell.row
    call.k = sell.k
    call.value = sell.value
    call.bias = p.bias + group.panel.row_begin % p.M
    call.partial = NULL
    call.slice_begin = <int32_t>(row // kernels.lanes)
    call.slice_end = <int32_t>((row + rows + kernels.lanes - 1) // kernels.lanes)
    pixel = tile * kernels.lanes
    pixels = q.pixels - pixel if q.pixels - pixel < kernels.lanes else kernels.lanes
    x += (q.image_x[image] if q.image_x != NULL else image * q.x_image) + pixel * p.channels
    y += image * q.y_image + pixel * p.M
    if r != NULL:
        r += image * q.y_image + pixel * p.M
    if q.pixels == 1:
        call.x = x
        call.y = y
        kernels.sell[1](&call)
        if p.scale != NULL:
            kernels.binary(y + row, y + row, 1, p.scale + group.panel.row_begin % p.M + row, 1, rows, BINARY_MUL)
        if r != NULL or step.act != ACT_NONE:
            kernels.activate(y + row, y + row, r + row if r != NULL else NULL, rows, <t.Act>step.act, step.alpha, step.beta)
        return
    width = sell_width(kernels, pixels)
    if width == 1:
        call.x = x
    else:
        kernels.gather_rows(scratch, width, x, p.channels, pixels, p.channels)
        call.x = scratch
    call.y = scratch + p.channels * kernels.lanes
    kernels.sell[width](&call)
    if p.scale != NULL:
        scale_rows(kernels, p.scale + group.panel.row_begin % p.M + row, call.y + row * width, width, rows, width)
    kernels.scatter_rows(y + row, p.M, call.y + row * width, width, pixels, rows, r + row if r != NULL else NULL,
                         <t.Act>step.act, step.alpha, step.beta)
