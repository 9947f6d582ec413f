"""Steps whose results depend on the shapes of the inputs alone, such as positions and causal masks: computed once, when a plan is made.

Their results are memory of the plan. At most MOST_BYTES of a plan are kept, so that the plans of a program stay small: what would take more
is computed in every run.
"""

from libc.stdint cimport int64_t, intptr_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from ._numbers cimport numbers_as_tensor
from ._sections cimport section
from ._structs cimport *

cdef enum:
    MOST_BYTES = 2 << 20
    MOST_TRIES = 8       # largest results that are left to the runs one by one, before all are
    SLACK = 256          # bytes after a value, because kernels may read a vector too much
    LINE_BYTES = 64


cdef inline bint may_be_fixed(const CompiledProgram* program, const Plan* plan, int s) noexcept nogil:
    """Return whether a step runs on its own, and makes one value. One whose factors the next step applies makes none of its own."""
    cdef const StepPlan* sp = &plan.steps[s]
    if s + 1 < program.n_steps and (program.steps[s + 1].completes or sp[1].scaled or sp[1].product != NULL):
        return False
    return not (sp.chain or sp.within or sp.dealt or sp.converts or sp.apart or sp.product != NULL or
                program.steps[s].completes or program.steps[s].n_more_results)


cdef void find_fixed(const CompiledProgram* program, Plan* plan, const char* left, char* varies) noexcept nogil:
    """Mark the steps all of whose operands are the same in all runs; values that are `left` are computed in each run."""
    cdef const Step* step
    cdef int s, i, v
    cdef bint same
    for v in range(program.n_values):
        varies[v] = left[v]
    for i in range(program.n_inputs):
        varies[program.inputs[i]] = True
    for s in range(program.n_steps):
        step = &program.steps[s]
        same = may_be_fixed(program, plan, s) and not varies[step.x] and (step.r == NONE or not varies[step.r])
        for i in range(step.n_more):
            same = same and (step.more[i] == NONE or not varies[step.more[i]])
        plan.steps[s].fixed = same
        if not same:
            varies[step.y] = True
            for i in range(step.n_more_results):
                if step.more[i] != NONE:
                    varies[step.more[i]] = True
    for s in range(program.n_steps):  # several steps may make a value
        plan.steps[s].fixed = plan.steps[s].fixed and not varies[program.steps[s].y]


cdef void find_kept(const CompiledProgram* program, const Plan* plan, char* kept) noexcept nogil:
    """Mark the results of fixed steps that other steps read."""
    cdef const Step* step
    cdef int s, i
    memset(kept, 0, program.n_values)
    for s in range(program.n_steps):
        if plan.steps[s].fixed:
            continue
        step = &program.steps[s]
        kept[step.x] = True
        if step.r != NONE:
            kept[step.r] = True
        for i in range(step.n_more_results, step.n_more):
            if step.more[i] != NONE:
                kept[step.more[i]] = True


cdef int largest_kept(const CompiledProgram* program, const Plan* plan, const char* kept, int64_t* total) noexcept nogil:
    """Return the largest result of a fixed step that is kept, or NONE; `total` becomes the bytes of all."""
    cdef const ValuePlan* y
    cdef int s, largest = NONE
    total[0] = 0
    for s in range(program.n_steps):
        y = &plan.values[program.steps[s].y]
        if plan.steps[s].fixed and kept[program.steps[s].y]:
            total[0] += y.size * y.bytes
            if largest == NONE or y.size * y.bytes > plan.values[largest].size * plan.values[largest].bytes:
                largest = program.steps[s].y
    return largest


cdef int choose_fixed(const CompiledProgram* program, Plan* plan) noexcept nogil:
    cdef char* left = <char*>calloc(3 * program.n_values + 1, 1)
    cdef char* varies = left + program.n_values
    cdef char* kept = varies + program.n_values
    cdef int64_t total
    cdef int i, s, largest
    if left == NULL:
        return 1
    for i in range(program.n_outputs):
        left[program.outputs[i]] = True
    for _ in range(MOST_TRIES + 1):
        find_fixed(program, plan, left, varies)
        find_kept(program, plan, kept)
        largest = largest_kept(program, plan, kept, &total)
        if total <= MOST_BYTES:
            break
        left[largest] = True
    for s in range(program.n_steps):
        if total > MOST_BYTES:
            plan.steps[s].fixed = False
        if plan.steps[s].fixed:
            plan.steps[s].parallel = False
            memset(&plan.steps[s].work, 0, sizeof(Work))
    free(left)
    return 0


