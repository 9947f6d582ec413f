"""Parallel sections over items. They go through the host, which in a session is ONNX Runtime's intra-op pool."""

from libc.stdint cimport int64_t

from ._structs cimport COUNTER_FLOATS, RELAXED, Host, Item, Job, fetch_add


cdef inline int64_t* counter(const Job* job, int64_t worker) noexcept nogil:
    """The next item of a worker's range, in a cache line of its own."""
    return <int64_t*>(job.counters + worker * COUNTER_FLOATS)


cdef void work(void* user, size_t worker) noexcept nogil:
    """A worker's own range of items first, then what is left of the others'.

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
    if job.workers > 1:
        return host.parallel_for(host.context, work, <size_t>job.workers, job)
    if job.items:
        work(job, 0)
    return 0
