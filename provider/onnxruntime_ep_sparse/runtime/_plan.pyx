"""Everything about a program that depends on the shapes of its inputs, in plain C: runs inside the first `Compute` of a shape.

Step by step, shapes are inferred (`runtime/_infer.pyx`) and products get their tiles (`runtime/_tiles.pyx`), other steps their loops and
tables (here); then values get their places (`runtime/_memory_plan.pyx`).
"""

from libc.math cimport ceil, fabs, floor
from libc.stdint cimport int32_t, int64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from ._infer cimport fits, infer
from ._memory_plan cimport place_values
from ._recurrent cimport plan_recurrent, recurrent_floats
from ._structs cimport *
from ._tiles cimport PARALLEL_FROM, offsets_release, plan_depthwise, plan_product, shared_floats

cdef enum:
    # Loops that copy are not joined into longer runs than this, so that a single image still is many items.
    COPY_RUN = 16384


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
    cdef GatherGroup* group
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


cdef void plan_transpose(Plan* plan, Step* step, StepPlan* sp) noexcept nogil:
    """Loops over the output, innermost last."""
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t from_x[MAX_RANK]
    cdef int64_t from_y[MAX_RANK]
    cdef int i, axis
    for i in range(y.rank):
        axis = <int>step.target.dims[i]
        from_x[i] = element_count(x, axis + 1, x.rank)
        from_y[i] = element_count(y, i + 1, y.rank)
    set_loops(sp, y.rank, y.dims, from_x, from_y)


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
        if program.ranks != NULL and inputs[i].rank != program.ranks[i]:
            snprintf(message, message_size, "input %d has %d dimensions, %d expected", i, inputs[i].rank, program.ranks[i])
            plan_free(program, plan)
            return NULL
        if not fits(&inputs[i]):
            snprintf(message, message_size, "input %d has more than 2**40 elements", i)
            plan_free(program, plan)
            return NULL
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
        if step.kind == STEP_RECURRENT:
            if plan_recurrent(program, plan, s):
                snprintf(message, message_size, "out of memory for the tables of a recurrent node")
                plan_free(program, plan)
                return NULL
            shared = recurrent_floats(step, sp)
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
        elif step.kind == STEP_TRANSPOSE:
            plan_transpose(plan, step, sp)
        elif step.kind == STEP_SHUFFLE:
            plan_shuffle(plan, step, sp)
        elif step.kind == STEP_NORMALIZE:
            sp.inner = x.dims[x.rank - 1]
            sp.items = element_count(x, 0, x.rank - 1)
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
    # one more than workers: recurrent steps count what is done
    plan.arena_floats = plan.counters_offset + COUNTER_FLOATS * (program.workers + 1)
    return plan


cdef void plan_free(CompiledProgram* program, Plan* plan) noexcept nogil:
    cdef int s, i
    if plan == NULL:
        return
    if plan.steps != NULL:
        for s in range(program.n_steps):
            offsets_release(plan.steps[s].product.offsets)
            if plan.steps[s].parts != NULL:
                for i in range(program.steps[s].recurrent.directions * program.steps[s].recurrent.phases):
                    offsets_release(plan.steps[s].parts[i].offsets)
                free(plan.steps[s].parts)
            free(plan.steps[s].product.image_x)
            free(plan.steps[s].product.image_group)
            free(plan.steps[s].product.run_table)
            free(plan.steps[s].lines)
    free(plan.key)
    free(plan.values)
    free(plan.steps)
    free(plan)
