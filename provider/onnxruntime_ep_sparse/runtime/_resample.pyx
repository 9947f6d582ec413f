"""Resize along one axis, by a table of positions and weights that the plan makes: images of one or three dimensions, and cubic ones."""

from libc.math cimport fabsf, floorf
from libc.stdint cimport int32_t, int64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from ._loops cimport even_items, item_begin
from ._resize cimport Place, original_place, nearest_pixel
from ._structs cimport *


cdef enum:
    MOST_TAPS = 4


cdef struct Resample:
    int axis
    Place place
    float scale
    int64_t size         # -1: by scale
    float cubic
    int excludes


# The elements of x that one of the result reads, and their weights.
cdef struct Tap:
    int32_t from_x[MOST_TAPS]
    float weight[MOST_TAPS]


cdef struct ResamplePlan:
    Tap* taps
    int count            # of each element: 1, 2 or 4
    int64_t runs         # before the axis, times elements along it
    int64_t inner        # after the axis


cdef void resample_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Resample)
    ops.plan_size = sizeof(ResamplePlan)
    ops.build = build
    ops.infer = infer
    ops.plan = plan_resample
    ops.release_plan = release_plan
    ops.item = resample_item


cdef int build(Step* step, object spec) except -1:
    cdef Resample* resample = <Resample*>step.spec
    resample.axis = spec.axis
    resample.place.interpolation = spec.interpolation
    resample.place.coordinates = spec.coordinates
    resample.scale = spec.scale
    resample.size = spec.size
    resample.cubic = spec.cubic
    resample.excludes = spec.excludes
    return 0


