"""Everything about a program that depends on the shapes of its inputs, in plain C: runs inside the first `Compute` of a shape.

Shapes are inferred step by step, products get their tiles and offset tables, values get places in one arena by liveness (first fit).
"""

from libc.math cimport ceil, fabs, floor
from libc.stdint cimport int32_t, int64_t, uint16_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from onnxruntime_ep_sparse._sell cimport sell_create, sell_fits, sell_floats
from onnxruntime_ep_sparse._structs cimport *
from onnxruntime_ep_sparse_kernels cimport table as t

cdef enum:
    # A parallel section costs a few microseconds: below this many multiply-adds (or elements) a step runs on the caller's thread.
    PARALLEL_FROM = 40000
    # Share of the workers' time that may be lost when some have one item more than others, in percent.
    IDLE_PERCENT = 15
    # Multiply-adds a gathered float must serve in an item, for every chunk of rows to gather on its own: copying one takes as long as 8.
    OWN_GATHER_MACS = 20
    # Lists of runs that a product keeps: 56x56 images need 10 to 50 KB, frames of video some MB.
    RUN_BYTES = 1024 * 1024
    # Partial sums of an item: half of a 512 KB L2.
    PARTIAL_FLOATS = 64 * 1024
    # A depthwise convolution runs down the columns of so many pixels, an eighth of L1 with what they read.
    BAND_FLOATS = 4096
    # of a pointer
    LINE_FLOATS = 2
    # What a depthwise convolution makes for the product behind it: half of a 512 KB L2, but rather four rows, which share what they
    # read; beyond a few MB each step runs on its own.
    TOGETHER_FLOATS = 64 * 1024
    MOST_TOGETHER_FLOATS = 1024 * 1024
    TOGETHER_ROWS = 4
    # Loops that copy are not joined into longer runs than this, so that a single image still is many items.
    COPY_RUN = 16384


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline int64_t element_count(const Shape* shape, int begin, int end) noexcept nogil:
    cdef int64_t n = 1
    cdef int i
    for i in range(begin, end):
        n *= shape.dims[i]
    return n


cdef int window_output(const Window* w, const Shape* x, bint pooling, int ceil_mode, Shape* y, int64_t* pad,
                       int64_t* pad_end) noexcept nogil:
    """Spatial sizes of `y` and the resolved padding (depth, height, width), as ONNX defines them.

    0, or 1 if the window does not fit; ONNX Runtime's pools return an empty image where it misses by less than a stride, and so do ours.
    """
    cdef int i, axis
    cdef int64_t size, reach, out, total
    for i in range(3):
        pad[i] = w.pad_begin[i]
        pad_end[i] = w.pad_end[i]
    for axis in range(w.rank):
        i = 3 - w.rank + axis
        size = x.dims[2 + axis]
        reach = (w.kernel[i] - 1) * w.dilation[i] + 1
        if w.auto_pad != PAD_EXPLICIT:
            out = ceil_div(size, w.stride[i])
            total = (out - 1) * w.stride[i] + reach - size
            if total < 0:
                total = 0
            pad[i] = total // 2 if w.auto_pad == PAD_SAME_UPPER else total - total // 2
            pad_end[i] = total - pad[i]
        else:
            total = size + pad[i] + pad_end[i] - reach
            if total < 0 and not (pooling and total + w.stride[i] >= 0):
                return 1
            out = total // w.stride[i] + 1 if total >= 0 else 0
            if ceil_mode and total >= 0:
                out = ceil_div(total, w.stride[i]) + 1
                # a window that would begin in the padding behind the image does not count
                if (out - 1) * w.stride[i] >= size + pad[i]:
                    out -= 1
        y.dims[2 + axis] = out
    return 0


