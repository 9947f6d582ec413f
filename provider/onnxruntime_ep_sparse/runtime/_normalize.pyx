"""Normalization of rows, of groups of channels, and of channels by constants; r holds a row of factors and a row of addends."""

from libc.math cimport sqrtf
from libc.stdint cimport int32_t, int64_t
from libc.stdio cimport snprintf

from ._loops cimport even_items, item_begin
from ._packed cimport set_bounds
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


# --- channels by constants: BatchNormalization


cdef enum:
    MOST_PIXELS = 1 << 30      # of a call: runs have lengths of 32 bits


cdef void scale_channels_ops(StepKindOps* ops) noexcept:
    ops.infer = infer_channels
    ops.plan = plan_channels
    ops.item = channels_item
    ops.scales = scales_image


cdef int infer_channels(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* r = &plan.values[step.r].shape
    plan.values[step.y].shape = x[0]
    if x.dims[1] != r.dims[1]:
        snprintf(message, message_size, "an image of %lld channels, the normalization has %lld weights", <long long>x.dims[1],
                 <long long>r.dims[1])
        return 1
    return 0


cdef int plan_channels(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Plan items of some channels, of any image."""
    cdef Shape* x = &plan.values[program.steps[index].x].shape
    plan.steps[index].items = even_items(x.dims[0] * x.dims[1], element_count(x, 2, x.rank), program.workers)
    return 0


cdef bint scales_image(const CompiledProgram* program, const Plan* plan, int index) noexcept nogil:
    cdef const Step* step = &program.steps[index]
    return plan.values[step.x].shape.rank == 4 and (step.act == ACT_NONE or step.act == ACT_CLAMP)


cdef void channels_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some channels: a product that gathers them instead calls the same kernel."""
    cdef const Shape* x = &job.plan.values[job.step.x].shape
    cdef t.KernelTable* kernels = job.program.kernels
    cdef int64_t pixels = element_count(x, 2, x.rank), planes = x.dims[0] * x.dims[1], at, place, count, i
    cdef int64_t plane = item_begin(index, job.sp.items, planes, 1), end = item_begin(index + 1, job.sp.items, planes, 1)
    cdef bint clamps = job.step.act == ACT_CLAMP
    cdef t.Scaled scaled
    cdef t.Run run
    set_bounds(job.step, clamps, &scaled.low, &scaled.high)
    run.target = 0
    while plane < end:
        scaled.factor = job.r + plane % x.dims[1]
        scaled.addend = scaled.factor + x.dims[1]
        count = min(end - plane, x.dims[1] - plane % x.dims[1])
        at = plane * pixels
        if pixels == 1:
            kernels.binary(job.y + at, job.x + at, 1, scaled.factor, 1, count, BINARY_MUL)
            kernels.binary(job.y + at, job.y + at, 1, scaled.addend, 1, count, BINARY_ADD)
        for i in range(ceil_div(pixels, MOST_PIXELS) if pixels > 1 else 0):
            place = run.source = i * MOST_PIXELS
            run.length = <int32_t>min(pixels - place, MOST_PIXELS)
            kernels.gather(job.y + at + place, pixels, job.x + at, pixels, count, &run, 1, 1, NULL, &scaled)
        if job.step.act != ACT_NONE and (not clamps or pixels == 1):
            kernels.activate(job.y + at, job.y + at, NULL, count * pixels, <t.Act>job.step.act, job.step.alpha, job.step.beta)
        plane += count
