"""Reductions over any axes, global pools among them, and Softmax."""

from libc.math cimport HUGE_VALF, logf
from libc.stdint cimport int64_t, uint8_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset

from ._loops cimport even_items, item_begin
from ._structs cimport *
cimport onnxruntime_ep_sparse_kernels.table as t

cdef enum:
    COLUMNS = 1024       # results next to each other that an item computes together: their sums stay in the first cache
    SUMMED = 64          # rows that are added up before their sum is added to the result, which keeps its error small


# --- reductions


cdef struct Reduce:
    int before           # Act of every element
    int op               # Op that joins them: ADD or MAX
    int after            # Act of the result
    int mean             # divide a sum by the number of its elements
    int takes_empty      # no elements give 0, or -Inf as the largest
    int keeps            # reduced axes stay, as 1
    int axes             # bits
    float zero           # of bytes: taken from each of them


# Neighbouring axes of one kind are one loop.
cdef struct Axes:
    int n
    int64_t extent[MAX_RANK]
    int64_t stride[MAX_RANK]
    int64_t count        # of all positions


cdef struct ReducePlan:
    Axes kept
    Axes reduced
    int columns          # the last axis is kept: rows of results are computed together
    int64_t width        # of these rows, or of a run of elements that are reduced
    int64_t pieces       # of such a row, of COLUMNS each
    int64_t rows         # pieces of all these rows, or results


cdef void reduce_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Reduce)
    ops.plan_size = sizeof(ReducePlan)
    ops.build = build_reduce
    ops.infer = infer_reduce
    ops.plan = plan_reduce
    ops.item = reduce_item


cdef int build_reduce(Step* step, object spec) except -1:
    cdef Reduce* reduce = <Reduce*>step.spec
    reduce.before = spec.before
    reduce.op = spec.op
    reduce.after = spec.after
    reduce.mean = spec.mean
    reduce.takes_empty = spec.takes_empty
    reduce.keeps = spec.keeps
    reduce.zero = spec.zero
    for axis in spec.axes:
        reduce.axes |= 1 << <int>axis
    return 0


