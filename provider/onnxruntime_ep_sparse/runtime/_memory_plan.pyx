"""Which memory every value of a plan has: places in one arena by liveness (first fit), or somebody else's memory."""

from libc.stdint cimport int64_t

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


cdef void place(CompiledProgram* program, Plan* plan, int s, int value, int64_t* top) noexcept nogil:
    """Give a result of step s the first place in the arena that no value needs any more, unless it has a place."""
    cdef int v = plan.values[value].root, other = written_over(program, plan, s) if value == program.steps[s].y else NONE
    cdef int64_t offset = 0, need = room_of(&plan.values[v])
    cdef bint moved = True
    if plan.values[v].storage != STORE_ARENA or plan.values[v].offset != NONE:
        return
    if other != NONE:
        plan.values[v].offset = plan.values[other].offset
        return
    while moved:
        moved = False
        for other in range(program.n_values):
            if plan.values[other].root != other or plan.values[other].storage != STORE_ARENA or plan.values[other].last < s or (
                    plan.values[other].offset == NONE):
                continue
            if offset < plan.values[other].offset + room_of(&plan.values[other]) and plan.values[other].offset < offset + need:
                offset = plan.values[other].offset + room_of(&plan.values[other])
                moved = True
    plan.values[v].offset = offset
    if offset + need > top[0]:
        top[0] = offset + need


cdef inline int64_t room_of(const ValuePlan* value) noexcept nogil:
    """Floats in the arena; kernels may read a vector too much."""
    return ceil_div(value.size, 16) * 16 + 16


cdef void place_values(CompiledProgram* program, Plan* plan) noexcept nogil:
    """Which memory every value has: ONNX Runtime's, a constant's, its source's (Reshape), a part of the value that it is concatenated into,
    or a place in the arena while it is needed."""
    cdef int i, v, s, root
    cdef int64_t top = 0
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
        root = plan.values[v].root
        while plan.values[root].root != root:
            plan.values[v].shift += plan.values[root].shift
            root = plan.values[root].root
        plan.values[v].root = root
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
    # first fit among the values that are still needed, each from the first step that writes to it
    for s in range(program.n_steps):
        step = &program.steps[s]
        place(program, plan, s, step.y, &top)
        for i in range(step.n_more_results):
            if step.more[i] != NONE:
                place(program, plan, s, step.more[i], &top)
    plan.arena_floats = top
