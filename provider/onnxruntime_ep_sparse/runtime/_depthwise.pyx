"""Convolutions whose outputs each read one channel, alone or band by band with the pointwise product after them."""

import numpy as np

from libc.stdint cimport int64_t

from onnxruntime_ep_sparse_kernels.pack import depthwise_values

from ._from_python cimport memory_of
from ._loops cimport items_of_runs, runs_per_item
from ._packed cimport ProductPlan, scale_rows, set_bounds
from ._product cimport product_item
from ._sections cimport section
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
    ops.sections = sections
    ops.band_floats = band_floats
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


cdef int64_t band_floats(const CompiledProgram* program, const Plan* plan, int index, int64_t rows) noexcept nogil:
    """Scratch of the kernels for so many rows of the output."""
    cdef t.Depthwise d
    geometry(plan, &program.steps[index], <DepthwisePlan*>plan.steps[index].own, &d)
    return program.kernels.depthwise_floats(&d, rows)


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
    own.band = program.kernels.depthwise_band(&d, rows)
    own.inner = min(own.band, rows) * width * min(lanes, p.M)
    own.runs = y.dims[0] * ceil_div(p.M, lanes) * (y.dims[2] if y.rank == 5 else 1) * ceil_div(rows, own.band)
    sp.items = items_of_runs(own.runs, own.inner)
    sp.work.macs = sp.work.dense_macs = plan.values[step.y].size * w.kernel[0] * w.kernel[1] * w.kernel[2]
    need_scratch(plan, band_floats(program, plan, index, own.band))
    return 0


cdef void variant(const CompiledProgram* program, const Plan* plan, const Step* step, const StepPlan* sp, Variant* v) noexcept nogil:
    cdef const Depthwise* p = <const Depthwise*>step.spec
    v.kernel = b"depthwise"
    v.nonzeros = p.M * p.window.kernel[0] * p.window.kernel[1] * p.window.kernel[2]


cdef int sections(const Job* job, Section* sections) noexcept nogil:
    """List the one section of the step: in bands with the step after it, or alone."""
    if job.sp.bands:
        sections[0] = section(band_item, job.sp.bands * job.plan.values[job.step.x].shape.dims[0], job.sp.parallel)
    else:
        sections[0] = section(depthwise_item, job.sp.items, job.sp.parallel)
    return 1


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


cdef void depthwise_rows(Job* job, t.Depthwise* d, int64_t image, int64_t first, float* y, const float* residual,
                         int64_t y_stride) noexcept nogil:
    """Rows [row_begin, row_end) of planes of outputs from `first` on, of which that of the first begins at `y`, that of its residual at
    `residual`, and the others follow."""
    cdef Depthwise* p = <Depthwise*>job.step.spec
    cdef int64_t place = d.row_begin * d.out_width, n = (d.row_end - d.row_begin) * d.out_width, planes
    cdef int _
    d.x = job.x + image * p.channels * d.size[0] * d.size[1] * d.size[2]
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
    cdef int64_t per = runs_per_item(own.inner), run, rest, rows, bands, slices, place, first, lanes = job.program.kernels.lanes
    cdef int64_t blocks = ceil_div(p.M, lanes)
    cdef t.Depthwise d
    depthwise_begin(job, scratch, own.band, &d)
    rows = y.dims[rank] if rank > 1 else 1
    slices = y.dims[2] if rank > 2 else 1
    bands = ceil_div(rows, own.band)
    for run in range(index * per, min(own.runs, (index + 1) * per)):
        d.row_begin = run % bands * own.band
        d.row_end = min(rows, d.row_begin + own.band)
        rest = run // bands
        d.slice = rest % slices
        rest //= slices
        first = rest % blocks * lanes
        place = ((rest // blocks * p.M + first) * slices + d.slice) * rows * d.out_width
        depthwise_rows(job, &d, rest // blocks, first, job.y + place, job.r + place if job.r != NULL else NULL, slices * rows * d.out_width)


cdef void band_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Compute one band of rows of a depthwise convolution and of the pointwise product after it. `job` has the result of the product."""
    cdef StepPlan* sp = job.sp
    cdef Shape* between = &job.plan.values[job.step.y].shape
    cdef int64_t channels = between.dims[1], height = between.dims[2], width = between.dims[3], image = index // sp.bands
    cdef int64_t lanes = job.program.kernels.lanes, i, pixels, place
    cdef float* band = scratch + sp.band_offset
    cdef Job second = job[0]
    cdef StepPlan second_plan = sp[1]
    cdef ProductPlan q = (<ProductPlan*>sp[1].own)[0]
    cdef t.Depthwise d
    depthwise_begin(job, scratch + sp.lines_offset, ceil_div(height, sp.bands), &d)
    d.row_begin = index % sp.bands * height // sp.bands
    d.row_end = (index % sp.bands + 1) * height // sp.bands
    pixels = (d.row_end - d.row_begin) * width
    for i in range(ceil_div(channels, lanes)):
        depthwise_rows(job, &d, image, i * lanes, band + i * lanes * pixels - d.row_begin * width, NULL, pixels)
    # the product sees the band as its image
    place = image * q.y_image + d.row_begin * width
    q.in_width = q.out_width = q.pitch = q.pixels = q.flat = pixels
    q.x_floats = channels * pixels
    second_plan.own = &q
    second.step = job.step + 1
    second.sp = &second_plan
    second.x = band
    second.y = job.y + place
    second.r = job.r + place if job.r != NULL else NULL
    for i in range(second_plan.items):
        product_item(&second, i, scratch)
