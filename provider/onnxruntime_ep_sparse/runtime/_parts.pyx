"""Steps that take a part of a value, or repeat it: Slice, Split, Gather, Expand."""

from libc.stdint cimport int64_t
from libc.stdio cimport snprintf

from ._copies cimport copy_item, set_loops
from ._from_python cimport fill_shape
from ._infer cimport broadcast
from ._loops cimport Loops
from ._numbers cimport shape_of_numbers
from ._structs cimport *


cdef extern from *:
    """
    #define BEYOND ((int64_t)1 << 41)
    """
    int64_t BEYOND        # of program/kinds/parts.py: a place after the last element of any dimension


# --- a part


cdef struct Part:
    int n
    int axis[MAX_RANK]
    int64_t begin[MAX_RANK]
    int64_t end[MAX_RANK]
    int64_t step[MAX_RANK]
    int inside           # fail where the part is not inside
    int begins           # the value of begins that the plan computes, or NONE
    int ends


cdef struct PartPlan:
    Loops loops          # first: copy_item reads them
    int64_t step[MAX_RANK]


cdef void part_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Part)
    ops.plan_size = sizeof(PartPlan)
    ops.build = build_part
    ops.infer = infer_part
    ops.plan = plan_part
    ops.complete = complete_part
    ops.item = copy_item


cdef int build_part(Step* step, object spec) except -1:
    cdef Part* part = <Part*>step.spec
    part.n = len(spec.axes)
    for i in range(part.n):
        part.axis[i] = spec.axes[i]
        part.begin[i] = spec.begins[i]
        part.end[i] = spec.ends[i]
        part.step[i] = spec.steps[i]
    part.inside = spec.inside
    part.begins = spec.computed_begins
    part.ends = spec.computed_ends
    return 0


cdef inline int64_t place_of(const ValuePlan* places, int i) noexcept nogil:
    """Return a place that the plan has computed, cut to what no dimension has."""
    return min(max(places.numbers[i].integer, -BEYOND), BEYOND)


cdef int infer_part(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    """Negative places count from the end; they are cut to the value, as ONNX's Slice does."""
    cdef Part* part = <Part*>step.spec
    cdef PartPlan* own = <PartPlan*>sp.own
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t begin, end, size, stride, first, last
    cdef int i, axis
    cdef bint inside
    y[0] = x[0]
    for i in range(x.rank):
        own.step[i] = 1
    for i in range(part.n):
        axis = part.axis[i]
        size = x.dims[axis]
        stride = part.step[i]
        first = part.begin[i] if part.begins == NONE else place_of(&plan.values[part.begins], i)
        last = part.end[i] if part.ends == NONE else place_of(&plan.values[part.ends], i)
        begin = first + size if first < 0 else first
        end = last + size if last < 0 else last
        if stride > 0:  # nothing is left of a dimension where begin == size: a Pad may take all its elements away
            inside = 0 <= begin <= size and (begin <= end <= size or last >= BEYOND)
        else:
            inside = 0 <= begin < size and (-1 <= end <= size or last <= -BEYOND)
        if part.inside and not inside:
            snprintf(message, message_size, "elements %lld to %lld of a dimension of %lld", <long long>first, <long long>last,
                     <long long>size)
            return 1
        if stride > 0:
            begin = min(max(begin, 0), size)
            end = min(max(end, 0), size)
            y.dims[axis] = ceil_div(end - begin, stride) if end > begin else 0
        else:
            begin = min(max(begin, 0), size - 1)  # -1 where there is nothing
            end = min(max(end, -1), size - 1)
            y.dims[axis] = ceil_div(begin - end, -stride) if begin > end else 0
        own.step[axis] = stride
        if y.dims[axis]:
            sp.origin -= begin * element_count(x, axis + 1, x.rank)
    return 0


cdef int plan_part(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    """Plan a view where the part is one run of x, else a copy."""
    cdef Step* step = &program.steps[index]
    cdef StepPlan* sp = &plan.steps[index]
    cdef PartPlan* own = <PartPlan*>sp.own
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t from_x[MAX_RANK]
    cdef int64_t from_y[MAX_RANK]
    cdef int i, first = 0
    cdef bint run = plan.values[step.y].size > 0
    while first < y.rank and y.dims[first] == 1:
        first += 1
    for i in range(y.rank):
        from_x[i] = element_count(x, i + 1, x.rank) * own.step[i]
        from_y[i] = element_count(y, i + 1, y.rank)
        run = run and (i < first or (own.step[i] == 1 and (i == first or y.dims[i] == x.dims[i])))
    set_loops(sp, program.workers, y.rank, y.dims, from_x, from_y)
    if run and not sp.converts:
        sp.view = RUN_VIEW
    return 0


cdef void complete_part(const CompiledProgram* program, Plan* plan, const Step* step, StepPlan* sp) noexcept nogil:
    sp.work.moved = 2 * floats_of(&plan.values[step.y])


# --- Expand


cdef struct Expand:
    Shape target
    int computed         # the target's value, NONE where it is given


cdef void expand_ops(StepKindOps* ops) noexcept:
    ops.spec_size = sizeof(Expand)
    ops.plan_size = sizeof(Loops)
    ops.build = build_expand
    ops.infer = infer_expand
    ops.plan = plan_expand
    ops.item = copy_item


cdef int build_expand(Step* step, object spec) except -1:
    fill_shape(&(<Expand*>step.spec).target, spec.target)
    (<Expand*>step.spec).computed = spec.computed
    return 0


cdef int infer_expand(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil:
    cdef const Expand* expand = <Expand*>step.spec
    cdef Shape target = expand.target
    if expand.computed != NONE and shape_of_numbers(plan, expand.computed, 0, &target, message, message_size):
        return 1
    if expand.computed != NONE and plan.values[step.x].shape.rank == target.rank and target.rank and (
            plan.values[step.x].shape.dims[0] != target.dims[0]):
        plan.uneven = 1
    return broadcast(&plan.values[step.x].shape, &target, &plan.values[step.y].shape, message, message_size)


cdef int plan_expand(CompiledProgram* program, Plan* plan, int index) noexcept nogil:
    cdef Step* step = &program.steps[index]
    cdef Shape* x = &plan.values[step.x].shape
    cdef Shape* y = &plan.values[step.y].shape
    cdef int64_t from_x[MAX_RANK]
    cdef int64_t from_y[MAX_RANK]
    cdef int i, axis
    for i in range(y.rank):
        axis = i + x.rank - y.rank
        from_x[i] = element_count(x, axis + 1, x.rank) if axis >= 0 and x.dims[axis] != 1 else 0
        from_y[i] = element_count(y, i + 1, y.rank)
    set_loops(&plan.steps[index], program.workers, y.rank, y.dims, from_x, from_y)
    return 0