cdef int infer(CompiledProgram* program, Plan* plan, int index, char* message, size_t message_size) noexcept nogil:
    """Shape of a step's output from those of its inputs, and the padding; 0 on success."""
    cdef Step* step = &program.steps[index]
    cdef StepPlan* sp = &plan.steps[index]
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* r = &plan.values[step.r].shape if step.r != NONE else NULL
    cdef Shape* y = &plan.values[step.y].shape
    cdef Product* p = step.product
    cdef int i, rank, a, b
    cdef int64_t u, v, known, total
    if step.kind == STEP_DEPTHWISE or step.kind == STEP_PRODUCT and p.shape_rule == SHAPE_CONV or step.kind == STEP_POOL:
        if x.rank != step.window.rank + 2:
            snprintf(message, message_size, "input has %d dimensions, %d expected", x.rank, step.window.rank + 2)
            return 1
        y.rank = x.rank
        y.dims[0] = x.dims[0]
        y.dims[1] = known = x.dims[1]
        if step.kind == STEP_PRODUCT:
            known = p.channels
            y.dims[1] = p.M
        elif step.kind == STEP_DEPTHWISE:
            known = step.depthwise.channels
            y.dims[1] = step.depthwise.M
        if known != x.dims[1]:
            snprintf(message, message_size, "input has %lld channels, the weights expect %lld", <long long>x.dims[1], <long long>known)
            return 1
        if window_output(&step.window, x, step.kind == STEP_POOL, step.ceil_mode, y, sp.pad, sp.pad_end):
            snprintf(message, message_size, "the window is larger than the padded input")
            return 1
    elif step.kind == STEP_PRODUCT and p.shape_rule == SHAPE_GEMM:
        if x.rank != 2 or x.dims[1 if p.x_rows else 0] != p.channels:
            snprintf(message, message_size, "Gemm input does not fit weights with K = %lld", <long long>p.channels)
            return 1
        u = x.dims[0 if p.x_rows else 1]
        y.rank = 2
        y.dims[0] = u if p.y_rows else p.M
        y.dims[1] = p.M if p.y_rows else u
    elif step.kind == STEP_PRODUCT:
        # MatMul: promote vectors, broadcast the batch dimensions, drop what was promoted.
        a = x.rank - 2 if x.rank > 1 else 0
        u = x.dims[x.rank - 1] if (p.shape_rule == SHAPE_MATMUL_RIGHT or x.rank == 1) else x.dims[x.rank - 2]
        if x.rank < 1 or u != p.channels:
            snprintf(message, message_size, "MatMul input does not fit weights with K = %lld", <long long>p.channels)
            return 1
        rank = a if a > p.batch.rank else p.batch.rank
        for i in range(rank):
            u = x.dims[a - rank + i] if a - rank + i >= 0 else 1
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
    elif step.kind == STEP_GLOBAL_POOL:
        y[0] = x[0]
        for i in range(2, x.rank):
            y.dims[i] = 1
        if element_count(x, 2, x.rank) == 0:
            snprintf(message, message_size, "global pooling of an empty image")
            return 1
    elif step.kind == STEP_ACTIVATE:
        y[0] = x[0]
    elif step.kind == STEP_BINARY:
        rank = x.rank if x.rank > r.rank else r.rank
        y.rank = rank
        for i in range(rank):
            u = x.dims[i + x.rank - rank] if i + x.rank - rank >= 0 else 1
            v = r.dims[i + r.rank - rank] if i + r.rank - rank >= 0 else 1
            if u != v and u != 1 and v != 1:
                snprintf(message, message_size, "dimensions %lld and %lld do not broadcast", <long long>u, <long long>v)
                return 1
            y.dims[i] = v if u == 1 else u
    elif step.kind == STEP_CONCAT:
        if step.begins:
            y[0] = x[0]
            y.dims[step.axis] = 0
        for i in range(x.rank):
            if x.rank != y.rank or (i != step.axis and x.dims[i] != y.dims[i]):
                snprintf(message, message_size, "operands of Concat differ beside axis %d", step.axis)
                return 1
        sp.start = y.dims[step.axis]
        y.dims[step.axis] += x.dims[step.axis]
    elif step.kind == STEP_PAD:
        y[0] = x[0]
        for i in range(x.rank):
            y.dims[i] += step.before.dims[i] + step.after.dims[i]
    elif step.kind == STEP_SHUFFLE:
        y[0] = x[0]
        u = step.block
        if x.rank != 4 or (step.to_depth and (x.dims[2] % u or x.dims[3] % u)) or (not step.to_depth and x.dims[1] % (u * u)):
            snprintf(message, message_size, "the image does not consist of whole blocks of %lld", <long long>u)
            return 1
        y.dims[1] = x.dims[1] * u * u if step.to_depth else x.dims[1] // (u * u)
        for i in range(2, 4):
            y.dims[i] = x.dims[i] // u if step.to_depth else x.dims[i] * u
    elif step.kind == STEP_RESIZE:
        if x.rank != 4:
            snprintf(message, message_size, "input has %d dimensions, 4 expected", x.rank)
            return 1
        y[0] = x[0]
        for i in range(2):
            y.dims[2 + i] = step.resize.size[i]
            if step.resize.size[i] < 0:
                y.dims[2 + i] = <int64_t>(step.resize.scale[i] * <float>x.dims[2 + i])
            if x.dims[2 + i] == 0 and y.dims[2 + i]:
                snprintf(message, message_size, "an empty image cannot be resized")
                return 1
    elif step.flatten_axis >= 0:
        y.rank = 2
        y.dims[0] = element_count(x, 0, step.flatten_axis)
        y.dims[1] = element_count(x, step.flatten_axis, x.rank)
    else:
        y[0] = step.target
        known = 1
        a = NONE
        for i in range(y.rank):
            if y.dims[i] == 0 and not step.allow_zero:
                if i >= x.rank:
                    snprintf(message, message_size, "Reshape copies dimension %d of a tensor with %d", i, x.rank)
                    return 1
                y.dims[i] = x.dims[i]
            if y.dims[i] == -1:
                a = i
            else:
                known *= y.dims[i]
        total = element_count(x, 0, x.rank)
        if a != NONE:
            y.dims[a] = total // known if known else 0
            known *= y.dims[a]
        if known != total:
            snprintf(message, message_size, "Reshape of %lld elements into %lld", <long long>total, <long long>known)
            return 1
    plan.values[step.y].size = element_count(y, 0, y.rank)
    if (step.kind == STEP_PRODUCT or step.kind == STEP_DEPTHWISE) and step.r != NONE and (
            r.rank != y.rank or element_count(r, 0, r.rank) != plan.values[step.y].size):
        snprintf(message, message_size, "the two operands of Add differ in shape")
        return 1
    return 0


cdef void row_pitch(const Product* p, const Window* w, ProductPlan* q) noexcept nogil:
    """Positions from one output row to the next in a tile.

    Rows of the padded image may share columns: what is padding on the right of one is padding on the left of the next.
    """
    cdef int64_t pitch = q.out_width, zeros, data, origin
    cdef int s
    cdef SegmentShape* segment
    for s in range(p.n_segments):
        segment = &p.segments[s]
        if segment.reach_y == 0 and segment.reach_x == 0:
            continue
        origin = segment.phase_x - q.pad[2]
        zeros = ceil_div(-origin, w.stride[2]) if origin < 0 else 0
        data = ceil_div(q.in_width - origin, w.stride[2]) if q.in_width > origin else 0
        if data > q.out_width + segment.reach_x:
            data = q.out_width + segment.reach_x
        if data > pitch:
            pitch = data
        if q.out_width + segment.reach_x - zeros > pitch:
            pitch = q.out_width + segment.reach_x - zeros
    q.pitch = pitch if pitch > 0 else 1


