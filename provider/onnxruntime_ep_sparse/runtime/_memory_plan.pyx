"""Gives each value of a plan its memory: a place in one arena by liveness, or the memory of an input, an output or a constant.

Blocks get their places by size, the largest first: the arena is then as large as the widest step of each of a dozen nets needs. First fit
in the order of the steps takes 13 to 60 % more (ResNet-50, U-Net), but is linear in the steps: programs of many blocks have it.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memmove

from ._holes cimport Holes, holes_begin, holes_end, holes_give, holes_take
from ._structs cimport *


cdef int written_over(CompiledProgram* program, Plan* plan, int s) noexcept nogil:
    """Return the value whose memory the result of a step can take: elements are read where they are written, and no later step reads it."""
    cdef Step* step = &program.steps[s]
    cdef Operand operand = step.ops.overwrites(step, &plan.steps[s]) if step.ops.overwrites != NULL else NO_OPERAND
    cdef int v = step.x if operand == OPERAND_X else step.r
    cdef int root
    if operand == NO_OPERAND:
        return NONE
    root = plan.values[v].root
    if plan.values[root].storage == STORE_ARENA and plan.values[root].last == s and plan.values[root].size == plan.values[v].size and (
            plan.values[step.y].root == step.y) and plan.values[v].size == plan.values[step.y].size and (
            plan.values[v].bytes == plan.values[step.y].bytes) and (
            operand == OPERAND_X or not reads_too(program, plan, s, root)):
        return root
    return NONE


cdef bint reads_too(const CompiledProgram* program, const Plan* plan, int s, int root) noexcept nogil:
    """Return whether a step, or one that it runs together with in bands, reads this memory as another operand than its own second one."""
    while True:
        if plan.values[program.steps[s].x].root == root:
            return True
        if plan.steps[s].scaled and plan.values[program.steps[s - 1].r].root == root:
            return True
        if not plan.steps[s].within:
            return False
        s -= 1
        if program.steps[s].r != NONE and plan.values[program.steps[s].r].root == root:
            return True


cdef enum:
    # Blocks that get their places by size, which compares each with all others: 0.5 ms for so many.
    MOST_BY_SIZE = 1000

# Memory in the arena: of one value, of values that take the place of each other in turn, or of an x in another order.
cdef struct Block:
    int64_t floats
    int64_t offset
    int first              # step that writes to it
    int last               # step that needs it

# The blocks of a plan, in the order of their first steps, and the block of each value, and of each step for an x that it brings into
# another order, or NONE.
cdef struct Blocks:
    Block* block
    int count
    int* of
    int* of_step


cdef int place_in_arena(CompiledProgram* program, Plan* plan) noexcept nogil:
    """Give each value that is needed between steps a place in the arena from the first step that writes to it; 0 on success.

    An x that a step brings into another order has a place for that step.
    """
    cdef Blocks blocks
    cdef int failed, v
    blocks.block = <Block*>malloc((program.n_values + program.n_steps + 1) * sizeof(Block))
    blocks.of = <int*>malloc((program.n_values + program.n_steps + 1) * sizeof(int))
    blocks.of_step = blocks.of + program.n_values
    failed = blocks.block == NULL or blocks.of == NULL
    if not failed:
        find_blocks(program, plan, &blocks)
        plan.arena_floats = 0
        failed = by_size(plan, &blocks) if blocks.count <= MOST_BY_SIZE else by_step(program, plan, &blocks)
    if not failed:
        for v in range(program.n_values):
            if blocks.of[v] != NONE:
                plan.values[v].offset = blocks.block[blocks.of[v]].offset
        for v in range(program.n_steps):
            if blocks.of_step[v] != NONE:
                plan.steps[v].converted_offset = blocks.block[blocks.of_step[v]].offset
    free(blocks.block)
    free(blocks.of)
    return failed


cdef void find_blocks(CompiledProgram* program, Plan* plan, Blocks* blocks) noexcept nogil:
    """Find the blocks of memory: a result that can take the memory of an operand shares its block."""
    cdef Step* step
    cdef int s, i, v, other
    blocks.count = 0
    for v in range(program.n_values):
        blocks.of[v] = NONE
    for s in range(program.n_steps):
        step = &program.steps[s]
        blocks.of_step[s] = NONE
        if plan.steps[s].converts:
            blocks.of_step[s] = blocks.count
            blocks.block[blocks.count].floats = ceil_div(plan.steps[s].converted_floats, 16) * 16
            blocks.block[blocks.count].first = blocks.block[blocks.count].last = s
            blocks.count += 1
        for i in range(-1, step.n_more_results):
            v = step.y if i < 0 else step.more[i]
            if v == NONE:
                continue
            v = plan.values[v].root
            if plan.values[v].storage != STORE_ARENA or blocks.of[v] != NONE:
                continue
            other = written_over(program, plan, s) if i < 0 else NONE
            if other != NONE:
                blocks.of[v] = blocks.of[other]
            else:
                blocks.of[v] = blocks.count
                blocks.block[blocks.count].floats = room_of(&plan.values[v])
                blocks.block[blocks.count].first = s
                blocks.count += 1
            blocks.block[blocks.of[v]].last = plan.values[v].last


cdef int larger_first(const void* a, const void* b) noexcept nogil:
    cdef const Block* x = (<const Block**>a)[0]
    cdef const Block* y = (<const Block**>b)[0]
    if x.floats != y.floats:
        return 1 if x.floats < y.floats else -1
    return 1 if x.first > y.first else -1


cdef int by_size(Plan* plan, Blocks* blocks) noexcept nogil:
    """Place the largest block first, each at the lowest place that is free while it is needed; return 0 on success."""
    cdef Block** todo = <Block**>malloc((blocks.count + 1) * sizeof(Block*))
    cdef Block** placed = <Block**>malloc((blocks.count + 1) * sizeof(Block*))   # by offset
    cdef Block* block
    cdef Block* other
    cdef int i, k
    if todo == NULL or placed == NULL:
        free(todo)
        free(placed)
        return 1
    for i in range(blocks.count):
        todo[i] = &blocks.block[i]
    qsort(todo, blocks.count, sizeof(Block*), larger_first)
    for i in range(blocks.count):
        block = todo[i]
        block.offset = 0
        for k in range(i):
            other = placed[k]
            if other.first > block.last or other.last < block.first:
                continue
            if other.offset >= block.offset + block.floats:
                break
            block.offset = max(block.offset, other.offset + other.floats)
        plan.arena_floats = max(plan.arena_floats, block.offset + block.floats)
        k = i
        while k and placed[k - 1].offset > block.offset:
            k -= 1
        memmove(placed + k + 1, placed + k, (i - k) * sizeof(Block*))
        placed[k] = block
    free(todo)
    free(placed)
    return 0


cdef int by_step(CompiledProgram* program, Plan* plan, Blocks* blocks) noexcept nogil:
    """First fit among the blocks that are still needed, step by step; 0 on success."""
    cdef Holes holes
    cdef Block* block
    cdef int* first_gone = <int*>malloc((program.n_steps + 1) * sizeof(int))   # of each step: blocks by the step that needs them last
    cdef int* next_gone = <int*>malloc((blocks.count + 1) * sizeof(int))
    cdef int s, b = 0, gone
    if first_gone == NULL or next_gone == NULL or holes_begin(&holes, blocks.count):
        free(first_gone)
        free(next_gone)
        return 1
    for s in range(program.n_steps):
        first_gone[s] = NONE
    for s in range(program.n_steps):
        while b < blocks.count and blocks.block[b].first == s:
            block = &blocks.block[b]
            block.offset = holes_take(&holes, block.floats)
            plan.arena_floats = max(plan.arena_floats, block.offset + block.floats)
            next_gone[b] = first_gone[block.last]
            first_gone[block.last] = b
            b += 1
        gone = first_gone[s]
        while gone != NONE:
            holes_give(&holes, blocks.block[gone].offset, blocks.block[gone].floats)
            gone = next_gone[gone]
    holes_end(&holes)
    free(first_gone)
    free(next_gone)
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
    return ceil_div(value.room if value.dealt else floats_of(value), 16) * 16 + 16


cdef inline void keep_until(Plan* plan, int value, int s) noexcept nogil:
    """Keep the memory of a value until a step that reads it together with an earlier one."""
    cdef ValuePlan* root = &plan.values[plan.values[value].root]
    root.last = max(root.last, s)


cdef int place_values(CompiledProgram* program, Plan* plan) noexcept nogil:
    """Give every value memory: ONNX Runtime's, a constant's, that of its source (Reshape) or a part of it (Slice), a part of the value that
    it is concatenated into, or a place in the arena while it is needed."""
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
    for i in range(program.n_numbers):  # outputs too: they are copies
        plan.values[program.numbers[i].y].storage = STORE_NUMBERS
        plan.values[program.numbers[i].y].slot = i
    for s in range(program.n_steps):
        if plan.steps[s].fixed:
            plan.values[program.steps[s].y].storage = STORE_KEPT
    for s in range(1, program.n_steps):
        if plan.steps[s].within or plan.steps[s].product != NULL:
            plan.values[program.steps[s].x].storage = STORE_NOWHERE
    for s in range(program.n_steps):
        step = &program.steps[s]
        if plan.steps[s].view != WHOLE_VIEW and plan.steps[s].view != RUN_VIEW:
            continue
        root = plan.values[step.x].root
        if plan.values[step.y].storage == STORE_ARENA:
            plan.values[step.y].root = root
            plan.values[step.y].shift = plan.values[step.x].shift - plan.steps[s].origin
        elif plan.values[root].storage == STORE_ARENA and plan.values[root].size == plan.values[step.y].size:
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
        if plan.steps[s].scaled:
            plan.values[plan.values[program.steps[s - 1].r].root].last = s
        if plan.steps[s].product != NULL:
            plan.values[plan.values[program.steps[s - 1].x].root].last = s
        for i in range(step.n_more):
            if step.more[i] != NONE:
                plan.values[plan.values[step.more[i]].root].last = s
    for s in range(program.n_steps):
        if plan.steps[s].chain and plan.steps[s].scaled:
            keep_until(plan, program.steps[s - 1].r, s + plan.steps[s].chain - 1)
        for i in range(plan.steps[s].chain):
            keep_until(plan, program.steps[s + i].x, s + plan.steps[s].chain - 1)
            if program.steps[s + i].r != NONE:
                keep_until(plan, program.steps[s + i].r, s + plan.steps[s].chain - 1)
    return place_in_arena(program, plan)
