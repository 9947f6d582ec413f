"""Convolutions of dealt images: the kernels read the pixels where they stand, and write the result where the next step reads it. A result
that may not stand dealt is brought into ONNX's order line by line.

An item is some rows of one tile, a run of vectors. It goes down the rows, and within a row through the slices of the depth, so that of the
lines that a window reads only one comes from far for each line of the result; the kernels fetch it, and the place of the next line of the
result, while they compute the line before.
"""

from libc.stdint cimport int32_t, int64_t

from ._dealt cimport Dealt, can_be_dealt, dealt_as, dealt_images, dealt_line, dealt_operand, dealt_value, write_halo, write_in_order
from ._packed cimport *
from ._sections cimport IDLE_PERCENT, PARALLEL_FROM, idle_percent
from ._structs cimport *
from ._tiles cimport offsets_take
from ._windows cimport Window
cimport onnxruntime_ep_sparse_kernels.table as t

cdef enum:
    # Rows of an item, where the workers end together with so many: the first row of each finds its lines in no cache (U-Net 512, AVX2, one
    # thread: 161 ms with 8, 157 with 16, 151 with 64).
    BAND_ROWS = 64


cdef int64_t channels_around(const CompiledProgram* program, const Plan* plan, int value) noexcept nogil:
    """Channels among which those of a value may stand: of the largest value that it is concatenated into."""
    cdef int64_t most = plan.values[value].shape.dims[1]
    cdef int s
    for s in range(program.n_steps):
        if program.steps[s].x == value and program.steps[s].ops.joins:
            most = max(most, channels_around(program, plan, program.steps[s].y))
    return most


