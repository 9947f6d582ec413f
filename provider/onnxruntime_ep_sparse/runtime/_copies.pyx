"""Steps that move elements, or only change shapes: Reshape, Concat, Pad, Transpose."""

from libc.stdint cimport int64_t, uint8_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy

from ._dealt cimport Dealt, can_be_dealt, dealt_as, dealt_operand, dealt_value
from ._from_python cimport fill_shape
from ._loops cimport Element, Loops, even_items, item_begin, run_places
from ._numbers cimport shape_of_numbers
from ._structs cimport *

cdef enum:
    # Loops that copy are not joined into longer runs than this, so that a single image still is many items.
    COPY_RUN = 16384
    MOST_PADS = 2147483647  # of a number: any that a Pad can have


cdef void set_loops(StepPlan* sp, int64_t workers, int n, const int64_t* extent, const int64_t* a_stride,
                    const int64_t* b_stride) noexcept nogil:
    """Loops over `n` dimensions, neighbours joined where both sides keep one stride; items are some runs of the innermost."""
    cdef Loops* loops = <Loops*>sp.own
    cdef int i, k
    cdef int64_t total = 1
    loops.n = 0
    for i in range(n - 1, -1, -1):
        total *= extent[i]
        if extent[i] == 1:
            continue
        k = loops.n - 1
        if k >= 0 and a_stride[i] == loops.a_stride[k] * loops.extent[k] and b_stride[i] == loops.b_stride[k] * loops.extent[k] and (
                loops.extent[k] * extent[i] <= COPY_RUN):
            loops.extent[k] *= extent[i]
            continue
        loops.extent[loops.n] = extent[i]
        loops.a_stride[loops.n] = a_stride[i]
        loops.b_stride[loops.n] = b_stride[i]
        loops.n += 1
    if loops.n == 0:
        loops.n = 1
        loops.extent[0] = loops.a_stride[0] = loops.b_stride[0] = 1
    for i in range(loops.n // 2):
        k = loops.n - 1 - i
        loops.extent[i], loops.extent[k] = loops.extent[k], loops.extent[i]
        loops.a_stride[i], loops.a_stride[k] = loops.a_stride[k], loops.a_stride[i]
        loops.b_stride[i], loops.b_stride[k] = loops.b_stride[k], loops.b_stride[i]
    loops.inner = loops.extent[loops.n - 1]
    loops.runs = total // loops.inner if loops.inner else 0
    sp.items = even_items(loops.runs, loops.inner, workers)


cdef inline void copy_strided(Element* y, int64_t y_step, const Element* x, int64_t x_step, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        y[i * y_step] = x[i * x_step]


cdef void copy_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some runs of the loops of `set_loops`: all of x to a part of y, or a part of x to all of y."""
    cdef Loops* loops = <Loops*>job.sp.own
    cdef int64_t bytes_ = job.program.bytes[job.step.y], before = loops.n - 2, a, b, pitch
    cdef int64_t from_step = loops.a_stride[loops.n - 1], to_step = loops.b_stride[loops.n - 1]
    cdef const float* from_x = element_at(job.x, -min(job.sp.origin, 0), bytes_)
    cdef float* to_y = element_at(job.y, max(job.sp.origin, 0), bytes_)
    cdef const float* x
    cdef float* y
    # Runs that begin at neighbouring elements are the columns of a matrix, of which as many as a vector has elements are copied together.
    cdef int64_t lanes = job.program.kernels.lanes if bytes_ != 1 else job.program.byte_kernels.unit
    cdef bint columns = bytes_ != sizeof(int64_t) and to_step == 1 and before >= 0 and (
        loops.a_stride[before] == 1 and loops.extent[before] >= lanes)
    cdef int64_t multiple = lanes if columns else 1
    cdef int64_t run = item_begin(index, job.sp.items, loops.runs, multiple)
    cdef int64_t end = item_begin(index + 1, job.sp.items, loops.runs, multiple)
    while run < end:
        run_places(loops, run, &a, &b)
        x = element_at(from_x, a, bytes_)
        y = element_at(to_y, b, bytes_)
        if columns and run + lanes <= end and run % loops.extent[before] + lanes <= loops.extent[before]:
            pitch = loops.b_stride[before]
            if bytes_ == 1:
                job.program.byte_kernels.scatter_rows(<uint8_t*>y, pitch, <const uint8_t*>x, from_step, lanes, loops.inner)
            else:
                job.program.kernels.scatter_rows(y, pitch, x, from_step, lanes, loops.inner, NULL, ACT_NONE, 0, 0)
            run += lanes
            continue
        run += 1
        if from_step == 1 and to_step == 1:
            memcpy(y, x, loops.inner * bytes_)
        elif bytes_ == 1:
            copy_strided(<uint8_t*>y, to_step, <const uint8_t*>x, from_step, loops.inner)
        elif bytes_ == sizeof(int64_t):
            copy_strided(<int64_t*>y, to_step, <const int64_t*>x, from_step, loops.inner)
        else:
            copy_strided(y, to_step, x, from_step, loops.inner)


# --- Reshape


cdef struct Reshape:
    Shape target         # as in ONNX (0 copies, -1 infers)
    int allow_zero
    int flatten_axis     # Flatten when >= 0
    int removed          # bits: Squeeze when not 0, Unsqueeze
    int inserted
    int computed         # the target's value, NONE where it is given


cdef void reshape_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Reshape)
    ops.build = build_reshape
    ops.infer = infer_reshape
    ops.plan = plan_reshape
    ops.item = reshape_item


cdef int build_reshape(Step* step, object spec) except -1:
    cdef Reshape* reshape = <Reshape*>step.spec
    fill_shape(&reshape.target, spec.target)
    reshape.allow_zero = spec.allow_zero
    reshape.flatten_axis = spec.flatten_axis
    reshape.computed = spec.computed
    for axis in spec.removed:
        reshape.removed |= 1 << <int>axis
    for axis in spec.inserted:
        reshape.inserted |= 1 << <int>axis
    return 0


cdef int infer_axes(const Reshape* reshape, const Shape* x, Shape* y) noexcept nogil:
    """Infer the shape without the removed axes, or with the inserted ones; return 0 on success."""
    cdef int i, source = 0, rank = x.rank
    cdef bint removed, inserted
    for i in range(MAX_RANK):
        rank += (reshape.inserted >> i) & 1
    y.rank = 0
    if rank > MAX_RANK:
        return 1
    for i in range(rank):
        inserted = (reshape.inserted >> i) & 1
        removed = (reshape.removed >> i) & 1
        if removed and x.dims[i] != 1:
            return 1
        if not removed:
            y.dims[y.rank] = 1 if inserted else x.dims[source]
            y.rank += 1
        source += not inserted
    return reshape.removed >> x.rank if reshape.removed else source != x.rank


cdef int infer_reshape(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef Reshape* reshape = <Reshape*>step.spec
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t known = 1, total
    cdef int i, inferred = NONE
    cdef bint fitting = True
    if reshape.removed or reshape.inserted:
        if infer_axes(reshape, x, y):
            snprintf(message, message_size, "Squeeze removes a dimension that is missing or not 1")
            return 1
        return 0
    if reshape.flatten_axis >= 0:
        y.rank = 2
        y.dims[0] = element_count(x, 0, reshape.flatten_axis)
        y.dims[1] = element_count(x, reshape.flatten_axis, x.rank)
        return 0
    y[0] = reshape.target
    if reshape.computed != NONE and shape_of_numbers(plan, reshape.computed, -1, y, message, message_size):
        return 1
    for i in range(y.rank):
        if y.dims[i] == 0 and not reshape.allow_zero:
            if i >= x.rank:
                snprintf(message, message_size, "Reshape copies dimension %d of a tensor with %d", i, x.rank)
                return 1
            y.dims[i] = x.dims[i]
        if y.dims[i] == -1:
            fitting = fitting and inferred == NONE
            inferred = i
        elif known and y.dims[i] > MOST_ELEMENTS // known:
            fitting = False
        else:
            known *= y.dims[i]
    if not fitting:
        snprintf(message, message_size, "Reshape to a shape with -1 twice, or with too many elements")
        return 1
    total = element_count(x, 0, x.rank)
    if inferred != NONE:
        y.dims[inferred] = total // known if known else 0
        known *= y.dims[inferred]
    if known != total:
        snprintf(message, message_size, "Reshape of %lld elements into %lld", <long long>total, <long long>known)
        return 1
    return 0


cdef int plan_reshape(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    plan.steps[index].view = NO_VIEW if plan.steps[index].converts else WHOLE_VIEW
    plan.steps[index].items = 1
    plan.steps[index].parallel = False
    return 0


cdef void reshape_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Copy the input: the result must be in a buffer of its own."""
    memcpy(job.y, job.x, job.plan.values[job.step.y].size * job.program.bytes[job.step.y])


# --- Concat: a step for each operand


cdef struct Concat:
    int axis
    int begins           # the first operand


cdef struct ConcatPlan:
    Loops loops          # first: copy_item reads them
    int64_t start        # of this operand along the axis


cdef void concat_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Concat)
    ops.plan_size = sizeof(ConcatPlan)
    ops.build = build_concat
    ops.infer = infer_concat
    ops.complete = complete_concat
    ops.deals = concat_deals
    ops.joins = True
    ops.item = concat_item


cdef int build_concat(Step* step, object spec) except -1:
    cdef Concat* concat = <Concat*>step.spec
    concat.axis = spec.axis
    concat.begins = spec.begins
    return 0


cdef int infer_concat(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    """Infer the shape of the result with the operands so far."""
    cdef Concat* concat = <Concat*>step.spec
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int i
    if concat.begins:
        y[0] = x[0]
        y.dims[concat.axis] = 0
    for i in range(x.rank):
        if x.rank != y.rank or (i != concat.axis and x.dims[i] != y.dims[i]):
            snprintf(message, message_size, "operands of Concat differ beside axis %d", concat.axis)
            return 1
    (<ConcatPlan*>sp.own).start = y.dims[concat.axis]
    y.dims[concat.axis] += x.dims[concat.axis]
    return 0


cdef void complete_concat(const CompiledProgram* program, Plan* plan, const Step* step, StepPlan* sp) noexcept nogil:
    """Plan the copy of one operand into the result. If it is one run of the result, the step that makes it can write it there."""
    cdef int axis = (<Concat*>step.spec).axis
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t a[MAX_RANK]
    cdef int64_t b[MAX_RANK]
    cdef Dealt d
    cdef int i
    sp.work.moved = 2 * floats_of(&plan.values[step.x])
    if sp.dealt:
        sp.view = NO_VIEW if sp.converts else PART_VIEW
        sp.origin = (<ConcatPlan*>sp.own).start * dealt_as(plan, x).channel
        d = dealt_as(plan, x)
        sp.items = d.images * d.image // d.slice
        return
    for i in range(x.rank):
        a[i] = element_count(x, i + 1, x.rank)
        b[i] = element_count(y, i + 1, y.rank)
    sp.view = PART_VIEW if element_count(x, 0, axis) == 1 and not sp.converts else NO_VIEW
    sp.origin = (<ConcatPlan*>sp.own).start * b[axis]
    set_loops(sp, program.workers, x.rank, x.dims, a, b)


cdef bint concat_deals(const CompiledProgram* program, const Plan* plan, int index, const Deal* deal, double* gain) noexcept nogil:
    """Channels of images stand line by line beside each other."""
    return (<Concat*>program.steps[index].spec).axis == 1 and can_be_dealt(&plan.values[program.steps[index].x].shape, deal)


cdef void concat_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some runs of the operand; of a dealt one a line of all its channels, with the vectors around them."""
    cdef Dealt x, y
    if not job.sp.dealt:
        copy_item(job, index, scratch)
        return
    x = dealt_operand(job.plan, job.step, job.sp)
    y = dealt_value(job.plan, job.step.y)
    memcpy(job.y + job.sp.origin + index * y.slice, job.x + index * x.slice, x.channels * x.channel * sizeof(float))


# --- Pad


cdef struct Pad:
    Shape before
    Shape after
    float fill
    int mode             # FILL_CONSTANT, or elements of x
    int computed         # the value that has the numbers instead, for the dimensions from `axis` on; NONE where they are given
    int axis


# Loops over y; a_stride is that of x.
cdef struct PadPlan:
    Shape before         # negative: elements of x that are left out
    Shape after
    Loops loops
    int64_t lead[MAX_RANK]
    int64_t data[MAX_RANK]


cdef void pad_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Pad)
    ops.plan_size = sizeof(PadPlan)
    ops.build = build_pad
    ops.infer = infer_pad
    ops.plan = plan_pad
    ops.item = pad_item


cdef int build_pad(Step* step, object spec) except -1:
    cdef Pad* pad = <Pad*>step.spec
    fill_shape(&pad.before, spec.before)
    fill_shape(&pad.after, spec.after)
    pad.fill = spec.fill
    pad.mode = spec.mode
    pad.computed = spec.computed
    pad.axis = spec.axis
    return 0


cdef void read_pads(const Plan* plan, const Pad* pad, PadPlan* own, int rank) noexcept nogil:
    """Note how many elements the plan has computed; so many that no image has them stay too many."""
    cdef const ValuePlan* v
    cdef int i
    own.before = pad.before
    own.after = pad.after
    if pad.computed == NONE:
        return
    v = &plan.values[pad.computed]
    for i in range(rank):
        own.before.dims[i] = own.after.dims[i] = 0
        if i >= pad.axis:
            own.before.dims[i] = min(max(v.numbers[i - pad.axis].integer, -MOST_ELEMENTS), MOST_ELEMENTS)
            own.after.dims[i] = min(max(v.numbers[i + rank - 2 * pad.axis].integer, -MOST_ELEMENTS), MOST_ELEMENTS)


cdef int infer_pad(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef Pad* pad = <Pad*>step.spec
    cdef PadPlan* own = <PadPlan*>sp.own
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t size, most
    cdef int i
    y[0] = plan.values[step.x].shape
    read_pads(plan, pad, own, y.rank)
    for i in range(y.rank):
        y.dims[i] += own.before.dims[i] + own.after.dims[i]
        size = plan.values[step.x].shape.dims[i]
        most = size - 1 if pad.mode == FILL_REFLECT and size else (0 if pad.mode != FILL_CONSTANT and size == 0 else MOST_PADS)
        if max(own.before.dims[i], own.after.dims[i]) > most or y.dims[i] < 0:
            snprintf(message, message_size, "Pad by %lld and %lld elements around %lld of the image", <long long>own.before.dims[i],
                     <long long>own.after.dims[i], <long long>size)
            return 1
    return 0


cdef int plan_pad(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Loops over the output, outermost first; dimensions without padding join the one before them.

    Where elements of x are put around it, that one has no padding either.
    """
    cdef Step* step = &program.steps[index]
    cdef Pad* pad = <Pad*>step.spec
    cdef PadPlan* own = <PadPlan*>plan.steps[index].own
    cdef Loops* loops = &own.loops
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t stride = 1
    cdef int i, k
    # loops are filled from the end of the arrays, then moved to their front
    loops.n = 0
    k = MAX_RANK
    for i in range(x.rank - 1, -1, -1):
        if loops.n and own.lead[k] == 0 and own.data[k] == loops.extent[k] and loops.extent[k] * y.dims[i] <= COPY_RUN and (
                pad.mode == FILL_CONSTANT or x.dims[i] == y.dims[i]):
            own.lead[k] = own.before.dims[i] * loops.extent[k]
            own.data[k] = x.dims[i] * loops.extent[k]
            loops.extent[k] *= y.dims[i]
        else:
            k -= 1
            loops.n += 1
            own.lead[k] = own.before.dims[i]
            own.data[k] = x.dims[i]
            loops.extent[k] = y.dims[i]
            loops.a_stride[k] = stride
        stride *= x.dims[i]
    for i in range(loops.n):
        own.lead[i] = own.lead[k + i]
        own.data[i] = own.data[k + i]
        loops.extent[i] = loops.extent[k + i]
        loops.a_stride[i] = loops.a_stride[k + i]
    loops.inner = loops.extent[loops.n - 1]
    loops.runs = plan.values[step.y].size // loops.inner if loops.inner else 0
    plan.steps[index].items = even_items(loops.runs, loops.inner, program.workers)
    return 0


cdef inline void fill(Element* y, int64_t n, Element value) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        y[i] = value


cdef inline int64_t source_of(int64_t i, int64_t n, int mode) noexcept nogil:
    """Return the element of n that stands at place i, which may be beyond either end."""
    if 0 <= i < n:  # divisions take long
        return i
    if mode == FILL_EDGE:
        return min(max(i, 0), n - 1)
    if mode == FILL_WRAP:
        return (i % n + n) % n
    return -i if i < 0 else (2 * n - 2 - i if i >= n else i)


cdef void fill_from(Element* y, const Element* x, int64_t begin, int64_t n, int64_t size, int mode) noexcept nogil:
    """Write n elements of a row from place `begin` on, which stand beside its `size` elements."""
    cdef int64_t i
    for i in range(n):
        y[i] = x[source_of(begin + i, size, mode)]


cdef void pad_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some runs of the innermost loop over the padded output."""
    cdef float value = (<Pad*>job.step.spec).fill
    if job.program.bytes[job.step.y] == 1:
        # the same bits for an integer of either type
        pad_runs(job, index, <const uint8_t*>job.x, <uint8_t*>job.y, <uint8_t><int>value)
    else:
        pad_runs(job, index, job.x, job.y, value)


cdef void pad_runs(Job* job, int64_t index, const Element* x, Element* to_y, Element value) noexcept nogil:
    cdef PadPlan* own = <PadPlan*>job.sp.own
    cdef Loops* loops = &own.loops
    cdef int mode = (<Pad*>job.step.spec).mode
    cdef int64_t run, rest, a, i
    cdef int64_t lead = min(max(own.lead[loops.n - 1], 0), loops.inner), left = max(-own.lead[loops.n - 1], 0)
    cdef int64_t data = max(min(own.data[loops.n - 1] - left, loops.inner - lead), 0)
    cdef int loop
    cdef bint inside
    cdef Element* y
    for run in range(item_begin(index, job.sp.items, loops.runs, 1), item_begin(index + 1, job.sp.items, loops.runs, 1)):
        rest = run
        a = 0
        inside = True
        for loop in range(loops.n - 2, -1, -1):
            i = rest % loops.extent[loop] - own.lead[loop]
            rest //= loops.extent[loop]
            if mode != FILL_CONSTANT:
                i = source_of(i, own.data[loop], mode)
            inside = inside and 0 <= i < own.data[loop]
            a += i * loops.a_stride[loop]
        y = to_y + run * loops.inner
        if not inside:
            fill(y, loops.inner, value)
            continue
        memcpy(y + lead, x + a + left, data * sizeof(Element))
        if mode == FILL_CONSTANT:
            fill(y, lead, value)
            fill(y + lead + data, loops.inner - lead - data, value)
        else:
            fill_from(y, x + a, -lead, lead, data, mode)
            fill_from(y + lead + data, x + a, data, loops.inner - lead - data, data, mode)


# --- Transpose


cdef struct Transpose:
    Shape target


cdef void transpose_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Transpose)
    ops.plan_size = sizeof(Loops)
    ops.build = build_transpose
    ops.infer = infer_transpose
    ops.plan = plan_transpose
    ops.item = copy_item


cdef int build_transpose(Step* step, object spec) except -1:
    fill_shape(&(<Transpose*>step.spec).target, spec.target)
    return 0


cdef int infer_transpose(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef Transpose* transpose = <Transpose*>step.spec
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int i
    y.rank = x.rank
    for i in range(x.rank):
        y.dims[i] = x.dims[transpose.target.dims[i]]
    return 0


cdef int plan_transpose(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Loops over the output, innermost last."""
    cdef Step* step = &program.steps[index]
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t from_x[MAX_RANK]
    cdef int64_t from_y[MAX_RANK]
    cdef int i, axis
    for i in range(y.rank):
        axis = <int>(<Transpose*>step.spec).target.dims[i]
        from_x[i] = element_count(x, axis + 1, x.rank)
        from_y[i] = element_count(y, i + 1, y.rank)
    set_loops(&plan.steps[index], program.workers, y.rank, y.dims, from_x, from_y)
    return 0
