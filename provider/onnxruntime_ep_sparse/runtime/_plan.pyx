"""Everything about a program that depends on the shapes of its inputs, in plain C: runs inside the first `Compute` of a shape.

Step by step shapes are inferred and the family of the step plans it; then values get their places (`runtime/_memory_plan.pyx`).
"""

from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from ._bands cimport choose_chains, place_chains
from ._dealt cimport choose_deal
from ._fixed cimport choose_fixed, compute_fixed, release_fixed
from ._infer cimport fits, infer
from ._memory_plan cimport place_values
from ._numbers cimport compute_numbers, numbers_as_tensor, write_numbers
from ._sections cimport PARALLEL_FROM, is_parallel
from ._structs cimport *


cdef enum:
    # Steps in a row that are one worker's work, from which on the others leave the parallel section and come back to another one.
    SERIAL_STEPS = 16


cdef Plan* plan_create(CompiledProgram* program, const Key* key, char* message, size_t message_size) noexcept nogil:
    cdef Plan* plan = <Plan*>calloc(1, sizeof(Plan))
    if plan != NULL:
        plan.references = 1
        plan.key.shapes = <Shape*>malloc((program.n_inputs + 1) * sizeof(Shape))
        plan.key.contents = <Number*>malloc((program.n_contents * MAX_NUMBERS + 1) * sizeof(Number))
        plan.numbers = <Number*>calloc(program.n_numbers * MAX_NUMBERS + 1, sizeof(Number))
        plan.tensors = <Number*>calloc(program.n_numbers * MAX_NUMBERS + 1, sizeof(Number))
        plan.values = <ValuePlan*>calloc(program.n_values + 1, sizeof(ValuePlan))
        plan.steps = <StepPlan*>calloc(program.n_steps + 1, sizeof(StepPlan))
        plan.own = <char*>calloc(1, own_bytes(program) + 1)
    if plan == NULL or plan.key.shapes == NULL or plan.key.contents == NULL or plan.numbers == NULL or plan.tensors == NULL or (
            plan.values == NULL or plan.steps == NULL or plan.own == NULL):
        snprintf(message, message_size, "out of memory")
    elif not set_inputs(program, plan, key, message, message_size) and not plan_steps(program, plan, message, message_size):
        if place_values(program, plan) or placed_steps(program, plan):
            snprintf(message, message_size, "out of memory")
            plan_free(program, plan)
            return NULL
        plan.scratch_floats = ceil_div(plan.scratch_floats, 16) * 16
        if compute_fixed(program, plan, message, message_size):
            plan_free(program, plan)
            return NULL
        share_sections(program, plan)
        plan.value_floats = plan.scratch_offset = plan.arena_floats
        plan.shared_offset = plan.scratch_offset + plan.scratch_floats * program.workers
        plan.counters_offset = ceil_div(plan.shared_offset + plan.shared_floats, 16) * 16
        # one more than workers: recurrent steps count what is done
        plan.arena_floats = plan.counters_offset + COUNTER_FLOATS * (program.workers + 1)
        return plan
    plan_free(program, plan)
    return NULL


cdef inline size_t own_size(const Step* step) noexcept nogil:
    """Bytes of StepPlan.own, up to the next multiple of what any type is aligned to."""
    return (step.ops.plan_size + 15) // 16 * 16


cdef size_t own_bytes(const CompiledProgram* program) noexcept nogil:
    cdef size_t total = 0
    cdef int s
    for s in range(program.n_steps):
        total += own_size(&program.steps[s])
    return total


cdef int set_inputs(CompiledProgram* program, Plan* plan, const Key* key, char* message, size_t message_size) noexcept nogil:
    """Shapes and sizes of inputs and constants; 0 on success."""
    cdef const Shape* inputs = key.shapes
    cdef int i
    memcpy(plan.key.shapes, inputs, program.n_inputs * sizeof(Shape))
    memcpy(plan.key.contents, key.contents, program.n_contents * MAX_NUMBERS * sizeof(Number))
    for i in range(program.n_values):
        plan.values[i].bytes = program.bytes[i]
        if program.constant[i] != NULL:
            plan.values[i].shape = program.constant_shape[i]
            plan.values[i].size = element_count(&program.constant_shape[i], 0, program.constant_shape[i].rank)
    for i in range(program.n_inputs):
        if program.ranks != NULL and inputs[i].rank != program.ranks[i]:
            snprintf(message, message_size, "input %d has %d dimensions, %d expected", i, inputs[i].rank, program.ranks[i])
            return 1
        if not fits(&inputs[i]):
            snprintf(message, message_size, "input %d has more than 2**40 elements", i)
            return 1
        plan.values[program.inputs[i]].shape = inputs[i]
        plan.values[program.inputs[i]].size = element_count(&inputs[i], 0, inputs[i].rank)
    return 0


