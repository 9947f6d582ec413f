"""Products by packed weights: Conv, Gemm, MatMul.

An item of a product gathers its tile block by block and lets the tile kernels run over its rows.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free
from libc.string cimport memset

from ._packed cimport *
from ._sections cimport section
from ._dealt_product cimport dealt_item, place_dealt, plan_dealt, product_deals
from ._dense cimport dense_item
from ._sell cimport sell_item, sell_width
from ._infer cimport infer_addend
from ._structs cimport *
from ._tiles cimport is_one_row, list_runs, offsets_return, plan_product
from ._windows cimport infer_window
cimport onnxruntime_ep_sparse_kernels.table as t

cdef enum:
    # Nonzeros of a row below which its place in the output is fetched early (or the residual's): a third less time for 64 -> 256 1x1,
    # with long rows 4 % more.
    FETCH_ENTRIES = 32


cdef void product_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Product)
    ops.plan_size = sizeof(ProductPlan)
    ops.build = build
    ops.release = release
    ops.infer = infer
    ops.plan = plan_step
    ops.release_plan = release_plan
    ops.sections = sections
    ops.overwrites = overwrites
    ops.deals = product_deals
    ops.placed = place_dealt
    ops.leaves = True
    ops.variant = variant
    ops.reads = reads
    ops.band = product_band
    ops.scaled = gathers_pixels


cdef int build(Step* step, object spec) except -1:
    return fill_product(<Product*>step.spec, spec)


cdef void release(void* spec) noexcept nogil:
    release_product(<Product*>spec)


# --- shapes


cdef int infer(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef Product* p = <Product*>step.spec
    cdef ProductPlan* q = <ProductPlan*>sp.own
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t rows
    if p.shape_rule == SHAPE_CONV:
        if infer_window(&p.window, x, p.channels, p.M, False, False, y, q.pad, q.pad_end, message, message_size):
            return 1
    elif p.shape_rule == SHAPE_GEMM:
        if x.rank != 2 or x.dims[1 if p.x_rows else 0] != p.channels:
            snprintf(message, message_size, "Gemm input does not fit weights with K = %lld", <long long>p.channels)
            return 1
        rows = x.dims[0 if p.x_rows else 1]
        y.rank = 2
        y.dims[0] = rows if p.y_rows else p.M
        y.dims[1] = p.M if p.y_rows else rows
    elif infer_matmul(p, x, y, message, message_size):
        return 1
    infer_addend(plan, step, sp)
    return 0


cdef int infer_matmul(const Product* p, const Shape* x, Shape* y, char* message, size_t message_size) noexcept nogil:
    """MatMul: promote vectors, broadcast the batch dimensions, drop what was promoted."""
    cdef int i, b, rank, dims = x.rank - 2 if x.rank > 1 else 0
    cdef int64_t u, v
    u = x.dims[x.rank - 1] if (p.shape_rule == SHAPE_MATMUL_RIGHT or x.rank == 1) else x.dims[x.rank - 2]
    if x.rank < 1 or u != p.channels:
        snprintf(message, message_size, "MatMul input does not fit weights with K = %lld", <long long>p.channels)
        return 1
    rank = dims if dims > p.batch.rank else p.batch.rank
    for i in range(rank):
        u = x.dims[dims - rank + i] if dims - rank + i >= 0 else 1
        b = p.batch.rank - rank + i
        v = p.batch.dims[b] if b >= 0 else 1
        if u != v and u != 1 and v != 1:
            snprintf(message, message_size, "MatMul batch dimensions %lld and %lld do not broadcast", <long long>u, <long long>v)
            return 1
        y.dims[i] = v if u == 1 else u
    if p.shape_rule == SHAPE_MATMUL_RIGHT:
        if x.rank > 1:
            y.dims[rank] = x.dims[x.rank - 2]
            rank += 1
        if not p.vector_operand:
            y.dims[rank] = p.M
            rank += 1
    else:
        if not p.vector_operand:
            y.dims[rank] = p.M
            rank += 1
        if x.rank > 1:
            y.dims[rank] = x.dims[x.rank - 1]
            rank += 1
    y.rank = rank
    return 0


# --- plan


cdef int plan_step(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Geometry, and what the step does, for profiles."""
    cdef Step* step = &program.steps[index]
    cdef StepPlan* sp = &plan.steps[index]
    cdef Product* p = <Product*>step.spec
    cdef ProductPlan* q = <ProductPlan*>sp.own
    cdef int64_t i, pixels
    cdef GatherGroup* group
    if (plan_dealt if sp.dealt else plan_product)(program, plan, index):
        return 1
    for i in range(q.images if q.image_group != NULL else p.n_groups):
        group = &p.groups[q.image_group[i] if q.image_group != NULL else i]
        sp.work.macs += group.nonzeros
        sp.work.dense_macs += group.weights
    pixels = q.y_plane if q.image_group != NULL else plan.values[step.y].size // max(p.M, 1)
    sp.work.macs *= pixels
    sp.work.dense_macs *= pixels
    return 0


