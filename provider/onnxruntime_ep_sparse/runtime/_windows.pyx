"""Windows of convolutions and pools, and the pools themselves."""

from libc.float cimport FLT_MAX
from libc.stdint cimport int64_t, uint8_t
from libc.stdio cimport snprintf

from ._dealt cimport Dealt, can_be_dealt, dealt_as, dealt_line, dealt_operand, dealt_value, write_halo
from ._structs cimport *
cimport onnxruntime_ep_sparse_kernels.table as t


# --- windows


cdef int fill_window(Window* window, spec) except -1:
    for i in range(3):
        window.kernel[i] = window.stride[i] = window.dilation[i] = 1
    if spec is None:
        return 0
    window.rank = len(spec.kernel)
    window.auto_pad = spec.auto_pad
    for i in range(window.rank):
        axis = 3 - window.rank + i
        window.kernel[axis] = spec.kernel[i]
        window.stride[axis] = spec.stride[i]
        window.dilation[axis] = spec.dilation[i]
        window.pad_begin[axis] = spec.pad_begin[i]
        window.pad_end[axis] = spec.pad_end[i]
        if spec.image:
            window.image[axis] = spec.image[i]
    return 0


cdef int window_output(const Window* w, const Shape* x, bint pooling, int ceil_mode, Shape* y, int64_t* pad,
                       int64_t* pad_end) noexcept nogil:
    """Spatial sizes of `y` and the resolved padding.

    0, or 1 if the window does not fit. As ONNX Runtime's, pools round the number of strides towards zero: a window that is larger than the
    image by less than a stride is one result, and by less than two an empty image.
    """
    cdef int i, axis
    cdef int64_t size, reach, out, total
    for i in range(3):
        pad[i] = w.pad_begin[i]
        pad_end[i] = w.pad_end[i]
    for axis in range(w.rank):
        i = 3 - w.rank + axis
        size = x.dims[2 + axis]
        reach = (w.kernel[i] - 1) * w.dilation[i] + 1
        if w.auto_pad != PAD_EXPLICIT:
            out = ceil_div(size, w.stride[i])
            total = (out - 1) * w.stride[i] + reach - size
            if total < 0:
                total = 0
            pad[i] = total // 2 if w.auto_pad == PAD_SAME_UPPER else total - total // 2
            pad_end[i] = total - pad[i]
        else:
            total = size + pad[i] + pad_end[i] - reach
            if total < 0:
                out = 1 - -total // w.stride[i]
            elif ceil_mode:
                out = ceil_div(total, w.stride[i]) + 1
            else:
                out = total // w.stride[i] + 1
            # a window that would begin in the padding after the image does not count
            if ceil_mode and (out - 1) * w.stride[i] >= size + pad[i]:
                out -= 1
        if out < 0 or (not pooling and (out == 0 or total < 0)):
            return 1
        y.dims[2 + axis] = out
    return 0


cdef int infer_window(const Window* w, const Shape* x, int64_t channels, int64_t outputs, bint pooling, int ceil_mode, Shape* y,
                      int64_t* pad, int64_t* pad_end, char* message, size_t message_size) noexcept nogil:
    if x.rank != w.rank + 2:
        snprintf(message, message_size, "input has %d dimensions, %d expected", x.rank, w.rank + 2)
        return 1
    if x.dims[1] != channels:
        snprintf(message, message_size, "input has %lld channels, the weights expect %lld", <long long>x.dims[1], <long long>channels)
        return 1
    cdef int axis
    for axis in range(w.rank):
        if w.image[3 - w.rank + axis] and w.image[3 - w.rank + axis] != x.dims[2 + axis]:
            snprintf(message, message_size, "an image has the size %lld, the model says %lld", <long long>x.dims[2 + axis],
                     <long long>w.image[3 - w.rank + axis])
            return 1
    if pooling and x.dims[0] and not element_count(x, 1, x.rank):
        snprintf(message, message_size, "the images are empty")
        return 1
    y.rank = x.rank
    y.dims[0] = x.dims[0]
    y.dims[1] = outputs
    if window_output(w, x, pooling, ceil_mode, y, pad, pad_end):
        snprintf(message, message_size, "the window is larger than the padded input")
        return 1
    return 0