cdef int plan_steps(CompiledProgram* program, Plan* plan, char* message, size_t message_size) noexcept nogil:
    """Shapes, items and work of all steps; 0 on success."""
    cdef Step* step
    cdef StepPlan* sp
    cdef int64_t y_size
    cdef char* own = plan.own
    cdef int s, computed = 0
    for s in range(program.n_steps + 1):
        while computed < program.n_numbers and program.numbers[computed].before == s:
            if compute_numbers(program, plan, computed, message, message_size):
                return 1
            write_numbers(program, plan, program.numbers[computed].y, numbers_as_tensor(plan, computed))
            computed += 1
        if s == program.n_steps:
            break
        step = &program.steps[s]
        sp = &plan.steps[s]
        sp.own = own
        own += own_size(step)
        if infer(program, plan, s, message, message_size):
            return 1
    if choose_deal(program, plan):
        snprintf(message, message_size, "out of memory")
        return 1
    choose_scaled(program, plan)
    choose_chains(program, plan)
    for s in range(program.n_steps):
        step = &program.steps[s]
        sp = &plan.steps[s]
        y_size = plan.values[step.y].size
        sp.parallel = plan.values[step.x].size + y_size > PARALLEL_FROM and program.workers > 1
        if step.completes and sp.view == WHOLE_VIEW:
            continue
        if step.ops.plan != NULL and step.ops.plan(program, plan, s):
            snprintf(message, message_size, "out of memory for the tables of a step")
            return 1
        if y_size == 0:
            sp.items = 0
    place_chains(program, plan)
    for s in range(program.n_steps):
        step = &program.steps[s]
        sp = &plan.steps[s]
        sp.work.moved = floats_of(&plan.values[step.x]) + floats_of(&plan.values[step.y])
        if step.r != NONE:
            sp.work.moved += floats_of(&plan.values[step.r])
        if sp.within or sp.product != NULL:
            sp.work.moved -= floats_of(&plan.values[step.x])
        if s + 1 < program.n_steps and (plan.steps[s + 1].within or plan.steps[s + 1].product != NULL):
            sp.work.moved -= floats_of(&plan.values[step.y])
        if step.ops.complete != NULL:
            step.ops.complete(program, plan, step, sp)
        if sp.converts:
            sp.work.moved += 2 * plan.values[step.x].size
    if choose_fixed(program, plan):
        snprintf(message, message_size, "out of memory")
        return 1
    return 0


cdef void choose_scaled(const CompiledProgram* program, Plan* plan) noexcept nogil:
    """Let products multiply what they gather by the factors of channels that a step before them would apply, as of squeeze-and-excite."""
    cdef const Step* step
    cdef StepPlan* sp
    cdef int s
    for s in range(program.n_steps - 1):
        step = &program.steps[s]
        sp = &plan.steps[s]
        if step.ops.scales == NULL or step[1].ops.scaled == NULL or step[1].x != step.y or step[1].r == step.y:
            continue
        if program.readers[step.y] != 1:
            continue
        if sp.dealt or sp[1].dealt or sp.converts or sp[1].converts or sp.apart or step.completes or sp.view != NO_VIEW:
            continue
        if step.ops.scales(program, plan, s) and step[1].ops.scaled(program, plan, s + 1):
            sp.view = WHOLE_VIEW
            sp[1].scaled = True


cdef int placed_steps(CompiledProgram* program, Plan* plan) noexcept nogil:
    """Plan what dealt steps need the places of values for; return 0 on success."""
    cdef int s
    for s in range(program.n_steps):
        if plan.steps[s].dealt and program.steps[s].ops.placed != NULL and program.steps[s].ops.placed(program, plan, s):
            return 1
    return 0


cdef bint begins_parallel(const CompiledProgram* program, const Plan* plan, int s) noexcept nogil:
    """Return whether a step has work for several workers, which the one before has not done with its own."""
    cdef const Step* step = &program.steps[s]
    cdef const StepPlan* sp = &plan.steps[s]
    cdef const ValuePlan* x = &plan.values[step.x]
    cdef const ValuePlan* y = &plan.values[step.y]
    if sp.within or sp.fixed or (sp.view != NO_VIEW and x.root == y.root and x.shift == y.shift + sp.origin):
        return False
    return is_parallel(plan, step, sp)


cdef void share_sections(const CompiledProgram* program, Plan* plan) noexcept nogil:
    """Find the steps that share a parallel section: from a parallel one to the last one that follows with few others between."""
    cdef int s, first = 0, end
    while first < program.n_steps:
        end = first + 1
        if begins_parallel(program, plan, first):
            s = end
            while s < program.n_steps and s - end < SERIAL_STEPS:
                if begins_parallel(program, plan, s):
                    end = s + 1
                s += 1
        else:
            while end < program.n_steps and not begins_parallel(program, plan, end):
                end += 1
        plan.steps[first].together = end
        first = end


cdef void plan_free(CompiledProgram* program, Plan* plan) noexcept nogil:
    cdef int s
    if plan == NULL:
        return
    if plan.steps != NULL:
        for s in range(program.n_steps):
            if plan.steps[s].own != NULL and program.steps[s].ops.release_plan != NULL:
                program.steps[s].ops.release_plan(&program.steps[s], &plan.steps[s])
    if plan.values != NULL:
        release_fixed(program, plan)
    free(plan.own)
    free(plan.key.shapes)
    free(plan.key.contents)
    free(plan.numbers)
    free(plan.tensors)
    free(plan.values)
    free(plan.steps)
    free(plan)