cdef bint product_deals(const CompiledProgram* program, const Plan* plan, int index, const Deal* deal, double* gain) noexcept nogil:
    """Return whether a product is dealt: windows of up to 3x3 or 3x3x3 pixels that keep the size of images. It gathers nothing then, and
    loads whole vectors."""
    cdef const Step* step = &program.steps[index]
    cdef const Step* before = step - 1
    cdef const Product* p = <const Product*>step.spec
    cdef const ProductPlan* q = <const ProductPlan*>plan.steps[index].own
    cdef const Shape* x = &plan.values[step.x].shape
    cdef const Shape* y = &plan.values[step.y].shape
    cdef const GatherGroup* group = &p.groups[0]
    cdef const Window* w = &p.window
    cdef int64_t channel, slice_, reach, b, units = p.units, widest = program.kernels.widest[group.panel.mr]
    cdef double vectors, gathers
    cdef Dealt d
    cdef int i
    if p.shape_rule != SHAPE_CONV or w.rank < 2 or p.n_groups != 1 or plan.steps[index].apart or not can_be_dealt(x, deal) or (
            not can_be_dealt(y, deal)):
        return False
    if element_count(x, 2, x.rank) < program.dealt_pixels:
        return False
    # after a depthwise convolution, which cannot be dealt, but can run in bands with this product
    if index and before.y == step.x and before.ops.deals == NULL and before.ops.reads != NULL and plan.steps[index - 1].view != WHOLE_VIEW:
        return False
    for i in range(3):
        if w.stride[i] != 1 or w.dilation[i] != 1 or w.kernel[i] > 3 or w.kernel[i] % 2 == 0 or (
                q.pad[i] != w.kernel[i] // 2 or q.pad_end[i] != w.kernel[i] // 2):
            return False
    d = dealt_images(deal, x, x.dims[1])
    channel = d.channel // deal.lanes
    slice_ = channels_around(program, plan, step.x) * channel
    # a vector's distance from the first one that a block reads has 16 bits
    for b in range(group.blocks):
        reach = (ceil_div(group.bounds[b + 1], units) - group.bounds[b] // units) * channel
        if reach + ((w.kernel[1] - 1) * (d.slices + 2 * d.around) + w.kernel[0] - 1) * slice_ > 0xFFFF:
            return False
    vectors = <double>d.vectors / ceil_div(d.vectors, widest)
    # of windows with depth more is gathered (32 -> 32 3x3x3 @32x64x64, 90 %, AVX2: 15.0 ms, dealt 11.1 with calls of four vectors)
    gathers = 1.25 if w.rank == 2 else 1.5
    gain[0] = <double>p.macs * element_count(y, 0, y.rank) / p.M * (
        (gathers - widest * (vectors + 2) / ((widest + 2) * vectors)) if program.dealt_pixels else 1e9)
    return True


cdef int plan_dealt(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Tiles, and items: images x bands of rows x tiles."""
    cdef Step* step = &program.steps[index]
    cdef StepPlan* sp = &plan.steps[index]
    cdef Product* p = <Product*>step.spec
    cdef ProductPlan* q = <ProductPlan*>sp.own
    cdef Dealt d = dealt_as(plan, &plan.values[step.y].shape)
    q.images = d.images
    q.layout = LAYOUT_TILES
    q.tiles = ceil_div(d.vectors, p.max_vectors if p.groups[0].panel.mr == SHARED else program.kernels.widest[p.groups[0].panel.mr])
    q.tile_vectors = ceil_div(d.vectors, q.tiles)
    q.chunks = ceil_div(d.rows, BAND_ROWS)
    sp.parallel = program.workers > 1 and p.macs * plan.values[step.y].size // p.M > PARALLEL_FROM
    while sp.parallel and q.chunks < d.rows and idle_percent(q.images * q.tiles * q.chunks, program.workers) > IDLE_PERCENT:
        q.chunks += 1
    sp.items = q.images * q.tiles * q.chunks
    need_scratch(plan, p.M * q.tile_vectors * program.kernels.lanes + 16)
    return 0


cdef int place_dealt(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Take the offsets, which depend on the distance between rows."""
    cdef Step* step = &program.steps[index]
    cdef StepPlan* sp = &plan.steps[index]
    cdef ProductPlan* q = <ProductPlan*>sp.own
    cdef Dealt d = dealt_operand(plan, step, sp)
    q.offsets = offsets_take(<Product*>step.spec, d.row // plan.deal.lanes, d.channel // plan.deal.lanes, d.slice // plan.deal.lanes)
    return q.offsets == NULL


cdef void dealt_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Compute the rows of a band of one tile."""
    cdef Product* p = <Product*>job.step.spec
    cdef ProductPlan* q = <ProductPlan*>job.sp.own
    cdef Dealt x = dealt_operand(job.plan, job.step, job.sp), y, r
    cdef GatherGroup* group = &p.groups[0]
    cdef Panel* panel = &group.panel
    cdef t.KernelTable* kernels = job.program.kernels
    cdef int64_t lanes = kernels.lanes, widest = kernels.widest[panel.mr], image, band, tile, first, count, line, begin, end, b, v, step, c
    cdef int64_t row, slice_, next_row, next_slice, ahead_y, ahead_r = 0, stride = q.tile_vectors * lanes
    cdef int64_t reach[3]
    cdef bint clamps = kernels_finish(p, job.step), direct = clamps and not job.sp.leaves, last, more
    cdef int act = ACT_NONE if clamps and job.r == NULL else job.step.act      # left to what follows the kernels
    cdef float* target
    cdef const float* source
    cdef const float* far
    cdef const float* residual = NULL
    cdef const float* dealt_r = NULL if job.sp.leaves else job.r
    cdef t.Run whole
    cdef t.SpmmCall call
    y = dealt_as(job.plan, &job.plan.values[job.step.y].shape) if job.sp.leaves else dealt_value(job.plan, job.step.y)
    tile = index % q.tiles
    band = index // q.tiles % q.chunks
    image = index // q.tiles // q.chunks
    first = tile * y.vectors // q.tiles
    count = (tile + 1) * y.vectors // q.tiles - first
    call.row_begin = 0
    call.row_end = panel.groups
    call.value = panel.value
    call.offset = q.offsets.offset + group.offset_begin
    call.offset_shift = 2 if lanes == 4 else (3 if lanes == 8 else 4)
    set_bounds(job.step, job.step.act == ACT_CLAMP, &call.low, &call.high)
    call.partial_stride = stride
    call.next_step = x.channel
    whole.source = 0
    whole.target = 0
    whole.length = <int32_t>(count * lanes)
    if dealt_r != NULL:
        r = dealt_value(job.plan, job.step.r)
    for c in range(3):
        reach[c] = p.window.kernel[c] // 2
    end = (band + 1) * y.rows // q.chunks * y.slices
    begin = band * y.rows // q.chunks * y.slices
    for line in range(begin, end):
        more = line + 1 < end
        call.far = line == begin
        row = line // y.slices
        slice_ = line % y.slices
        next_row = (line + 1) // y.slices
        next_slice = (line + 1) % y.slices
        source = job.x + dealt_line(&x, image, row - reach[1], slice_ - reach[0]) + (first + 1 - reach[2]) * lanes
        far = job.x + dealt_line(&x, image, next_row + reach[1], next_slice + reach[0]) + (first + 1 - reach[2]) * lanes
        target = job.y + dealt_line(&y, image, row, slice_) + (first + 1) * lanes
        ahead_y = dealt_line(&y, image, next_row, next_slice) - dealt_line(&y, image, row, slice_)
        if dealt_r != NULL:
            residual = dealt_r + dealt_line(&r, image, row, slice_) + (first + 1) * lanes
            ahead_r = dealt_line(&r, image, next_row, next_slice) - dealt_line(&r, image, row, slice_)
        for b in range(group.blocks):
            last = b == group.blocks - 1
            c = group.bounds[b] // p.units
            read_block(&call, panel, b)
            call.bias = p.bias if b == 0 else NULL
            call.finish = last and (direct or act == ACT_NONE)
            v = 0
            while v < count:
                step = call_vectors(count - v, widest)
                call.tile = source + c * x.channel + v * lanes
                call.partial = scratch + v * lanes
                call.ahead = NULL
                if last and direct:
                    call.y = target + v * lanes
                    call.y_stride = y.channel
                    call.residual = residual + v * lanes if residual != NULL else NULL
                    if more:
                        call.ahead = call.residual + ahead_r if residual != NULL else call.y + ahead_y
                else:
                    call.y = scratch + v * lanes
                    call.y_stride = stride
                    call.residual = NULL
                # of the next line's window the line that comes from farthest, the channels of this block
                call.next = far + c * x.channel + v * lanes
                call.next_runs = ceil_div(group.bounds[b + 1], p.units) - c if more else 0
                call.next_floats = (step + 2 * reach[2]) * lanes
                kernels.spmm[panel.mr][step](&call)
                v += step
        if not direct:
            scale_rows(kernels, p.scale, scratch, stride, p.M, count * lanes)
        if job.sp.leaves:
            write_in_order(job, job.y, job.r, &y, image, row, slice_, first, count, scratch, stride, act)
            continue
        if not direct:
            kernels.scatter(target, y.channel, scratch, stride, p.M, &whole, 1, residual, <t.Act>act, job.step.alpha, job.step.beta)
        write_halo(&job.plan.deal, &y, job.y + image * y.image, p.M, row, slice_, first, first + count)