cdef int infer(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef Resample* resample = <Resample*>step.spec
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    y[0] = x[0]
    y.dims[resample.axis] = resample.size
    if resample.size < 0:
        y.dims[resample.axis] = <int64_t>(resample.scale * <float>x.dims[resample.axis])
    if x.dims[resample.axis] == 0 and y.dims[resample.axis]:
        snprintf(message, message_size, "an empty image cannot be resized")
        return 1
    return 0


cdef void set_cubic(Tap* tap, const Resample* resample, float place, int64_t size) noexcept nogil:
    """Set the four pixels around a place and their weights (Keys 1981), in the arithmetic of ONNX Runtime's CPU provider."""
    cdef float a = resample.cubic, whole = floorf(place), s = place - whole, total = 0
    cdef int64_t pixel
    cdef int k
    tap.weight[0] = ((a * (s + 1) - 5 * a) * (s + 1) + 8 * a) * (s + 1) - 4 * a
    tap.weight[1] = ((a + 2) * s - (a + 3)) * s * s + 1
    tap.weight[2] = ((a + 2) * (1 - s) - (a + 3)) * (1 - s) * (1 - s) + 1
    tap.weight[3] = ((a * (2 - s) - 5 * a) * (2 - s) + 8 * a) * (2 - s) - 4 * a
    for k in range(4):
        pixel = <int64_t>whole + k - 1
        if resample.excludes and not 0 <= pixel < size:
            tap.weight[k] = 0
        tap.from_x[k] = <int32_t>min(max(pixel, 0), size - 1)
        total += tap.weight[k]
    if resample.excludes:
        for k in range(4):
            tap.weight[k] /= total


cdef void set_tap(Tap* tap, const Resample* resample, int64_t index, int64_t size, int64_t out) noexcept nogil:
    """Set what one of `out` elements along the axis reads of `size`."""
    cdef float scale = resample.scale if resample.size < 0 else <float>out / <float>size, place = <float>index
    cdef int64_t pixel = index
    if scale != 1:
        place = original_place(&resample.place, place, scale, <float>out, <float>size)
    if resample.place.interpolation == READ_CUBIC:
        set_cubic(tap, resample, place, size)
        return
    if resample.place.interpolation == READ_LINEAR:
        place = min(max(place, 0), <float>(size - 1))
        pixel = <int64_t>place
    elif scale != 1:
        pixel = nearest_pixel(&resample.place, place, scale < 1)
    pixel = min(max(pixel, 0), size - 1)
    tap.from_x[0] = <int32_t>pixel
    tap.from_x[1] = <int32_t>min(pixel + 1, size - 1)
    tap.weight[1] = fabsf(place - <float>pixel) if tap.from_x[1] > tap.from_x[0] else 0
    tap.weight[0] = 1 - tap.weight[1]


cdef int plan_resample(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Plan what each element along the axis reads; return 0 on success."""
    cdef Step* step = &program.steps[index]
    cdef Resample* resample = <Resample*>step.spec
    cdef ResamplePlan* own = <ResamplePlan*>plan.steps[index].own
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t out = y.dims[resample.axis], i
    own.count = 1
    if resample.place.interpolation == READ_LINEAR:
        own.count = 2
    elif resample.place.interpolation == READ_CUBIC:
        own.count = 4
    own.inner = element_count(y, resample.axis + 1, y.rank)
    own.runs = element_count(y, 0, resample.axis + 1)
    own.taps = <Tap*>malloc((out + 1) * sizeof(Tap))
    if own.taps == NULL:
        return 1
    for i in range(out):
        set_tap(own.taps + i, resample, i, x.dims[resample.axis], out)
    plan.steps[index].items = even_items(own.runs, own.inner, program.workers)
    return 0


cdef void release_plan(const Step* step, StepPlan* sp) noexcept nogil:
    free((<ResamplePlan*>sp.own).taps)


cdef void resample_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some elements along the axis, each with all that stand after it."""
    cdef ResamplePlan* own = <ResamplePlan*>job.sp.own
    cdef int axis = (<Resample*>job.step.spec).axis
    cdef int64_t size = job.plan.values[job.step.x].shape.dims[axis], out = job.plan.values[job.step.y].shape.dims[axis]
    cdef int64_t n = own.inner, run, i
    cdef const Tap* tap
    cdef const float* x
    cdef const float* p0
    cdef const float* p1
    cdef const float* p2
    cdef const float* p3
    cdef float* y
    cdef float w0, w1, w2, w3
    if n == 1:
        resample_last(job, own, item_begin(index, job.sp.items, own.runs, 1), item_begin(index + 1, job.sp.items, own.runs, 1), size, out)
        return
    for run in range(item_begin(index, job.sp.items, own.runs, 1), item_begin(index + 1, job.sp.items, own.runs, 1)):
        tap = own.taps + run % out
        x = job.x + run // out * size * n
        y = job.y + run * n
        p0 = x + tap.from_x[0] * n
        w0 = tap.weight[0]
        if own.count == 1:
            memcpy(y, p0, n * sizeof(float))
            continue
        p1 = x + tap.from_x[1] * n
        w1 = tap.weight[1]
        if own.count == 2:
            for i in range(n):
                y[i] = w0 * p0[i] + w1 * p1[i]
            continue
        p2 = x + tap.from_x[2] * n
        p3 = x + tap.from_x[3] * n
        w2 = tap.weight[2]
        w3 = tap.weight[3]
        for i in range(n):
            y[i] = w0 * p0[i] + w1 * p1[i] + w2 * p2[i] + w3 * p3[i]


cdef void resample_last(Job* job, const ResamplePlan* own, int64_t begin, int64_t end, int64_t size, int64_t out) noexcept nogil:
    """Write elements [begin, end) of the result, along its last axis."""
    cdef const float* x
    cdef const Tap* tap
    cdef int64_t place = begin, row, i, last
    while place < end:
        row = place // out
        last = min(end - row * out, out)
        x = job.x + row * size
        for i in range(place - row * out, last):
            tap = own.taps + i
            if own.count == 1:
                job.y[row * out + i] = x[tap.from_x[0]]
            elif own.count == 2:
                job.y[row * out + i] = tap.weight[0] * x[tap.from_x[0]] + tap.weight[1] * x[tap.from_x[1]]
            else:
                job.y[row * out + i] = tap.weight[0] * x[tap.from_x[0]] + tap.weight[1] * x[tap.from_x[1]] + (
                    tap.weight[2] * x[tap.from_x[2]] + tap.weight[3] * x[tap.from_x[3]])
        place = row * out + last
