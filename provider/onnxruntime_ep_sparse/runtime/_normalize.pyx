"""Normalization of rows, and of groups of channels; r holds a row of factors and a row of addends."""

from libc.math cimport sqrtf
from libc.stdint cimport int64_t
from libc.stdio cimport snprintf

from ._loops cimport even_items, item_begin
from ._structs cimport *
cimport onnxruntime_ep_sparse_kernels.table as t


# --- rows: LayerNormalization, RMSNormalization


cdef struct Normalize:
    float epsilon
    int centred


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
    (<Normalize*>step.spec).centred = spec.centred
    return 0


cdef int infer(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* r = &plan.values[step.r].shape
    plan.values[step.y].shape = x[0]
    if x.dims[x.rank - 1] != r.dims[1]:
        snprintf(message, message_size, "rows of %lld, the normalization has %lld weights", <long long>x.dims[x.rank - 1],
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
                                  (<Normalize*>job.step.spec).epsilon, (<Normalize*>job.step.spec).centred)


# --- groups of channels: GroupNormalization, InstanceNormalization


cdef struct NormalizeGroups:
    float epsilon
    int64_t groups       # of an image; 0: every channel is one


cdef struct GroupsPlan:
    int64_t groups
    int64_t channels     # of a group
    int64_t pixels       # of a channel


cdef void normalize_groups_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(NormalizeGroups)
    ops.plan_size = sizeof(GroupsPlan)
    ops.build = build_groups
    ops.infer = infer_groups
    ops.plan = plan_groups
    ops.item = groups_item


cdef int build_groups(Step* step, object spec) except -1:
    (<NormalizeGroups*>step.spec).epsilon = spec.epsilon
    (<NormalizeGroups*>step.spec).groups = spec.groups
    return 0


cdef int infer_groups(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* r = &plan.values[step.r].shape
    cdef int64_t groups = (<NormalizeGroups*>step.spec).groups
    plan.values[step.y].shape = x[0]
    if x.dims[1] != r.dims[1]:
        snprintf(message, message_size, "an image of %lld channels, the normalization has %lld weights", <long long>x.dims[1],
                 <long long>r.dims[1])
        return 1
    if groups and x.dims[1] % groups:
        snprintf(message, message_size, "%lld channels are not %lld groups of one size", <long long>x.dims[1], <long long>groups)
        return 1
    return 0


cdef int plan_groups(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Plan one item per group of an image."""
    cdef Shape* x = &plan.values[program.steps[index].x].shape
    cdef GroupsPlan* own = <GroupsPlan*>plan.steps[index].own
    cdef int64_t groups = (<NormalizeGroups*>program.steps[index].spec).groups
    own.groups = groups if groups else x.dims[1]
    own.channels = x.dims[1] // own.groups if own.groups else 0
    own.pixels = element_count(x, 2, x.rank)
    plan.steps[index].items = x.dims[0] * own.groups
    return 0


cdef void groups_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Normalize one group: a factor and an addend for each of its channels."""
    cdef GroupsPlan* own = <GroupsPlan*>job.sp.own
    cdef t.KernelTable* kernels = job.program.kernels
    cdef int64_t n = own.channels * own.pixels, first = index % own.groups * own.channels, c, at = index * n
    cdef int64_t all_channels = own.groups * own.channels
    cdef float mean, rest, variance, scale
    kernels.moments(job.x + at, n, &mean, &rest, &variance)
    scale = 1 / sqrtf(variance + (<NormalizeGroups*>job.step.spec).epsilon)
    for c in range(own.channels):
        # the mean first: to subtract it times the factor loses digits where it is large
        kernels.activate(job.y + at, job.x + at, NULL, own.pixels, ACT_AFFINE, 1, -mean)
        kernels.activate(job.y + at, job.y + at, NULL, own.pixels, ACT_AFFINE, scale * job.r[first + c],
                         job.r[all_channels + first + c] - rest * scale * job.r[first + c])
        at += own.pixels