cdef void release_plan(const Step* step, StepPlan* sp) noexcept nogil:
    cdef ProductPlan* q = <ProductPlan*>sp.own
    offsets_return(<Product*>step.spec, q.offsets)
    free(q.image_x)
    free(q.image_group)
    free(q.run_table)


cdef void variant(const CompiledProgram* program, const Plan* plan, const Step* step, const StepPlan* sp, Variant* v) noexcept nogil:
    cdef const ProductPlan* q = <const ProductPlan*>sp.own
    cdef int64_t lanes = program.kernels.lanes
    cdef int64_t width = q.tile_vectors
    if q.layout == LAYOUT_SELL:
        width = sell_width(program.kernels, min(q.pixels, lanes))
    elif q.layout == LAYOUT_DENSE:
        width = ceil_div(q.pixels, ceil_div(q.pixels, program.kernels.dense_rows))
    layout_variant(program.kernels, <const Product*>step.spec, q.layout, width, v)
    if sp.dealt:
        v.layout = b"dealt"
    elif q.layout == LAYOUT_ROWS:
        v.layout = b"rows"
    elif q.shared_gather:
        v.layout = b"tiles gathered once"


cdef void layout_variant(const t.KernelTable* kernels, const Product* p, Layout layout, int64_t width, Variant* v) noexcept nogil:
    cdef int mr = p.groups[0].panel.mr
    cdef int g
    for g in range(p.n_groups):
        v.nonzeros += p.groups[g].nonzeros
    v.width = width
    if layout == LAYOUT_SELL:
        v.kernel = b"sell"
        v.layout = b"SELL"
    elif layout == LAYOUT_DENSE:
        v.kernel = b"dense"
        v.layout = b"with zeros"
    else:
        v.kernel = b"spmm_f32"
        v.rows = mr
        v.width = call_vectors(width, kernels.widest[mr]) if width else 0
        v.layout = b"tiles"


cdef Operand overwrites(const Step* step, const StepPlan* sp) noexcept nogil:
    """Return the residual if its elements stand at the same places as those of the result."""
    if step.r == NONE or sp.leaves or (<Product*>step.spec).y_rows or (<ProductPlan*>sp.own).layout != LAYOUT_TILES:
        return NO_OPERAND
    return OPERAND_R


# --- one execution


