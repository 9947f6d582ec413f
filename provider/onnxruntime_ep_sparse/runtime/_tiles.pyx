"""Geometry of products: tiles, offset tables, runs of pixels, items."""

from libc.stdint cimport int32_t, int64_t, uint16_t
from libc.stdlib cimport calloc, free, malloc

from ._lock cimport *
from ._packed cimport *
from ._sections cimport IDLE_PERCENT, PARALLEL_FROM, idle_percent
from ._dense cimport DENSE_SLICES
from ._few cimport few_create, layout_of
from ._sell cimport sell_floats
from ._structs cimport *
from ._weight_store cimport shared_drop, shared_new, shared_settled
from ._windows cimport Window
cimport onnxruntime_ep_sparse_kernels.table as t

cdef enum:
    # Tiles are made narrower, down to so many vectors, where that lets the workers end together; else rows are cut, and each cut gathers
    # the tile for itself (768 -> 768 over 128 rows, two threads: 0.33 ms, 0.26 so).
    LEAST_VECTORS = 4
    # So many tiles may become one more if the workers then lose at most so many percent of their time (ResNet-50 in 4x1 blocks at 50 %, two
    # threads: 24.6 ms, 24.1 so).
    MORE_TILES = 4
    CLOSE_PERCENT = 5
    # Multiply-adds a gathered float must serve in an item, for every chunk of rows to gather on its own: copying one takes as long as 8.
    OWN_GATHER_MACS = 20
    # Lists of runs that a product keeps: 56x56 images need 10 to 50 KB, frames of video some MB.
    RUN_BYTES = 1024 * 1024
    # Partial sums of an item: half of a 512 KB L2. Of matrices a quarter: each cut gathers the tile for itself, which costs images more
    # than it gains (768 -> 3072 -> 768 over 128 rows, one thread: 3.17 ms with half, 3.01 so; ResNet-50's layers 19.3 ms, 21.6 so).
    PARTIAL_FLOATS = 64 * 1024
    MATRIX_PARTIAL_FLOATS = 32 * 1024
    # Results of tiles of whole rows that may be computed twice: copying them from where sums wait took 12 % of a first convolution.
    TWICE_PERCENT = 10

cdef long tables_made = 0

if make_process_lock():
    raise MemoryError("no memory for a lock of tables of offsets")


cdef void row_pitch(const Product* p, ProductPlan* q) noexcept nogil:
    """Positions from one output row to the next in a tile.

    Rows of the padded image may share columns: what is padding on the right of one is padding on the left of the next.
    """
    cdef int64_t pitch = q.out_width, zeros, data, origin, stride = p.window.stride[2]
    cdef int s
    cdef SegmentShape* segment
    for s in range(p.n_segments):
        segment = &p.segments[s]
        if segment.reach_y == 0 and segment.reach_x == 0:
            continue
        origin = segment.phase_x - q.pad[2]
        zeros = ceil_div(-origin, stride) if origin < 0 else 0
        data = ceil_div(q.in_width - origin, stride) if q.in_width > origin else 0
        if data > q.out_width + segment.reach_x:
            data = q.out_width + segment.reach_x
        if data > pitch:
            pitch = data
        if q.out_width + segment.reach_x - zeros > pitch:
            pitch = q.out_width + segment.reach_x - zeros
    q.pitch = pitch if pitch > 0 else 1


