"""The steps of a program at run time: plain C, no allocation, no lookup.

The workers of a parallel section go through as many steps as share it, and claim the items of each (`runtime/_sections.pyx`).
"""

from libc.stdint cimport int64_t
from libc.stdio cimport snprintf

from ._bands cimport chain_item
from ._clock cimport monotonic_ns
from ._dealt cimport conversion_items, convert_item
from ._numbers cimport numbers_as_tensor
from ._packed cimport set_bounds
from ._recording cimport next_step_run
from ._sections cimport Progress, Team, converts_on_workers, is_parallel, on_workers, section, take_part
from ._structs cimport *


# One execution of a plan, and the steps that share a parallel section.
cdef struct Run:
    Team team
    CompiledProgram* program
    Plan* plan
    const float** inputs
    float** outputs
    float* arena
    char* fault            # room for a reason that a step finds
    int first
    int end


cdef int execute(CompiledProgram* program, Plan* plan, const Host* host, const float** inputs, float** outputs, float* arena,
                 char* message, size_t message_size) noexcept nogil:
    cdef int failed
    cdef bint alone = program.totals != NULL or host.recording != NULL
    cdef char fault[MAX_FAULT]
    cdef Run run
    run.fault = fault
    run.team.program = program
    run.team.host = host
    run.team.user = &run
    run.team.counters = arena + plan.counters_offset
    run.program = program
    run.plan = plan
    run.inputs = inputs
    run.outputs = outputs
    run.arena = arena
    run.first = 0
    while run.first < program.n_steps:
        run.end = plan.steps[run.first].together
        if alone:
            run.end = run.first + max(1, plan.steps[run.first].chain)
        run.team.workers = program.workers if is_parallel(plan, &program.steps[run.first], &plan.steps[run.first]) else 1
        failed = timed(&run) if alone else on_workers(&run.team, run_steps)
        if failed or run.team.stopped != NULL:
            snprintf(message, message_size, "%s", <const char*>b"a parallel section failed" if failed else run.team.stopped)
            return 1
        run.first = run.end
    return 0


cdef void run_steps(void* user, size_t worker) noexcept nogil:
    """Do a worker's part of the steps that share a parallel section."""
    cdef Team* team = <Team*>user
    cdef const Run* run = <const Run*>team.user
    cdef float* scratch = run.arena + run.plan.scratch_offset + <int64_t>worker * run.plan.scratch_floats
    cdef Progress progress
    cdef Section sections[MAX_SECTIONS]
    cdef Step alone
    cdef float* more[MAX_MORE]
    cdef const float* operands[MAX_TOGETHER]
    cdef Job job
    cdef int s, i, count
    progress.sections = progress.items = 0
    job.program = run.program
    job.plan = run.plan
    job.shared = run.arena + run.plan.shared_offset
    job.scratch_floats = run.plan.scratch_floats
    job.more = more
    job.operands = operands
    job.host = team.host
    job.stopped = &team.stopped
    job.fault = run.fault
    for s in range(run.first, run.end):
        if run.plan.steps[s].within or run.plan.steps[s].fixed:
            continue
        begin_step(run, s, &job, &alone)
        if in_place(&job):
            continue
        if job.sp.converts:
            job.converted = run.arena + job.sp.converted_offset
            sections[0] = section(convert_item, conversion_items(&job), converts_on_workers(job.plan, job.step, job.sp))
            if not take_part(team, worker, &progress, sections, &job, scratch):
                return
            job.x = job.converted
        if job.sp.chain:
            sections[0] = section(chain_item, job.sp.bands * job.plan.values[job.step.x].shape.dims[0], job.sp.parallel)
            count = 1
        elif job.step.ops.sections != NULL:
            count = job.step.ops.sections(&job, sections)
        else:
            sections[0] = section(job.step.ops.item, job.sp.items, job.sp.parallel)
            count = 1
        for i in range(count):
            if not take_part(team, worker, &progress, &sections[i], &job, scratch):
                return


cdef void begin_step(const Run* run, int s, Job* job, Step* alone) noexcept nogil:
    """Set what a job has of its step; `alone` becomes the step itself, where the next one completes it. y is the last result of a chain."""
    cdef Step* step = &run.program.steps[s]
    cdef int chain = run.plan.steps[s].chain
    cdef Step* last = step + chain - 1 if chain else step
    cdef int i
    job.step = step
    job.sp = &run.plan.steps[s]
    job.x = address_of(run, step.x if job.sp.product == NULL else step[-1].x)
    job.r = address_of(run, last.r) if last.r != NONE else NULL
    job.y = address_of(run, last.y)
    job.scaled.factor = NULL
    if job.sp.scaled:
        set_scaled(run, step - 1, job)
    if job.sp.apart:
        alone[0] = step[0]
        alone.r = NONE
        alone.act = ACT_NONE
        job.step = alone
        job.r = NULL
    for i in range(chain):
        job.operands[i] = address_of(run, step[i].r) if step[i].r != NONE else NULL
    for i in range(step.n_more):
        job.more[i] = address_of(run, step.more[i]) if step.more[i] != NONE else NULL


