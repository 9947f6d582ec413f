"""Steps of int64 and int32: arithmetic, comparisons, Cast, Range; and Where, of any type."""

from libc.math cimport fabs
from libc.stdint cimport int32_t, int64_t
from libc.stdio cimport snprintf

from ._arithmetic cimport compute_integers, cut_float, narrowed
from ._elementwise cimport infer_activate, plan_binary
from ._infer cimport broadcast
from ._loops cimport Loops, cut_run, even_items, item_begin
from ._structs cimport *

cdef enum:
    LINE = 16            # elements of a cache line, between which results are cut into items
    PART = 256           # elements that are widened to int64 at a time


# --- arithmetic


cdef struct Integers:
    int op               # NumberOp
    int truth            # the result is 0 or 1, as a float


cdef void integers_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Integers)
    ops.plan_size = sizeof(Loops)
    ops.build = build_integers
    ops.infer = infer_integers
    ops.plan = plan_integers
    ops.item = integers_item


cdef int build_integers(Step* step, object spec) except -1:
    (<Integers*>step.spec).op = spec.op
    (<Integers*>step.spec).truth = spec.truth
    return 0


cdef int infer_integers(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    if step.r == NONE:
        return infer_activate(plan, step, sp, message, message_size)
    return broadcast(&plan.values[step.x].shape, &plan.values[step.r].shape, &plan.values[step.y].shape, message, message_size)


cdef int plan_integers(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    cdef Loops* loops = <Loops*>plan.steps[index].own
    if program.steps[index].r != NONE:
        return plan_binary(program, plan, index)
    loops.n = 1
    loops.inner = loops.extent[0] = plan.values[program.steps[index].y].size
    loops.a_stride[0] = 1
    loops.b_stride[0] = 0
    plan.steps[index].items = even_items(loops.inner, 1, program.workers)
    return 0


cdef void widen(int64_t* to, const float* x, int type, int64_t place, int64_t step, int64_t n, int y_type) noexcept nogil:
    """Read n integers, or floats that become integers of `y_type`."""
    cdef int64_t i
    if type == TYPE_INT64:
        for i in range(n):
            to[i] = (<const int64_t*>x)[place + i * step]
    elif type == TYPE_INT32:
        for i in range(n):
            to[i] = (<const int32_t*>x)[place + i * step]
    else:
        for i in range(n):
            to[i] = cut_float(x[place + i * step], y_type)


cdef void narrow(float* y, int type, int64_t place, const int64_t* source, int64_t n, bint truth) noexcept nogil:
    cdef int64_t i
    if type == TYPE_INT64:
        for i in range(n):
            (<int64_t*>y)[place + i] = source[i]
    elif type == TYPE_INT32:
        for i in range(n):
            (<int32_t*>y)[place + i] = <int32_t>source[i]
    elif truth:
        for i in range(n):
            y[place + i] = source[i] != 0
    else:
        for i in range(n):
            y[place + i] = <float>source[i]


cdef void integers_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some elements, run by run of the innermost loop, in parts; what is not int64 is widened."""
    cdef const Integers* own = <const Integers*>job.step.spec
    cdef const Loops* loops = <const Loops*>job.sp.own
    cdef const int* type = job.program.type
    cdef int64_t size = job.plan.values[job.step.y].size, a, b, n
    cdef int64_t a_step = loops.a_stride[loops.n - 1], b_step = loops.b_stride[loops.n - 1]
    cdef int64_t place = item_begin(index, job.sp.items, size, LINE), end = item_begin(index + 1, job.sp.items, size, LINE)
    cdef int64_t x[PART]
    cdef int64_t r[PART]
    cdef int64_t made[PART]
    cdef const int64_t* first
    cdef const int64_t* second
    cdef int64_t* result
    cdef int y_type = type[job.step.y]
    while place < end:
        n = min(PART, cut_run(loops, place, end, &a, &b))
        first = second = x
        if type[job.step.x] == TYPE_INT64:
            first = <const int64_t*>job.x + a
        else:
            widen(x, job.x, type[job.step.x], a, a_step, n, y_type)
        if job.r != NULL and type[job.step.r] == TYPE_INT64:
            second = <const int64_t*>job.r + b
        elif job.r != NULL:
            second = r
            widen(r, job.r, type[job.step.r], b, b_step, n, y_type)
        result = <int64_t*>job.y + place if y_type == TYPE_INT64 else made
        compute_integers(own.op, result, first, a_step if first != x else 1, second, b_step if second != r and job.r != NULL else 1, n)
        if y_type != TYPE_INT64:
            narrow(job.y, y_type, place, made, n, own.truth)
        place += n


# --- Range


cdef double MOST_NUMBER = 2305843009213693952.0   # 2**61


cdef struct Range:
    int limit            # values with numbers of the plan
    int delta


cdef void range_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Range)
    ops.build = build_range
    ops.infer = infer_range
    ops.plan = plan_range
    ops.item = range_item


cdef int build_range(Step* step, object spec) except -1:
    (<Range*>step.spec).limit = spec.limit
    (<Range*>step.spec).delta = spec.delta
    return 0


cdef int infer_range(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef const Range* own = <const Range*>step.spec
    cdef double begin = <double>plan.values[step.x].numbers[0].integer, end = <double>plan.values[own.limit].numbers[0].integer
    cdef int64_t delta = plan.values[own.delta].numbers[0].integer, first = plan.values[step.x].numbers[0].integer
    cdef int64_t last = plan.values[own.limit].numbers[0].integer
    cdef Shape* y = &plan.values[step.y].shape
    if delta == 0:
        snprintf(message, message_size, "delta of a Range is 0")
        return 1
    if (end - begin) / <double>delta > <double>MOST_ELEMENTS or max(fabs(begin), fabs(end), fabs(<double>delta)) > MOST_NUMBER:
        snprintf(message, message_size, "a Range of more than 2**40 numbers, or of numbers beyond 2**61")
        return 1
    y.rank = 1
    if delta > 0:
        y.dims[0] = ceil_div(last - first, delta) if last > first else 0
    else:
        y.dims[0] = ceil_div(first - last, -delta) if first > last else 0
    return 0


cdef int plan_range(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    plan.steps[index].items = 1
    plan.steps[index].parallel = False
    return 0


cdef void range_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef int64_t number = job.plan.values[job.step.x].numbers[0].integer, i
    cdef int64_t delta = job.plan.values[(<const Range*>job.step.spec).delta].numbers[0].integer
    for i in range(job.plan.values[job.step.y].size):
        narrow(job.y, job.program.type[job.step.y], i, &number, 1, False)
        number = narrowed(job.program.type[job.step.y], number + delta)


# --- CumSum


cdef struct Accumulate:
    int axis
    int exclusive
    int reverse


cdef void accumulate_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Accumulate)
    ops.build = build_accumulate
    ops.infer = infer_activate
    ops.plan = plan_accumulate
    ops.item = accumulate_item


cdef int build_accumulate(Step* step, object spec) except -1:
    (<Accumulate*>step.spec).axis = spec.axis
    (<Accumulate*>step.spec).exclusive = spec.exclusive
    (<Accumulate*>step.spec).reverse = spec.reverse
    return 0


cdef int plan_accumulate(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    plan.steps[index].items = element_count(&plan.values[program.steps[index].y].shape, 0, (<Accumulate*>program.steps[index].spec).axis)
    return 0


cdef void accumulate_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    if job.program.type[job.step.y] == TYPE_FLOAT32:
        accumulate(job, index, job.y, job.x)
    elif job.program.type[job.step.y] == TYPE_INT64:
        accumulate(job, index, <int64_t*>job.y, <const int64_t*>job.x)
    else:
        accumulate(job, index, <int32_t*>job.y, <const int32_t*>job.x)


ctypedef fused Summed:
    float
    int64_t
    int32_t


cdef void accumulate(Job* job, int64_t index, Summed* y, const Summed* x) noexcept nogil:
    """Add up along the axis at one place before it: line after line of the dimensions after it."""
    cdef const Accumulate* own = <const Accumulate*>job.step.spec
    cdef const Shape* shape = &job.plan.values[job.step.y].shape
    cdef int64_t lines = shape.dims[own.axis], inner = element_count(shape, own.axis + 1, shape.rank), i, k, line, before
    y += index * lines * inner
    x += index * lines * inner
    for k in range(lines):
        line = (lines - 1 - k if own.reverse else k) * inner
        before = line + (inner if own.reverse else -inner)
        for i in range(inner):
            if own.exclusive:
                y[line + i] = y[before + i] + x[before + i] if k else <Summed>0
            else:
                y[line + i] = y[before + i] + x[line + i] if k else x[line + i]


# --- Where


cdef enum:
    CONDITION            # operands of a choice
    IF_TRUE
    IF_FALSE
    OPERANDS

# Loops over the result with the strides of the operands, innermost last.
cdef struct ChoosePlan:
    int n
    int64_t extent[MAX_RANK]
    int64_t stride[OPERANDS][MAX_RANK]


cdef void choose_ops(StepKindOps* ops) noexcept:
    ops.plan_size = sizeof(ChoosePlan)
    ops.build = build_choose
    ops.infer = infer_choose
    ops.plan = plan_choose
    ops.item = choose_item


cdef int build_choose(Step* step, object spec) except -1:
    step.n_more = 1
    step.more[0] = spec.other
    return 0


cdef int infer_choose(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef Shape both
    if broadcast(&plan.values[step.x].shape, &plan.values[step.r].shape, &both, message, message_size):
        return 1
    return broadcast(&both, &plan.values[step.more[0]].shape, &plan.values[step.y].shape, message, message_size)


cdef int plan_choose(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Join neighbouring dimensions in which all operands keep one stride each."""
    cdef const Step* step = &program.steps[index]
    cdef ChoosePlan* own = <ChoosePlan*>plan.steps[index].own
    cdef const Shape* y = &plan.values[step.y].shape
    cdef const Shape* operand
    cdef int64_t stride[OPERANDS][MAX_RANK]
    cdef int64_t step_size
    cdef int i, k, axis
    cdef bint joined
    for k in range(OPERANDS):
        operand = &plan.values[step.x if k == CONDITION else (step.r if k == IF_TRUE else step.more[0])].shape
        step_size = 1
        for i in range(y.rank - 1, -1, -1):
            axis = i + operand.rank - y.rank
            stride[k][i] = step_size if axis >= 0 and operand.dims[axis] != 1 else 0
            step_size *= operand.dims[axis] if axis >= 0 else 1
    own.n = 0
    for i in range(y.rank):
        if y.dims[i] == 1:
            continue
        joined = own.n > 0
        for k in range(OPERANDS):
            joined = joined and own.stride[k][own.n - 1] == stride[k][i] * y.dims[i]
        own.n += not joined
        own.extent[own.n - 1] = own.extent[own.n - 1] * y.dims[i] if joined else y.dims[i]
        for k in range(OPERANDS):
            own.stride[k][own.n - 1] = stride[k][i]
    if own.n == 0:
        own.n = 1
        own.extent[0] = 1
        for k in range(OPERANDS):
            own.stride[k][0] = 0
    plan.steps[index].items = even_items(plan.values[step.y].size, 1, program.workers)
    return 0


ctypedef fused Chosen:
    float
    int64_t


cdef void choose_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    if job.program.bytes[job.step.y] == sizeof(float):
        choose_runs(job, index, job.y, job.r, job.more[0])
    else:
        choose_runs(job, index, <int64_t*>job.y, <const int64_t*>job.r, <const int64_t*>job.more[0])


cdef void choose_runs(Job* job, int64_t index, Chosen* y, const Chosen* if_true, const Chosen* if_false) noexcept nogil:
    """Some elements, run by run of the innermost loop; the first run and the last one may be cut."""
    cdef const ChoosePlan* own = <const ChoosePlan*>job.sp.own
    cdef int64_t size = job.plan.values[job.step.y].size, n, i, rest
    cdef int64_t place = item_begin(index, job.sp.items, size, LINE), end = item_begin(index + 1, job.sp.items, size, LINE)
    cdef int64_t at[OPERANDS]
    cdef int64_t c = own.stride[CONDITION][own.n - 1], t = own.stride[IF_TRUE][own.n - 1], f = own.stride[IF_FALSE][own.n - 1]
    cdef int loop, k
    while place < end:
        n = min(own.extent[own.n - 1] - place % own.extent[own.n - 1], end - place)
        at[0] = at[1] = at[2] = 0
        rest = place
        for loop in range(own.n - 1, -1, -1):
            i = rest % own.extent[loop]
            rest //= own.extent[loop]
            for k in range(OPERANDS):
                at[k] += i * own.stride[k][loop]
        for i in range(n):
            y[place + i] = if_true[at[IF_TRUE] + i * t] if job.x[at[CONDITION] + i * c] != 0 else if_false[at[IF_FALSE] + i * f]
        place += n
