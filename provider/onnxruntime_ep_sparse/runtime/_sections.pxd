"""Parallel sections: how the work of a step is cut for the workers, and how they share it."""

from libc.stdint cimport int64_t

from ._structs cimport CompiledProgram, Host, Item, Job, Plan, Section, Step, StepPlan, ceil_div

cdef enum:
    # A parallel section costs a few microseconds: below this many multiply-adds (or elements) a step runs on the caller's thread.
    PARALLEL_FROM = 40000
    # Share of the workers' time that may be lost when some have one item more than others, in percent.
    IDLE_PERCENT = 15


cdef inline int64_t idle_percent(int64_t items, int64_t workers) noexcept nogil:
    """Return the idle percentage of the workers' time, if all items take equally long."""
    cdef int64_t rounds = ceil_div(items, workers)
    return 0 if items == 0 else 100 - 100 * items // (rounds * workers)


cdef inline Section section(Item item, int64_t items, bint parallel) noexcept nogil:
    """Return a section of one round."""
    cdef Section made
    made.item = item
    made.items = items
    made.rounds = 1
    made.parallel = parallel
    return made


cdef inline bint converts_on_workers(const Plan* plan, const Step* step, const StepPlan* sp) noexcept nogil:
    return sp.converts and plan.values[step.x].size > PARALLEL_FROM


cdef inline bint is_parallel(const Plan* plan, const Step* step, const StepPlan* sp) noexcept nogil:
    """Return whether a step has work for several workers."""
    return sp.parallel or converts_on_workers(plan, step, sp)


# The workers of a parallel section, which go through the sections of several steps without leaving it.
cdef struct Team:
    const CompiledProgram* program
    const Host* host
    void* user
    int64_t workers        # that items are cut for
    float* counters        # one of each worker, one of all
    const char* stopped    # why, once a worker has been told to stop

# Where a worker stands: the sections that it has been through, and the items of all of these.
cdef struct Progress:
    int64_t sections
    int64_t items

# Every run of a program begins and ends with these. While other runs are active, it takes its share of the threads only.
cdef void run_begins() noexcept nogil
cdef void run_ends() noexcept nogil

# Calls body(team, i) for i in 0..n-1, where n is team.workers or the run's share, which it becomes; 0 on success.
cdef int on_workers(Team* team, void (*body)(void*, size_t) noexcept nogil) noexcept nogil

# Does a worker's part of a section, and waits for the others. False if it is to leave: the run is to stop, or has fewer threads now.
cdef bint take_part(Team* team, int64_t worker, Progress* progress, const Section* section, Job* job, float* scratch) noexcept nogil

# Whether the run is to stop.
cdef bint stops(const Host* host, const char** stopped) noexcept nogil