cdef void set_scaled(const Run* run, const Step* before, Job* job) noexcept nogil:
    """Set what a job does with what it gathers: what the step `before` would."""
    cdef const Shape* r = &run.plan.values[before.r].shape
    job.scaled.factor = address_of(run, before.r)
    job.scaled.addend = job.scaled.factor + r.dims[1] if r.rank == 2 else NULL
    job.scaled_step = 0 if r.rank == 2 else r.dims[1]
    set_bounds(before, before.act == ACT_CLAMP, &job.scaled.low, &job.scaled.high)


cdef int timed(Run* run) noexcept nogil:
    """Run the one step of `run`, or a chain, in a section of its own; unless it was stopped, count what that has cost.

    A chain adds the time of its steps to what the program has spent itself.
    """
    cdef StepTotals* totals = run.program.totals + run.first if run.program.totals != NULL else NULL
    cdef StepPlan* sp = &run.plan.steps[run.first]
    cdef int64_t began = monotonic_ns(), ended
    cdef int failed = on_workers(&run.team, run_steps)
    cdef Step alone
    cdef float* more[MAX_MORE]
    cdef const float* operands[MAX_TOGETHER]
    cdef Job job
    cdef Work work
    cdef bint idle = False, left
    cdef int i
    if failed or run.team.stopped != NULL:
        return failed
    ended = monotonic_ns()
    work.macs = work.dense_macs = work.moved = 0
    for i in range(sp.chain):
        add_work(&work, &sp[i].work)
        if totals != NULL:
            count_step(&totals[i], i < sp.chain - 1, 0, &sp[i].work)
    if sp.chain == 0:
        job.plan = run.plan
        job.more = more
        job.operands = operands
        begin_step(run, run.first, &job, &alone)
        idle = in_place(&job)
        if not idle:
            add_work(&work, &sp.work)
        left = run.first + 1 < run.program.n_steps and sp[1].product != NULL
        if totals != NULL:
            count_step(totals, left, 0 if left else ended - began, &work)
        # the next step does a product that is left to it: its record has the work of both
        idle = idle or left
        if sp.product != NULL:
            add_work(&work, &sp[-1].work)
    if run.team.host.recording != NULL and not idle:
        record_step(run, began, ended, &work)
    return failed


cdef inline void add_work(Work* sum, const Work* work) noexcept nogil:
    sum.macs += work.macs
    sum.dense_macs += work.dense_macs
    sum.moved += work.moved


cdef void count_step(StepTotals* totals, bint within_next, int64_t ns, const Work* work) noexcept nogil:
    """Add a run of a step to what its program has spent on it."""
    fetch_add(&totals.within_next, within_next, RELAXED)
    fetch_add(&totals.ns, ns, RELAXED)
    fetch_add(&totals.work.macs, work.macs, RELAXED)
    fetch_add(&totals.work.dense_macs, work.dense_macs, RELAXED)
    fetch_add(&totals.work.moved, work.moved, RELAXED)


cdef void record_step(const Run* run, int64_t begin, int64_t end, const Work* work) noexcept nogil:
    """Append a run of a step to the recording of the host; of a chain, one of its last step with the work of all."""
    cdef StepPlan* sp = &run.plan.steps[run.first]
    cdef int index = run.first + max(0, sp.chain - 1)
    cdef const Step* step = &run.program.steps[index]
    cdef StepRun* made = next_step_run(run.team.host.recording)
    if made == NULL:
        return
    made.step = index
    made.workers = <int>run.team.workers
    made.begin = begin
    made.end = end
    made.work = work[0]
    made.variant.kernel = made.variant.layout = NULL
    made.variant.rows = 0
    made.variant.width = made.variant.nonzeros = 0
    if step.ops.variant != NULL:
        step.ops.variant(run.program, run.plan, step, &run.plan.steps[index], &made.variant)
    if sp.chain:
        made.variant.layout = b"bands"


cdef inline bint in_place(const Job* job) noexcept nogil:
    """Return whether a step that only copies finds its result where it is to be."""
    return job.sp.view != NO_VIEW and element_at(job.y, job.sp.origin, job.plan.values[job.step.y].bytes) == job.x


cdef inline float* address_of(const Run* run, int value) noexcept nogil:
    cdef const ValuePlan* v = &run.plan.values[run.plan.values[value].root]
    cdef int64_t shift = run.plan.values[value].shift
    if v.storage == STORE_ARENA:
        return element_at(run.arena + v.offset, shift, v.bytes)
    if v.storage == STORE_INPUT:
        return element_at(run.inputs[v.slot], shift, v.bytes)
    if v.storage == STORE_OUTPUT:
        return element_at(run.outputs[v.slot], shift, v.bytes)
    if v.storage == STORE_NOWHERE:
        return NULL
    if v.storage == STORE_NUMBERS:
        return element_at(<float*>numbers_as_tensor(run.plan, v.slot), shift, v.bytes)
    if v.storage == STORE_KEPT:
        return element_at(v.kept, shift, v.bytes)
    return element_at(run.program.constant[v.slot], shift, v.bytes)
