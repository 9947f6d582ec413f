"""Parallel sections over items. They go through the host, which in a session is ONNX Runtime's intra-op pool.

Runs of a process that are active at the same time share the threads that each could have alone: with as many runs as threads, each stays on
its caller's. To wake another thread then costs both time, it waits for a CPU, and spins on one afterwards. Only who does an item changes.
"""

from libc.stdint cimport int64_t

from ._structs cimport COUNTER_FLOATS, RELAXED, CompiledProgram, Host, Item, Job, fetch_add, load

cdef extern from *:
    """
    #if defined(_WIN32)
    static int sparse_in_children(void (*function)(void)) { return 0; }
    #else
    #include <pthread.h>
    static int sparse_in_children(void (*function)(void)) { return pthread_atfork(0, 0, function); }
    #endif
    """
    int call_in_forked_children "sparse_in_children"(void (*function)() noexcept nogil) nogil

cdef int64_t active = 0


cdef void forget_runs() noexcept nogil:
    """Forget active runs: a forked child has none of the threads whose runs are active in its parent."""
    global active
    active = 0


if call_in_forked_children(forget_runs):
    raise MemoryError("no memory for a function to call in forked children")


cdef void run_begins() noexcept nogil:
    fetch_add(&active, 1, RELAXED)


cdef void run_ends() noexcept nogil:
    fetch_add(&active, -1, RELAXED)


cdef inline int64_t share(int64_t threads, int64_t runs) noexcept nogil:
    return threads // runs if runs < threads else 1


cdef int on_workers(const CompiledProgram* program, const Host* host, void (*body)(void*, size_t) noexcept nogil, int64_t workers,
                    void* user) noexcept nogil:
    cdef int64_t mine = share(program.workers, load(&active, RELAXED))
    if mine > workers:
        mine = workers
    if mine > 1:
        return host.parallel_for(host.context, body, <size_t>mine, user)
    body(user, 0)
    return 0


def active_runs():
    """Return how many runs of programs are active in this process, for tests."""
    return load(&active, RELAXED)


def share_of(int64_t threads, int64_t runs):
    """Return how many of `threads` threads a run takes when so many runs are active, for tests."""
    return share(threads, runs)


cdef inline int64_t* counter(const Job* job, int64_t worker) noexcept nogil:
    """Return the next item of a worker's range, in a cache line of its own."""
    return <int64_t*>(job.counters + worker * COUNTER_FLOATS)


cdef void work(void* user, size_t worker) noexcept nogil:
    """Run a worker's own range of items first, then the items left of other ranges.

    Ranges, because neighbouring items write to the same cache lines: with items dealt one by one, two threads took twice the time of one.
    """
    cdef Job* job = <Job*>user
    cdef float* scratch = job.scratch + <int64_t>worker * job.scratch_floats
    cdef int64_t index, end, v, victim
    for v in range(job.workers):
        victim = (<int64_t>worker + v) % job.workers
        end = (victim + 1) * job.items // job.workers
        while True:
            index = fetch_add(counter(job, victim), 1, RELAXED)
            if index >= end:
                break
            job.item(job, index, scratch)


cdef int section(Job* job, const Host* host, Item item, int64_t items, bint parallel) noexcept nogil:
    cdef int64_t w
    job.item = item
    job.items = items
    job.workers = job.program.workers if parallel else 1
    if job.items < job.workers:
        job.workers = job.items
    for w in range(job.workers):
        counter(job, w)[0] = w * job.items // job.workers
    if job.items:
        return on_workers(job.program, host, work, job.workers, job)
    return 0
