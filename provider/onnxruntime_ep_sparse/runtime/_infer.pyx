"""Shape inference: the shape of every step's output from those of its inputs, as ONNX defines them."""

from libc.stdint cimport int64_t
from libc.stdio cimport snprintf

from ._recurrent cimport infer_recurrent
from ._structs cimport *


cdef int window_output(const Window* w, const Shape* x, bint pooling, int ceil_mode, Shape* y, int64_t* pad,
                       int64_t* pad_end) noexcept nogil:
    """Spatial sizes of `y` and the resolved padding (depth, height, width), as ONNX defines them.

    0, or 1 if the window does not fit; ONNX Runtime's pools return an empty image where it misses by less than a stride, and so do ours.
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
            if total < 0 and not (pooling and total + w.stride[i] >= 0):
                return 1
            out = total // w.stride[i] + 1 if total >= 0 else 0
            if ceil_mode and total >= 0:
                out = ceil_div(total, w.stride[i]) + 1
                # a window that would begin in the padding behind the image does not count
                if (out - 1) * w.stride[i] >= size + pad[i]:
                    out -= 1
        y.dims[2 + axis] = out
    return 0


cdef int infer_axes(const Step* step, const Shape* x, Shape* y) noexcept nogil:
    """The shape without the removed axes, or with the inserted ones; 0 on success."""
    cdef int i, source = 0, rank = x.rank
    cdef bint removed, inserted
    for i in range(MAX_RANK):
        rank += (step.inserted >> i) & 1
    y.rank = 0
    if rank > MAX_RANK:
        return 1
    for i in range(rank):
        inserted = (step.inserted >> i) & 1
        removed = (step.removed >> i) & 1
        if removed and x.dims[i] != 1:
            return 1
        if not removed:
            y.dims[y.rank] = 1 if inserted else x.dims[source]
            y.rank += 1
        source += not inserted
    return step.removed >> x.rank if step.removed else source != x.rank


cdef bint fits(const Shape* shape) noexcept nogil:
    """Whether a value may be so large, 2**40 elements: what is reckoned with its sizes then stays within 64 bits."""
    cdef int64_t size = 1, most = <int64_t>1 << 40
    cdef int i
    for i in range(shape.rank):
        if shape.dims[i] < 0 or (shape.dims[i] > 1 and shape.dims[i] > most // size):
            return False
        size *= shape.dims[i] if shape.dims[i] > 1 else 1
    return True


cdef int infer(CompiledProgram* program, Plan* plan, int index, char* message, size_t message_size) noexcept nogil:
    """Shape of a step's output from those of its inputs, and the padding; 0 on success."""
    cdef Step* step = &program.steps[index]
    cdef StepPlan* sp = &plan.steps[index]
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* r = &plan.values[step.r].shape if step.r != NONE else NULL
    cdef Shape* y = &plan.values[step.y].shape
    cdef Product* p = step.product
    cdef int i, rank, a, b
    cdef int64_t u, v, known, total
    if step.kind == STEP_DEPTHWISE or step.kind == STEP_PRODUCT and p.shape_rule == SHAPE_CONV or step.kind == STEP_POOL:
        if x.rank != step.window.rank + 2:
            snprintf(message, message_size, "input has %d dimensions, %d expected", x.rank, step.window.rank + 2)
            return 1
        y.rank = x.rank
        y.dims[0] = x.dims[0]
        y.dims[1] = known = x.dims[1]
        if step.kind == STEP_PRODUCT:
            known = p.channels
            y.dims[1] = p.M
        elif step.kind == STEP_DEPTHWISE:
            known = step.depthwise.channels
            y.dims[1] = step.depthwise.M
        if known != x.dims[1]:
            snprintf(message, message_size, "input has %lld channels, the weights expect %lld", <long long>x.dims[1], <long long>known)
            return 1
        if window_output(&step.window, x, step.kind == STEP_POOL, step.ceil_mode, y, sp.pad, sp.pad_end):
            snprintf(message, message_size, "the window is larger than the padded input")
            return 1
    elif step.kind == STEP_PRODUCT and p.shape_rule == SHAPE_GEMM:
        if x.rank != 2 or x.dims[1 if p.x_rows else 0] != p.channels:
            snprintf(message, message_size, "Gemm input does not fit weights with K = %lld", <long long>p.channels)
            return 1
        u = x.dims[0 if p.x_rows else 1]
        y.rank = 2
        y.dims[0] = u if p.y_rows else p.M
        y.dims[1] = p.M if p.y_rows else u
    elif step.kind == STEP_PRODUCT:
        # MatMul: promote vectors, broadcast the batch dimensions, drop what was promoted.
        a = x.rank - 2 if x.rank > 1 else 0
        u = x.dims[x.rank - 1] if (p.shape_rule == SHAPE_MATMUL_RIGHT or x.rank == 1) else x.dims[x.rank - 2]
        if x.rank < 1 or u != p.channels:
            snprintf(message, message_size, "MatMul input does not fit weights with K = %lld", <long long>p.channels)
            return 1
        rank = a if a > p.batch.rank else p.batch.rank
        for i in range(rank):
            u = x.dims[a - rank + i] if a - rank + i >= 0 else 1
            b = p.batch.rank - rank + i
            v = p.batch.dims[b] if b >= 0 else 1
            if u != v and u != 1 and v != 1:
                snprintf(message, message_size, "MatMul batch dimensions %lld and %lld do not broadcast", <long long>u, <long long>v)
                return 1
            y.dims[i] = v if u == 1 else u
        if p.shape_rule == SHAPE_MATMUL_RIGHT:
            if x.rank > 1:
                y.dims[rank] = x.dims[x.rank - 2]
                rank += 1
            if not p.vector_operand:
                y.dims[rank] = p.M
                rank += 1
        else:
            if not p.vector_operand:
                y.dims[rank] = p.M
                rank += 1
            if x.rank > 1:
                y.dims[rank] = x.dims[x.rank - 1]
                rank += 1
        y.rank = rank
    elif step.kind == STEP_GLOBAL_POOL:
        y[0] = x[0]
        for i in range(2, x.rank):
            y.dims[i] = 1
        if element_count(x, 2, x.rank) == 0:
            snprintf(message, message_size, "global pooling of an empty image")
            return 1
    elif step.kind == STEP_ACTIVATE:
        y[0] = x[0]
    elif step.kind == STEP_BINARY:
        rank = x.rank if x.rank > r.rank else r.rank
        y.rank = rank
        for i in range(rank):
            u = x.dims[i + x.rank - rank] if i + x.rank - rank >= 0 else 1
            v = r.dims[i + r.rank - rank] if i + r.rank - rank >= 0 else 1
            if u != v and u != 1 and v != 1:
                snprintf(message, message_size, "dimensions %lld and %lld do not broadcast", <long long>u, <long long>v)
                return 1
            y.dims[i] = v if u == 1 else u
    elif step.kind == STEP_CONCAT:
        if step.begins:
            y[0] = x[0]
            y.dims[step.axis] = 0
        for i in range(x.rank):
            if x.rank != y.rank or (i != step.axis and x.dims[i] != y.dims[i]):
                snprintf(message, message_size, "operands of Concat differ beside axis %d", step.axis)
                return 1
        sp.start = y.dims[step.axis]
        y.dims[step.axis] += x.dims[step.axis]
    elif step.kind == STEP_PAD:
        y[0] = x[0]
        for i in range(x.rank):
            y.dims[i] += step.before.dims[i] + step.after.dims[i]
    elif step.kind == STEP_NORMALIZE:
        y[0] = x[0]
        if x.dims[x.rank - 1] != r.dims[1]:
            snprintf(message, message_size, "rows of %lld, LayerNormalization has %lld weights", <long long>x.dims[x.rank - 1],
                     <long long>r.dims[1])
            return 1
    elif step.kind == STEP_TRANSPOSE:
        y.rank = x.rank
        for i in range(x.rank):
            y.dims[i] = x.dims[step.target.dims[i]]
    elif step.kind == STEP_SHUFFLE:
        y[0] = x[0]
        u = step.block
        if x.rank != 4 or (step.to_depth and (x.dims[2] % u or x.dims[3] % u)) or (not step.to_depth and x.dims[1] % (u * u)):
            snprintf(message, message_size, "the image does not consist of whole blocks of %lld", <long long>u)
            return 1
        y.dims[1] = x.dims[1] * u * u if step.to_depth else x.dims[1] // (u * u)
        for i in range(2, 4):
            y.dims[i] = x.dims[i] // u if step.to_depth else x.dims[i] * u
    elif step.kind == STEP_RESIZE:
        if x.rank != 4:
            snprintf(message, message_size, "input has %d dimensions, 4 expected", x.rank)
            return 1
        y[0] = x[0]
        for i in range(2):
            y.dims[2 + i] = step.resize.size[i]
            if step.resize.size[i] < 0:
                y.dims[2 + i] = <int64_t>(step.resize.scale[i] * <float>x.dims[2 + i])
            if x.dims[2 + i] == 0 and y.dims[2 + i]:
                snprintf(message, message_size, "an empty image cannot be resized")
                return 1
    elif step.kind == STEP_RECURRENT:
        return infer_recurrent(plan, step, message, message_size)
    elif step.removed or step.inserted:
        if infer_axes(step, x, y):
            snprintf(message, message_size, "Squeeze takes away a dimension that is not 1, or that is none")
            return 1
    elif step.flatten_axis >= 0:
        y.rank = 2
        y.dims[0] = element_count(x, 0, step.flatten_axis)
        y.dims[1] = element_count(x, step.flatten_axis, x.rank)
    else:
        y[0] = step.target
        known = 1
        a = NONE
        for i in range(y.rank):
            if y.dims[i] == 0 and not step.allow_zero:
                if i >= x.rank:
                    snprintf(message, message_size, "Reshape copies dimension %d of a tensor with %d", i, x.rank)
                    return 1
                y.dims[i] = x.dims[i]
            if y.dims[i] == -1:
                a = i
            else:
                known *= y.dims[i]
        total = element_count(x, 0, x.rank)
        if a != NONE:
            y.dims[a] = total // known if known else 0
            known *= y.dims[a]
        if known != total:
            snprintf(message, message_size, "Reshape of %lld elements into %lld", <long long>total, <long long>known)
            return 1
    if not fits(y):
        snprintf(message, message_size, "a result would have more than 2**40 elements")
        return 1
    plan.values[step.y].size = element_count(y, 0, y.rank)
    if (step.kind == STEP_PRODUCT or step.kind == STEP_DEPTHWISE) and step.r != NONE and (
            r.rank != y.rank or element_count(r, 0, r.rank) != plan.values[step.y].size):
        snprintf(message, message_size, "the two operands of Add differ in shape")
        return 1
    return 0
