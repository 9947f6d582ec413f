"""Which memory every value of a plan has: places in one arena by liveness (first fit), or somebody else's memory."""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from ._holes cimport Holes, holes_begin, holes_end, holes_give, holes_take
from ._structs cimport *


cdef int written_over(CompiledProgram* program, Plan* plan, int s) noexcept nogil:
    """The value whose memory the result of a step can take: elements are read where they are written, and nobody needs it afterwards."""
    cdef Step* step = &program.steps[s]
    cdef Operand operand = step.ops.overwrites(step, &plan.steps[s]) if step.ops.overwrites != NULL else NO_OPERAND
    cdef int x = program.steps[s - 1].x if s and plan.steps[s - 1].bands else step.x
    cdef int v = step.x if operand == OPERAND_X else step.r
    cdef int root
    if operand == NO_OPERAND:
        return NONE
    root = plan.values[v].root
    if plan.values[root].storage == STORE_ARENA and plan.values[root].last == s and plan.values[root].size == plan.values[v].size and (
            plan.values[step.y].root == step.y) and plan.values[v].size == plan.values[step.y].size and (
            operand == OPERAND_X or plan.values[x].root != root):
        return root
    return NONE


# While values get their places. The lists hold the values with a place in the arena by the step that touches them last.
cdef struct Placing:
    Holes holes
    int64_t top            # floats of the arena
    int* first_gone        # of each step
    int* next_gone         # of each value


cdef void place(CompiledProgram* program, Plan* plan, int s, int value, Placing* placing, int* replaced) noexcept nogil:
    """Give a result of step s the first place in the arena that no value needs any more, unless it has a place.

    Where it takes the memory of another value, `replaced` becomes that.
    """
    cdef int v = plan.values[value].root, other = written_over(program, plan, s) if value == program.steps[s].y else NONE
    cdef int last = plan.values[v].last
    cdef int64_t need = room_of(&plan.values[v])
    if plan.values[v].storage != STORE_ARENA or plan.values[v].offset != NONE:
        return
    if other != NONE:
        plan.values[v].offset = plan.values[other].offset
        replaced[0] = other
    else:
        plan.values[v].offset = holes_take(&placing.holes, need)
        placing.top = max(placing.top, plan.values[v].offset + need)
    placing.next_gone[v] = placing.first_gone[last]
    placing.first_gone[last] = v


cdef int place_in_arena(CompiledProgram* program, Plan* plan) noexcept nogil:
    """First fit among the values that are still needed, each from the first step that writes to it; 0 on success."""
    cdef Placing placing
    cdef Step* step
    cdef int s, i, v, replaced
    placing.top = 0
    placing.first_gone = <int*>malloc((program.n_steps + 1) * sizeof(int))
    placing.next_gone = <int*>malloc((program.n_values + 1) * sizeof(int))
    if placing.first_gone == NULL or placing.next_gone == NULL or holes_begin(&placing.holes, program.n_values):
        free(placing.first_gone)
        free(placing.next_gone)
        return 1
    for s in range(program.n_steps):
        placing.first_gone[s] = NONE
    for s in range(program.n_steps):
        step = &program.steps[s]
        replaced = NONE
        place(program, plan, s, step.y, &placing, &replaced)
        for i in range(step.n_more_results):
            if step.more[i] != NONE:
                place(program, plan, s, step.more[i], &placing, &replaced)
        v = placing.first_gone[s]
        while v != NONE:
            if v != replaced:
                holes_give(&placing.holes, plan.values[v].offset, room_of(&plan.values[v]))
            v = placing.next_gone[v]
    plan.arena_floats = placing.top
    holes_end(&placing.holes)
    free(placing.first_gone)
    free(placing.next_gone)
    return 0


cdef void find_root(ValuePlan* values, int value) noexcept nogil:
    """Follow a chain of views to its end, and let all of them show that directly."""
    cdef int root = value, v
    cdef int64_t shift = 0, step
    while values[root].root != root:
        shift += values[root].shift
        root = values[root].root
    while value != root:
        v = values[value].root
        step = values[value].shift
        values[value].root = root
        values[value].shift = shift
        shift -= step
        value = v


cdef inline int64_t room_of(const ValuePlan* value) noexcept nogil:
    """Floats in the arena; kernels may read a vector too much."""
    return ceil_div(value.size, 16) * 16 + 16


cdef int place_values(CompiledProgram* program, Plan* plan) noexcept nogil:
    """Which memory every value has: ONNX Runtime's, a constant's, its source's (Reshape), a part of the value that it is concatenated into,
    or a place in the arena while it is needed."""
    cdef int i, v, s, root
    cdef Step* step
    for v in range(program.n_values):
        plan.values[v].root = v
        plan.values[v].storage = STORE_ARENA
        plan.values[v].offset = NONE
        if program.constant[v] != NULL:
            plan.values[v].storage = STORE_CONSTANT
            plan.values[v].slot = v
    for i in range(program.n_inputs):
        plan.values[program.inputs[i]].storage = STORE_INPUT
        plan.values[program.inputs[i]].slot = i
    for i in range(program.n_outputs):
        plan.values[program.outputs[i]].storage = STORE_OUTPUT
        plan.values[program.outputs[i]].slot = i
    for s in range(program.n_steps):
        if plan.steps[s].bands:
            plan.values[program.steps[s].y].storage = STORE_NOWHERE
    for s in range(program.n_steps):
        step = &program.steps[s]
        if plan.steps[s].view != WHOLE_VIEW:
            continue
        root = plan.values[step.x].root
        if plan.values[step.y].storage == STORE_ARENA:
            plan.values[step.y].root = root
        elif plan.values[root].storage == STORE_ARENA:
            # the producer writes straight into the output
            plan.values[root].storage = STORE_OUTPUT
            plan.values[root].slot = plan.values[step.y].slot
            plan.values[step.y].root = root
    for s in range(program.n_steps):
        step = &program.steps[s]
        if plan.steps[s].view != PART_VIEW:
            continue
        # This operand is one run of the result: its maker writes it there, and the step finds it in place. Unless it is a part of
        # another result, or of this one, already.
        root = plan.values[step.x].root
        if plan.values[root].storage == STORE_ARENA and plan.values[root].root == root and root != step.y and (
                plan.values[root].size == plan.values[step.x].size):
            plan.values[root].root = step.y
            plan.values[root].shift = plan.steps[s].origin
    for v in range(program.n_values):
        find_root(plan.values, v)
    for v in range(program.n_values):
        plan.values[v].last = NONE
    for s in range(program.n_steps):
        step = &program.steps[s]
        plan.values[plan.values[step.x].root].last = s
        plan.values[plan.values[step.y].root].last = s
        if step.r != NONE and plan.steps[s].view != WHOLE_VIEW:
            plan.values[plan.values[step.r].root].last = s
        for i in range(step.n_more):
            if step.more[i] != NONE:
                plan.values[plan.values[step.more[i]].root].last = s
    for s in range(program.n_steps):
        v = plan.values[program.steps[s].x].root
        if plan.steps[s].bands and plan.values[v].last == s:
            plan.values[v].last = s + 1
    return place_in_arena(program, plan)