cdef Offsets* offsets_create(const Product* p, int64_t pitch, int64_t width, int64_t slice_) noexcept nogil:
    cdef Offsets* o = <Offsets*>calloc(1, sizeof(Offsets))
    cdef uint16_t* place
    cdef int64_t i, g, b, j, end, k, tap, kd, ky, longest = 0, floats = 0, per_unit = p.taps // p.units
    cdef int s, u
    cdef GatherGroup* group
    cdef Panel* panel
    if o == NULL:
        return NULL
    o.pitch = pitch
    o.width = width
    o.slice = slice_
    o.offset = <uint16_t*>shared_new((p.offsets + t.SPMM_SLACK) * sizeof(uint16_t))
    o.base = <int32_t*>malloc((p.taps + p.units + p.n_segments) * sizeof(int32_t))
    if o.offset == NULL or o.base == NULL:
        offsets_free(o)
        return NULL
    # base: taps, then units, then, of tiles, segments, which nothing reads later
    if slice_:
        floats = width
        for u in range(p.units):
            o.base[p.taps + u] = 0
        for tap in range(p.taps):
            kd = tap // (p.window.kernel[1] * p.window.kernel[2])
            ky = tap // p.window.kernel[2] % p.window.kernel[1]
            o.base[tap] = <int32_t>(kd * slice_ + ky * pitch + tap % p.window.kernel[2])
    else:
        for s in range(p.n_segments):
            o.base[p.taps + p.units + s] = <int32_t>floats
            floats += width + p.segments[s].reach_y * pitch + p.segments[s].reach_x
        if floats > 0x7FFFFFFF:
            offsets_free(o)
            return NULL
        for u in range(p.units):
            o.base[p.taps + u] = o.base[p.taps + p.units + p.unit_segment[u]]
        for tap in range(p.taps):
            o.base[tap] = <int32_t>(o.base[p.taps + p.units + p.tap[tap].segment] + p.tap[tap].dy * pitch + p.tap[tap].dx)
    o.channel_floats = floats
    for g in range(p.n_groups):
        group = &p.groups[g]
        for b in range(group.blocks):
            i = tile_position(p, o, group.bounds[b + 1]) - tile_position(p, o, group.bounds[b])
            if i > o.block_floats:
                o.block_floats = i
            i = (group.bounds[b + 1] - group.bounds[b]) * per_unit
            if i > longest:
                longest = i
    if not p.offsets:
        return o
    # offsets of a block's columns, so that nothing is divided for each nonzero
    place = <uint16_t*>malloc(longest * sizeof(uint16_t)) if o.block_floats <= 0xFFFF else NULL
    if place == NULL:
        offsets_free(o)
        return NULL
    for g in range(p.n_groups):
        group = &p.groups[g]
        panel = &group.panel
        for b in range(group.blocks):
            k = group.bounds[b] * per_unit
            for i in range((group.bounds[b + 1] - group.bounds[b]) * per_unit):
                place[i] = <uint16_t>((k + i) // p.taps * floats + o.base[(k + i) % p.taps] - tile_position(p, o, group.bounds[b]))
            j = panel.row_start[b * (panel.groups + 1)] * panel.columns
            end = panel.row_start[b * (panel.groups + 1) + panel.groups] * panel.columns
            for i in range(j, end):
                o.offset[group.offset_begin + i] = place[column(panel, i) - k]
    free(place)
    o.offset = <uint16_t*>shared_settled(o.offset)
    return o


cdef void offsets_free(Offsets* o) noexcept nogil:
    shared_drop(o.offset)
    free(o.base)
    free(o)


cdef inline int64_t tile_floats(const Offsets* o) noexcept nogil:
    """Room for the largest block of a tile; kernels may read a vector too much."""
    return ceil_div(o.block_floats, 16) * 16 + 16


cdef Offsets* offsets_found(const Product* p, int64_t pitch, int64_t width, int64_t slice_) noexcept nogil:
    """Return the table of this geometry, for one plan more, or NULL. The caller holds the lock."""
    cdef Offsets* o = p.tables
    while o != NULL and (o.pitch != pitch or o.width != width or o.slice != slice_):
        o = o.next
    if o != NULL:
        o.references += 1
    return o


cdef Offsets* offsets_take(Product* p, int64_t pitch, int64_t width, int64_t slice_) noexcept nogil:
    """Return a table, made outside the lock if it is new. Of two that are made at the same time, the first one stays."""
    global tables_made
    cdef Offsets* found
    cdef Offsets* made
    if not (p.reads_below or slice_):
        pitch = 0
    process_lock()
    found = offsets_found(p, pitch, width, slice_)
    process_unlock()
    if found != NULL:
        return found
    made = offsets_create(p, pitch, width, slice_)
    if made == NULL:
        return NULL
    process_lock()
    found = offsets_found(p, pitch, width, slice_)
    if found == NULL:
        found = made
        made.references = 1
        made.next = p.tables
        p.tables = made
        tables_made += 1
    process_unlock()
    if found != made:
        offsets_free(made)
    return found


cdef void offsets_return(Product* p, Offsets* o) noexcept nogil:
    cdef Offsets** link = &p.tables
    cdef bint last
    if o == NULL:
        return
    process_lock()
    o.references -= 1
    last = o.references == 0
    if last:
        while link[0] != o:
            link = &link[0].next
        link[0] = o.next
    process_unlock()
    if last:
        offsets_free(o)


cdef void list_runs(const Product* p, const ProductPlan* q, int64_t slice_, int64_t flat, t.Run* run,
                    int32_t* unit_run) noexcept nogil:
    """List where the pixels of one tile stand in a channel's planes: runs of every unit, relative to the unit's place in the tile.

    Where a channel is one unit, its zeros are the same in every channel and every block: gather_block clears the block beforehand.

    Flat position f stands for row f / pitch and column f % pitch of the padded image.
    """
    cdef const Window* w = &p.window
    cdef const SegmentShape* shape
    cdef int64_t depth, left, column, stop, iy, origin_x, lead, data, lead_all, data_all, pitch = q.pitch, sx = w.stride[2], plane
    cdef int32_t target = 0
    cdef int64_t first_row = flat // pitch
    cdef int u, s, n = 0
    for u in range(p.units):
        unit_run[u] = n
        target = 0
        for s in range(p.unit_segment[u], p.unit_segment[u + 1]):
            shape = &p.segments[s]
            depth = slice_ * w.stride[0] + shape.kd * w.dilation[0] - q.pad[0]
            plane = depth * q.in_height * q.in_width if 0 <= depth < q.in_depth else NONE
            origin_x = shape.phase_x - q.pad[2]
            left = q.offsets.width + shape.reach_y * pitch + shape.reach_x
            # columns before `lead` are left of the image, those from `data` on right of it
            lead_all = (sx - 1 - origin_x) // sx if origin_x < 0 else 0
            data_all = (q.in_width - origin_x + sx - 1) // sx if q.in_width > origin_x else 0
            column = flat - first_row * pitch
            iy = first_row * w.stride[1] + shape.phase_y - q.pad[1]
            while left > 0:
                stop = pitch if left > pitch - column else column + left
                lead = data = column
                if plane != NONE and 0 <= iy < q.in_height:
                    lead = column if lead_all < column else (stop if lead_all > stop else lead_all)
                    data = lead if data_all < lead else (stop if data_all > stop else data_all)
                n = add_run(run, n, unit_run[u], NONE, &target, lead - column, p.units > 1)
                n = add_run(run, n, unit_run[u], plane + iy * q.x_line + lead * sx + origin_x, &target, data - lead, p.units > 1)
                n = add_run(run, n, unit_run[u], NONE, &target, stop - data, p.units > 1)
                left -= stop - column
                column = 0
                iy += w.stride[1]
    unit_run[p.units] = n


cdef inline int add_run(t.Run* run, int n, int first, int64_t source, int32_t* target, int64_t length, bint zeros) noexcept nogil:
    """Append a run, or lengthen the zeros before it; the new number of runs. Zeros are left out unless asked for."""
    if length <= 0:
        return n
    if source < 0 and not zeros:
        pass
    elif source < 0 and n > first and run[n - 1].source < 0:
        run[n - 1].length += <int32_t>length
    else:
        run[n].source = source
        run[n].target = target[0]
        run[n].length = <int32_t>length
        n += 1
    target[0] += <int32_t>length
    return n


cdef void keep_runs(const Product* p, ProductPlan* q, int64_t lanes) noexcept nogil:
    """List the runs of all tiles, once per plan; if memory for them is short, every item makes its own."""
    cdef int64_t slice_, tile, bytes = run_bytes(p, q)
    cdef char* place
    if p.x_rows or bytes * q.slices * q.tiles > RUN_BYTES or not q.pixels:
        return
    place = q.run_table = <char*>malloc(bytes * q.slices * q.tiles)
    if place == NULL:
        return
    for slice_ in range(q.slices):
        for tile in range(q.tiles):
            list_runs(p, q, slice_, tile_flat(q, lanes, tile), <t.Run*>place, <int32_t*>(<t.Run*>place + q.runs))
            place += bytes


cdef int plan_batches(const Product* p, ProductPlan* q, const Shape* x, const Shape* y, int rank) noexcept nogil:
    """MatMul with several weight matrices: which matrix and which part of x every output batch uses; 0 on success."""
    cdef int64_t i, rest, index, n = element_count(y, 0, rank), ix, ig, sx, sg
    cdef int axis, a, b, xr = x.rank - 2 if x.rank > 1 else 0
    q.images = n
    q.image_x = <int64_t*>malloc((n + 1) * sizeof(int64_t))
    q.image_group = <int32_t*>malloc((n + 1) * sizeof(int32_t))
    if q.image_x == NULL or q.image_group == NULL:
        return 1
    for i in range(n):
        rest = i
        ix = ig = 0
        sx = sg = 1
        for axis in range(rank - 1, -1, -1):
            index = rest % y.dims[axis]
            rest //= y.dims[axis]
            a = xr - rank + axis
            b = p.batch.rank - rank + axis
            if a >= 0:
                if x.dims[a] != 1:
                    ix += index * sx
                sx *= x.dims[a]
            if b >= 0:
                if p.batch.dims[b] != 1:
                    ig += index * sg
                sg *= p.batch.dims[b]
        q.image_x[i] = ix * q.x_image
        q.image_group[i] = <int32_t>ig
    return 0


cdef int64_t tiles_for(int64_t least, int64_t most, int64_t parts, int64_t workers) noexcept nogil:
    """Return the smallest number of tiles from `least` to `most` with which all workers end together; `least` if there is none. A few tiles
    more are taken where the workers then end together more closely."""
    cdef int64_t tiles, more
    for tiles in range(least, most + 1):
        if idle_percent(parts * tiles, workers) <= IDLE_PERCENT:
            for more in range(tiles, min(most, tiles + tiles // MORE_TILES) + 1):
                if idle_percent(parts * more, workers) <= CLOSE_PERCENT:
                    return more
            return tiles
    return least


cdef int64_t shared_floats(const Product* p, const ProductPlan* q) noexcept nogil:
    """Size of the tiles gathered ahead for all chunks."""
    cdef int64_t total = 0
    cdef int g
    if not q.shared_gather:
        return 0
    for g in range(p.n_groups):
        if p.groups[g].channels > total:
            total = p.groups[g].channels
    return (total * q.offsets.channel_floats + 16) * q.images * q.slices * q.tiles * p.n_groups


cdef bint is_one_row(const Product* p, const ProductPlan* q) noexcept nogil:
    return p.shape_rule == SHAPE_CONV and p.taps == 1 and p.window.stride[2] == 1 and p.window.stride[1] == 1 and not (
        q.pad[1] or q.pad[2] or q.pad_end[1] or q.pad_end[2])


cdef int set_geometry(Plan* plan, const Step* step, StepPlan* sp) noexcept nogil:
    """Sizes of images and rows of the operands of a product; 0 on success."""
    cdef ProductPlan* q = <ProductPlan*>sp.own
    cdef Product* p = <Product*>step.spec
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t rows
    cdef int axis
    q.images = q.slices = q.in_depth = q.in_height = q.in_width = q.out_height = q.out_width = 1
    if p.shape_rule == SHAPE_CONV:
        q.images = x.dims[0]
        axis = p.window.rank
        q.in_width = x.dims[axis + 1]
        q.out_width = y.dims[axis + 1]
        if axis > 1:
            q.in_height = x.dims[axis]
            q.out_height = y.dims[axis]
        if axis > 2:
            q.in_depth = x.dims[2]
            q.slices = y.dims[2]
        q.x_image = element_count(x, 1, x.rank)
        q.y_image = element_count(y, 1, y.rank)
        if is_one_row(p, q):
            q.in_width *= q.in_height
            q.in_height = 1
            q.out_width = q.in_width
            q.out_height = 1
    elif p.shape_rule == SHAPE_GEMM:
        q.in_width = q.out_width = x.dims[0 if p.x_rows else 1]
    else:
        rows = 1
        if x.rank > 1:
            rows = x.dims[x.rank - 2] if p.shape_rule == SHAPE_MATMUL_RIGHT else x.dims[x.rank - 1]
        q.x_image = rows * p.channels
        q.y_image = rows * p.M
        axis = x.rank - 2 if x.rank > 2 else 0
        if p.batch.rank > axis:
            axis = p.batch.rank
        if element_count(&p.batch, 0, p.batch.rank) != 1:
            if plan_batches(p, q, x, y, axis):
                return 1
        elif p.shape_rule == SHAPE_MATMUL_RIGHT:
            rows *= element_count(y, 0, axis)
        else:
            q.images = element_count(y, 0, axis)
        q.in_width = q.out_width = rows
    q.pixels = q.out_height * q.out_width
    q.x_plane = q.in_depth * q.in_height * q.in_width
    q.y_plane = q.slices * q.pixels
    q.x_line = q.in_width
    q.y_line = q.out_width
    return 0


cdef bint join_images(const Product* p, ProductPlan* q, int64_t lanes) noexcept nogil:
    """Let tiles go on from image to image where one ends within a vector: each becomes a row of one long image. Return whether they do.

    16 images of 7x7 pixels then have 98 vectors of 8 lanes instead of 112.
    """
    if p.shape_rule != SHAPE_CONV or not is_one_row(p, q) or q.images == 1 or q.x_plane != q.pixels or q.pixels % lanes == 0 or (
            q.images * q.y_image > 0x7FFFFFFF):
        return False
    q.x_line = q.x_image
    q.y_line = q.y_image
    q.in_height = q.out_height = q.images
    q.pixels *= q.images
    q.images = 1
    return True


cdef void choose_rows(const Product* p, ProductPlan* q, const Step* step, int64_t lanes) noexcept nogil:
    """Choose LAYOUT_ROWS and the rows of a tile, for windows of few channels whose rows share columns: then nothing is left to do after the
    kernels.

    The last vectors of a row end where the row ends, so that some results are computed twice: no residual may stand there. A tile has two
    rows or more, since windows share what they read of the image.
    """
    cdef int64_t rows, floats
    cdef int g, s
    if p.shape_rule != SHAPE_CONV or q.pitch == q.out_width or q.out_width < lanes or not q.out_height:
        return
    if step.r != NONE or p.scale != NULL or (
            100 * (ceil_div(q.out_width, lanes) * lanes - q.out_width) > TWICE_PERCENT * q.out_width):
        return
    for g in range(p.n_groups):
        if p.groups[g].panel.mr != SHARED or p.groups[g].blocks > 1:
            return
    for rows in range(MOST_TILE_ROWS, 1, -1):
        floats = 0
        for s in range(p.n_segments):
            floats += (rows + p.segments[s].reach_y) * q.pitch + p.segments[s].reach_x
        if floats * p.groups[0].channels <= ROWS_FLOATS:
            q.layout = LAYOUT_ROWS
            # as even as they can be
            q.tile_rows = ceil_div(q.out_height, ceil_div(q.out_height, rows))
            return


cdef int64_t side_of(const CompiledProgram* program, const Plan* plan, int index, int64_t lanes) noexcept nogil:
    """Return how many vectors the next step reads at a time, if it does this product itself; else 0."""
    cdef const Step* step = &program.steps[index]
    cdef const Product* p = <const Product*>step.spec
    cdef const ProductPlan* q = <const ProductPlan*>plan.steps[index].own
    cdef int64_t side
    if index + 1 == program.n_steps or step[1].ops.multiplies == NULL or step[1].x != step.y or program.readers[step.y] != 1:
        return 0
    if not (p.x_rows and p.y_rows) or p.scale != NULL or q.images != 1 or q.image_group != NULL or step.r != NONE or step.act != ACT_NONE:
        return 0
    if p.groups[0].panel.anywhere:
        return 0
    side = step[1].ops.multiplies(program, plan, index + 1) // lanes
    return side if side <= p.max_vectors else 0


cdef int plan_product(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Tiles, items and offsets of a product, or of a band of its pixels; 0 on success."""
    cdef Step* step = &program.steps[index]
    cdef StepPlan* sp = &plan.steps[index]
    cdef ProductPlan* q = <ProductPlan*>sp.own
    cdef Product* p = <Product*>step.spec
    cdef Shape* x = &plan.values[step.x].shape
    cdef int64_t lanes = program.kernels.lanes, vectors, rows, floats, work, parts, most, side, i
    cdef bint bands = sp.band_rows > 0, joined = False
    cdef int g, n
    if set_geometry(plan, step, sp):
        return 1
    q.layout = layout_of(p, q, program.kernels)
    if q.layout != LAYOUT_TILES:
        return plan_few(program, plan, step, sp)
    if bands:
        q.images = 1
        if is_one_row(p, q):
            q.in_width = q.out_width = sp.band_rows * x.dims[3]
        else:
            q.out_height = sp.band_rows
        q.pixels = q.out_height * q.out_width
    elif not sp.scaled:
        joined = join_images(p, q, lanes)
    row_pitch(p, q)
    q.flat = (q.out_height - 1) * q.pitch + q.out_width if q.pixels else 0
    vectors = ceil_div(q.flat, lanes)
    q.side = side_of(program, plan, index, lanes)
    side = q.side if q.side else 1
    # Where the tiles of a matrix are narrow, one of a vector more takes less time than two (65 rows on AVX-512: ViT took 4 % less).
    most = p.max_vectors
    if not q.side and vectors == most + 1 <= program.kernels.widest[p.groups[0].panel.mr]:
        most = vectors
    q.tiles = ceil_div(vectors, most // side * side)
    work = p.macs * vectors * lanes * q.images * q.slices
    sp.parallel = work > PARALLEL_FROM and program.workers > 1
    parts = q.images * q.slices * (1 if q.image_group != NULL else p.n_groups)
    if sp.parallel and not bands and not q.side:
        q.tiles = tiles_for(q.tiles, vectors // LEAST_VECTORS, parts, program.workers)
    q.tile_vectors = ceil_div(vectors // side, q.tiles) * side if q.tiles else 1
    if joined and q.tiles == ceil_div(vectors, p.max_vectors):
        # one table of offsets for any number of images
        q.tile_vectors = p.max_vectors
    choose_rows(p, q, step, lanes)
    if q.layout == LAYOUT_ROWS:
        while sp.parallel and not bands and q.tile_rows > 1 and (
                idle_percent(parts * ceil_div(q.out_height, q.tile_rows), program.workers) > IDLE_PERCENT):
            q.tile_rows -= 1
        q.tiles = ceil_div(q.out_height, q.tile_rows)
        q.tile_vectors = ceil_div(q.tile_rows * q.pitch, lanes)

    # Items: images x slices x tiles x groups. The rows of a group are cut where these are too few for the workers, or where the partial
    # sums that wait between K blocks would not stay in L2.
    parts *= q.tiles
    q.chunks = 1
    if p.groups[0].blocks > 1:
        most = PARTIAL_FLOATS if p.shape_rule == SHAPE_CONV else MATRIX_PARTIAL_FLOATS
        q.chunks = p.groups[0].panel.rows * q.tile_vectors * lanes // most
    if q.chunks < 1:
        q.chunks = 1
    if q.chunks > p.groups[0].panel.strips:
        q.chunks = p.groups[0].panel.strips
    if sp.parallel and not bands and q.layout == LAYOUT_TILES:
        while parts and q.chunks < p.groups[0].panel.strips and idle_percent(parts * q.chunks, program.workers) > IDLE_PERCENT:
            q.chunks += 1
    q.shared_gather = not bands and q.layout == LAYOUT_TILES and q.chunks > 1 and p.macs < OWN_GATHER_MACS * q.chunks * p.channels * p.units
    sp.items = parts * q.chunks if q.pixels else 0

    i = q.tile_rows * q.pitch if q.layout == LAYOUT_ROWS else q.tile_vectors * lanes
    q.offsets = offsets_take(p, q.pitch, i, 0)
    if q.offsets == NULL:
        return 1
    if q.side:
        sp[1].product = q
        return 0
    rows = 0
    for g in range(p.n_groups):
        if p.groups[g].panel.rows > rows and q.layout == LAYOUT_TILES:
            rows = p.groups[g].panel.rows
        if p.groups[g].blocks > q.most_blocks:
            q.most_blocks = p.groups[g].blocks
    q.x_floats = element_count(x, 0, x.rank)
    # a run of pixels and one of zeros for every row that a segment, or the output, meets
    q.runs = p.n_segments * 2
    for n in range(p.n_segments):
        q.runs += 2 * (ceil_div(i + p.segments[n].reach_x, q.pitch) + p.segments[n].reach_y + 2)
    # the tile with slack, the output rows of a group where they wait, the runs
    floats = tile_floats(q.offsets) + rows * i + run_bytes(p, q) // sizeof(float) + 16
    if bands:
        sp.band_floats = floats
        return 0
    need_scratch(plan, floats)
    need_shared(plan, shared_floats(p, q))
    keep_runs(p, q, lanes)
    return 0


cdef int plan_few(CompiledProgram* program, Plan* plan, Step* step, StepPlan* sp) noexcept nogil:
    """Items of a product with few pixels: images x tiles of a vector of pixels x rows, or images x rows; 0 on success."""
    cdef ProductPlan* q = <ProductPlan*>sp.own
    cdef Product* p = <Product*>step.spec
    cdef int64_t lanes = program.kernels.lanes, parts, most = p.groups[0].panel.strips
    if few_create(p, q, lanes):
        return 1
    q.tiles = ceil_div(q.pixels, lanes)
    if q.layout == LAYOUT_DENSE:
        q.tiles = 1
        most = ceil_div(p.groups[0].panel.rows, lanes * DENSE_SLICES)
    else:
        need_scratch(plan, sell_floats(p, q, lanes))
    parts = q.images * q.tiles
    sp.parallel = program.workers > 1 and p.macs * q.pixels * q.images > PARALLEL_FROM
    q.chunks = 1
    while sp.parallel and q.chunks < most and idle_percent(parts * q.chunks, program.workers) > IDLE_PERCENT:
        q.chunks += 1
    sp.items = parts * q.chunks
    return 0


def made():
    """Return how many tables of offsets plans have needed so far that no other plan had, for tests."""
    process_lock()
    count = tables_made
    process_unlock()
    return count
