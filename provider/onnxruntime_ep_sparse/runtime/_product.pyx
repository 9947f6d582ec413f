"""Items of products and of depthwise convolutions at run time.

An item of a product gathers its tile block by block and lets the tile kernels run over its rows. A band of a depthwise convolution goes
straight through the product behind it, hence both stand here.
"""

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

from ._job cimport Job, runs_per_item
from ._sell cimport sell_item
from ._structs cimport *
from ._tiles cimport list_runs
cimport onnxruntime_ep_sparse_kernels.table as t

cdef enum:
    # Nonzeros of a row below which its place in the output is fetched early (or the residual's): a third less time for 64 -> 256 1x1,
    # with long rows 4 % more.
    FETCH_ENTRIES = 32


cdef t.Run* tile_runs(Job* job, float* scratch, int64_t slice_, int64_t tile, int64_t flat) noexcept nogil:
    """The runs of a tile, followed by the first run of every unit: the plan's, or made here where the plan has none."""
    cdef ProductPlan* q = &job.sp.product
    cdef t.Run* run
    if q.run_table != NULL:
        return <t.Run*>(q.run_table + (slice_ * q.tiles + tile) * run_bytes(job.step.product, q))
    run = runs_of(job, scratch)
    if not job.step.product.x_rows:
        list_runs(job.step.product, &job.step.window, q, slice_, flat, run, <int32_t*>(run + q.runs))
    return run


cdef void gather_block(Job* job, GatherGroup* group, int64_t b, int64_t image, int64_t flat, const t.Run* run, const int32_t* unit_run,
                       float* tile) noexcept nogil:
    """The pixels that the taps of units [bounds[b], bounds[b + 1]) of a group need for one tile."""
    cdef Product* p = job.step.product
    cdef ProductPlan* q = &job.sp.product
    cdef Offsets* o = q.offsets
    cdef t.KernelTable* kernels = job.program.kernels
    cdef int64_t unit = group.bounds[b], end = group.bounds[b + 1], channel, u, position = 0, rows
    cdef int64_t plane = q.in_depth * q.in_height * q.in_width
    cdef const float* x = job.x + (q.image_x[image] if q.image_x != NULL else image * q.x_image)
    cdef const float* x_end = job.x + q.x_floats
    if p.x_rows:
        rows = q.flat - flat
        if rows > o.width:
            rows = o.width
        kernels.gather_rows(tile, o.width, x + flat * p.channels + group.channel_begin + unit, p.channels, rows, end - unit)
        return
    if p.units == 1:
        for u in range(unit_run[1]):
            position += run[u].length
        if position < o.channel_floats:
            memset(tile, 0, block_floats(p, q, group, b) * sizeof(float))
    # Unit u of every channel from the first to the last that has it in this block.
    position = tile_position(p, o, unit)
    for u in range(p.units):
        channel = (unit - u + p.units - 1) // p.units
        kernels.gather(tile + tile_position(p, o, channel * p.units + u) - position, o.channel_floats,
                       x + (group.channel_begin + channel) * plane, plane, (end - u + p.units - 1) // p.units - channel,
                       run + unit_run[u], unit_run[u + 1] - unit_run[u], job.step.window.stride[2], x_end)


cdef inline int64_t group_floats(const Product* p, const ProductPlan* q) noexcept nogil:
    cdef int64_t most = 0
    cdef int g
    for g in range(p.n_groups):
        if p.groups[g].channels > most:
            most = p.groups[g].channels
    return most * q.offsets.channel_floats + 16


cdef void product_decode(const Job* job, int64_t index, int64_t* image, int64_t* slice_, int64_t* tile, int64_t* group) noexcept nogil:
    cdef Product* p = job.step.product
    cdef ProductPlan* q = &job.sp.product
    if q.image_group == NULL:
        group[0] = index % p.n_groups
        index //= p.n_groups
    tile[0] = index % q.tiles
    index //= q.tiles
    slice_[0] = index % q.slices
    image[0] = index // q.slices
    if q.image_group != NULL:
        group[0] = q.image_group[image[0]]


