"""Convolutions whose outputs each read one channel."""

import numpy as np

from libc.stdint cimport int64_t

from onnxruntime_ep_sparse_kernels.pack import depthwise_values

from ._from_python cimport memory_of
from ._loops cimport even_items, item_begin
from ._packed cimport scale_rows, set_bounds
from ._infer cimport infer_addend
from ._structs cimport *
from ._weight_store cimport shared_drop
from ._windows cimport Window, fill_window, infer_window
cimport onnxruntime_ep_sparse_kernels.table as t

# Output m reads channel m * channels // M.
cdef struct Depthwise:
    Window window
    int64_t M
    int64_t channels
    float* value         # taps of all outputs, in the order of the kernels
    float* bias
    float* scale         # of the sums of each output, or NULL


cdef struct DepthwisePlan:
    int64_t pad[3]
    int64_t pad_end[3]
    int64_t band         # rows of a plane that are computed at a time
    int64_t inner        # pixels of a band
    int64_t runs         # bands of all planes


cdef void depthwise_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Depthwise)
    ops.plan_size = sizeof(DepthwisePlan)
    ops.build = build
    ops.release = release
    ops.infer = infer
    ops.plan = plan_depthwise
    ops.item = depthwise_item
    ops.reads = reads
    ops.band = depthwise_band
    ops.variant = variant


cdef int build(Step* step, object spec) except -1:
    cdef Depthwise* p = <Depthwise*>step.spec
    fill_window(&p.window, spec.window)
    p.M = spec.m
    p.channels = spec.channels
    p.value = <float*>memory_of(depthwise_values(spec.value__mt), np.float32)
    p.bias = <float*>memory_of(spec.bias__m, np.float32)
    if spec.scale__m is not None:
        p.scale = <float*>memory_of(spec.scale__m, np.float32)
    return 0


cdef void release(void* spec) noexcept nogil:
    shared_drop((<Depthwise*>spec).value)
    shared_drop((<Depthwise*>spec).bias)
    shared_drop((<Depthwise*>spec).scale)


