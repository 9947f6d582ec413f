"""Products of bytes by packed weights of 8 bits: quantised Conv, Gemm, MatMul.

Geometry, runs and offsets are those of `runtime/_tiles.pyx`, with tiles of bytes, or of int32 that hold a byte of four channels each. A
tile is gathered block by block; sums of all blocks but the last wait in int32. `program/kinds/byte_product.py` says what is computed.
"""

import numpy as np

from libc.math cimport rintf
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint8_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from ._from_python cimport memory_of
from ._packed cimport *
from ._product cimport infer, output_runs, release_plan
from ._quantising cimport *
from ._sections cimport IDLE_PERCENT, PARALLEL_FROM, idle_percent
from ._structs cimport *
from ._tiles cimport keep_runs, list_runs, offsets_take, row_pitch, set_geometry, tiles_for
from ._weight_store cimport shared_drop
cimport onnxruntime_ep_sparse_kernels.table as t
from onnxruntime_ep_sparse_kernels.table_bytes cimport ByteKernels, BytesCall, spmm_bytes_t

cdef enum:
    FOUR = 4                 # weights of a value, channels of a block
    # Entries of a row below which its place in the output is fetched early.
    FETCH_ENTRIES = 16
    # Vectors of pixels up to which the kernels for few pixels take less time than a unit.
    FEW_VECTORS_OF_INT32 = 2
    # Sums of an item that wait between K blocks: half of a 512 KB L2.
    PARTIAL_SUMS = 64 * 1024

cdef enum:
    ZERO                     # places in Step.more
    FACTOR
    RUN_TIME_VALUES

cdef struct ByteProduct:
    Product product          # first: functions for products read it
    Quantising quantising
    bint blocks
    bint zipped              # the weights of four columns of K are an entry
    int32_t* sums            # of the weights of each row, where the zero point of x is a value; else NULL
    float* addend            # of float32 results, or NULL

cdef struct BytePlan:
    ProductPlan q            # first, likewise
    int64_t unit             # pixels of a call of the kernels
    spmm_bytes_t kernel
    int64_t tile_bytes
    int64_t sums             # of all rows of a tile
    int64_t results          # bytes of all rows of a tile
    int64_t rows             # of the largest group
    int64_t quads            # columns of K by fours, where these are an entry
    int32_t* place           # of each column in a tile, four for a quad
    uint16_t* offset         # of entries


cdef void byte_product_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(ByteProduct)
    ops.plan_size = sizeof(BytePlan)
    ops.build = build
    ops.release = release
    ops.infer = infer_bytes
    ops.plan = plan_step
    ops.release_plan = release_bytes
    ops.item = item
    ops.variant = variant


cdef int build(Step* step, object spec) except -1:
    cdef ByteProduct* data = <ByteProduct*>step.spec
    fill_product(&data.product, spec.product)
    fill_quantising(&data.quantising, spec)
    data.blocks = spec.blocks
    data.zipped = spec.zipped
    if spec.sums__m is not None:
        data.sums = <int32_t*>memory_of(spec.sums__m, np.float32)
    step.n_more = RUN_TIME_VALUES
    step.more[ZERO] = spec.zero
    step.more[FACTOR] = spec.factor
    if spec.addend__m is not None:
        data.addend = <float*>memory_of(spec.addend__m, np.float32)
    return 0


cdef void release(void* spec) noexcept nogil:
    cdef ByteProduct* data = <ByteProduct*>spec
    release_product(&data.product)
    release_quantising(&data.quantising)
    shared_drop(data.sums)
    shared_drop(data.addend)


