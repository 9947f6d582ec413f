"""Steps of attention that depend on positions: rotations, and caches of keys and values."""

from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset

from ._loops cimport even_items, item_begin
from ._sections cimport section
from ._structs cimport *


# --- RotaryEmbedding


cdef struct Rotate:
    int in_front
    int interleaved


cdef void rotate_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Rotate)
    ops.build = build_rotate
    ops.infer = infer_rotate
    ops.plan = plan_rotate
    ops.item = rotate_item


cdef int build_rotate(Step* step, object spec) except -1:
    (<Rotate*>step.spec).in_front = spec.in_front
    (<Rotate*>step.spec).interleaved = spec.interleaved
    step.n_more = 1
    step.more[0] = spec.sine
    return 0


cdef int infer_rotate(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef const Shape* x = &plan.values[step.x].shape
    cdef const Shape* cosine = &plan.values[step.r].shape
    cdef int64_t positions = x.dims[2 if (<Rotate*>step.spec).in_front else 1]
    cdef bint batched = cosine.rank == 2 or cosine.dims[0] == x.dims[0] or cosine.dims[0] == 1
    if not same_shape(cosine, &plan.values[step.more[0]].shape) or not batched or cosine.dims[cosine.rank - 2] != positions or (
            2 * cosine.dims[cosine.rank - 1] > x.dims[3]):
        snprintf(message, message_size, "cosines or sines of another size than the positions and channels")
        return 1
    plan.values[step.y].shape = x[0]
    return 0


cdef int plan_rotate(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    cdef const Shape* x = &plan.values[program.steps[index].x].shape
    plan.steps[index].items = even_items(element_count(x, 0, 3), x.dims[3], program.workers)
    return 0


cdef void rotate_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Some heads of positions."""
    cdef const Rotate* own = <const Rotate*>job.step.spec
    cdef const Shape* x_shape = &job.plan.values[job.step.x].shape
    cdef const Shape* cosine = &job.plan.values[job.step.r].shape
    cdef int64_t positions = x_shape.dims[2 if own.in_front else 1], heads = x_shape.dims[1 if own.in_front else 2]
    cdef int64_t channels = x_shape.dims[3], pairs = cosine.dims[cosine.rank - 1], runs = element_count(x_shape, 0, 3), run, at, i
    cdef int64_t batch = positions if cosine.rank == 3 and cosine.dims[0] > 1 else 0
    cdef const float* x
    cdef const float* c
    cdef const float* s
    cdef float* y
    for run in range(item_begin(index, job.sp.items, runs, 1), item_begin(index + 1, job.sp.items, runs, 1)):
        at = run // (heads * positions) * batch + (run % positions if own.in_front else run // heads % positions)
        x = job.x + run * channels
        y = job.y + run * channels
        c = job.r + at * pairs
        s = job.more[0] + at * pairs
        if own.interleaved:
            for i in range(pairs):
                y[2 * i] = c[i] * x[2 * i] - s[i] * x[2 * i + 1]
                y[2 * i + 1] = s[i] * x[2 * i] + c[i] * x[2 * i + 1]
        else:
            for i in range(pairs):
                y[i] = c[i] * x[i] - s[i] * x[pairs + i]
            for i in range(pairs):
                y[pairs + i] = s[i] * x[i] + c[i] * x[pairs + i]
        memcpy(y + 2 * pairs, x + 2 * pairs, (channels - 2 * pairs) * sizeof(float))


# --- caches of keys or values


cdef struct Extend:
    int size             # the number of positions of the result
    int has_past


cdef void extend_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Extend)
    ops.build = build_extend
    ops.infer = infer_extend
    ops.plan = plan_extend
    ops.complete = complete_extend
    ops.sections = extend_sections


cdef int build_extend(Step* step, object spec) except -1:
    (<Extend*>step.spec).size = spec.size
    (<Extend*>step.spec).has_past = spec.has_past
    step.n_more = 1
    step.more[0] = spec.lengths
    return 0


cdef int infer_extend(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef const Extend* own = <const Extend*>step.spec
    cdef const Shape* x = &plan.values[step.x].shape
    cdef const Shape* r = &plan.values[step.r].shape
    cdef Shape* y = &plan.values[step.y].shape
    y.rank = 4
    y.dims[0] = r.dims[0]
    y.dims[1] = r.dims[2]
    y.dims[2] = plan.values[own.size].numbers[0].integer
    y.dims[3] = r.dims[3]
    if own.has_past and (x.dims[0] != y.dims[0] or x.dims[1] != y.dims[1] or x.dims[3] != y.dims[3] or x.dims[2] > y.dims[2]):
        snprintf(message, message_size, "a past of another size than the new keys or values")
        return 1
    if plan.values[step.more[0]].shape.dims[0] != y.dims[0] or y.dims[2] < r.dims[1]:
        snprintf(message, message_size, "lengths of another number of sequences, or less than there are new positions")
        return 1
    return 0


cdef int plan_extend(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    plan.steps[index].items = element_count(&plan.values[program.steps[index].y].shape, 0, 2)
    return 0


cdef void complete_extend(const CompiledProgram* program, Plan* plan, const Step* step, StepPlan* sp) noexcept nogil:
    sp.work.moved = 2 * floats_of(&plan.values[step.y])


cdef int extend_sections(const Job* job, Section* sections) noexcept nogil:
    """List the sections: check all lengths, then copy."""
    sections[0] = section(check_item, 1 if job.sp.items else 0, False)
    sections[1] = section(extend_item, job.sp.items, job.sp.parallel)
    return 2


cdef inline int64_t past_positions(const Job* job) noexcept nogil:
    """Return how many positions the past has, whether they count or not."""
    return job.plan.values[job.step.x].shape.dims[2] if (<const Extend*>job.step.spec).has_past else 0


cdef void check_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Stop the run where a length is not that of a part of the past, or leaves no room."""
    cdef const Shape* y = &job.plan.values[job.step.y].shape
    cdef int64_t most = min(past_positions(job), y.dims[2] - job.plan.values[job.step.r].shape.dims[1]), batch, length
    for batch in range(y.dims[0]):
        length = (<const int64_t*>job.more[0])[batch]
        if not 0 <= length <= most:
            snprintf(job.fault, MAX_FAULT, "sequence %lld has %lld past positions, at most %lld are expected", <long long>batch,
                     <long long>length, <long long>most)
            job.stopped[0] = job.fault
            return


cdef void extend_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Write a head of a sequence. Where the caller gives one memory for the past and the result, the past stays where it is."""
    cdef const Shape* r = &job.plan.values[job.step.r].shape
    cdef const Shape* y = &job.plan.values[job.step.y].shape
    cdef int64_t batch = index // y.dims[1], head = index % y.dims[1], channels = y.dims[3], new = r.dims[1], i
    cdef int64_t length = (<const int64_t*>job.more[0])[batch]
    cdef float* target = job.y + index * y.dims[2] * channels
    cdef const float* past = job.x + index * past_positions(job) * channels
    if past != target:
        memcpy(target, past, length * channels * sizeof(float))
        memset(target + (length + new) * channels, 0, (y.dims[2] - length - new) * channels * sizeof(float))
    for i in range(new):
        memcpy(target + (length + i) * channels, job.r + ((batch * new + i) * y.dims[1] + head) * channels, channels * sizeof(float))
