"""Convolutions of bytes whose outputs each read one channel.

A channel is copied into a plane with padding around it, and the plane becomes windows: four bytes as an int32 for each pixel. Rows of the
plane follow each other, so the results of several rows are one run, with a few positions between rows that nothing reads.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from ._from_python cimport memory_of
from ._loops cimport items_of_runs, runs_per_item
from ._quantising cimport *
from ._structs cimport *
from ._weight_store cimport shared_drop
from ._windows cimport Window, fill_window, infer_window
from onnxruntime_ep_sparse_kernels.table_bytes cimport BytesCall, DepthwiseBytes

cdef enum:
    FOUR = 4               # taps of a window
    # Windows of a band: 24 KB of a 32 KB L1.
    BAND_WINDOWS = 6 * 1024
    # Rows of a band, however wide they are.
    LEAST_ROWS = 4
    # Channels whose planes are filled before their windows are made.
    MOST_TOGETHER = 8

cdef struct ByteDepthwise:
    Window window
    Quantising quantising
    int64_t M
    int64_t channels       # M is a multiple; output m reads channel m * channels // M
    int32_t* start
    int32_t* group
    int32_t* value

cdef struct DepthwisePlan:
    int64_t pad[3]
    int64_t pad_end[3]
    DepthwiseBytes d       # without what differs from item to item
    int32_t* offset        # of the windows of each entry
    int64_t rows           # of the output
    int64_t out_width
    int64_t pitch          # windows of a row
    int64_t band           # rows of the output
    int64_t bands
    int64_t blocks         # items of a band of an image
    int64_t together       # channels at a time
    int64_t results        # of a band of an output, whole units


cdef void byte_depthwise_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(ByteDepthwise)
    ops.plan_size = sizeof(DepthwisePlan)
    ops.build = build
    ops.release = release
    ops.infer = infer
    ops.plan = plan_step
    ops.release_plan = release_plan
    ops.item = item


cdef int build(Step* step, object spec) except -1:
    cdef ByteDepthwise* data = <ByteDepthwise*>step.spec
    fill_window(&data.window, spec.window)
    fill_quantising(&data.quantising, spec)
    data.M = spec.m
    data.channels = spec.channels
    data.start = <int32_t*>memory_of(spec.start__m, np.int32)
    data.group = <int32_t*>memory_of(spec.group__n, np.int32)
    data.value = <int32_t*>memory_of(spec.value__n, np.float32)
    return 0


cdef void release(void* spec) noexcept nogil:
    cdef ByteDepthwise* data = <ByteDepthwise*>spec
    release_quantising(&data.quantising)
    shared_drop(data.start)
    shared_drop(data.group)
    shared_drop(data.value)


cdef int infer(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef ByteDepthwise* data = <ByteDepthwise*>step.spec
    cdef DepthwisePlan* own = <DepthwisePlan*>sp.own
    return infer_window(&data.window, &plan.values[step.x].shape, data.channels, data.M, False, False, &plan.values[step.y].shape, own.pad,
                        own.pad_end, message, message_size)


cdef int plan_step(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Lay out planes, windows, bands and items; 0 on success."""
    cdef Step* step = &program.steps[index]
    cdef StepPlan* sp = &plan.steps[index]
    cdef ByteDepthwise* data = <ByteDepthwise*>step.spec
    cdef DepthwisePlan* own = <DepthwisePlan*>sp.own
    cdef Window* w = &data.window
    cdef const Shape* x = &plan.values[step.x].shape
    cdef const Shape* y = &plan.values[step.y].shape
    cdef DepthwiseBytes* d = &own.d
    cdef int64_t unit = program.byte_kernels.unit, reach_x = (w.kernel[2] - 1) * w.dilation[2], reach_y = (w.kernel[1] - 1) * w.dilation[1]
    cdef int64_t groups = ceil_div(w.kernel[2], FOUR), width, g, i, row, column, many
    d.height = x.dims[2] if w.rank == 2 else 1
    d.width = x.dims[w.rank + 1]
    own.rows = y.dims[2] if w.rank == 2 else 1
    own.out_width = y.dims[w.rank + 1]
    d.phases = w.stride[1]
    d.step = w.stride[2]
    d.dilation = w.dilation[2]
    d.pad = own.pad[2]
    d.front = d.dilation if d.step == 1 else 0
    # Bytes beyond a row are the padding before the next one.
    width = max(d.pad + d.width, (own.out_width - 1) * d.step + reach_x + 1 - d.pad)
    own.pitch = max(ceil_div(width, d.step), own.out_width)
    d.row_bytes = own.pitch * d.step
    own.band = max(LEAST_ROWS, (BAND_WINDOWS // own.pitch - reach_y) // d.phases)
    own.bands = ceil_div(own.rows, own.band)
    own.band = ceil_div(own.rows, own.bands)
    d.phase_rows = ceil_div((own.band - 1) * d.phases + reach_y + 1, d.phases)
    d.windows_count = ceil_div(d.front + d.phases * d.phase_rows * own.pitch + reach_x, unit) * unit
    d.plane_bytes = (d.windows_count + unit) * d.step + FOUR * d.dilation + d.pad + unit
    own.results = ceil_div((own.band - 1) * own.pitch + own.out_width, unit) * unit
    own.offset = <int32_t*>malloc((data.start[data.M] + 1) * sizeof(int32_t))
    if own.offset == NULL:
        return 1
    for i in range(data.start[data.M]):
        g = data.group[i] // 2
        row = g // groups * w.dilation[1]
        column = g % groups * FOUR * d.dilation // d.step + (0 if data.group[i] % 2 else d.front)
        own.offset[i] = <int32_t>((row % d.phases * d.phase_rows + row // d.phases) * own.pitch + column)
    many = data.M // data.channels
    own.blocks = items_of_runs(data.channels, own.band * own.out_width * many)
    own.together = max(1, min(MOST_TOGETHER, BAND_WINDOWS // d.windows_count, runs_per_item(own.band * own.out_width * many)))
    sp.items = x.dims[0] * own.bands * own.blocks
    sp.work.macs = sp.work.dense_macs = plan.values[step.y].size * w.kernel[1] * w.kernel[2]
    need_scratch(plan, (whole_lines(own.together * d.plane_bytes) +
                        whole_lines((own.together * d.windows_count + own.results + unit) * sizeof(int32_t)) +
                        whole_lines(own.together * many * own.results * plan.values[step.y].bytes)) // <int64_t>sizeof(float))
    return 0


cdef void release_plan(const Step* step, StepPlan* sp) noexcept nogil:
    free((<DepthwisePlan*>sp.own).offset)


cdef void item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Compute one band of some outputs of an image."""
    cdef ByteDepthwise* data = <ByteDepthwise*>job.step.spec
    cdef DepthwisePlan* own = <DepthwisePlan*>job.sp.own
    cdef DepthwiseBytes d = own.d
    cdef int bytes_y = job.program.bytes[job.step.y]
    cdef int64_t unit = job.program.byte_kernels.unit, plane = d.height * d.width, many = data.M // data.channels
    cdef int64_t per = runs_per_item(own.band * own.out_width * many), first = index % own.blocks * per, m, row, rows, image, size, count
    cdef int64_t end = min(data.channels, first + per)
    cdef int32_t padding = data.quantising.zero_x + 128 * data.quantising.is_signed
    cdef uint8_t* results
    cdef uint8_t* y
    cdef BytesCall call
    index //= own.blocks
    row = index % own.bands * own.band
    rows = min(own.band, own.rows - row)
    image = index // own.bands
    d.plane = <uint8_t*>scratch
    d.windows = <int32_t*>(d.plane + whole_lines(own.together * d.plane_bytes))
    results = <uint8_t*>d.windows + whole_lines((own.together * d.windows_count + own.results + unit) * sizeof(int32_t))
    d.first_row = row * d.phases - own.pad[1]
    d.rows = rows
    d.units = ceil_div((rows - 1) * own.pitch + own.out_width, unit)
    d.out_bytes = own.out_width * bytes_y
    d.pitch_bytes = own.pitch * bytes_y
    memset(d.padding, padding, sizeof(d.padding))
    memset(d.kept, 0, sizeof(d.kept))
    if d.width < <int64_t>sizeof(d.kept):
        memset(d.padding, 0, d.width)
        memset(d.kept, 255, d.width)
    d.flip = data.quantising.is_signed
    d.x_end = <const uint8_t*>job.x + job.plan.values[job.step.x].size
    memset(d.plane, padding, own.together * d.plane_bytes)
    set_quantising(&call, &data.quantising, job.program.type[job.step.y])
    call.y_stride = unit * bytes_y
    call.y = results
    size = own.rows * own.out_width
    y = <uint8_t*>job.y + (image * data.M * size + row * own.out_width) * bytes_y
    while first < end:
        count = min(own.together, end - first)
        d.x = <const uint8_t*>job.x + (image * data.channels + first) * plane
        job.program.byte_kernels.depthwise_windows(&d, count)
        m = first * many
        call.bias = data.quantising.bias + m
        call.scale = data.quantising.scale + m
        job.program.byte_kernels.depthwise(&d, &call, data.start + m, own.offset, data.value, count * many, many, y + m * size * bytes_y,
                                           size * bytes_y)
        first += count