cdef void gather_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """One block of one tile of one group, into the memory that the row chunks share."""
    cdef Product* p = job.step.product
    cdef ProductPlan* q = &job.sp.product
    cdef int64_t image, slice_, tile, g, count, position, part = index // q.most_blocks, b = index % q.most_blocks
    cdef float* target = job.shared + part * group_floats(p, q)
    cdef t.Run* run
    product_decode(job, part, &image, &slice_, &tile, &g)
    if b >= p.groups[g].blocks:
        return
    position = slice_tile(q, job.program.kernels.lanes, tile, &count) * job.program.kernels.lanes
    run = tile_runs(job, scratch, slice_, tile, position)
    gather_block(job, &p.groups[g], b, image, position, run, <int32_t*>(run + q.runs),
                 target + tile_position(p, q.offsets, p.groups[g].bounds[b]))


cdef inline int64_t block_floats(const Product* p, const ProductPlan* q, const GatherGroup* group, int64_t b) noexcept nogil:
    return tile_position(p, q.offsets, group.bounds[b + 1]) - tile_position(p, q.offsets, group.bounds[b])


cdef void product_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """One tile of pixels times the rows of one group, or of one chunk of them."""
    cdef Product* p = job.step.product
    cdef ProductPlan* q = &job.sp.product
    cdef Offsets* o = q.offsets
    cdef t.KernelTable* kernels = job.program.kernels
    cdef GatherGroup* group
    cdef Panel* panel
    cdef int64_t image, slice_, tile, g, b, v, step, count, position, chunk, y_place, widest, plane
    cdef int64_t part, y_image
    cdef int32_t begin, end
    cdef float* pixels
    cdef float* shared
    cdef float* partial
    cdef t.Run* run
    cdef bint clamps, direct, last, fetches
    cdef int act             # left to finish_rows
    cdef t.SpmmCall call
    chunk = index % q.chunks
    part = index // q.chunks
    product_decode(job, part, &image, &slice_, &tile, &g)
    group = &p.groups[g]
    panel = &group.panel
    widest = kernels.widest[panel.mr]
    begin = <int32_t>(chunk * panel.strips // q.chunks) * (STRIP // panel.mr)
    end = panel.groups if chunk == q.chunks - 1 else <int32_t>((chunk + 1) * panel.strips // q.chunks) * (STRIP // panel.mr)
    call.row_begin = begin
    call.row_end = end
    position = slice_tile(q, kernels.lanes, tile, &count)
    plane = q.y_plane
    y_image = image * q.y_image
    # The last block is stored into y where a row of the tile is a run of the output; else into `partial`, as the sums of the blocks
    # before, and finish_rows copies what is valid.
    clamps = job.step.act == ACT_NONE or job.step.act == ACT_CLAMP
    direct = clamps and not p.y_rows and (q.pitch == q.out_width or q.out_height == 1) and (position + count) * kernels.lanes <= q.flat
    act = ACT_NONE if clamps and job.r == NULL else job.step.act
    partial = scratch + (o.block_floats + 15) // 16 * 16 + 16
    run = NULL if q.shared_gather else tile_runs(job, scratch, slice_, tile, position * kernels.lanes)
    shared = job.shared + part * group_floats(p, q) if q.shared_gather else NULL
    call.low = job.step.alpha if job.step.act == ACT_CLAMP else <float>(-1.0 / 0.0)
    call.high = job.step.beta if job.step.act == ACT_CLAMP else <float>(1.0 / 0.0)
    call.partial_stride = o.width
    call.ahead = NULL
    fetches = panel.entries < FETCH_ENTRIES * panel.groups
    for b in range(group.blocks):
        if shared != NULL:
            pixels = shared
            shared += block_floats(p, q, group, b)
        else:
            pixels = scratch
            gather_block(job, group, b, image, position * kernels.lanes, run, <int32_t*>(run + q.runs), pixels)
        last = b == group.blocks - 1
        call.row_start = panel.row_start + b * (panel.groups + 1)
        call.row = panel.row + b * panel.groups * panel.mr
        call.offset = o.offset + group.offset_begin
        call.value = panel.value
        call.bias = p.bias + panel.row_begin % p.M if b == 0 else NULL
        call.finish = last and (direct or act == ACT_NONE)
        v = 0
        while v < count:
            step = count - v if count - v < widest else widest
            call.tile = pixels + v * kernels.lanes
            call.partial = partial + v * kernels.lanes
            if direct and last:
                y_place = y_image + panel.row_begin % p.M * plane + slice_ * q.pixels + (position + v) * kernels.lanes
                call.y = job.y + y_place
                call.y_stride = plane
                call.residual = job.r + y_place if job.r != NULL else NULL
                if fetches:
                    call.ahead = call.residual if job.r != NULL else call.y
            else:
                call.y = partial + v * kernels.lanes
                call.y_stride = o.width
                call.residual = NULL
            kernels.spmm[panel.mr][step](&call)
            v += step
    if not direct:
        begin *= panel.mr
        end = panel.rows if chunk == q.chunks - 1 else end * panel.mr
        finish_rows(job, panel.row_begin % p.M + begin, end - begin, partial + begin * o.width, image, slice_, position * kernels.lanes,
                    count * kernels.lanes, runs_of(job, scratch), act)


cdef void few_pixels_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    sell_item(job.step, &job.sp.product, job.program.kernels, index, job.x, job.r, job.y, scratch)


cdef inline t.Run* runs_of(const Job* job, float* scratch) noexcept nogil:
    """Room for a tile's runs at the end of a worker's scratch, followed by the first run of every unit."""
    return <t.Run*>(scratch + job.scratch_floats - run_bytes(job.step.product, &job.sp.product) // sizeof(float))


cdef void finish_rows(Job* job, int64_t row, int64_t rows, float* partial, int64_t image, int64_t slice_, int64_t flat,
                      int64_t length, t.Run* run, int act) noexcept nogil:
    """Residual and activation that the kernel left out, and the way from tile positions to the output's own order."""
    cdef Product* p = job.step.product
    cdef ProductPlan* q = &job.sp.product
    cdef t.KernelTable* kernels = job.program.kernels
    cdef int64_t width = q.offsets.width, plane = q.y_plane, place, stop, line, column, end
    cdef int n = 0
    end = flat + length if flat + length < q.flat else q.flat
    if p.y_rows:
        place = image * q.y_image + flat * p.M + row
        kernels.scatter_rows(job.y + place, p.M, partial, width, end - flat, rows, job.r + place if job.r != NULL else NULL,
                             <t.Act>act, job.step.alpha, job.step.beta)
        return
    place = image * q.y_image + row * plane + slice_ * q.pixels
    line = flat // q.pitch
    column = flat - line * q.pitch
    length = flat
    while length < end:
        stop = q.out_width - column
        if stop > end - length:
            stop = end - length
        if stop > 0:
            if n and q.pitch == q.out_width:
                run[n - 1].length += <int32_t>stop
            else:
                run[n].source = length - flat
                run[n].target = <int32_t>(line * q.out_width + column)
                run[n].length = <int32_t>stop
                n += 1
        length += q.pitch - column
        column = 0
        line += 1
    kernels.scatter(job.y + place, plane, partial, width, rows, run, n, job.r + place if job.r != NULL else NULL,
                    <t.Act>act, job.step.alpha, job.step.beta)


cdef void depthwise_begin(Job* job, float* scratch, t.Depthwise* d) noexcept nogil:
    """What is the same for all planes of a depthwise convolution."""
    cdef Window* w = &job.step.window
    cdef Shape* x = &job.plan.values[job.step.x].shape
    cdef Shape* y = &job.plan.values[job.step.y].shape
    cdef bint clamps = job.step.act == ACT_CLAMP and job.step.r == NONE
    cdef int i
    for i in range(3):
        d.size[i] = x.dims[x.rank - 3 + i] if 3 - i <= w.rank else 1
        d.kernel[i] = w.kernel[i]
        d.stride[i] = w.stride[i]
        d.dilation[i] = w.dilation[i]
        d.pad[i] = job.sp.pad[i]
    d.low = job.step.alpha if clamps else <float>(-1.0 / 0.0)
    d.high = job.step.beta if clamps else <float>(1.0 / 0.0)
    d.slice = 0
    d.out_width = y.dims[w.rank + 1]
    memset(scratch, 0, d.size[2] * sizeof(float))
    d.zeros = scratch
    d.lines = <const float**>(scratch + (d.size[2] + 15) // 16 * 16)


cdef void depthwise_rows(Job* job, t.Depthwise* d, int64_t image, int64_t m, float* y, const float* residual) noexcept nogil:
    """Rows [row_begin, row_end) of one plane of the output, which begins at `y` as that of the residual at `residual`."""
    cdef Depthwise* p = job.step.depthwise
    cdef int64_t place = d.row_begin * d.out_width
    d.x = job.x + (image * p.channels + m * p.channels // p.M) * d.size[0] * d.size[1] * d.size[2]
    d.y = y
    d.value = p.value + m * d.kernel[0] * d.kernel[1] * d.kernel[2]
    d.bias = p.bias[m]
    job.program.kernels.depthwise(d)
    if residual != NULL or not (job.step.act == ACT_NONE or job.step.act == ACT_CLAMP):
        job.program.kernels.activate(y + place, y + place, residual + place if residual != NULL else NULL,
                                     (d.row_end - d.row_begin) * d.out_width, <t.Act>job.step.act, job.step.alpha, job.step.beta)


cdef void depthwise_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some bands of planes."""
    cdef Window* w = &job.step.window
    cdef Shape* y = &job.plan.values[job.step.y].shape
    cdef StepPlan* sp = job.sp
    cdef int64_t per = runs_per_item(sp), run, plane, rows, bands, slices, place
    cdef t.Depthwise d
    depthwise_begin(job, scratch, &d)
    rows = y.dims[w.rank] if w.rank > 1 else 1
    slices = y.dims[2] if w.rank > 2 else 1
    bands = (rows + sp.band - 1) // sp.band
    for run in range(index * per, sp.items if (index + 1) * per > sp.items else (index + 1) * per):
        plane = run // bands
        d.slice = plane % slices
        d.row_begin = run % bands * sp.band
        d.row_end = d.row_begin + sp.band if d.row_begin + sp.band < rows else rows
        place = plane * rows * d.out_width
        depthwise_rows(job, &d, plane // slices // y.dims[1], plane // slices % y.dims[1], job.y + place,
                       job.r + place if job.r != NULL else NULL)


cdef void band_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """A depthwise convolution and the pointwise product behind it, one band of rows through both. `job` has the result of the product."""
    cdef StepPlan* sp = job.sp
    cdef Shape* between = &job.plan.values[job.step.y].shape
    cdef int64_t channels = between.dims[1], height = between.dims[2], width = between.dims[3], image = index // sp.bands
    cdef int64_t m, i, pixels, place
    cdef float* band = scratch + sp.band_offset
    cdef Job second = job[0]
    cdef StepPlan second_plan = sp[1]
    cdef ProductPlan* q = &second_plan.product
    cdef t.Depthwise d
    depthwise_begin(job, scratch + sp.lines_offset, &d)
    d.row_begin = index % sp.bands * height // sp.bands
    d.row_end = (index % sp.bands + 1) * height // sp.bands
    pixels = (d.row_end - d.row_begin) * width
    for m in range(channels):
        depthwise_rows(job, &d, image, m, band + m * pixels - d.row_begin * width, NULL)
    # the product sees the band as its image
    place = image * q.y_image + d.row_begin * width
    q.in_width = q.out_width = q.pitch = q.pixels = q.flat = pixels
    q.x_floats = channels * pixels
    second.step = job.step + 1
    second.sp = &second_plan
    second.x = band
    second.y = job.y + place
    second.r = job.r + place if job.r != NULL else NULL
    for i in range(second_plan.items):
        product_item(&second, i, scratch)
