"""The steps of a program at run time: plain C, no allocation, no lookup.

A step is cut into items that the workers of one parallel section claim dynamically (`runtime/_sections.pyx`).
"""

from libc.stdint cimport int64_t

from ._dealt cimport conversion_items, convert_item
from ._sections cimport PARALLEL_FROM, section
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


cdef int execute(CompiledProgram* program, Plan* plan, const Host* host, const float** inputs, float** outputs, float* arena,
                 const char** reason) noexcept nogil:
    cdef int s, failed = 0
    cdef Job job
    cdef Step* step
    cdef Step* last
    cdef Step alone
    cdef float* more[MAX_MORE]
    cdef int i
    job.program = program
    job.plan = plan
    job.scratch = arena + plan.scratch_offset
    job.shared = arena + plan.shared_offset
    job.converted = arena + plan.converted_offset
    job.scratch_floats = plan.scratch_floats
    job.counters = arena + plan.counters_offset
    job.more = more
    job.reason = b"the parallel section of a step failed"
    for s in range(program.n_steps):
        if s and plan.steps[s - 1].bands:
            continue
        reason[0] = asked_to_stop(host)
        if reason[0] != NULL:
            return 1
        step = &program.steps[s]
        job.step = step
        job.sp = &plan.steps[s]
        last = step + 1 if job.sp.bands else step
        job.x = address_of(program, plan, step.x, inputs, outputs, arena)
        job.r = address_of(program, plan, last.r, inputs, outputs, arena) if last.r != NONE else NULL
        job.y = address_of(program, plan, last.y, inputs, outputs, arena)
        if job.sp.apart:
            alone = step[0]
            alone.r = NONE
            alone.act = ACT_NONE
            job.step = &alone
            job.r = NULL
        for i in range(step.n_more):
            more[i] = address_of(program, plan, step.more[i], inputs, outputs, arena) if step.more[i] != NONE else NULL
        failed = timed_step(&job, host, &program.totals[s]) if program.totals != NULL else run_step(&job, host)
        if failed:
            reason[0] = job.reason
            return failed
    return 0


cdef int timed_step(Job* job, const Host* host, StepTotals* totals) noexcept nogil:
    """run_step, added to what its program has spent on it."""
    cdef int64_t began = monotonic_ns()
    cdef int failed = run_step(job, host)
    if job.sp.bands:
        fetch_add(&totals.within_next, 1, RELAXED)
        totals += 1
        add_work(totals, &(job.sp + 1).work)
        fetch_add(&totals.work.moved, -2 * job.plan.values[job.step.y].size, RELAXED)
    fetch_add(&totals.ns, monotonic_ns() - began, RELAXED)
    if not in_place(job):
        add_work(totals, &job.sp.work)
    return failed


cdef inline void add_work(StepTotals* totals, const Work* work) noexcept nogil:
    fetch_add(&totals.work.macs, work.macs, RELAXED)
    fetch_add(&totals.work.dense_macs, work.dense_macs, RELAXED)
    fetch_add(&totals.work.moved, work.moved, RELAXED)


cdef inline bint in_place(const Job* job) noexcept nogil:
    """Return whether a step that only copies finds its result where it is to be."""
    return job.sp.view != NO_VIEW and element_at(job.y, job.sp.origin, job.plan.values[job.step.y].bytes) == job.x


cdef inline int run_step(Job* job, const Host* host) noexcept nogil:
    if in_place(job):
        return 0
    if job.sp.converts:
        if section(job, host, convert_item, conversion_items(job), job.plan.values[job.step.x].size > PARALLEL_FROM):
            return 1
        job.x = job.converted
    if job.step.ops.run != NULL:
        return job.step.ops.run(job, host)
    return section(job, host, job.step.ops.item, job.sp.items, job.sp.parallel)


cdef inline float* address_of(CompiledProgram* program, Plan* plan, int value, const float** inputs, float** outputs,
                              float* arena) noexcept nogil:
    cdef ValuePlan* v = &plan.values[plan.values[value].root]
    cdef int64_t shift = plan.values[value].shift
    if v.storage == STORE_ARENA:
        return element_at(arena + v.offset, shift, v.bytes)
    if v.storage == STORE_INPUT:
        return element_at(inputs[v.slot], shift, v.bytes)
    if v.storage == STORE_OUTPUT:
        return element_at(outputs[v.slot], shift, v.bytes)
    if v.storage == STORE_NOWHERE:
        return NULL
    return element_at(program.constant[v.slot], shift, v.bytes)
