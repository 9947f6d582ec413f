"""LayerNormalization over the last dimension; r holds a row of factors and a row of addends."""

from libc.stdint cimport int64_t
from libc.stdio cimport snprintf

from ._loops cimport even_items, item_begin
from ._structs cimport *


cdef struct Normalize:
    float epsilon


cdef struct NormalizePlan:
    int64_t rows
    int64_t width        # of a row


cdef void normalize_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Normalize)
    ops.plan_size = sizeof(NormalizePlan)
    ops.build = build
    ops.infer = infer
    ops.plan = plan_normalize
    ops.item = normalize_item


cdef int build(Step* step, object spec) except -1:
    (<Normalize*>step.spec).epsilon = spec.epsilon
    return 0


cdef int infer(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* r = &plan.values[step.r].shape
    plan.values[step.y].shape = x[0]
    if x.dims[x.rank - 1] != r.dims[1]:
        snprintf(message, message_size, "rows of %lld, LayerNormalization has %lld weights", <long long>x.dims[x.rank - 1],
                 <long long>r.dims[1])
        return 1
    return 0


cdef int plan_normalize(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    cdef Shape* x = &plan.values[program.steps[index].x].shape
    cdef NormalizePlan* own = <NormalizePlan*>plan.steps[index].own
    own.width = x.dims[x.rank - 1]
    own.rows = element_count(x, 0, x.rank - 1)
    plan.steps[index].items = even_items(own.rows, own.width, program.workers)
    return 0


cdef void normalize_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some rows."""
    cdef NormalizePlan* own = <NormalizePlan*>job.sp.own
    cdef int64_t begin = item_begin(index, job.sp.items, own.rows, 1), rows = item_begin(index + 1, job.sp.items, own.rows, 1) - begin
    job.program.kernels.normalize(job.y + begin * own.width, job.x + begin * own.width, job.r, rows, own.width,
                                  (<Normalize*>job.step.spec).epsilon)