cdef int sections(const Job* job, Section* sections) noexcept nogil:
    """List the sections of the step: tiles are gathered once beforehand, or each item does that."""
    cdef ProductPlan* q = <ProductPlan*>job.sp.own
    cdef Item item = product_item
    cdef int count = 0
    if q.side:
        # the next step does it
        return 0
    if job.sp.dealt:
        item = dealt_item
    elif q.layout == LAYOUT_SELL:
        item = sell_item
    elif q.layout == LAYOUT_DENSE:
        item = dense_item
    elif q.layout == LAYOUT_ROWS:
        item = rows_item
    elif q.shared_gather:
        sections[0] = section(gather_item, job.sp.items // q.chunks * q.most_blocks, True)
        count = 1
    sections[count] = section(item, job.sp.items, job.sp.parallel)
    return count + 1


cdef t.Run* tile_runs(Job* job, float* scratch, int64_t slice_, int64_t tile, int64_t flat) noexcept nogil:
    """Return the runs of a tile, followed by the first run of every unit: the plan's, or new ones if the plan has none."""
    cdef Product* p = <Product*>job.step.spec
    cdef ProductPlan* q = <ProductPlan*>job.sp.own
    cdef t.Run* run
    if q.run_table != NULL:
        return <t.Run*>(q.run_table + (slice_ * q.tiles + tile) * run_bytes(p, q))
    run = runs_of(job, scratch)
    if not p.x_rows:
        list_runs(p, q, slice_, flat, run, <int32_t*>(run + q.runs))
    return run


cdef void gather_block(Job* job, GatherGroup* group, int64_t b, int64_t image, int64_t flat, const t.Run* run, const int32_t* unit_run,
                       float* tile) noexcept nogil:
    """Gather the pixels that the taps of units [bounds[b], bounds[b + 1]) of a group need for one tile."""
    cdef Product* p = <Product*>job.step.spec
    cdef ProductPlan* q = <ProductPlan*>job.sp.own
    cdef Offsets* o = q.offsets
    cdef t.KernelTable* kernels = job.program.kernels
    cdef int64_t unit = group.bounds[b], end = group.bounds[b + 1], channel, u, position = 0, rows
    cdef int64_t plane = q.x_plane
    cdef const float* x = job.x + (q.image_x[image] if q.image_x != NULL else image * q.x_image)
    cdef const float* x_end = job.x + q.x_floats
    cdef t.Scaled scaled
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
        if job.scaled.factor != NULL:
            scaled = job.scaled
            scaled.factor += image * job.scaled_step + group.channel_begin + channel
            if scaled.addend != NULL:
                scaled.addend += group.channel_begin + channel
        kernels.gather(tile + tile_position(p, o, channel * p.units + u) - position, o.channel_floats,
                       x + (group.channel_begin + channel) * plane, plane, (end - u + p.units - 1) // p.units - channel,
                       run + unit_run[u], unit_run[u + 1] - unit_run[u], p.window.stride[2], x_end,
                       &scaled if job.scaled.factor != NULL else NULL)


cdef inline int64_t group_floats(const Product* p, const ProductPlan* q) noexcept nogil:
    cdef int64_t most = 0
    cdef int g
    for g in range(p.n_groups):
        if p.groups[g].channels > most:
            most = p.groups[g].channels
    return most * q.offsets.channel_floats + 16


cdef void product_decode(const Job* job, int64_t index, int64_t* image, int64_t* slice_, int64_t* tile, int64_t* group) noexcept nogil:
    cdef Product* p = <Product*>job.step.spec
    cdef ProductPlan* q = <ProductPlan*>job.sp.own
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
    """Gather one block of one tile of one group into the memory that the row chunks share."""
    cdef Product* p = <Product*>job.step.spec
    cdef ProductPlan* q = <ProductPlan*>job.sp.own
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


cdef inline bint begins(const Job* job, int64_t part) noexcept nogil:
    """Return whether the range of a worker begins with this tile: it fetches weights from memory, where the next tiles find them near."""
    cdef int64_t parts = job.sp.items // (<ProductPlan*>job.sp.own).chunks, workers = job.program.workers if job.sp.parallel else 1
    return part == 0 or part * workers // parts != (part - 1) * workers // parts


cdef void product_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Multiply one tile of pixels by the rows of one group, or of one chunk of them."""
    cdef Product* p = <Product*>job.step.spec
    cdef ProductPlan* q = <ProductPlan*>job.sp.own
    cdef Offsets* o = q.offsets
    cdef t.KernelTable* kernels = job.program.kernels
    cdef GatherGroup* group
    cdef Panel* panel
    cdef int64_t image, slice_, tile, g, b, v, step, count, position, chunk, y_place, widest, plane, whole
    cdef int64_t part, y_image
    cdef int32_t begin, end, row, n
    cdef float* pixels
    cdef float* shared
    cdef float* partial
    cdef t.Run* run
    cdef bint clamps, direct, last, fetches, pixel
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
    # The last vector of a tile may have a single pixel, as that of a 7x7 image has: the last call then takes it after its other vectors.
    # Calls before it have `whole` vectors, not one alone, which would take as long as two.
    whole = count - 1 - kernels.pixel_vectors
    pixel = panel.mr == SHARED and (whole == 0 or whole > 1) and (position + count - 1) * kernels.lanes == q.flat - 1
    # The last block is stored into y where a row of the tile is a run of the output; else into `partial`, as the sums of the blocks
    # before, and finish_rows copies what is valid.
    clamps = kernels_finish(p, job.step)
    direct = clamps and not p.y_rows and (
        is_one_run(q, position * kernels.lanes, q.flat if pixel else (position + count) * kernels.lanes))
    act = ACT_NONE if clamps and job.r == NULL else job.step.act
    partial = scratch + (o.block_floats + 15) // 16 * 16 + 16
    run = NULL if q.shared_gather else tile_runs(job, scratch, slice_, tile, position * kernels.lanes)
    shared = job.shared + part * group_floats(p, q) if q.shared_gather else NULL
    set_bounds(job.step, job.step.act == ACT_CLAMP, &call.low, &call.high)
    call.partial_stride = o.width
    call.ahead = NULL
    t.read_tile(&call)
    call.far = begins(job, part)
    fetches = panel.entries < FETCH_ENTRIES * panel.groups
    for b in range(group.blocks):
        if shared != NULL:
            pixels = shared
            shared += block_floats(p, q, group, b)
        else:
            pixels = scratch
            gather_block(job, group, b, image, position * kernels.lanes, run, <int32_t*>(run + q.runs), pixels)
        last = b == group.blocks - 1
        read_block(&call, panel, b)
        call.offset = o.offset + group.offset_begin
        call.value = panel.value
        call.bias = p.bias + panel.row_begin % p.M if b == 0 else NULL
        call.finish = last and (direct or act == ACT_NONE)
        v = 0
        while v < count:
            step = call_vectors((whole if pixel and v < whole else count) - v, widest)
            call.tile = pixels + v * kernels.lanes
            call.partial = partial + v * kernels.lanes
            if direct and last:
                y_place = y_image + panel.row_begin % p.M * plane + slice_ * q.pixels + in_plane(q, (position + v) * kernels.lanes)
                call.y = job.y + y_place
                call.y_stride = plane
                call.residual = job.r + y_place if job.r != NULL else NULL
                if fetches:
                    call.ahead = call.residual if job.r != NULL else call.y
            else:
                call.y = partial + v * kernels.lanes
                call.y_stride = o.width
                call.residual = NULL
            if pixel and v == whole:
                kernels.spmm_pixel(&call)
                break
            kernels.spmm[panel.mr][step](&call)
            v += step
    if not direct:
        begin *= panel.mr
        end = panel.rows if chunk == q.chunks - 1 else end * panel.mr
        while begin < end:
            n = rows_together(panel, call.row, begin, end, &row)
            if p.scale != NULL:
                scale_rows(kernels, p.scale + panel.row_begin % p.M + row, partial + row * o.width, o.width, n, count * kernels.lanes)
            finish_rows(job, panel.row_begin % p.M + row, n, partial + row * o.width, image, slice_, position * kernels.lanes,
                        count * kernels.lanes, runs_of(job, scratch), act)
            begin += n


cdef void rows_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Multiply a tile of whole rows of pixels: the kernels write each row of the output where it belongs."""
    cdef Product* p = <Product*>job.step.spec
    cdef ProductPlan* q = <ProductPlan*>job.sp.own
    cdef t.KernelTable* kernels = job.program.kernels
    cdef GatherGroup* group
    cdef Panel* panel
    cdef int64_t image, slice_, tile, g, row, rows, left, step, column, at, plane = q.y_plane, first, below, stride = p.window.stride[1]
    cdef const Shape* x = &job.plan.values[job.step.x].shape
    cdef int64_t height = x.dims[x.rank - 2]
    cdef const float* source
    cdef t.Run* run
    cdef t.Run whole
    cdef t.SpmmCall call
    product_decode(job, index, &image, &slice_, &tile, &g)
    group = &p.groups[g]
    panel = &group.panel
    first = tile * q.tile_rows
    rows = min(q.tile_rows, q.out_height - first)
    run = tile_runs(job, scratch, slice_, tile, first * q.pitch)
    gather_block(job, group, 0, image, first * q.pitch, run, <int32_t*>(run + q.runs), scratch)
    call.row_begin = 0
    call.row_end = panel.groups
    t.read_tile(&call)
    read_block(&call, panel, 0)
    call.offset = q.offsets.offset + group.offset_begin
    call.value = panel.value
    call.bias = p.bias + panel.row_begin % p.M
    call.finish = kernels_finish(p, job.step)
    set_bounds(job.step, job.step.act == ACT_CLAMP, &call.low, &call.high)
    call.residual = NULL
    call.ahead = NULL
    call.y_stride = plane
    at = image * q.y_image + panel.row_begin % p.M * plane + slice_ * q.pixels + first * q.out_width
    whole.source = whole.target = 0
    whole.length = <int32_t>q.out_width
    # The rows of the input below those that this tile reads: the next tile reads them. In bands it is an item of another call.
    below = (first + rows) * stride - q.pad[1] + (p.window.kernel[1] - 1) * p.window.dilation[1] + 1 - stride
    source = job.x + image * q.x_image + group.channel_begin * q.x_plane
    call.next_step = q.x_plane
    call.next_floats = stride * q.in_width
    for row in range(rows):
        call.next = source + below * q.in_width
        call.next_runs = group.channels if p.window.rank == 2 and 0 <= below and below + stride <= height else 0
        below += stride
        left = ceil_div(q.out_width, kernels.lanes)
        column = 0
        while left:
            step = min(call_vectors(left, kernels.widest[panel.mr]), q.out_width // kernels.lanes)
            column = min(column, q.out_width - step * kernels.lanes)
            call.tile = scratch + row * q.pitch + column
            call.y = job.y + at + column
            kernels.spmm[panel.mr][step](&call)
            call.next_runs = 0
            column += step * kernels.lanes
            left -= step
        if not call.finish:
            kernels.scatter(job.y + at, plane, job.y + at, plane, panel.rows, &whole, 1, NULL, <t.Act>job.step.act, job.step.alpha,
                            job.step.beta)
        at += q.out_width


cdef bint reads(const CompiledProgram* program, const Plan* plan, int index, Reach* reach) noexcept nogil:
    """Return whether images have one group of channels."""
    cdef Step* step = &program.steps[index]
    cdef Product* p = <Product*>step.spec
    cdef Shape* y = &plan.values[step.y].shape
    if p.shape_rule != SHAPE_CONV or p.n_groups != 1 or p.window.rank != 2 or y.dims[2] * y.dims[3] == 1:
        return False
    reach.pad = (<ProductPlan*>plan.steps[index].own).pad[1]
    reach.step = p.window.stride[1]
    reach.rows = (p.window.kernel[1] - 1) * p.window.dilation[1] + 1
    reach.macs = p.macs
    reach.last = step.r != NONE
    return True


cdef bint gathers_pixels(const CompiledProgram* program, const Plan* plan, int index) noexcept nogil:
    """Return whether the tiles of a convolution hold each pixel of an image once."""
    cdef Step* step = &program.steps[index]
    cdef Product* p = <Product*>step.spec
    cdef Shape* y = &plan.values[step.y].shape
    return p.shape_rule == SHAPE_CONV and p.n_groups == 1 and p.taps == 1 and p.window.rank == 2 and y.dims[2] * y.dims[3] > 1


cdef void product_band(Job* job, const Band* band, float* scratch) noexcept nogil:
    """Compute rows of an image: for the tiles they are an image of their own, whose padding tells which rows of x they read."""
    cdef Product* p = <Product*>job.step.spec
    cdef ProductPlan q = (<ProductPlan*>job.sp.own)[0]
    cdef StepPlan sp = job.sp[0]
    cdef Job own = job[0]
    cdef int64_t rows = band.end - band.begin, begin, i
    cdef Item item = product_item
    own.x = band.x
    if is_one_row(p, &q):
        i = job.plan.values[job.step.x].shape.dims[3]
        own.x += band.begin * i
        begin = band.begin * i
        q.in_width = q.out_width = q.pitch = q.flat = rows * i
    else:
        begin = band.begin * q.out_width
        q.pad[1] -= band.begin * p.window.stride[1]
        q.out_height = rows
        q.flat = (rows - 1) * q.pitch + q.out_width
    q.x_plane = band.x_plane
    q.y_plane = band.y_plane
    q.x_floats = band.x_end - own.x
    if q.layout == LAYOUT_ROWS:
        q.tiles = ceil_div(rows, q.tile_rows)
        # rows below are not computed yet
        q.in_height = min(q.in_height, (rows - 1) * p.window.stride[1] - q.pad[1] + (p.window.kernel[1] - 1) * p.window.dilation[1] + 1)
        item = rows_item
    else:
        q.tiles = ceil_div(ceil_div(q.flat, job.program.kernels.lanes), q.tile_vectors)
    sp.own = &q
    own.sp = &sp
    own.y = band.y + begin
    own.r = band.r + begin if band.r != NULL else NULL
    for i in range(q.tiles * q.chunks):
        item(&own, i, scratch)


cdef inline int32_t rows_together(const Panel* panel, const int32_t* rows, int32_t begin, int32_t end, int32_t* row) noexcept nogil:
    """Return how many of the rows at [begin, end) of the order of a panel follow each other from the first of them on, which is `row`."""
    cdef int32_t n = 1
    if not panel.anywhere:
        row[0] = begin
        return end - begin
    row[0] = rows[begin]
    while begin + n < end and rows[begin + n] == row[0] + n:
        n += 1
    return n


cdef inline t.Run* runs_of(const Job* job, float* scratch) noexcept nogil:
    """Room for a tile's runs at the end of a worker's scratch, followed by the first run of every unit."""
    return <t.Run*>(scratch + job.scratch_floats - run_bytes(<Product*>job.step.spec, <ProductPlan*>job.sp.own) // sizeof(float))


cdef inline int64_t in_plane(const ProductPlan* q, int64_t flat) noexcept nogil:
    """Return where a position of tiles stands in an output plane."""
    return flat if q.pitch == q.y_line else flat // q.pitch * q.y_line + flat % q.pitch


cdef inline bint is_one_run(const ProductPlan* q, int64_t flat, int64_t end) noexcept nogil:
    """Return whether positions [flat, end) of tiles follow each other in an output plane."""
    return end <= q.flat and (q.pitch == q.y_line or flat % q.pitch + end - flat <= q.out_width)


cdef int output_runs(const ProductPlan* q, int64_t flat, int64_t end, t.Run* run) noexcept nogil:
    """Set the runs of an output plane that positions [flat, end) of its tiles fill; return how many there are."""
    cdef int64_t line = flat // q.pitch, at = flat, column, stop
    cdef int n = 0
    column = flat - line * q.pitch
    while at < end:
        stop = min(q.out_width - column, end - at)
        if stop > 0:
            if n and q.pitch == q.y_line:
                run[n - 1].length += <int32_t>stop
            else:
                run[n].source = at - flat
                run[n].target = <int32_t>(line * q.y_line + column)
                run[n].length = <int32_t>stop
                n += 1
        at += q.pitch - column
        column = 0
        line += 1
    return n


cdef void finish_rows(Job* job, int64_t row, int64_t rows, float* partial, int64_t image, int64_t slice_, int64_t flat,
                      int64_t length, t.Run* run, int act) noexcept nogil:
    """Residual and activation that the kernel left out, and the way from tile positions to the output's own order."""
    cdef Product* p = <Product*>job.step.spec
    cdef ProductPlan* q = <ProductPlan*>job.sp.own
    cdef t.KernelTable* kernels = job.program.kernels
    cdef int64_t width = q.offsets.width, plane = q.y_plane, place, end
    cdef int n
    end = flat + length if flat + length < q.flat else q.flat
    if p.y_rows:
        place = image * q.y_image + flat * p.M + row
        kernels.scatter_rows(job.y + place, p.M, partial, width, end - flat, rows, job.r + place if job.r != NULL else NULL,
                             <t.Act>act, job.step.alpha, job.step.beta)
        return
    place = image * q.y_image + row * plane + slice_ * q.pixels
    n = output_runs(q, flat, end, run)
    kernels.scatter(job.y + place, plane, partial, width, rows, run, n, job.r + place if job.r != NULL else NULL,
                    <t.Act>act, job.step.alpha, job.step.beta)
