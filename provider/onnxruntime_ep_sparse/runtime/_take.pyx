"""Gather, GatherND and ScatterND by indices that a run computes: whole runs of an operand are copied."""

from libc.stdint cimport int32_t, int64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy

from ._loops cimport even_items, item_begin
from ._sections cimport section
from ._structs cimport *


cdef struct Take:
    int axis
    int depth            # of GatherND: numbers of an index; 0: Gather


cdef struct TakePlan:
    int64_t outer        # runs before the axis
    int64_t indices
    int64_t inner        # elements of a run
    int numbers          # of an index
    int64_t size[MAX_RANK]    # of the dimensions that an index goes through
    int64_t stride[MAX_RANK]  # in runs


cdef void take_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Take)
    ops.plan_size = sizeof(TakePlan)
    ops.build = build_take
    ops.infer = infer_take
    ops.plan = plan_take
    ops.complete = complete_take
    ops.sections = take_sections


cdef int build_take(Step* step, object spec) except -1:
    (<Take*>step.spec).axis = spec.axis
    (<Take*>step.spec).depth = spec.depth
    return 0


cdef int infer_take(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef const Take* take = <const Take*>step.spec
    cdef const Shape* x = &plan.values[step.x].shape
    cdef const Shape* indices = &plan.values[step.r].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int i, rank = indices.rank - (take.depth > 0), through = max(1, take.depth)
    if take.depth and indices.dims[rank] != take.depth:
        snprintf(message, message_size, "indices of GatherND have %lld numbers each, %d are expected", <long long>indices.dims[rank],
                 take.depth)
        return 1
    y.rank = take.axis + rank + x.rank - take.axis - through
    for i in range(take.axis):
        y.dims[i] = x.dims[i]
    for i in range(rank):
        y.dims[take.axis + i] = indices.dims[i]
    for i in range(take.axis + through, x.rank):
        y.dims[rank + i - through] = x.dims[i]
    return 0


cdef void plan_runs(const Plan* plan, const Step* step, TakePlan* own) noexcept nogil:
    """Note which runs of x the indices may name."""
    cdef const Take* take = <const Take*>step.spec
    cdef const Shape* x = &plan.values[step.x].shape
    cdef int i
    own.numbers = max(1, take.depth)
    own.outer = element_count(x, 0, take.axis)
    own.indices = plan.values[step.r].size // own.numbers
    own.inner = element_count(x, take.axis + own.numbers, x.rank)
    for i in range(own.numbers):
        own.size[i] = x.dims[take.axis + i]
        own.stride[i] = element_count(x, take.axis + i + 1, take.axis + own.numbers)


cdef int plan_take(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    cdef const Step* step = &program.steps[index]
    cdef TakePlan* own = <TakePlan*>plan.steps[index].own
    plan_runs(plan, step, own)
    plan.steps[index].parallel = plan.steps[index].parallel and 2 * plan.values[step.y].size > MANY
    plan.steps[index].items = even_items(own.outer * own.indices, own.inner, program.workers)
    return 0


cdef enum:
    MANY = 80000         # elements that are read and written, from which on several workers copy


cdef void complete_take(const CompiledProgram* program, Plan* plan, const Step* step, StepPlan* sp) noexcept nogil:
    sp.work.moved = 2 * floats_of(&plan.values[step.y]) + floats_of(&plan.values[step.r])


cdef int take_sections(const Job* job, Section* sections) noexcept nogil:
    """List the sections: check all indices, then copy."""
    sections[0] = section(check_item, 1 if job.sp.items else 0, False)
    sections[1] = section(take_item, job.sp.items, job.sp.parallel)
    return 2


cdef inline int64_t index_at(const Job* job, int64_t place) noexcept nogil:
    if job.program.type[job.step.r] == TYPE_INT64:
        return (<const int64_t*>job.r)[place]
    return (<const int32_t*>job.r)[place]


cdef inline int64_t run_at(const Job* job, const TakePlan* own, int64_t place) noexcept nogil:
    """Return the run that the indices at a place name."""
    cdef int64_t run = 0, number
    cdef int i
    for i in range(own.numbers):
        number = index_at(job, place * own.numbers + i)
        run += (number + own.size[i] if number < 0 else number) * own.stride[i]
    return run


cdef void check_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Stop the run where an index is outside, with the words of ONNX Runtime."""
    cdef const TakePlan* own = <const TakePlan*>job.sp.own
    cdef int64_t place, number, size
    for place in range(own.indices * own.numbers):
        number = index_at(job, place)
        size = own.size[place % own.numbers if own.numbers > 1 else 0]
        if not -size <= number < size:
            snprintf(job.fault, MAX_FAULT, "indices element out of data bounds, idx=%lld must be within the inclusive range [%lld,%lld]",
                     <long long>number, <long long>-size, <long long>size - 1)
            job.stopped[0] = job.fault
            return


cdef void take_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Copy some runs."""
    cdef const TakePlan* own = <const TakePlan*>job.sp.own
    cdef int64_t bytes_ = job.program.bytes[job.step.y], run_bytes = own.inner * bytes_, runs = own.outer * own.indices, source
    cdef int64_t run = item_begin(index, job.sp.items, runs, 1), end = item_begin(index + 1, job.sp.items, runs, 1)
    cdef int64_t outer = run // own.indices if own.indices else 0, place = run - outer * own.indices
    cdef char* y = <char*>job.y + run * run_bytes
    cdef const char* x = <const char*>job.x
    while run < end:
        source = outer * own.size[0] * own.stride[0] + run_at(job, own, place)
        if run_bytes == sizeof(float):
            (<float*>y)[0] = (<const float*>x)[source]
        else:
            memcpy(y, x + source * run_bytes, run_bytes)
        y += run_bytes
        run += 1
        place += 1
        if place == own.indices:
            place = 0
            outer += 1


# --- ScatterND


cdef void scatter_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Take)
    ops.plan_size = sizeof(TakePlan)
    ops.build = build_scatter
    ops.infer = infer_scatter
    ops.plan = plan_scatter
    ops.complete = complete_take
    ops.sections = scatter_sections


cdef int build_scatter(Step* step, object spec) except -1:
    (<Take*>step.spec).depth = spec.depth
    step.n_more = 1
    step.more[0] = spec.updates
    return 0


cdef int infer_scatter(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef int depth = (<const Take*>step.spec).depth, i, rank = plan.values[step.r].shape.rank - 1
    cdef const Shape* x = &plan.values[step.x].shape
    cdef const Shape* updates = &plan.values[step.more[0]].shape
    cdef Shape expected = plan.values[step.r].shape
    plan.values[step.y].shape = x[0]
    if expected.dims[rank] != depth:
        snprintf(message, message_size, "indices of ScatterND have %lld numbers each, %d are expected", <long long>expected.dims[rank],
                 depth)
        return 1
    expected.rank = updates.rank
    for i in range(rank, updates.rank):
        expected.dims[i] = x.dims[i - rank + depth]
    if not same_shape(&expected, updates):
        snprintf(message, message_size, "the updates of ScatterND do not have the shape that its indices ask for")
        return 1
    return 0


cdef int plan_scatter(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    plan_runs(plan, &program.steps[index], <TakePlan*>plan.steps[index].own)
    plan.steps[index].items = 1 if plan.values[program.steps[index].y].size else 0
    return 0


cdef int scatter_sections(const Job* job, Section* sections) noexcept nogil:
    """List the sections: check all indices, then copy. One item, because indices may name a run twice: the last one counts."""
    sections[0] = section(check_item, 1, False)
    sections[1] = section(scatter_item, job.sp.items, False)
    return 2


cdef void scatter_item(Job* job, int64_t index, float* scratch) noexcept nogil:
    """Copy x, then the updates over it."""
    cdef const TakePlan* own = <const TakePlan*>job.sp.own
    cdef int64_t run_bytes = own.inner * job.program.bytes[job.step.y], place
    cdef const char* updates = <const char*>job.more[0]
    memcpy(job.y, job.x, own.size[0] * own.stride[0] * run_bytes)
    for place in range(own.indices):
        memcpy(<char*>job.y + run_at(job, own, place) * run_bytes, updates + place * run_bytes, run_bytes)
