"""Shape inference: what all kinds of steps share. Each family has its own rules, as ONNX defines them."""

from libc.stdint cimport int64_t
from libc.stdio cimport snprintf

from ._structs cimport *


cdef bint fits(const Shape* shape) noexcept nogil:
    cdef int64_t size = 1, most = MOST_ELEMENTS
    cdef int i
    for i in range(shape.rank):
        if shape.dims[i] < 0 or (shape.dims[i] > 1 and shape.dims[i] > most // size):
            return False
        size *= shape.dims[i] if shape.dims[i] > 1 else 1
    return True


cdef int infer(CompiledProgram* program, Plan* plan, int index, char* message, size_t message_size) noexcept nogil:
    cdef Step* step = &program.steps[index]
    cdef ValuePlan* y = &plan.values[step.y]
    if step.completes and not plan.steps[index - 1].apart:
        y.shape = plan.values[step.x].shape
        plan.steps[index].view = WHOLE_VIEW
    elif step.ops.infer(plan, step, &plan.steps[index], message, message_size):
        return 1
    if not fits(&y.shape):
        snprintf(message, message_size, "a result would have more than 2**40 elements")
        return 1
    y.size = element_count(&y.shape, 0, y.shape.rank)
    return 0


cdef void infer_addend(Plan* plan, const Step* step, StepPlan* sp) noexcept nogil:
    """Decide whether a product adds its residual itself."""
    sp.apart = step.r != NONE and not same_shape(&plan.values[step.r].shape, &plan.values[step.y].shape)


cdef int broadcast(const Shape* a, const Shape* b, Shape* y, char* message, size_t message_size) noexcept nogil:
    cdef int i, rank = max(a.rank, b.rank)
    cdef int64_t u, v
    y.rank = rank
    for i in range(rank):
        u = a.dims[i + a.rank - rank] if i + a.rank - rank >= 0 else 1
        v = b.dims[i + b.rank - rank] if i + b.rank - rank >= 0 else 1
        if u != v and u != 1 and v != 1:
            snprintf(message, message_size, "dimensions %lld and %lld do not broadcast", <long long>u, <long long>v)
            return 1
        y.dims[i] = v if u == 1 else u
    return 0