# --- pools


cdef struct Pool:
    Window window
    int is_max
    int ceil_mode
    int count_include_pad
    int count_beyond_pad


cdef struct PoolPlan:
    int64_t pad[3]
    int64_t pad_end[3]
    int64_t line_floats


cdef void pool_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Pool)
    ops.plan_size = sizeof(PoolPlan)
    ops.build = build_pool
    ops.infer = infer_pool
    ops.plan = plan_pool
    ops.deals = pool_deals
    ops.item = pool_item


cdef int build_pool(Step* step, object spec) except -1:
    cdef Pool* pool = <Pool*>step.spec
    fill_window(&pool.window, spec.window)
    pool.is_max = spec.is_max
    pool.ceil_mode = spec.ceil_mode
    pool.count_include_pad = spec.count_include_pad
    pool.count_beyond_pad = spec.count_beyond_pad
    return 0


cdef int infer_pool(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef Pool* pool = <Pool*>step.spec
    cdef PoolPlan* own = <PoolPlan*>sp.own
    cdef Window* w = &pool.window
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t end
    cdef int axis, i
    if infer_window(w, x, x.dims[1], x.dims[1], True, pool.ceil_mode, y, own.pad, own.pad_end, message, message_size):
        return 1
    if pool.count_beyond_pad:
        # what the last window reads is padding
        for axis in range(2, y.rank):
            i = axis + 1 - w.rank
            end = (y.dims[axis] - 1) * w.stride[i] - own.pad[i] + (w.kernel[i] - 1) * w.dilation[i] + 1 - x.dims[axis]
            if end > own.pad_end[i]:
                own.pad_end[i] = end
    return 0


cdef int plan_pool(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Plan one item per plane of the result; a worker needs a padded row, and a plane where windows are deep."""
    cdef Step* step = &program.steps[index]
    cdef StepPlan* sp = &plan.steps[index]
    cdef Window* w = &(<Pool*>step.spec).window
    cdef PoolPlan* own = <PoolPlan*>sp.own
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    if sp.dealt:
        sp.items = x.dims[0] * dealt_as(plan, y).rows
        return 0
    sp.items = x.dims[0] * x.dims[1]
    # ceil_mode may read beyond the padding
    own.line_floats = x.dims[x.rank - 1] + own.pad[2] + own.pad_end[2] + w.kernel[2] * w.dilation[2] + w.stride[2] * (
        2 * program.kernels.lanes + 1)
    need_scratch(plan, own.line_floats)
    if w.rank == 3:
        sp.items *= y.dims[2]
        need_scratch(plan, own.line_floats + y.dims[3] * y.dims[4])
    return 0


cdef bint pool_deals(const CompiledProgram* program, const Plan* plan, int index, const Deal* deal, double* gain) noexcept nogil:
    """Maxima of 2x2 pixels, which stand in the same lane of two vectors of two rows."""
    cdef Pool* pool = <Pool*>program.steps[index].spec
    cdef PoolPlan* own = <PoolPlan*>plan.steps[index].own
    cdef Shape* x = &plan.values[program.steps[index].x].shape
    cdef Shape* y = &plan.values[program.steps[index].y].shape
    cdef int i
    if not pool.is_max or pool.window.rank != 2:
        return False
    for i in range(1, 3):
        if pool.window.kernel[i] != 2 or pool.window.stride[i] != 2 or pool.window.dilation[i] != 1 or own.pad[i] or own.pad_end[i]:
            return False
    return can_be_dealt(x, deal) and can_be_dealt(y, deal) and x.dims[2] == 2 * y.dims[2] and x.dims[3] == 2 * y.dims[3]


cdef void dealt_pool_item(Job* job, int64_t index) noexcept nogil:
    """Compute a row of the result, all channels."""
    cdef Dealt x = dealt_operand(job.plan, job.step, job.sp), y = dealt_value(job.plan, job.step.y)
    cdef int64_t image = index // y.rows, row = index % y.rows, c
    cdef const float* source = job.x + dealt_line(&x, image, 2 * row, 0) + job.program.kernels.lanes
    cdef float* target = job.y + dealt_line(&y, image, row, 0) + job.program.kernels.lanes
    for c in range(y.channels):
        job.program.kernels.max_pairs(target + c * y.channel, source + c * x.channel, source + c * x.channel + x.row, y.vectors)
    write_halo(&job.plan.deal, &y, job.y + image * y.image, y.channels, row, 0, 0, y.vectors)


cdef void pool_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    cdef Pool* spec = <Pool*>job.step.spec
    cdef PoolPlan* own = <PoolPlan*>job.sp.own
    cdef Window* w = &spec.window
    cdef Shape* x = &job.plan.values[job.step.x].shape
    cdef Shape* y = &job.plan.values[job.step.y].shape
    cdef int64_t bytes_ = job.program.bytes[job.step.x]
    cdef const uint8_t* end
    cdef t.Pool pool
    if job.sp.dealt:
        dealt_pool_item(job, index)
        return
    pool.height = x.dims[w.rank] if w.rank > 1 else 1
    pool.width = x.dims[w.rank + 1]
    pool.out_width = y.dims[w.rank + 1]
    pool.kernel_y = w.kernel[1]
    pool.kernel_x = w.kernel[2]
    pool.stride_y = w.stride[1]
    pool.stride_x = w.stride[2]
    pool.dilation_y = w.dilation[1]
    pool.dilation_x = w.dilation[2]
    pool.pad_y = own.pad[1]
    pool.pad_x = own.pad[2]
    pool.pad_end_y = own.pad_end[1]
    pool.pad_end_x = own.pad_end[2]
    pool.row_begin = 0
    pool.row_end = y.dims[w.rank] if w.rank > 1 else 1
    pool.line = scratch
    pool.count_include_pad = spec.count_include_pad
    if w.rank == 3:
        deep_pool_item(job, index, &pool, scratch + own.line_floats)
        return
    pool.x = element_at(job.x, index * pool.height * pool.width, bytes_)
    pool.y = element_at(job.y, index * pool.row_end * pool.out_width, bytes_)
    if bytes_ == 1:
        end = <const uint8_t*>job.x + job.plan.values[job.step.x].size
        job.program.byte_kernels.max_pool(&pool, job.program.type[job.step.x] == TYPE_INT8, end)
    elif spec.is_max:
        job.program.kernels.max_pool(&pool)
    else:
        job.program.kernels.average_pool(&pool)


cdef void deep_pool_item(Job* job, int64_t index, t.Pool* pool, float* other) noexcept nogil:
    """Compute a plane of a 3-D pool from the pools of the planes that the window meets, each in `other` but the first.

    Planes beside the image count for an average where padding counts, and a window without a plane gives what one without a pixel does.
    """
    cdef Pool* spec = <Pool*>job.step.spec
    cdef PoolPlan* own = <PoolPlan*>job.sp.own
    cdef Window* w = &spec.window
    cdef t.KernelTable* kernels = job.program.kernels
    cdef int64_t depth = job.plan.values[job.step.x].shape.dims[2], out_depth = job.plan.values[job.step.y].shape.dims[2]
    cdef int64_t size = pool.row_end * pool.out_width, met = 0, counted = 0, k, z
    cdef float* y = job.y + index * size
    cdef float share
    for k in range(w.kernel[0]):
        z = index % out_depth * w.stride[0] - own.pad[0] + k * w.dilation[0]
        counted += -own.pad[0] <= z < depth + own.pad_end[0] if spec.count_include_pad else 0 <= z < depth
        if not 0 <= z < depth:
            continue
        pool.x = job.x + (index // out_depth * depth + z) * pool.height * pool.width
        pool.y = other if met else y
        if spec.is_max:
            kernels.max_pool(pool)
        else:
            kernels.average_pool(pool)
        if met:
            kernels.binary(y, y, 1, other, 1, size, BINARY_MAX if spec.is_max else BINARY_ADD)
        met += 1
    if not met:
        share = -FLT_MAX if spec.is_max else 0
        for k in range(size):
            y[k] = share
    elif not spec.is_max:
        share = <float>counted
        kernels.binary(y, y, 1, &share, 0, size, BINARY_DIV)