cdef int infer(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef Depthwise* p = <Depthwise*>step.spec
    cdef DepthwisePlan* own = <DepthwisePlan*>sp.own
    if infer_window(&p.window, &plan.values[step.x].shape, p.channels, p.M, False, False, &plan.values[step.y].shape, own.pad, own.pad_end,
                    message, message_size):
        return 1
    infer_addend(plan, step, sp)
    return 0


cdef void geometry(const Plan* plan, const Step* step, const DepthwisePlan* own, t.Depthwise* d) noexcept nogil:
    """Sizes and window, for the kernels."""
    cdef const Window* w = &(<Depthwise*>step.spec).window
    cdef const Shape* x = &plan.values[step.x].shape
    cdef int i
    for i in range(3):
        d.size[i] = x.dims[x.rank - 3 + i] if 3 - i <= w.rank else 1
        d.kernel[i] = w.kernel[i]
        d.stride[i] = w.stride[i]
        d.dilation[i] = w.dilation[i]
        d.pad[i] = own.pad[i]
    d.many = (<Depthwise*>step.spec).M // (<Depthwise*>step.spec).channels
    d.x_plane = d.size[0] * d.size[1] * d.size[2]
    d.out_width = plan.values[step.y].shape.dims[w.rank + 1]


cdef int plan_depthwise(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Runs of the output, for items of some: planes of as many channels as a vector has lanes, or bands of rows of large ones."""
    cdef Step* step = &program.steps[index]
    cdef StepPlan* sp = &plan.steps[index]
    cdef DepthwisePlan* own = <DepthwisePlan*>sp.own
    cdef Depthwise* p = <Depthwise*>step.spec
    cdef Window* w = &p.window
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t rows = y.dims[y.rank - 2] if y.rank > 3 else 1, width = y.dims[y.rank - 1], lanes = program.kernels.lanes
    cdef t.Depthwise d
    geometry(plan, step, own, &d)
    if sp.band_rows:
        sp.band_floats = program.kernels.depthwise_floats(&d, sp.band_rows)
    own.band = program.kernels.depthwise_band(&d, rows)
    own.inner = min(own.band, rows) * width * min(lanes, p.M)
    own.runs = y.dims[0] * ceil_div(p.M, lanes) * (y.dims[2] if y.rank == 5 else 1) * ceil_div(rows, own.band)
    sp.items = even_items(own.runs, own.inner, program.workers)
    sp.work.macs = sp.work.dense_macs = plan.values[step.y].size * w.kernel[0] * w.kernel[1] * w.kernel[2]
    need_scratch(plan, program.kernels.depthwise_floats(&d, own.band))
    return 0


cdef void variant(const CompiledProgram* program, const Plan* plan, const Step* step, const StepPlan* sp, Variant* v) noexcept nogil:
    cdef const Depthwise* p = <const Depthwise*>step.spec
    v.kernel = b"depthwise"
    v.nonzeros = p.M * p.window.kernel[0] * p.window.kernel[1] * p.window.kernel[2]


cdef inline bint kernel_clamps(const Step* step) noexcept nogil:
    """Return whether the kernel itself clamps, because nothing is added to its sums and they have no factors."""
    return step.act == ACT_CLAMP and step.r == NONE and (<Depthwise*>step.spec).scale == NULL


cdef void depthwise_begin(Job* job, float* scratch, int64_t rows, t.Depthwise* d) noexcept nogil:
    """Set the parameters that all planes of a depthwise convolution share; at most `rows` rows are computed at a time."""
    geometry(job.plan, job.step, <DepthwisePlan*>job.sp.own, d)
    set_bounds(job.step, kernel_clamps(job.step), &d.low, &d.high)
    d.slice = 0
    d.value = (<Depthwise*>job.step.spec).value
    d.bias = (<Depthwise*>job.step.spec).bias
    job.program.kernels.depthwise_begin(d, scratch, rows)


cdef void depthwise_rows(Job* job, t.Depthwise* d, int64_t first, float* y, const float* residual, int64_t y_stride) noexcept nogil:
    """Rows [row_begin, row_end) of planes of outputs from `first` on, of which that of the first begins at `y`, that of its residual at
    `residual`, and the others follow. The image is at d.x."""
    cdef Depthwise* p = <Depthwise*>job.step.spec
    cdef int64_t place = d.row_begin * d.out_width, n = (d.row_end - d.row_begin) * d.out_width, planes
    cdef int _
    d.y = y
    d.y_stride = y_stride
    d.first = first
    d.outputs = min(job.program.kernels.lanes, p.M - first)
    job.program.kernels.depthwise(d)
    if p.scale == NULL and residual == NULL and (job.step.act == ACT_NONE or job.step.act == ACT_CLAMP):
        return
    if p.scale != NULL:
        scale_rows(job.program.kernels, p.scale + first, y + place, y_stride, d.outputs, n)
        if residual == NULL and job.step.act == ACT_NONE:
            return
    # Whole planes follow each other: one pass over all of them has one end.
    planes = d.outputs if n == y_stride else 1
    for _ in range(d.outputs // planes):
        job.program.kernels.activate(y + place, y + place, residual + place if residual != NULL else NULL, planes * n,
                                     <t.Act>job.step.act, job.step.alpha, job.step.beta)
        place += y_stride


cdef void depthwise_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some bands of planes."""
    cdef DepthwisePlan* own = <DepthwisePlan*>job.sp.own
    cdef Depthwise* p = <Depthwise*>job.step.spec
    cdef int rank = p.window.rank
    cdef Shape* y = &job.plan.values[job.step.y].shape
    cdef int64_t run, rest, rows, bands, slices, place, first, lanes = job.program.kernels.lanes
    cdef int64_t blocks = ceil_div(p.M, lanes)
    cdef t.Depthwise d
    depthwise_begin(job, scratch, own.band, &d)
    rows = y.dims[rank] if rank > 1 else 1
    slices = y.dims[2] if rank > 2 else 1
    bands = ceil_div(rows, own.band)
    for run in range(item_begin(index, job.sp.items, own.runs, 1), item_begin(index + 1, job.sp.items, own.runs, 1)):
        d.row_begin = run % bands * own.band
        d.row_end = min(rows, d.row_begin + own.band)
        rest = run // bands
        d.slice = rest % slices
        rest //= slices
        first = rest % blocks * lanes
        place = ((rest // blocks * p.M + first) * slices + d.slice) * rows * d.out_width
        d.x = job.x + rest // blocks * p.channels * d.x_plane
        depthwise_rows(job, &d, first, job.y + place, job.r + place if job.r != NULL else NULL, slices * rows * d.out_width)


cdef bint reads(const CompiledProgram* program, const Plan* plan, int index, Reach* reach) noexcept nogil:
    cdef const Window* w = &(<Depthwise*>program.steps[index].spec).window
    cdef t.Depthwise d
    if w.rank != 2:
        return False
    geometry(plan, &program.steps[index], <DepthwisePlan*>plan.steps[index].own, &d)
    reach.brings = not program.kernels.depthwise_in_place(&d, plan.values[program.steps[index].y].shape.dims[2])
    reach.pad = (<DepthwisePlan*>plan.steps[index].own).pad[1]
    reach.step = w.stride[1]
    reach.rows = (w.kernel[1] - 1) * w.dilation[1] + 1
    reach.macs = (<Depthwise*>program.steps[index].spec).M * w.kernel[1] * w.kernel[2]
    reach.last = program.steps[index].r != NONE
    return True


cdef void depthwise_band(Job* job, const Band* band, float* scratch) noexcept nogil:
    """Compute rows of all planes of an image."""
    cdef Depthwise* p = <Depthwise*>job.step.spec
    cdef int64_t first = 0
    cdef t.Depthwise d
    depthwise_begin(job, scratch, job.sp.band_rows, &d)
    d.x = band.x
    d.x_plane = band.x_plane
    d.row_begin = band.begin
    d.row_end = band.end
    while first < p.M:
        depthwise_rows(job, &d, first, band.y + first * band.y_plane, band.r + first * band.y_plane if band.r != NULL else NULL,
                       band.y_plane)
        first += job.program.kernels.lanes
