"""The steps of a program at run time: plain C, no allocation, no lookup.

The workers of a parallel section go through as many steps as share it, and claim the items of each (`runtime/_sections.pyx`).
"""

from libc.stdint cimport int64_t

from ._dealt cimport conversion_items, convert_item
from ._sections cimport Progress, Team, converts_on_workers, is_parallel, on_workers, section, take_part
from ._structs cimport *


cdef extern from *:
    """
    #include <stdint.h>
    #if defined(_WIN32)
    #include <windows.h>
    static int64_t monotonic_ns(void) {
        LARGE_INTEGER count, rate;
        QueryPerformanceCounter(&count);
        QueryPerformanceFrequency(&rate);
        return (int64_t)((double)count.QuadPart * 1e9 / (double)rate.QuadPart);
    }
    #else
    #include <time.h>
    static int64_t monotonic_ns(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }
    #endif
    """
    int64_t monotonic_ns() nogil


# One execution of a plan, and the steps that share a parallel section.
cdef struct Run:
    Team team
    CompiledProgram* program
    Plan* plan
    const float** inputs
    float** outputs
    float* arena
    int first
    int end


cdef int execute(CompiledProgram* program, Plan* plan, const Host* host, const float** inputs, float** outputs, float* arena,
                 const char** reason) noexcept nogil:
    cdef int failed
    cdef Run run
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
        if program.totals != NULL:
            run.end = run.first + (2 if plan.steps[run.first].bands else 1)
        run.team.workers = program.workers if is_parallel(plan, &program.steps[run.first], &plan.steps[run.first]) else 1
        failed = timed(&run) if program.totals != NULL else on_workers(&run.team, run_steps)
        if failed or run.team.stopped != NULL:
            reason[0] = run.team.stopped
            if failed:
                reason[0] = b"a parallel section failed"
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
    cdef Job job
    cdef int s, i, count
    progress.sections = progress.items = 0
    job.program = run.program
    job.plan = run.plan
    job.shared = run.arena + run.plan.shared_offset
    job.converted = run.arena + run.plan.converted_offset
    job.scratch_floats = run.plan.scratch_floats
    job.more = more
    job.host = team.host
    job.stopped = &team.stopped
    for s in range(run.first, run.end):
        if s and run.plan.steps[s - 1].bands:
            continue
        begin_step(run, s, &job, &alone)
        if in_place(&job):
            continue
        if job.sp.converts:
            sections[0] = section(convert_item, conversion_items(&job), converts_on_workers(job.plan, job.step, job.sp))
            if not take_part(team, worker, &progress, sections, &job, scratch):
                return
            job.x = job.converted
        if job.step.ops.sections != NULL:
            count = job.step.ops.sections(&job, sections)
        else:
            sections[0] = section(job.step.ops.item, job.sp.items, job.sp.parallel)
            count = 1
        for i in range(count):
            if not take_part(team, worker, &progress, &sections[i], &job, scratch):
                return


cdef void begin_step(const Run* run, int s, Job* job, Step* alone) noexcept nogil:
    """Set what a job has of its step; `alone` becomes the step itself, where the next one completes it."""
    cdef Step* step = &run.program.steps[s]
    cdef Step* last = step + 1 if run.plan.steps[s].bands else step
    cdef int i
    job.step = step
    job.sp = &run.plan.steps[s]
    job.x = address_of(run, step.x)
    job.r = address_of(run, last.r) if last.r != NONE else NULL
    job.y = address_of(run, last.y)
    if job.sp.apart:
        alone[0] = step[0]
        alone.r = NONE
        alone.act = ACT_NONE
        job.step = alone
        job.r = NULL
    for i in range(step.n_more):
        job.more[i] = address_of(run, step.more[i]) if step.more[i] != NONE else NULL


cdef int timed(Run* run) noexcept nogil:
    """Run the one step of `run` in a section of its own; unless it was stopped, add it to what its program has spent on it."""
    cdef StepTotals* totals = &run.program.totals[run.first]
    cdef StepPlan* sp = &run.plan.steps[run.first]
    cdef int64_t began = monotonic_ns()
    cdef int failed = on_workers(&run.team, run_steps)
    cdef Step alone
    cdef float* more[MAX_MORE]
    cdef Job job
    if failed or run.team.stopped != NULL:
        return failed
    job.plan = run.plan
    job.more = more
    begin_step(run, run.first, &job, &alone)
    if sp.bands:
        fetch_add(&totals.within_next, 1, RELAXED)
        totals += 1
        add_work(totals, &(sp + 1).work)
        fetch_add(&totals.work.moved, -2 * run.plan.values[job.step.y].size, RELAXED)
    fetch_add(&totals.ns, monotonic_ns() - began, RELAXED)
    if not in_place(&job):
        add_work(totals, &sp.work)
    return failed


cdef inline void add_work(StepTotals* totals, const Work* work) noexcept nogil:
    fetch_add(&totals.work.macs, work.macs, RELAXED)
    fetch_add(&totals.work.dense_macs, work.dense_macs, RELAXED)
    fetch_add(&totals.work.moved, work.moved, RELAXED)


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
        return run.plan.floats + v.slot * MAX_NUMBERS + shift
    return element_at(run.program.constant[v.slot], shift, v.bytes)
