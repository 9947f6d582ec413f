"""Activations and binary operators."""

from libc.stdint cimport int64_t
from libc.stdio cimport snprintf

from ._infer cimport broadcast
from ._loops cimport Loops, cut_run, even_items, item_begin
from ._structs cimport *
cimport onnxruntime_ep_sparse_kernels.table as t


cdef int64_t items_of_elements(const Plan* plan, const CompiledProgram* program, int index) noexcept nogil:
    """Items of a result whose elements are computed each on its own."""
    return even_items(plan.values[program.steps[index].y].size, 1, program.workers)


# --- activations


cdef void activate_ops(StepKindOps* ops) noexcept:
    ops.infer = infer_activate
    ops.plan = plan_activate
    ops.item = activate_item
    ops.overwrites = activate_overwrites
    ops.reads = reads_activate
    ops.band = activate_band


cdef int infer_activate(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    plan.values[step.y].shape = plan.values[step.x].shape
    return 0


cdef int plan_activate(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    plan.steps[index].items = items_of_elements(plan, program, index)
    return 0


cdef void activate_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef int64_t size = job.plan.values[job.step.y].size, begin = item_begin(index, job.sp.items, size, LINE)
    cdef int64_t n = item_begin(index + 1, job.sp.items, size, LINE) - begin
    job.program.kernels.activate(job.y + begin, job.x + begin, NULL, n, <t.Act>job.step.act, job.step.alpha, job.step.beta)


cdef void read_rows(Reach* reach) noexcept nogil:
    """Set what a step reads whose elements are computed each on its own."""
    reach.pad = 0
    reach.step = reach.rows = 1
    reach.macs = 0
    reach.last = False


cdef bint reads_activate(const CompiledProgram* program, const Plan* plan, int index, Reach* reach) noexcept nogil:
    read_rows(reach)
    return True


cdef void activate_band(Job* job, const Band* band, float* scratch) noexcept nogil:
    cdef Shape* y = &job.plan.values[job.step.y].shape
    cdef int64_t place = band.begin * y.dims[3], n = (band.end - band.begin) * y.dims[3], channel
    for channel in range(y.dims[1]):
        job.program.kernels.activate(band.y + channel * band.y_plane + place, band.x + channel * band.x_plane + place, NULL, n,
                                     <t.Act>job.step.act, job.step.alpha, job.step.beta)


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
    ops.reads = reads_binary
    ops.scales = scales_channels
    ops.band = binary_band


cdef int build_binary(Step* step, object spec) except -1:
    (<Binary*>step.spec).op = spec.op
    (<Binary*>step.spec).keeps_x = spec.keeps_x
    return 0


cdef int infer_binary(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    if broadcast(x, &plan.values[step.r].shape, y, message, message_size):
        return 1
    if (<Binary*>step.spec).keeps_x and not same_shape(x, y):
        snprintf(message, message_size, "the second operand does not broadcast to the shape of the first one")
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
    plan.steps[index].items = items_of_elements(plan, program, index)
    return 0


cdef void binary_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some elements, run by run of the innermost loop; the first run and the last one may be cut."""
    cdef Loops* loops = <Loops*>job.sp.own
    cdef t.Op op = <t.Op>(<Binary*>job.step.spec).op
    cdef int64_t size = job.plan.values[job.step.y].size, a, b, n
    cdef int64_t a_step = loops.a_stride[loops.n - 1], b_step = loops.b_stride[loops.n - 1]
    cdef int64_t place = item_begin(index, job.sp.items, size, LINE), end = item_begin(index + 1, job.sp.items, size, LINE)
    while place < end:
        n = cut_run(loops, place, end, &a, &b)
        job.program.kernels.binary(job.y + place, job.x + a, a_step, job.r + b, b_step, n, op)
        if job.step.act != ACT_NONE:
            job.program.kernels.activate(job.y + place, job.y + place, NULL, n, <t.Act>job.step.act, job.step.alpha, job.step.beta)
        place += n


cdef bint reads_binary(const CompiledProgram* program, const Plan* plan, int index, Reach* reach) noexcept nogil:
    """Return whether the second operand is a number for each channel, as of squeeze-and-excite."""
    cdef Step* step = &program.steps[index]
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* r = &plan.values[step.r].shape
    if not same_shape(x, &plan.values[step.y].shape) or r.rank != 4:
        return False
    read_rows(reach)
    return r.dims[0] == x.dims[0] and r.dims[1] == x.dims[1] and r.dims[2] == 1 and r.dims[3] == 1


cdef bint scales_channels(const CompiledProgram* program, const Plan* plan, int index) noexcept nogil:
    cdef Step* step = &program.steps[index]
    cdef Reach reach
    return (<Binary*>step.spec).op == BINARY_MUL and step.act == ACT_NONE and plan.values[step.x].shape.rank == 4 and (
        reads_binary(program, plan, index, &reach))


cdef void binary_band(Job* job, const Band* band, float* scratch) noexcept nogil:
    cdef Shape* y = &job.plan.values[job.step.y].shape
    cdef int64_t place = band.begin * y.dims[3], n = (band.end - band.begin) * y.dims[3], channel
    cdef float* target
    for channel in range(y.dims[1]):
        target = band.y + channel * band.y_plane + place
        job.program.kernels.binary(target, band.x + channel * band.x_plane + place, 1, band.r + band.image * y.dims[1] + channel, 0, n,
                                   <t.Op>(<Binary*>job.step.spec).op)
        if job.step.act != ACT_NONE:
            job.program.kernels.activate(target, target, NULL, n, <t.Act>job.step.act, job.step.alpha, job.step.beta)
