"""Parallel sections: one for as many steps of a run as possible, on ONNX Runtime's intra-op pool, which the host stands for.

The items of a step are cut into a range for each worker, because neighbouring items write to the same cache lines: dealt one by one, they
took two threads twice the time of one. A worker does its own range first, then what is left of the others'. It waits until the last item
of the step is done; then comes the next step. To wait for each other takes two workers 0.4 us where their cores share a cache, else 1.2 us.
No worker waits for one that has not started, and any worker may leave between two steps: the others do its range.

Runs of a process that are active at the same time share the threads that each could have alone: with as many runs as threads, each stays on
its caller's. To wake another thread then costs both time, it waits for a CPU, and spins on one afterwards. Only who does an item changes.
"""

from libc.stdint cimport int64_t

from ._structs cimport ACQUIRE, COUNTER_FLOATS, RELAXED, RELEASE, Host, Job, Section, asked_to_stop, fetch_add, load

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

cdef extern from *:
    """
    #include <stdint.h>
    #if defined(_WIN32)
    #include <windows.h>
    #define sparse_yield SwitchToThread
    #else
    #include <sched.h>
    #define sparse_yield sched_yield
    #endif
    #define SPINS 2000   /* some 50 us; a worker that is still away then is not running */

    /* The next item of a range of `end` in section number `section`, or -1. A counter holds the section of the last claim in its upper
       half, and in its lower half how many items have been claimed there. */
    static inline int64_t sparse_claim(int64_t* p, int64_t section, int64_t end) {
        int64_t n = __atomic_load_n(p, __ATOMIC_RELAXED), claimed;
        do {
            claimed = (n >> 32) == section ? n & 0xFFFFFFFF : 0;
            if ((n >> 32) > section || claimed >= end) return -1;
        } while (!__atomic_compare_exchange_n(p, &n, (section << 32) + claimed + 1, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
        return claimed;
    }
    /* Waits until *p is at least `least`. */
    static inline void sparse_wait(int64_t* p, int64_t least) {
        int spins = 0;
        while (__atomic_load_n(p, __ATOMIC_ACQUIRE) < least) {
            if (++spins > SPINS) sparse_yield();
    #if defined(__x86_64__) || defined(__i386__)
            else __builtin_ia32_pause();
    #endif
        }
    }
    """
    const char* load_text "__atomic_load_n"(const char** p, int order) nogil
    void store_text "__atomic_store_n"(const char** p, const char* text, int order) nogil
    int64_t sparse_claim(int64_t* p, int64_t section, int64_t end) nogil
    void sparse_wait(int64_t* p, int64_t least) nogil

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


cdef inline int64_t* counter(const Team* team, int64_t worker) noexcept nogil:
    """Return what was claimed of a worker's range; after the last one stands how many items are done."""
    return <int64_t*>(team.counters + worker * COUNTER_FLOATS)


cdef int on_workers(Team* team, void (*body)(void*, size_t) noexcept nogil) noexcept nogil:
    cdef int64_t i
    team.stopped = NULL
    team.workers = min(team.workers, share(team.program.workers, load(&active, RELAXED)))
    if team.workers > 1:
        for i in range(team.workers + 1):
            counter(team, i)[0] = 0
        return team.host.parallel_for(team.host.context, body, <size_t>team.workers, team)
    body(team, 0)
    return 0


cdef bint stops(const Host* host, const char** stopped) noexcept nogil:
    cdef const char* reason = load_text(stopped, RELAXED)
    if reason == NULL:
        reason = asked_to_stop(host)
        if reason != NULL:
            store_text(stopped, reason, RELAXED)
    return reason != NULL


cdef bint take_part(Team* team, int64_t worker, Progress* progress, const Section* section, Job* job, float* scratch) noexcept nogil:
    cdef int64_t round_
    for round_ in range(section.rounds if section.items else 0):
        if stops(team.host, &team.stopped) or (worker and worker >= share(team.program.workers, load(&active, RELAXED))):
            return False
        job.round = round_
        if team.workers > 1:
            take_items(team, worker, progress, section, job, scratch)
        else:
            do_items(section, job, 0, section.items, scratch)
    return True


cdef inline void do_items(const Section* section, Job* job, int64_t begin, int64_t end, float* scratch) noexcept nogil:
    cdef int64_t i
    for i in range(begin, end):
        section.item(job, i, scratch)


cdef void take_items(Team* team, int64_t worker, Progress* progress, const Section* section, Job* job, float* scratch) noexcept nogil:
    """Do items of one round, and wait until all of them are done."""
    cdef int64_t items = section.items if section.parallel else 1, v, victim, begin, own, claimed, finished = 0
    cdef int64_t* done = counter(team, team.workers)
    progress.sections += 1
    progress.items += items
    if load(done, ACQUIRE) >= progress.items:
        # a worker that comes late
        return
    for v in range(team.workers):
        victim = (worker + v) % team.workers
        begin = victim * items // team.workers
        own = (victim + 1) * items // team.workers - begin
        while True:
            claimed = sparse_claim(counter(team, victim), progress.sections, own)
            if claimed < 0:
                break
            if section.parallel:
                section.item(job, begin + claimed, scratch)
            else:
                do_items(section, job, 0, section.items, scratch)
            finished += 1
    if finished:
        fetch_add(done, finished, RELEASE)
    sparse_wait(done, progress.items)


def active_runs():
    """Return how many runs of programs are active in this process, for tests."""
    return load(&active, RELAXED)


def share_of(int64_t threads, int64_t runs):
    """Return how many of `threads` threads a run takes when so many runs are active, for tests."""
    return share(threads, runs)