cdef int infer_reduce(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef Reduce* reduce = <Reduce*>step.spec
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef bint reduced, empty = False
    cdef int i
    y.rank = 0
    for i in range(x.rank):
        reduced = (reduce.axes >> i) & 1
        empty = empty or (reduced and x.dims[i] == 0)
        if reduce.keeps or not reduced:
            y.dims[y.rank] = 1 if reduced else x.dims[i]
            y.rank += 1
    if empty and not reduce.takes_empty and element_count(y, 0, y.rank):
        snprintf(message, message_size, "a reduction of no elements")
        return 1
    return 0


cdef int plan_reduce(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Plan items of some results, or of some pieces of rows of results."""
    cdef Step* step = &program.steps[index]
    cdef ReducePlan* own = <ReducePlan*>plan.steps[index].own
    cdef Shape* x = &plan.values[step.x].shape
    cdef Axes* axes
    cdef Axes* last = NULL
    cdef int i
    own.kept.count = own.reduced.count = 1
    for i in range(x.rank):
        axes = &own.reduced if ((<Reduce*>step.spec).axes >> i) & 1 else &own.kept
        axes.count *= x.dims[i]
        if x.dims[i] == 1:
            continue
        if axes != last:
            axes.n += 1
            axes.extent[axes.n - 1] = 1
        axes.extent[axes.n - 1] *= x.dims[i]
        axes.stride[axes.n - 1] = element_count(x, i + 1, x.rank)
        last = axes
    own.columns = last == &own.kept and own.reduced.count > 0
    own.width = last.extent[last.n - 1] if last != NULL else 1
    if own.columns:
        own.pieces = ceil_div(own.width, COLUMNS)
        own.rows = own.kept.count // max(own.width, 1) * own.pieces
        plan.steps[index].items = even_items(own.rows, min(own.width, COLUMNS) * own.reduced.count, program.workers)
    else:
        own.rows = own.kept.count
        plan.steps[index].items = even_items(own.rows, max(own.reduced.count, 1), program.workers)
    need_scratch(plan, 2 * COLUMNS)
    return 0


cdef inline int64_t place_of(const Axes* axes, int loops, int64_t index) noexcept nogil:
    """Return the place of position `index` of the first `loops` loops."""
    cdef int64_t place = 0
    cdef int i
    for i in range(loops - 1, -1, -1):
        place += index % axes.extent[i] * axes.stride[i]
        index //= axes.extent[i]
    return place


cdef inline double larger(double a, double b) noexcept nogil:
    """Return the larger number; a NaN stays."""
    return b if b > a or b != b else a


cdef double joined(Job* job, int64_t place, int64_t n, float* scratch) noexcept nogil:
    """Return n elements of x, which stand next to each other, as one number."""
    cdef const Reduce* reduce = <Reduce*>job.step.spec
    cdef t.KernelTable* kernels = job.program.kernels
    cdef const float* x = job.x + place
    cdef int64_t i, part
    cdef double total = 0 if reduce.op == BINARY_ADD else -HUGE_VALF
    cdef float total_f, squares
    if job.program.bytes[job.step.x] == 1:
        total = <double>job.program.byte_kernels.sum(<const uint8_t*>job.x + place, n, job.program.type[job.step.x] == TYPE_INT8)
        return total - reduce.zero * <double>n
    if reduce.op == BINARY_ADD and reduce.before == ACT_NONE:
        return kernels.sum(x, n)
    if reduce.op == BINARY_ADD and reduce.before == ACT_POWER:
        kernels.sums(x, n, 0, &total_f, &squares)
        return squares
    if reduce.before == ACT_NONE:
        return kernels.maximum(x, n)
    for i in range(ceil_div(n, COLUMNS)):
        part = min(n - i * COLUMNS, COLUMNS)
        kernels.activate(scratch, x + i * COLUMNS, NULL, part, <t.Act>reduce.before, 2, 0)
        if reduce.op == BINARY_ADD:
            total += kernels.sum(scratch, part)
        else:
            total = larger(total, kernels.maximum(scratch, part))
    return total


cdef void finish(Job* job, float* y, int64_t n) noexcept nogil:
    """Divide n results of a mean, and apply the function of the result."""
    cdef Reduce* reduce = <Reduce*>job.step.spec
    cdef float count = <float>max((<ReducePlan*>job.sp.own).reduced.count, 1)
    if reduce.mean:
        job.program.kernels.binary(y, y, 1, &count, 0, n, BINARY_DIV)
    if reduce.after != ACT_NONE:
        job.program.kernels.activate(y, y, NULL, n, <t.Act>reduce.after, 0, 0)


cdef void reduce_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef ReducePlan* own = <ReducePlan*>job.sp.own
    cdef Reduce* reduce = <Reduce*>job.step.spec
    cdef int64_t begin = item_begin(index, job.sp.items, own.rows, 1), end = item_begin(index + 1, job.sp.items, own.rows, 1)
    cdef int64_t runs = own.reduced.count // own.width if own.width else 0
    cdef int64_t place, column, i, r
    cdef double total, value
    if own.columns:
        for i in range(begin, end):
            column = i % own.pieces * COLUMNS
            reduce_columns(job, i // own.pieces, column, min(own.width - column, COLUMNS), scratch)
        return
    for i in range(begin, end):
        place = place_of(&own.kept, own.kept.n, i)
        total = 0 if reduce.op == BINARY_ADD else -HUGE_VALF
        for r in range(runs):
            value = joined(job, place + place_of(&own.reduced, own.reduced.n - 1, r), own.width, scratch)
            total = total + value if reduce.op == BINARY_ADD else larger(total, value)
        job.y[i] = <float>total
    finish(job, job.y + begin, end - begin)


cdef void reduce_columns(Job* job, int64_t row, int64_t column, int64_t n, float* scratch) noexcept nogil:
    """n neighbouring results, each from elements that are a row apart."""
    cdef ReducePlan* own = <ReducePlan*>job.sp.own
    cdef Reduce* reduce = <Reduce*>job.step.spec
    cdef t.KernelTable* kernels = job.program.kernels
    cdef int64_t bytes_ = job.program.bytes[job.step.x], r
    cdef const float* x = element_at(job.x, place_of(&own.kept, own.kept.n - 1, row) + column, bytes_)
    cdef const float* source
    cdef float* y = job.y + row * own.width + column
    cdef float one = 1
    for r in range(own.reduced.count):
        source = element_at(x, place_of(&own.reduced, own.reduced.n, r), bytes_)
        if bytes_ == 1:
            job.program.byte_kernels.dequantize(scratch + COLUMNS, <const uint8_t*>source, n, &one, &reduce.zero, 0,
                                                job.program.type[job.step.x] == TYPE_INT8)
            source = scratch + COLUMNS
        elif reduce.before != ACT_NONE:
            kernels.activate(scratch + COLUMNS, source, NULL, n, <t.Act>reduce.before, 2, 0)
            source = scratch + COLUMNS
        if r % SUMMED == 0:
            memcpy(scratch, source, n * sizeof(float))
        else:
            kernels.binary(scratch, scratch, 1, source, 1, n, <t.Op>reduce.op)
        if r % SUMMED == SUMMED - 1 or r == own.reduced.count - 1:
            if r < SUMMED:
                memcpy(y, scratch, n * sizeof(float))
            else:
                kernels.binary(y, y, 1, scratch, 1, n, <t.Op>reduce.op)
    finish(job, y, n)


# --- Softmax, LogSoftmax


cdef struct Softmax:
    int axis
    int flattens         # all axes from this one on are one, as before opset 13
    int is_log
    int masks            # -Inf alone gives zeros


cdef struct SoftmaxPlan:
    int64_t n            # numbers that are normalized together
    int64_t inner        # how far they are apart
    int64_t rows
    int64_t pieces       # of a row of inner results, of COLUMNS each


cdef void softmax_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Softmax)
    ops.plan_size = sizeof(SoftmaxPlan)
    ops.build = build_softmax
    ops.infer = infer_softmax
    ops.plan = plan_softmax
    ops.item = softmax_item
    ops.overwrites = softmax_overwrites


cdef int build_softmax(Step* step, object spec) except -1:
    (<Softmax*>step.spec).axis = spec.axis
    (<Softmax*>step.spec).flattens = spec.flattens
    (<Softmax*>step.spec).is_log = spec.is_log
    (<Softmax*>step.spec).masks = spec.masks
    return 0


cdef int infer_softmax(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    plan.values[step.y].shape = plan.values[step.x].shape
    return 0


cdef Operand softmax_overwrites(const Step* step, const StepPlan* sp) noexcept nogil:
    return OPERAND_X


cdef int plan_softmax(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Plan items of some rows, or of a piece of the columns of an image."""
    cdef Softmax* softmax = <Softmax*>program.steps[index].spec
    cdef SoftmaxPlan* own = <SoftmaxPlan*>plan.steps[index].own
    cdef Shape* x = &plan.values[program.steps[index].x].shape
    own.n = element_count(x, softmax.axis, x.rank if softmax.flattens else softmax.axis + 1)
    own.inner = 1 if softmax.flattens else element_count(x, softmax.axis + 1, x.rank)
    own.pieces = ceil_div(own.inner, COLUMNS)
    own.rows = element_count(x, 0, softmax.axis) * own.pieces
    plan.steps[index].items = even_items(own.rows, own.n * min(own.inner, COLUMNS), program.workers)
    need_scratch(plan, 3 * COLUMNS)
    return 0


cdef void softmax_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef SoftmaxPlan* own = <SoftmaxPlan*>job.sp.own
    cdef int64_t begin = item_begin(index, job.sp.items, own.rows, 1), end = item_begin(index + 1, job.sp.items, own.rows, 1)
    cdef int64_t row, column, at
    if (<Softmax*>job.step.spec).masks:
        for row in range(begin, end):
            if is_masked(job.x + row * own.n, own.n):
                memset(job.y + row * own.n, 0, own.n * sizeof(float))
            else:
                job.program.kernels.softmax(job.y + row * own.n, job.x + row * own.n, 1, own.n)
        return
    if own.inner == 1 and not (<Softmax*>job.step.spec).is_log:
        job.program.kernels.softmax(job.y + begin * own.n, job.x + begin * own.n, end - begin, own.n)
        return
    for row in range(begin, end):
        if own.inner == 1:
            log_softmax_row(job, job.y + row * own.n, job.x + row * own.n, own.n, scratch)
            continue
        column = row % own.pieces * COLUMNS
        at = row // own.pieces * own.n * own.inner + column
        softmax_columns(job, job.y + at, job.x + at, min(own.inner - column, COLUMNS), scratch)


cdef inline bint is_masked(const float* x, int64_t n) noexcept nogil:
    """Return whether all numbers are -Inf."""
    cdef int64_t i = 0
    while i < n and x[i] == -HUGE_VALF:
        i += 1
    return i == n


cdef void log_softmax_row(Job* job, float* y, const float* x, int64_t n, float* scratch) noexcept nogil:
    """Compute LogSoftmax of numbers next to each other."""
    cdef t.KernelTable* kernels = job.program.kernels
    cdef float number = kernels.maximum(x, n)
    cdef double total = 0
    cdef int64_t i, part
    kernels.binary(y, x, 1, &number, 0, n, BINARY_SUB)
    for i in range(ceil_div(n, COLUMNS)):
        part = min(n - i * COLUMNS, COLUMNS)
        kernels.activate(scratch, y + i * COLUMNS, NULL, part, ACT_EXP, 0, 0)
        total += kernels.sum(scratch, part)
    number = logf(<float>total)
    kernels.binary(y, y, 1, &number, 0, n, BINARY_SUB)


cdef void softmax_columns(Job* job, float* y, const float* x, int64_t width, float* scratch) noexcept nogil:
    """`width` columns of numbers, each of which is normalized by itself."""
    cdef SoftmaxPlan* own = <SoftmaxPlan*>job.sp.own
    cdef t.KernelTable* kernels = job.program.kernels
    cdef bint is_log = (<Softmax*>job.step.spec).is_log
    cdef float* total = scratch
    cdef float* power = scratch + COLUMNS
    cdef float* largest = scratch + 2 * COLUMNS
    cdef int64_t i, k
    memcpy(largest, x, width * sizeof(float))
    for i in range(1, own.n):
        kernels.binary(largest, largest, 1, x + i * own.inner, 1, width, BINARY_MAX)
    for i in range(own.n):
        kernels.binary(y + i * own.inner, x + i * own.inner, 1, largest, 1, width, BINARY_SUB)
        kernels.activate(power if is_log else y + i * own.inner, y + i * own.inner, NULL, width, ACT_EXP, 0, 0)
        if i == 0:
            memcpy(total, power if is_log else y, width * sizeof(float))
        else:
            kernels.binary(total, total, 1, power if is_log else y + i * own.inner, 1, width, BINARY_ADD)
    if is_log:
        for k in range(width):
            total[k] = logf(total[k])
    for i in range(own.n):
        kernels.binary(y + i * own.inner, y + i * own.inner, 1, total, 1, width, BINARY_SUB if is_log else BINARY_DIV)