cdef float* place_of(const CompiledProgram* program, const Plan* plan, int value) noexcept nogil:
    """Return where a value stands that is the same in all runs."""
    if program.constant[value] != NULL:
        return program.constant[value]
    if plan.values[value].numbers != NULL:
        return <float*>numbers_as_tensor(plan, plan.values[value].slot)
    return plan.values[value].kept


cdef int compute_step(CompiledProgram* program, Plan* plan, int s, float* scratch, const Host* host, char* message,
                      size_t message_size) noexcept nogil:
    """Compute all items of a step on this thread; 0 on success."""
    cdef Section sections[MAX_SECTIONS]
    cdef const char* stopped = NULL
    cdef char fault[MAX_FAULT]
    cdef float* more[MAX_MORE]
    cdef const float* operands[MAX_TOGETHER]
    cdef Job job
    cdef int64_t item, round_
    cdef int i, count = 1
    memset(&job, 0, sizeof(job))
    job.program = program
    job.plan = plan
    job.step = &program.steps[s]
    job.sp = &plan.steps[s]
    job.x = place_of(program, plan, job.step.x)
    if job.step.r != NONE:
        job.r = place_of(program, plan, job.step.r)
    job.y = plan.values[job.step.y].kept
    for i in range(job.step.n_more):
        more[i] = place_of(program, plan, job.step.more[i]) if job.step.more[i] != NONE else NULL
    job.more = more
    job.operands = operands
    job.scratch = scratch
    job.shared = scratch + plan.scratch_floats
    job.counters = job.shared + ceil_div(plan.shared_floats, COUNTER_FLOATS) * COUNTER_FLOATS
    job.scratch_floats = plan.scratch_floats
    job.host = host
    job.stopped = &stopped
    job.fault = fault
    if job.step.ops.sections != NULL:
        count = job.step.ops.sections(&job, sections)
    else:
        sections[0] = section(job.step.ops.item, job.sp.items, False)
    for i in range(count):
        for round_ in range(sections[i].rounds):
            job.round = round_
            for item in range(sections[i].items):
                sections[i].item(&job, item, scratch)
            if stopped != NULL:
                snprintf(message, message_size, "%s", stopped)
                return 1
    return 0


cdef int compute_fixed(CompiledProgram* program, Plan* plan, char* message, size_t message_size) noexcept nogil:
    cdef int64_t floats = plan.scratch_floats + plan.shared_floats + COUNTER_FLOATS * (program.workers + 3)
    cdef float* scratch = NULL
    cdef char* kept = NULL
    cdef void* room = NULL
    cdef ValuePlan* y
    cdef Host host
    cdef int s, failed = 0
    memset(&host, 0, sizeof(host))
    for s in range(program.n_steps):
        if failed or not plan.steps[s].fixed:
            continue
        y = &plan.values[program.steps[s].y]
        if kept == NULL:
            kept = <char*>malloc(program.n_values)
            room = malloc(floats * sizeof(float) + LINE_BYTES)
            scratch = <float*>(ceil_div(<int64_t><intptr_t>room, LINE_BYTES) * LINE_BYTES)
            failed = kept == NULL or room == NULL
        if y.kept == NULL:
            y.kept = <float*>malloc(y.size * y.bytes + SLACK)
            failed = failed or y.kept == NULL
        if failed:
            snprintf(message, message_size, "out of memory for results that depend on shapes alone")
        else:
            failed = compute_step(program, plan, s, scratch, &host, message, message_size)
    if kept != NULL:
        find_kept(program, plan, kept)
        for s in range(program.n_steps):
            y = &plan.values[program.steps[s].y]
            if plan.steps[s].fixed and not kept[program.steps[s].y]:
                free(y.kept)
                y.kept = NULL
    free(kept)
    free(room)
    return failed


cdef void release_fixed(const CompiledProgram* program, Plan* plan) noexcept nogil:
    cdef int v
    for v in range(program.n_values):
        free(plan.values[v].kept)
