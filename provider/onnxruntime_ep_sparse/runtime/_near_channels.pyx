"""LRN: normalization by the channels that stand near each other."""

from libc.math cimport powf, sqrtf
from libc.stdint cimport int64_t
from libc.string cimport memset

from ._structs cimport *


cdef enum:
    PIXELS = 512    # of an item, in all channels: what stands near each other stays in L2


cdef struct NormalizeNear:
    int64_t size
    float share     # of a square
    float beta
    float bias


cdef void normalize_near_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(NormalizeNear)
    ops.build = build
    ops.infer = infer
    ops.plan = plan_near
    ops.item = near_item


cdef int build(Step* step, object spec) except -1:
    cdef NormalizeNear* near = <NormalizeNear*>step.spec
    near.size = spec.size
    near.share = spec.alpha / spec.size
    near.beta = spec.beta
    near.bias = spec.bias
    return 0


cdef int infer(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    plan.values[step.y].shape = plan.values[step.x].shape
    return 0


cdef int plan_near(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    cdef Shape* x = &plan.values[program.steps[index].x].shape
    plan.steps[index].items = x.dims[0] * ceil_div(x.dims[2] * x.dims[3], PIXELS) if x.dims[1] else 0
    need_scratch(plan, PIXELS)
    return 0


cdef void near_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some pixels of an image, channel after channel."""
    cdef NormalizeNear* near = <NormalizeNear*>job.step.spec
    cdef Shape* shape = &job.plan.values[job.step.x].shape
    cdef int64_t channels = shape.dims[1], pixels = shape.dims[2] * shape.dims[3], items = ceil_div(pixels, PIXELS)
    cdef int64_t begin = index % items * PIXELS, n = min(pixels - begin, PIXELS), half = near.size // 2, c, k, i
    cdef const float* x = job.x + index // items * channels * pixels + begin
    cdef float* y = job.y + index // items * channels * pixels + begin
    cdef const float* row
    cdef float v
    for c in range(channels):
        memset(scratch, 0, n * sizeof(float))
        for k in range(max(c - half, 0), min(c + half, channels - 1) + 1):
            row = x + k * pixels
            for i in range(n):
                scratch[i] += row[i] * row[i]
        row = x + c * pixels
        if near.beta == <float>0.75:
            for i in range(n):
                v = sqrtf(near.bias + near.share * scratch[i])
                y[c * pixels + i] = row[i] / (v * sqrtf(v))
        else:
            for i in range(n):
                y[c * pixels + i] = row[i] * powf(near.bias + near.share * scratch[i], -near.beta)
