"""Parallel sections: how the work of a step is cut for the workers, and how they share it."""

from libc.stdint cimport int64_t

from ._structs cimport CompiledProgram, Host, Item, Job, ceil_div

cdef enum:
    # A parallel section costs a few microseconds: below this many multiply-adds (or elements) a step runs on the caller's thread.
    PARALLEL_FROM = 40000
    # Share of the workers' time that may be lost when some have one item more than others, in percent.
    IDLE_PERCENT = 15


cdef inline int64_t idle_percent(int64_t items, int64_t workers) noexcept nogil:
    """Return the idle percentage of the workers' time, if all items take equally long."""
    cdef int64_t rounds = ceil_div(items, workers)
    return 0 if items == 0 else 100 - 100 * items // (rounds * workers)


# Runs all items, on the workers where the section is parallel; 0 on success.
cdef int section(Job* job, const Host* host, Item item, int64_t items, bint parallel) noexcept nogil

# Every run of a program begins and ends with these. While other runs are active, it takes its share of the threads only.
cdef void run_begins() noexcept nogil
cdef void run_ends() noexcept nogil

# Calls body(user, i) for i in 0..n-1, where n is `workers` or the run's share; body 0 does all the work that no other does. 0 on success.
cdef int on_workers(const CompiledProgram* program, const Host* host, void (*body)(void*, size_t) noexcept nogil, int64_t workers,
                    void* user) noexcept nogil