cdef Offsets* offsets_create(Product* p, int64_t pitch, int64_t width) noexcept nogil:
    cdef Offsets* o = <Offsets*>calloc(1, sizeof(Offsets))
    cdef int64_t i, g, b, j, end, k, tap, channel, block_base, floats = 0
    cdef int s, u
    cdef Group* group
    cdef Panel* panel
    if o == NULL:
        return NULL
    o.references = 1
    o.pitch = pitch
    o.width = width
    o.offset = <uint16_t*>malloc((p.offsets + 1) * sizeof(uint16_t))
    o.base = <int32_t*>malloc((p.taps + p.units + 1 + p.n_segments) * sizeof(int32_t))
    if o.offset == NULL or o.base == NULL:
        offsets_release(o)
        return NULL
    # base: taps, then units, then (not kept) segments
    for s in range(p.n_segments):
        o.base[p.taps + p.units + 1 + s] = <int32_t>floats
        floats += width + p.segments[s].reach_y * pitch + p.segments[s].reach_x
    o.channel_floats = floats
    for u in range(p.units):
        o.base[p.taps + u] = o.base[p.taps + p.units + 1 + p.unit_segment[u]]
    o.base[p.taps + p.units] = <int32_t>floats
    for tap in range(p.taps):
        o.base[tap] = <int32_t>(o.base[p.taps + p.units + 1 + p.tap[tap].segment] + p.tap[tap].dy * pitch + p.tap[tap].dx)
    for g in range(p.n_groups):
        group = &p.groups[g]
        for b in range(group.blocks):
            i = tile_position(p, o, group.bounds[b + 1]) - tile_position(p, o, group.bounds[b])
            if i > o.block_floats:
                o.block_floats = i
        panel = &group.panel
        for b in range(group.blocks):
            block_base = tile_position(p, o, group.bounds[b])
            j = panel.row_start[b * (panel.groups + 1)] * panel.columns
            end = panel.row_start[b * (panel.groups + 1) + panel.groups] * panel.columns
            for i in range(j, end):
                k = panel.k[i]
                channel = k // p.taps
                o.offset[group.offset_begin + i] = <uint16_t>(channel * floats + o.base[k - channel * p.taps] - block_base)
    return o


cdef inline int64_t tile_floats(const Offsets* o) noexcept nogil:
    """Room for the largest block of a tile; kernels may read a vector too much."""
    return ceil_div(o.block_floats, 16) * 16 + 16


cdef void offsets_release(Offsets* o) noexcept nogil:
    if o == NULL:
        return
    o.references -= 1
    if o.references <= 0:
        free(o.offset)
        free(o.base)
        free(o)


cdef Offsets* offsets_find(CompiledProgram* program, int index, int64_t pitch, int64_t width) noexcept nogil:
    """A table with this geometry from another plan. The caller holds the program's lock."""
    cdef Plan* other = program.plans
    cdef Offsets* o
    while other != NULL:
        o = other.steps[index].product.offsets
        if o != NULL and o.pitch == pitch and o.width == width:
            o.references += 1
            return o
        other = other.next
    return NULL


cdef void list_runs(const Product* p, const Window* w, const ProductPlan* q, int64_t slice_, int64_t flat, t.Run* run,
                    int32_t* unit_run) noexcept nogil:
    """Where the pixels of one tile stand in a channel's planes: runs of every unit, relative to the unit's place in the tile.

    Where a channel is one unit, its zeros are the same in every channel and every block: gather_block clears the block beforehand.

    Flat position f stands for row f / pitch and column f % pitch of the padded image.
    """
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
                n = add_run(run, n, unit_run[u], plane + iy * q.in_width + lead * sx + origin_x, &target, data - lead, p.units > 1)
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


cdef void keep_runs(const Product* p, const Window* w, ProductPlan* q, int64_t lanes) noexcept nogil:
    """The runs of all tiles, made once a plan; without memory for them every item makes its own."""
    cdef int64_t slice_, tile, count, bytes = run_bytes(p, q)
    cdef char* place
    if p.x_rows or bytes * q.slices * q.tiles > RUN_BYTES or not q.pixels:
        return
    place = q.run_table = <char*>malloc(bytes * q.slices * q.tiles)
    if place == NULL:
        return
    for slice_ in range(q.slices):
        for tile in range(q.tiles):
            list_runs(p, w, q, slice_, slice_tile(q, lanes, tile, &count) * lanes, <t.Run*>place, <int32_t*>(<t.Run*>place + q.runs))
            place += bytes


cdef int plan_batches(Step* step, ProductPlan* q, const Shape* x, const Shape* y, int rank) noexcept nogil:
    """MatMul with several weight matrices: which matrix and which part of x every output batch uses; 0 on success."""
    cdef Product* p = step.product
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


cdef inline int64_t idle_percent(int64_t items, int64_t workers) noexcept nogil:
    """Of the workers' time, when all items take the same."""
    cdef int64_t rounds = ceil_div(items, workers)
    return 100 - 100 * items // (rounds * workers)


