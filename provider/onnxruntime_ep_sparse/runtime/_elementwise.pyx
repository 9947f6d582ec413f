"""Activations and binary operators."""

from libc.stdint cimport int64_t
from libc.stdio cimport snprintf

from ._loops cimport ACTIVATE_CHUNK, Loops, items_of_runs, run_places, runs_per_item
from ._structs cimport *
cimport onnxruntime_ep_sparse_kernels.table as t


# --- activations


cdef void activate_ops(StepKindOps* ops) noexcept:
    ops.infer = infer_activate
    ops.plan = plan_activate
    ops.item = activate_item
    ops.overwrites = activate_overwrites


cdef int infer_activate(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    plan.values[step.y].shape = plan.values[step.x].shape
    return 0


cdef int plan_activate(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    plan.steps[index].items = ceil_div(plan.values[program.steps[index].y].size, ACTIVATE_CHUNK)
    return 0


cdef void activate_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef int64_t begin = index * ACTIVATE_CHUNK, n = job.plan.values[job.step.y].size - begin
    if n > ACTIVATE_CHUNK:
        n = ACTIVATE_CHUNK
    job.program.kernels.activate(job.y + begin, job.x + begin, NULL, n, <t.Act>job.step.act, job.step.alpha, job.step.beta)


cdef Operand activate_overwrites(const Step* step, const StepPlan* sp) noexcept nogil:
    return OPERAND_X


# --- binary operators


cdef struct Binary:
    int op
    int keeps_x


cdef void binary_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Binary)
    ops.plan_size = sizeof(Loops)
    ops.build = build_binary
    ops.infer = infer_binary
    ops.plan = plan_binary
    ops.item = binary_item


cdef int build_binary(Step* step, object spec) except -1:
    (<Binary*>step.spec).op = spec.op
    (<Binary*>step.spec).keeps_x = spec.keeps_x
    return 0


cdef int infer_binary(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    """Dimensions broadcast from the last on."""
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* r = &plan.values[step.r].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int i, rank = x.rank if x.rank > r.rank else r.rank
    cdef int64_t u, v
    y.rank = rank
    for i in range(rank):
        u = x.dims[i + x.rank - rank] if i + x.rank - rank >= 0 else 1
        v = r.dims[i + r.rank - rank] if i + r.rank - rank >= 0 else 1
        if u != v and u != 1 and v != 1:
            snprintf(message, message_size, "dimensions %lld and %lld do not broadcast", <long long>u, <long long>v)
            return 1
        y.dims[i] = v if u == 1 else u
    if (<Binary*>step.spec).keeps_x and not same_shape(x, y):
        snprintf(message, message_size, "the addend does not broadcast to the result")
        return 1
    return 0


cdef int plan_binary(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Collapse neighbouring dimensions in which both operands keep one stride each."""
    cdef Step* step = &program.steps[index]
    cdef Loops* loops = <Loops*>plan.steps[index].own
    cdef Shape* y = &plan.values[step.y].shape
    cdef Shape* operand[2]
    cdef int64_t stride[2][MAX_RANK]
    cdef int64_t step_size
    cdef int i, k, axis
    operand[0] = &plan.values[step.x].shape
    operand[1] = &plan.values[step.r].shape
    if operand[0].rank == operand[1].rank and operand[0].rank and operand[0].dims[0] != operand[1].dims[0] and (
            program.constant[step.x] == NULL and program.constant[step.r] == NULL):
        plan.uneven = True
    for k in range(2):
        step_size = 1
        for i in range(y.rank - 1, -1, -1):
            axis = i + operand[k].rank - y.rank
            stride[k][i] = 0
            if axis >= 0:
                if operand[k].dims[axis] != 1:
                    stride[k][i] = step_size
                step_size *= operand[k].dims[axis]
    loops.n = 0
    for i in range(y.rank):
        if y.dims[i] == 1:
            continue
        k = loops.n - 1
        if k >= 0 and loops.a_stride[k] == stride[0][i] * y.dims[i] and loops.b_stride[k] == stride[1][i] * y.dims[i]:
            loops.extent[k] *= y.dims[i]
            loops.a_stride[k] = stride[0][i]
            loops.b_stride[k] = stride[1][i]
        else:
            loops.extent[loops.n] = y.dims[i]
            loops.a_stride[loops.n] = stride[0][i]
            loops.b_stride[loops.n] = stride[1][i]
            loops.n += 1
    if loops.n == 0:
        loops.n = 1
        loops.extent[0] = 1
        loops.a_stride[0] = loops.b_stride[0] = 0
    loops.inner = loops.extent[loops.n - 1]
    loops.runs = plan.values[step.y].size // loops.inner if loops.inner else 0
    plan.steps[index].items = items_of_runs(loops.runs, loops.inner)
    return 0


cdef void binary_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some runs of the innermost loop; an item is about ACTIVATE_CHUNK elements."""
    cdef Loops* loops = <Loops*>job.sp.own
    cdef t.Op op = <t.Op>(<Binary*>job.step.spec).op
    cdef int64_t runs = loops.runs, per = runs_per_item(loops.inner), run, a, b
    for run in range(index * per, runs if (index + 1) * per > runs else (index + 1) * per):
        run_places(loops, run, &a, &b)
        job.program.kernels.binary(job.y + run * loops.inner, job.x + a, loops.a_stride[loops.n - 1],
                                   job.r + b, loops.b_stride[loops.n - 1], loops.inner, op)
        if job.step.act != ACT_NONE:
            job.program.kernels.activate(job.y + run * loops.inner, job.y + run * loops.inner, NULL, loops.inner, <t.Act>job.step.act,
                                         job.step.alpha, job.step.beta)