cdef int infer_bytes(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef int i
    cdef int64_t size, rows = (<Product*>step.spec).M
    for i in range(RUN_TIME_VALUES):
        size = plan.values[step.more[i]].size if step.more[i] != NONE else 1
        if size != 1 and (i == ZERO or size != rows):
            snprintf(message, message_size, "%s %lld elements, %s are expected",
                     b"a zero point has" if i == ZERO else b"factors of the scales have", <long long>size,
                     b"1" if i == ZERO else b"1 or as many as rows")
            return 1
    return infer(plan, step, sp, message, message_size)


cdef int plan_step(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Tiles, items and offsets; 0 on success."""
    cdef Step* step = &program.steps[index]
    cdef StepPlan* sp = &plan.steps[index]
    cdef ByteProduct* data = <ByteProduct*>step.spec
    cdef Product* p = &data.product
    cdef BytePlan* own = <BytePlan*>sp.own
    cdef ProductPlan* q = &own.q
    cdef ByteKernels* kernels = program.byte_kernels
    cdef int64_t unit = kernels.unit, units, parts, work, width, i, pixels, rows = 0
    cdef int g, n
    if set_geometry(plan, step, sp):
        return 1
    row_pitch(p, q)
    q.flat = (q.out_height - 1) * q.pitch + q.out_width if q.pixels else 0
    own.kernel = kernels.blocks if data.blocks or data.zipped else kernels.quads
    if data.blocks and q.flat <= FEW_VECTORS_OF_INT32 * kernels.lanes:
        own.kernel = kernels.few
        unit = kernels.lanes
    own.unit = unit
    units = ceil_div(q.flat, unit)
    q.tiles = ceil_div(units, p.max_vectors)
    work = FOUR * p.macs * units * unit * q.images * q.slices
    sp.parallel = work > FOUR * PARALLEL_FROM and program.workers > 1
    parts = q.images * q.slices * (1 if q.image_group != NULL else p.n_groups)
    if sp.parallel:
        q.tiles = tiles_for(q.tiles, units, parts, program.workers)
    q.tile_vectors = ceil_div(units, q.tiles) if q.tiles else 1
    width = q.tile_vectors * unit
    parts *= q.tiles
    for g in range(p.n_groups):
        rows = max(rows, p.groups[g].panel.rows)
        q.most_blocks = max(q.most_blocks, p.groups[g].blocks)
    q.chunks = 1
    if q.most_blocks > 1:
        q.chunks = max(1, p.groups[0].panel.rows * width // PARTIAL_SUMS)
    q.chunks = min(q.chunks, p.groups[0].panel.strips)
    while sp.parallel and parts and q.chunks < p.groups[0].panel.strips and idle_percent(parts * q.chunks, program.workers) > IDLE_PERCENT:
        q.chunks += 1
    sp.items = parts * q.chunks if q.pixels else 0
    q.offsets = offsets_take(p, q.pitch, width, 0)
    if q.offsets == NULL:
        return 1
    q.runs = p.n_segments * 2
    for n in range(p.n_segments):
        q.runs += 2 * (ceil_div(width + p.segments[n].reach_x, q.pitch) + p.segments[n].reach_y + 2)
    own.tile_bytes = (q.offsets.block_floats + kernels.unit) * (FOUR if data.blocks else 1)
    own.sums = rows * width if q.most_blocks > 1 else 0
    own.results = rows * width * plan.values[step.y].bytes
    own.rows = rows
    if data.zipped and place_columns(data, own):
        return 1
    need_scratch(plan, (whole_lines(own.tile_bytes) + whole_lines(own.quads * unit * sizeof(int32_t)) +
                        whole_lines(own.sums * sizeof(int32_t)) + whole_lines(own.results) + whole_lines(run_bytes(p, q)) +
                        2 * whole_lines(rows * sizeof(int32_t))) // <int64_t>sizeof(float))
    keep_runs(p, q, unit)
    for i in range(q.images if q.image_group != NULL else p.n_groups):
        g = q.image_group[i] if q.image_group != NULL else <int>i
        sp.work.macs += p.groups[g].nonzeros
        sp.work.dense_macs += p.groups[g].weights
    pixels = q.y_plane if q.image_group != NULL else plan.values[step.y].size // max(p.M, 1)
    sp.work.macs *= pixels
    sp.work.dense_macs *= pixels
    return 0


cdef int place_columns(const ByteProduct* data, BytePlan* own) noexcept nogil:
    """List where columns stand in a tile, and where entries read the zipped ones; 0 on success."""
    cdef const Product* p = &data.product
    cdef const Panel* panel = &p.groups[0].panel
    cdef const Offsets* o = own.q.offsets
    cdef int64_t i, k = 0, tap, depth = p.channels * p.taps
    own.quads = ceil_div(depth, FOUR)
    own.place = <int32_t*>malloc(own.quads * FOUR * sizeof(int32_t))
    own.offset = <uint16_t*>malloc((panel.offsets + 1) * sizeof(uint16_t))
    if own.place == NULL or own.offset == NULL:
        return 1
    for i in range(p.channels):
        for tap in range(p.taps):
            own.place[k] = <int32_t>(i * o.channel_floats + o.base[tap])
            k += 1
    while k < own.quads * FOUR:
        # columns beyond the last have weights of 0
        own.place[k] = own.place[depth - 1]
        k += 1
    for i in range(panel.offsets):
        own.offset[i] = <uint16_t>(column(panel, i) * own.unit)
    return 0


cdef void release_bytes(const Step* step, StepPlan* sp) noexcept nogil:
    cdef BytePlan* own = <BytePlan*>sp.own
    free(own.place)
    free(own.offset)
    release_plan(step, sp)


cdef void variant(const CompiledProgram* program, const Plan* plan, const Step* step, const StepPlan* sp, Variant* v) noexcept nogil:
    cdef const Product* p = <const Product*>step.spec
    cdef spmm_bytes_t kernel = (<const BytePlan*>sp.own).kernel
    cdef int g
    v.kernel = b"spmm_u8_quads"
    if kernel == program.byte_kernels.blocks:
        v.kernel = b"spmm_u8_blocks"
    elif kernel == program.byte_kernels.few:
        v.kernel = b"spmm_u8_few"
    for g in range(p.n_groups):
        v.nonzeros += p.groups[g].nonzeros


cdef void gather_block(const Job* job, const GatherGroup* group, int64_t b, int64_t image, int64_t flat, const t.Run* run,
                       uint8_t zero, uint8_t* tile) noexcept nogil:
    """Gather the pixels that the taps of units [bounds[b], bounds[b + 1]) of a group need for one tile."""
    cdef ByteProduct* data = <ByteProduct*>job.step.spec
    cdef Product* p = &data.product
    cdef ProductPlan* q = <ProductPlan*>job.sp.own
    cdef Offsets* o = q.offsets
    cdef ByteKernels* kernels = job.program.byte_kernels
    cdef int64_t unit = group.bounds[b], end = group.bounds[b + 1], channel, last, u, position = 0, begin
    cdef int64_t element = FOUR if data.blocks else 1
    cdef int64_t plane = q.in_depth * q.in_height * q.in_width, rows
    cdef int64_t size = tile_position(p, o, end) - tile_position(p, o, unit)
    cdef const uint8_t* x = <const uint8_t*>job.x + (q.image_x[image] if q.image_x != NULL else image * q.x_image)
    cdef const int32_t* unit_run = <const int32_t*>(run + q.runs)
    if p.x_rows:
        rows = min(q.flat - flat, o.width)
        x += flat * p.channels + group.channel_begin + unit * element
        if data.blocks:
            # four bytes of a row go together, as if they were a float
            job.program.kernels.gather_rows(<float*>tile, o.width, <const float*>x, p.channels // FOUR, rows, end - unit)
        else:
            kernels.gather_rows(tile, o.width, x, p.channels, rows, end - unit)
    else:
        x += group.channel_begin * plane
        if p.units == 1:
            for u in range(unit_run[1]):
                position += run[u].length
            if position < o.channel_floats:
                memset(tile, zero, size * element)
        begin = tile_position(p, o, unit)
        for u in range(p.units):
            # unit u of every channel, or of every four, from the first to the last that has it in this block
            channel = (unit - u + p.units - 1) // p.units
            last = (end - u + p.units - 1) // p.units
            position = tile_position(p, o, channel * p.units + u) - begin
            if data.blocks:
                kernels.gather_blocks(<int32_t*>tile + position, o.channel_floats, x + FOUR * channel * plane, plane,
                                      min(FOUR * last, p.channels) - FOUR * channel, run + unit_run[u], unit_run[u + 1] - unit_run[u],
                                      p.window.stride[2], zero)
            else:
                kernels.gather(tile + position, o.channel_floats, x + channel * plane, plane, last - channel, run + unit_run[u],
                               unit_run[u + 1] - unit_run[u], p.window.stride[2], zero)
    if data.quantising.is_signed:
        kernels.flip(tile, size * element)


cdef int32_t zero_of_x(const Job* job) noexcept nogil:
    """Return the zero point of x, which a value may have. One that no byte can be becomes the next that can; so does NaN."""
    cdef const ByteProduct* data = <const ByteProduct*>job.step.spec
    cdef float low = -128 if data.quantising.is_signed else 0, value
    if job.step.more[ZERO] == NONE:
        return data.quantising.zero_x
    value = rintf(job.more[ZERO][0])
    value = value if value > low else low
    return <int32_t>(value if value < low + 255 else low + 255)


cdef const int32_t* bias_of(const Job* job, int64_t row, int64_t begin, int64_t end, int32_t zero, int32_t* room) noexcept nogil:
    """Return the bias of rows from `row` on, of which those in [begin, end) are used, in `room` where the zero point is a value."""
    cdef const ByteProduct* data = <const ByteProduct*>job.step.spec
    cdef uint32_t unsigned = <uint32_t>(zero + 128 * data.quantising.is_signed)
    cdef int64_t m
    if data.sums == NULL:
        return data.quantising.bias + row
    for m in range(begin, end):
        room[m] = <int32_t>(<uint32_t>data.quantising.bias[row + m] - unsigned * <uint32_t>data.sums[row + m])
    return room


cdef const float* scale_of(const Job* job, int64_t row, int64_t begin, int64_t end, float* room) noexcept nogil:
    """Return the scales of rows from `row` on, of which those in [begin, end) are used, in `room` where a value multiplies them."""
    cdef const ByteProduct* data = <const ByteProduct*>job.step.spec
    cdef const float* factor = job.more[FACTOR]
    cdef int64_t m
    if factor == NULL:
        return data.quantising.scale + row
    if job.plan.values[job.step.more[FACTOR]].size == 1:
        for m in range(begin, end):
            room[m] = factor[0] * data.quantising.scale[row + m]
    else:
        for m in range(begin, end):
            room[m] = factor[row + m] * data.quantising.scale[row + m]
    return room


cdef void item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Multiply one tile of pixels by the rows of one group, or of one chunk of them."""
    cdef ByteProduct* data = <ByteProduct*>job.step.spec
    cdef Product* p = &data.product
    cdef BytePlan* own = <BytePlan*>job.sp.own
    cdef ProductPlan* q = &own.q
    cdef Offsets* o = q.offsets
    cdef int64_t unit = own.unit
    cdef int bytes_y = job.program.bytes[job.step.y]
    cdef int64_t image, slice_, tile, b, v, count, first, element = FOUR if data.blocks else 1, place, chunk = index % q.chunks
    cdef int64_t g
    cdef uint8_t* pixels = <uint8_t*>scratch
    cdef int32_t* zipped = <int32_t*>(pixels + whole_lines(own.tile_bytes))
    cdef int32_t* sums = zipped + whole_lines(own.quads * unit * sizeof(int32_t)) // <int64_t>sizeof(int32_t)
    cdef uint8_t* results = <uint8_t*>sums + whole_lines(own.sums * sizeof(int32_t))
    cdef uint8_t* rooms = results + whole_lines(own.results) + whole_lines(run_bytes(p, q))
    cdef t.Run* run = <t.Run*>(results + whole_lines(own.results))
    cdef t.Run* own_run = run
    cdef int32_t* bias_room = <int32_t*>rooms
    cdef float* scale_room = <float*>(rooms + whole_lines(own.rows * sizeof(int32_t)))
    cdef const int32_t* bias
    cdef int32_t zero = zero_of_x(job)
    cdef int64_t row_begin, row_end
    cdef GatherGroup* group
    cdef Panel* panel
    cdef ByteKernels* kernels = job.program.byte_kernels
    cdef bint direct, fetches
    cdef BytesCall call
    index //= q.chunks
    g = 0
    if q.image_group == NULL:
        g = index % p.n_groups
        index //= p.n_groups
    tile = index % q.tiles
    index //= q.tiles
    slice_ = index % q.slices
    image = index // q.slices
    if q.image_group != NULL:
        g = q.image_group[image]
    group = &p.groups[g]
    panel = &group.panel
    first = slice_tile(q, unit, tile, &count) * unit
    if q.run_table != NULL:
        run = <t.Run*>(q.run_table + (slice_ * q.tiles + tile) * run_bytes(p, q))
    elif not p.x_rows:
        list_runs(p, q, slice_, first, run, <int32_t*>(run + q.runs))
    call.row_begin = <int32_t>(chunk * panel.strips // q.chunks) * (STRIP // panel.mr)
    call.row_end = panel.groups if chunk == q.chunks - 1 else <int32_t>((chunk + 1) * panel.strips // q.chunks) * (STRIP // panel.mr)
    direct = not p.y_rows and (q.pitch == q.out_width or q.out_height == 1) and first + count * unit <= q.flat
    row_begin = panel.mr * call.row_begin
    row_end = min(panel.mr * call.row_end, panel.rows)
    bias = bias_of(job, panel.row_begin % p.M, row_begin, row_end, zero, bias_room)
    call.scale = scale_of(job, panel.row_begin % p.M, row_begin, row_end, scale_room)
    set_quantising(&call, &data.quantising, job.program.type[job.step.y])
    call.plain = call.plain and job.more[FACTOR] == NULL
    call.ahead = NULL
    fetches = direct and bytes_y == 1 and panel.entries < FETCH_ENTRIES * panel.groups
    call.partial_stride = o.width
    call.y_stride = q.y_plane if direct else o.width
    call.value = <const int32_t*>panel.value
    call.offset = own.offset if data.zipped else o.offset + group.offset_begin
    place = image * q.y_image + panel.row_begin % p.M * q.y_plane + slice_ * q.pixels + first
    for b in range(group.blocks):
        gather_block(job, group, b, image, first, run, <uint8_t>zero, pixels)
        call.row_start = panel.row_start + b * (panel.groups + 1)
        call.row = panel.row + b * panel.groups * panel.mr
        call.bias = bias if b == 0 else NULL
        call.finish = b == group.blocks - 1
        for v in range(count):
            call.tile = pixels + v * unit * element
            if data.zipped:
                kernels.zip_columns(zipped, call.tile, own.place, own.quads)
                call.tile = <const uint8_t*>zipped
            call.partial = sums + v * unit
            if direct:
                call.y = <uint8_t*>job.y + (place + v * unit) * bytes_y
                if fetches and call.finish and v == 0:
                    call.ahead = <const char*>call.y
                else:
                    call.ahead = NULL
            else:
                call.y = results + v * unit * bytes_y
            own.kernel(&call)
    if data.addend != NULL or (direct and job.step.act != ACT_NONE):
        if direct:
            end_floats(job, panel.row_begin % p.M, row_begin, row_end, <float*>job.y + place, q.y_plane, count * unit)
        else:
            end_floats(job, panel.row_begin % p.M, row_begin, row_end, <float*>results, o.width, count * unit)
    if not direct:
        finish_rows(job, panel, row_begin, row_end, results, image, slice_, first, count * unit, own_run)


cdef void end_floats(const Job* job, int64_t row, int64_t begin, int64_t end, float* y, int64_t stride, int64_t n) noexcept nogil:
    """Add its addend to each of rows [begin, end) of float32, `row` of the product at first. Activate those that stand in the output."""
    cdef const ByteProduct* data = <const ByteProduct*>job.step.spec
    cdef t.KernelTable* kernels = job.program.kernels
    cdef bint in_place = y >= job.y and y < job.y + job.plan.values[job.step.y].size
    cdef int64_t m
    for m in range(begin, end):
        if data.addend != NULL:
            kernels.binary(y + m * stride, y + m * stride, 1, data.addend + row + m, 0, n, BINARY_ADD)
        if in_place and job.step.act != ACT_NONE:
            kernels.activate(y + m * stride, y + m * stride, NULL, n, <t.Act>job.step.act, job.step.alpha, job.step.beta)


cdef void finish_rows(Job* job, const Panel* panel, int64_t begin, int64_t end, uint8_t* results, int64_t image, int64_t slice_,
                      int64_t flat, int64_t length, t.Run* run) noexcept nogil:
    """Copy what is valid of rows [begin, end) of a panel from tile positions to the output's own order."""
    cdef ProductPlan* q = <ProductPlan*>job.sp.own
    cdef Product* p = <Product*>job.step.spec
    cdef int bytes_y = job.program.bytes[job.step.y]
    cdef int64_t row = panel.row_begin % p.M + begin, width = q.offsets.width
    cdef int n
    cdef int64_t last = min(flat + length, q.flat)
    cdef uint8_t* y
    results += begin * width * bytes_y
    if p.y_rows:
        y = <uint8_t*>job.y + (image * q.y_image + flat * p.M + row) * bytes_y
        if bytes_y == 1:
            job.program.byte_kernels.scatter_rows(y, p.M, results, width, last - flat, end - begin)
        else:
            job.program.kernels.scatter_rows(<float*>y, p.M, <float*>results, width, last - flat, end - begin, NULL,
                                             <t.Act>job.step.act, job.step.alpha, job.step.beta)
        return
    y = <uint8_t*>job.y + (image * q.y_image + row * q.y_plane + slice_ * q.pixels) * bytes_y
    n = output_runs(q, flat, last, run)
    if bytes_y == 1:
        job.program.byte_kernels.scatter(y, q.y_plane, results, width, end - begin, run, n)
    else:
        job.program.kernels.scatter(<float*>y, q.y_plane, <float*>results, width, end - begin, run, n, NULL, <t.Act>job.step.act,
                                    job.step.alpha, job.step.beta)