cdef int64_t bands_with(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """In how many bands of rows a pointwise product runs together with the depthwise step before it, of which nobody else reads the
    result; 0: each runs on its own."""
    cdef Step* step = &program.steps[index]
    cdef Step* before = &program.steps[index - 1]
    cdef StepPlan* sp = &plan.steps[index]
    cdef Shape* x = &plan.values[step.x].shape
    cdef int64_t height, rows, bands, most
    cdef int i, readers = 0
    if index == 0 or before.kind != STEP_DEPTHWISE or before.y != step.x or before.r != NONE or not plan.values[step.x].size:
        return 0
    if step.product.shape_rule != SHAPE_CONV or step.product.taps != 1 or step.product.n_groups != 1 or step.window.rank != 2:
        return 0
    for i in range(1, 3):
        if step.window.stride[i] != 1 or sp.pad[i] or sp.pad_end[i]:
            return 0
    for i in range(program.n_steps):
        readers += (program.steps[i].x == step.x) + (program.steps[i].r == step.x)
    for i in range(program.n_outputs):
        readers += program.outputs[i] == step.x
    height = x.dims[2]
    most = height // TOGETHER_ROWS
    if readers != 1 or most == 0 or TOGETHER_ROWS * x.dims[1] * x.dims[3] > MOST_TOGETHER_FLOATS:
        return 0
    if plan.values[step.x].size // x.dims[0] < program.far_floats:
        return 0
    rows = TOGETHER_FLOATS // (x.dims[1] * x.dims[3])
    bands = ceil_div(height, rows) if rows >= TOGETHER_ROWS else most
    bands = bands if bands < most else most
    while bands < most and idle_percent(x.dims[0] * bands, program.workers) > IDLE_PERCENT:
        bands += 1
    return bands if idle_percent(x.dims[0] * bands, program.workers) <= IDLE_PERCENT else 0


cdef int plan_product(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Tiles, items and offsets of a product, or of a band of its pixels; 0 on success."""
    cdef Step* step = &program.steps[index]
    cdef StepPlan* sp = &plan.steps[index]
    cdef ProductPlan* q = &sp.product
    cdef Product* p = step.product
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t lanes = program.kernels.lanes, vectors, rows, floats, work, parts, i, bands = bands_with(program, plan, index)
    cdef StepPlan* before
    cdef int axis, g, n
    memcpy(q.pad, sp.pad, sizeof(q.pad))
    q.images = q.slices = q.in_depth = q.in_height = q.in_width = q.out_height = q.out_width = 1
    if p.shape_rule == SHAPE_CONV:
        q.images = x.dims[0]
        axis = step.window.rank
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
        if p.taps == 1 and step.window.stride[2] == 1 and step.window.stride[1] == 1 and not (
                q.pad[1] or q.pad[2] or sp.pad_end[1] or sp.pad_end[2]):
            # A pointwise convolution: the image is one long row.
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
            if plan_batches(step, q, x, y, axis):
                return 1
        elif p.shape_rule == SHAPE_MATMUL_RIGHT:
            rows *= element_count(y, 0, axis)
        else:
            q.images = element_count(y, 0, axis)
        q.in_width = q.out_width = rows
    q.pixels = q.out_height * q.out_width
    q.y_plane = q.slices * q.pixels
    if sell_fits(p, q, lanes):
        return plan_sell(program, plan, step, sp)
    if bands:
        q.images = 1
        q.in_width = q.out_width = q.pixels = ceil_div(x.dims[2], bands) * x.dims[3]
    row_pitch(p, &step.window, q)
    q.flat = (q.out_height - 1) * q.pitch + q.out_width if q.pixels else 0
    vectors = ceil_div(q.flat, lanes)
    q.tiles = ceil_div(vectors, p.max_vectors)
    q.tile_vectors = ceil_div(vectors, q.tiles) if q.tiles else 1

    # Items: images x slices x tiles x groups. The rows of a group are cut where these are too few for the workers, or where the partial
    # sums that wait between K blocks would not stay in L2.
    parts = q.images * q.slices * q.tiles * (1 if q.image_group != NULL else p.n_groups)
    work = p.macs * vectors * lanes * q.images * q.slices
    sp.parallel = work > PARALLEL_FROM and program.workers > 1
    q.chunks = 1
    if p.groups[0].blocks > 1:
        q.chunks = p.groups[0].panel.rows * q.tile_vectors * lanes // PARTIAL_FLOATS
    if q.chunks < 1:
        q.chunks = 1
    if q.chunks > p.groups[0].panel.strips:
        q.chunks = p.groups[0].panel.strips
    if sp.parallel and not bands:
        while parts and q.chunks < p.groups[0].panel.strips and idle_percent(parts * q.chunks, program.workers) > IDLE_PERCENT:
            q.chunks += 1
    q.shared_gather = not bands and q.chunks > 1 and p.macs < OWN_GATHER_MACS * q.chunks * p.channels * p.units
    sp.items = parts * q.chunks if q.pixels else 0

    i = q.tile_vectors * lanes
    q.offsets = offsets_find(program, index, q.pitch, i)
    if q.offsets == NULL:
        q.offsets = offsets_create(p, q.pitch, i)
    if q.offsets == NULL or (p.offsets and q.offsets.block_floats > 65535):
        return 1
    rows = 0
    for g in range(p.n_groups):
        if p.groups[g].panel.rows > rows:
            rows = p.groups[g].panel.rows
        if p.groups[g].blocks > q.most_blocks:
            q.most_blocks = p.groups[g].blocks
    q.x_floats = element_count(x, 0, x.rank)
    # a run of pixels and one of zeros for every row that a segment, or the output, meets
    q.runs = p.n_segments * 2
    for n in range(p.n_segments):
        q.runs += 2 * (ceil_div(i + p.segments[n].reach_x, q.pitch) + p.segments[n].reach_y + 2)
    # the tile with slack, the output rows of a group, the runs
    floats = tile_floats(q.offsets) + rows * i + run_bytes(p, q) // sizeof(float) + 16
    if bands:
        before = &plan.steps[index - 1]
        before.bands = bands
        before.parallel = program.workers > 1 and (before.parallel or sp.parallel)
        before.band_offset = ceil_div(floats, 16) * 16
        before.lines_offset = before.band_offset + ceil_div(p.channels * q.pixels, 16) * 16
        floats = before.lines_offset + depthwise_floats(plan, &program.steps[index - 1], ceil_div(x.dims[2], bands)) + run_bytes(p, q)
    if floats > plan.scratch_floats:
        plan.scratch_floats = floats
    if not bands:
        keep_runs(p, &step.window, q, lanes)
    return 0


cdef int plan_sell(CompiledProgram* program, Plan* plan, Step* step, StepPlan* sp) noexcept nogil:
    """Items of a product with few pixels: images x tiles of a vector of pixels x rows; 0 on success."""
    cdef ProductPlan* q = &sp.product
    cdef Product* p = step.product
    cdef int64_t lanes = program.kernels.lanes, parts, floats = sell_floats(p, q, lanes)
    cdef int g
    for g in range(p.n_groups):
        if sell_create(&p.groups[g], lanes):
            return 1
    q.sell = True
    q.tiles = ceil_div(q.pixels, lanes)
    parts = q.images * q.tiles
    sp.parallel = program.workers > 1 and p.macs * q.pixels * q.images > PARALLEL_FROM
    q.chunks = 1
    while sp.parallel and q.chunks < p.groups[0].panel.strips and idle_percent(parts * q.chunks, program.workers) > IDLE_PERCENT:
        q.chunks += 1
    sp.items = parts * q.chunks
    if floats > plan.scratch_floats:
        plan.scratch_floats = floats
    return 0


cdef inline int64_t depthwise_floats(const Plan* plan, const Step* step, int64_t rows) noexcept nogil:
    """Room for a row of zeros and for pointers to the rows that so many rows of the output read."""
    cdef const Shape* x = &plan.values[step.x].shape
    return ceil_div(x.dims[x.rank - 1], 16) * 16 + (rows * step.window.stride[1] + step.window.kernel[1]) * LINE_FLOATS


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


cdef void plan_depthwise(Plan* plan, Step* step, StepPlan* sp) noexcept nogil:
    """Runs of the output, for items of some: planes, or bands of rows of large ones."""
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t rows = y.dims[y.rank - 2] if y.rank > 3 else 1, width = y.dims[y.rank - 1]
    cdef int64_t bands = ceil_div(rows * width, BAND_FLOATS), floats
    sp.band = ceil_div(ceil_div(rows, bands), 2) * 2 if bands else 1
    sp.inner = sp.band * width if sp.band < rows else rows * width
    sp.items = y.dims[0] * y.dims[1] * (y.dims[2] if y.rank == 5 else 1) * ceil_div(rows, sp.band)
    floats = depthwise_floats(plan, step, sp.band)
    if floats > plan.scratch_floats:
        plan.scratch_floats = floats


cdef void plan_binary(Plan* plan, Step* step, StepPlan* sp) noexcept nogil:
    """Collapse neighbouring dimensions in which both operands keep one stride each."""
    cdef Shape* y = &plan.values[step.y].shape
    cdef Shape* operand[2]
    cdef int64_t stride[2][MAX_RANK]
    cdef int64_t step_size
    cdef int i, k, axis
    operand[0] = &plan.values[step.x].shape
    operand[1] = &plan.values[step.r].shape
    for k in range(2):
        step_size = 1
        for i in range(y.rank - 1, -1, -1):
            axis = i + operand[k].rank - y.rank
            stride[k][i] = 0
            if axis >= 0:
                if operand[k].dims[axis] != 1:
                    stride[k][i] = step_size
                step_size *= operand[k].dims[axis]
    sp.loops = 0
    for i in range(y.rank):
        if y.dims[i] == 1:
            continue
        k = sp.loops - 1
        if k >= 0 and sp.a_stride[k] == stride[0][i] * y.dims[i] and sp.b_stride[k] == stride[1][i] * y.dims[i]:
            sp.extent[k] *= y.dims[i]
            sp.a_stride[k] = stride[0][i]
            sp.b_stride[k] = stride[1][i]
        else:
            sp.extent[sp.loops] = y.dims[i]
            sp.a_stride[sp.loops] = stride[0][i]
            sp.b_stride[sp.loops] = stride[1][i]
            sp.loops += 1
    if sp.loops == 0:
        sp.loops = 1
        sp.extent[0] = 1
        sp.a_stride[0] = sp.b_stride[0] = 0
    sp.inner = sp.extent[sp.loops - 1]


cdef void plan_work(Plan* plan, Step* step, StepPlan* sp) noexcept nogil:
    """What the step does, for profiles."""
    cdef ProductPlan* q = &sp.product
    cdef int64_t y_size = plan.values[step.y].size, i, weights
    cdef Group* group
    sp.work.moved = plan.values[step.x].size + y_size
    if step.r != NONE:
        sp.work.moved += plan.values[step.r].size
    if step.kind == STEP_CONCAT:
        sp.work.moved = 2 * plan.values[step.x].size
    elif step.kind == STEP_DEPTHWISE:
        weights = step.window.kernel[0] * step.window.kernel[1] * step.window.kernel[2]
        sp.work.macs = sp.work.dense_macs = y_size * weights
    elif step.kind == STEP_PRODUCT:
        for i in range(q.images if q.image_group != NULL else step.product.n_groups):
            group = &step.product.groups[q.image_group[i] if q.image_group != NULL else i]
            sp.work.macs += group.nonzeros
            sp.work.dense_macs += group.weights
        weights = q.y_plane if q.image_group != NULL else y_size // max(step.product.M, 1)
        sp.work.macs *= weights
        sp.work.dense_macs *= weights


cdef void set_loops(StepPlan* sp, int n, const int64_t* extent, const int64_t* a_stride, const int64_t* b_stride) noexcept nogil:
    """Loops over `n` dimensions, neighbours joined where both sides keep one stride; `items` counts runs of the innermost."""
    cdef int i, k
    cdef int64_t total = 1
    sp.loops = 0
    for i in range(n - 1, -1, -1):
        total *= extent[i]
        if extent[i] == 1:
            continue
        k = sp.loops - 1
        if k >= 0 and a_stride[i] == sp.a_stride[k] * sp.extent[k] and b_stride[i] == sp.b_stride[k] * sp.extent[k] and (
                sp.extent[k] * extent[i] <= COPY_RUN):
            sp.extent[k] *= extent[i]
            continue
        sp.extent[sp.loops] = extent[i]
        sp.a_stride[sp.loops] = a_stride[i]
        sp.b_stride[sp.loops] = b_stride[i]
        sp.loops += 1
    if sp.loops == 0:
        sp.loops = 1
        sp.extent[0] = sp.a_stride[0] = sp.b_stride[0] = 1
    for i in range(sp.loops // 2):
        k = sp.loops - 1 - i
        sp.extent[i], sp.extent[k] = sp.extent[k], sp.extent[i]
        sp.a_stride[i], sp.a_stride[k] = sp.a_stride[k], sp.a_stride[i]
        sp.b_stride[i], sp.b_stride[k] = sp.b_stride[k], sp.b_stride[i]
    sp.inner = sp.extent[sp.loops - 1]
    sp.items = total // sp.inner if sp.inner else 0


cdef void plan_concat(Plan* plan, Step* step, StepPlan* sp) noexcept nogil:
    """One operand's way into the result, whose shape is complete by now."""
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t a[MAX_RANK]
    cdef int64_t b[MAX_RANK]
    cdef int i
    for i in range(x.rank):
        a[i] = element_count(x, i + 1, x.rank)
        b[i] = element_count(y, i + 1, y.rank)
    sp.origin = sp.start * b[step.axis]
    set_loops(sp, x.rank, x.dims, a, b)


cdef void plan_shuffle(Plan* plan, Step* step, StepPlan* sp) noexcept nogil:
    """Loops over image, channel, row, row in a block, column in a block, column of the deep side: both sides advance steadily in each."""
    cdef Shape* deep = &plan.values[step.y if step.to_depth else step.x].shape
    cdef int64_t block = step.block, height = deep.dims[2], width = deep.dims[3], channels = deep.dims[1] // (block * block)
    cdef int64_t extent[6]
    cdef int64_t d[6]
    cdef int64_t w[6]
    extent[0] = deep.dims[0]
    extent[1] = channels
    extent[2] = height
    extent[3] = extent[4] = block
    extent[5] = width
    d[0] = w[0] = deep.dims[1] * height * width
    d[1] = height * width * (block * block if step.depth_first else 1)
    d[2] = width
    d[4] = height * width * (1 if step.depth_first else channels)
    d[3] = d[4] * block
    d[5] = 1
    w[1] = height * width * block * block
    w[2] = width * block * block
    w[3] = width * block
    w[4] = 1
    w[5] = block
    if step.to_depth:
        set_loops(sp, 6, extent, w, d)
    else:
        set_loops(sp, 6, extent, d, w)


cdef void plan_pad(Plan* plan, Step* step, StepPlan* sp) noexcept nogil:
    """Loops over the output, outermost first; dimensions without padding join the one before them."""
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t stride = 1
    cdef int i, k
    # loops are filled from the end of the arrays, then moved to their front
    sp.loops = 0
    k = MAX_RANK
    for i in range(x.rank - 1, -1, -1):
        if sp.loops and sp.lead[k] == 0 and sp.data[k] == sp.extent[k] and sp.extent[k] * y.dims[i] <= COPY_RUN:
            sp.lead[k] = step.before.dims[i] * sp.extent[k]
            sp.data[k] = x.dims[i] * sp.extent[k]
            sp.extent[k] *= y.dims[i]
        else:
            k -= 1
            sp.loops += 1
            sp.lead[k] = step.before.dims[i]
            sp.data[k] = x.dims[i]
            sp.extent[k] = y.dims[i]
            sp.a_stride[k] = stride
        stride *= x.dims[i]
    for i in range(sp.loops):
        sp.lead[i] = sp.lead[k + i]
        sp.data[i] = sp.data[k + i]
        sp.extent[i] = sp.extent[k + i]
        sp.a_stride[i] = sp.a_stride[k + i]
    sp.inner = sp.extent[sp.loops - 1]
    sp.items = plan.values[step.y].size // sp.inner if sp.inner else 0


cdef float original_place(const Resize* resize, float place, float scale, float out, float size) noexcept nogil:
    """The coordinate in the original image, in the float32 arithmetic of ONNX Runtime's CPU provider."""
    cdef float offset
    if resize.coordinates == AT_ASYMMETRIC:
        return place / scale
    if resize.coordinates == AT_ALIGN_CORNERS:
        return place * (size - 1) / (out - 1) if out != 1 else 0
    if resize.coordinates == AT_TF_HALF_PIXEL_FOR_NN:
        return (place + <float>0.5) / scale
    if resize.coordinates == AT_HALF_PIXEL_SYMMETRIC:
        offset = size / 2 * (1 - out / (scale * size))
        return <float>(<double>offset + (<double>place + 0.5) / <double>scale - 0.5)
    if resize.coordinates == AT_PYTORCH_HALF_PIXEL and out <= 1:
        return 0
    return (place + <float>0.5) / scale - <float>0.5


cdef int64_t nearest_pixel(const Resize* resize, float place, bint shrinks) noexcept nogil:
    """The pixel that a coordinate rounds to. A fraction within 1e-6 of a half is one, as in ONNX Runtime 1.32: quotients like 1 / (2 / 7)
    miss theirs."""
    cdef float fraction = place - <float>floor(place)
    if resize.interpolation == READ_FLOOR:
        return <int64_t>floor(place)
    if resize.interpolation == READ_CEIL:
        return <int64_t>ceil(place)
    if resize.interpolation == READ_VERSION_10:
        return <int64_t>ceil(place) if shrinks else <int64_t>place
    if fabs(fraction - <float>0.5) <= <float>1e-6:
        return <int64_t>floor(place) + (resize.interpolation == READ_ROUND_PREFER_CEIL)
    return <int64_t>floor(<double>place + 0.5)


cdef void set_lines(Line* line, const Resize* resize, int64_t size, int64_t out, float scale) noexcept nogil:
    """What each of `out` rows (or columns) reads of `size`."""
    cdef int64_t i, pixel
    cdef float place
    for i in range(out):
        place = <float>i
        if scale != 1:
            place = original_place(resize, place, scale, <float>out, <float>size)
        if resize.interpolation == READ_LINEAR:
            place = 0 if place < 0 else (place if place < <float>(size - 1) else <float>(size - 1))
            pixel = <int64_t>place
        else:
            pixel = nearest_pixel(resize, place, scale < 1) if scale != 1 else i
        pixel = 0 if pixel < 0 else (pixel if pixel < size else size - 1)
        line[i].first = <int32_t>pixel
        line[i].second = <int32_t>(pixel + 1 if pixel + 1 < size else pixel)
        line[i].first_weight = <float>fabs(place - <float>line[i].second)
        line[i].second_weight = <float>fabs(place - <float>line[i].first)
        if line[i].first == line[i].second:
            line[i].first_weight = line[i].second_weight = 0.5


cdef int plan_resize(Plan* plan, Step* step, StepPlan* sp) noexcept nogil:
    """Which rows and columns each output row and column reads; 0 on success."""
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef Resize* resize = &step.resize
    cdef float scale
    cdef int64_t i, place = 0
    cdef int axis
    cdef bint same = x.dims[2] == y.dims[2] and x.dims[3] == y.dims[3]
    sp.items = x.dims[0] * x.dims[1]
    sp.lines = <Line*>malloc((y.dims[2] + y.dims[3] + 1) * sizeof(Line))
    if sp.lines == NULL:
        return 1
    for axis in range(2, 4):
        scale = resize.scale[axis - 2]
        if resize.size[axis - 2] >= 0:
            scale = <float>y.dims[axis] / <float>x.dims[axis] if x.dims[axis] else 1
        # an image that keeps its size is copied, whatever its scale says
        set_lines(sp.lines + place, resize, x.dims[axis], y.dims[axis], 1 if same else scale)
        place += y.dims[axis]
    sp.doubled = y.dims[3] == 2 * x.dims[3]
    for i in range(y.dims[3]):
        sp.doubled &= sp.lines[y.dims[2] + i].first == i // 2
    if resize.interpolation == READ_LINEAR and 2 * y.dims[3] > plan.scratch_floats:
        plan.scratch_floats = 2 * y.dims[3]
    return 0


cdef int written_over(CompiledProgram* program, Plan* plan, int s) noexcept nogil:
    """The operand whose memory the result of a step can take: elements are read where they are written, and nobody needs it afterwards."""
    cdef Step* step = &program.steps[s]
    cdef int v, root, x = step.x
    if s and plan.steps[s - 1].bands:
        x = program.steps[s - 1].x
    if step.kind == STEP_PRODUCT and step.r != NONE and not step.product.y_rows and not plan.steps[s].product.sell:
        v = step.r
    elif step.kind == STEP_ACTIVATE:
        v = step.x
    else:
        return NONE
    root = plan.values[v].root
    if plan.values[root].storage == STORE_ARENA and plan.values[root].last == s and plan.values[root].size == plan.values[v].size and (
            plan.values[step.y].root == step.y) and plan.values[v].size == plan.values[step.y].size and (
            step.kind == STEP_ACTIVATE or plan.values[x].root != root):
        return root
    return NONE


cdef void place_values(CompiledProgram* program, Plan* plan) noexcept nogil:
    """Which memory every value has: ONNX Runtime's, a constant's, its source's (Reshape), a part of the value that it is concatenated into,
    or a place in the arena while it is needed."""
    cdef int i, v, s, root, other
    cdef int64_t offset, need, top = 0
    cdef bint moved
    cdef Step* step
    for v in range(program.n_values):
        plan.values[v].root = v
        plan.values[v].storage = STORE_ARENA
        plan.values[v].offset = NONE
        if program.constant[v] != NULL:
            plan.values[v].storage = STORE_CONSTANT
            plan.values[v].slot = v
    for i in range(program.n_inputs):
        plan.values[program.inputs[i]].storage = STORE_INPUT
        plan.values[program.inputs[i]].slot = i
    for i in range(program.n_outputs):
        plan.values[program.outputs[i]].storage = STORE_OUTPUT
        plan.values[program.outputs[i]].slot = i
    for s in range(program.n_steps):
        if plan.steps[s].bands:
            plan.values[program.steps[s].y].storage = STORE_NOWHERE
    for s in range(program.n_steps):
        step = &program.steps[s]
        if step.kind != STEP_RESHAPE:
            continue
        root = plan.values[step.x].root
        if plan.values[step.y].storage == STORE_ARENA:
            plan.values[step.y].root = root
        elif plan.values[root].storage == STORE_ARENA:
            # the producer writes straight into the output
            plan.values[root].storage = STORE_OUTPUT
            plan.values[root].slot = plan.values[step.y].slot
            plan.values[step.y].root = root
    for s in range(program.n_steps):
        step = &program.steps[s]
        if step.kind != STEP_CONCAT or element_count(&plan.values[step.x].shape, 0, step.axis) != 1:
            continue
        # This operand is one run of the result: its maker writes it there, and the step finds it in place. Unless it is a part of
        # another result, or of this one, already.
        root = plan.values[step.x].root
        if plan.values[root].storage == STORE_ARENA and plan.values[root].root == root and root != step.y and (
                plan.values[root].size == plan.values[step.x].size):
            plan.values[root].root = step.y
            plan.values[root].shift = plan.steps[s].origin
    for v in range(program.n_values):
        root = plan.values[v].root
        while plan.values[root].root != root:
            plan.values[v].shift += plan.values[root].shift
            root = plan.values[root].root
        plan.values[v].root = root
    for v in range(program.n_values):
        plan.values[v].last = NONE
    for s in range(program.n_steps):
        plan.values[plan.values[program.steps[s].x].root].last = s
        plan.values[plan.values[program.steps[s].y].root].last = s
        if program.steps[s].r != NONE:
            plan.values[plan.values[program.steps[s].r].root].last = s
    for s in range(program.n_steps):
        v = plan.values[program.steps[s].x].root
        if plan.steps[s].bands and plan.values[v].last == s:
            plan.values[v].last = s + 1
    # first fit among the values that are still needed, each from the first step that writes to it
    for s in range(program.n_steps):
        v = plan.values[program.steps[s].y].root
        if plan.values[v].storage != STORE_ARENA or plan.values[v].offset != NONE:
            continue
        other = written_over(program, plan, s)
        if other != NONE:
            plan.values[v].offset = plan.values[other].offset
            continue
        need = ceil_div(plan.values[v].size, 16) * 16 + 16
        offset = 0
        moved = True
        while moved:
            moved = False
            for i in range(s):
                other = plan.values[program.steps[i].y].root
                if plan.values[other].storage != STORE_ARENA or plan.values[other].last < s:
                    continue
                if offset < plan.values[other].offset + ceil_div(plan.values[other].size, 16) * 16 + 16 and (
                        plan.values[other].offset < offset + need):
                    offset = plan.values[other].offset + ceil_div(plan.values[other].size, 16) * 16 + 16
                    moved = True
        plan.values[v].offset = offset
        if offset + need > top:
            top = offset + need
    plan.arena_floats = top


cdef Plan* plan_create(CompiledProgram* program, const Shape* inputs, char* message, size_t message_size) noexcept nogil:
    cdef Plan* plan = <Plan*>calloc(1, sizeof(Plan))
    cdef Step* step
    cdef StepPlan* sp
    cdef Shape* x
    cdef int i, s
    cdef int64_t shared, floats, most = 0
    if plan == NULL:
        snprintf(message, message_size, "out of memory")
        return NULL
    plan.references = 1
    plan.key = <Shape*>malloc((program.n_inputs + 1) * sizeof(Shape))
    plan.values = <ValuePlan*>calloc(program.n_values + 1, sizeof(ValuePlan))
    plan.steps = <StepPlan*>calloc(program.n_steps + 1, sizeof(StepPlan))
    if plan.key == NULL or plan.values == NULL or plan.steps == NULL:
        snprintf(message, message_size, "out of memory")
        plan_free(program, plan)
        return NULL
    memcpy(plan.key, inputs, program.n_inputs * sizeof(Shape))
    for i in range(program.n_values):
        if program.constant[i] != NULL:
            plan.values[i].shape = program.constant_shape[i]
            plan.values[i].size = element_count(&program.constant_shape[i], 0, program.constant_shape[i].rank)
    for i in range(program.n_inputs):
        plan.values[program.inputs[i]].shape = inputs[i]
        plan.values[program.inputs[i]].size = element_count(&inputs[i], 0, inputs[i].rank)
    for s in range(program.n_steps):
        step = &program.steps[s]
        sp = &plan.steps[s]
        if infer(program, plan, s, message, message_size):
            plan_free(program, plan)
            return NULL
        x = &plan.values[step.x].shape
        if step.kind == STEP_PRODUCT:
            if plan_product(program, plan, s):
                snprintf(message, message_size, "out of memory for the tables of a product")
                plan_free(program, plan)
                return NULL
            shared = shared_floats(step.product, &sp.product)
            if shared > most:
                most = shared
            continue
        sp.parallel = plan.values[step.x].size + plan.values[step.y].size > PARALLEL_FROM and program.workers > 1
        if step.kind == STEP_POOL or step.kind == STEP_GLOBAL_POOL:
            sp.items = x.dims[0] * x.dims[1]
            # a padded row of max_pool; ceil_mode may look beyond the padding
            floats = x.dims[x.rank - 1] + sp.pad[2] + sp.pad_end[2] + step.window.kernel[2] * step.window.dilation[2]
            floats += step.window.stride[2] * (2 * program.kernels.lanes + 1)
            if step.kind == STEP_POOL and floats > plan.scratch_floats:
                plan.scratch_floats = floats
        elif step.kind == STEP_DEPTHWISE:
            plan_depthwise(plan, step, sp)
        elif step.kind == STEP_BINARY:
            plan_binary(plan, step, sp)
            sp.items = plan.values[step.y].size // sp.inner if sp.inner else 0
        elif step.kind == STEP_PAD:
            plan_pad(plan, step, sp)
        elif step.kind == STEP_SHUFFLE:
            plan_shuffle(plan, step, sp)
        elif step.kind == STEP_RESIZE:
            if plan_resize(plan, step, sp):
                snprintf(message, message_size, "out of memory for the tables of a step")
                plan_free(program, plan)
                return NULL
        else:
            sp.items = 1
        if plan.values[step.y].size == 0:
            sp.items = 0
    for s in range(program.n_steps):
        if program.steps[s].kind == STEP_CONCAT:
            plan_concat(plan, &program.steps[s], &plan.steps[s])
        plan_work(plan, &program.steps[s], &plan.steps[s])
    place_values(program, plan)
    plan.scratch_floats = ceil_div(plan.scratch_floats, 16) * 16
    plan.value_floats = plan.scratch_offset = plan.arena_floats
    plan.shared_offset = plan.scratch_offset + plan.scratch_floats * program.workers
    plan.counters_offset = ceil_div(plan.shared_offset + most, 16) * 16
    plan.arena_floats = plan.counters_offset + COUNTER_FLOATS * program.workers
    return plan


cdef void plan_free(CompiledProgram* program, Plan* plan) noexcept nogil:
    cdef int s
    if plan == NULL:
        return
    if plan.steps != NULL:
        for s in range(program.n_steps):
            offsets_release(plan.steps[s].product.offsets)
            free(plan.steps[s].product.image_x)
            free(plan.steps[s].product.image_group)
            free(plan.steps[s].product.run_table)
            free(plan.steps[s].lines)
    free(plan.key)
    free(plan.values)
    free(plan.steps)
    free(plan)
