"""The runs in progress, and what stops them: the dynamic option `cancel` of their session, or `terminate` of their own RunOptions.

A session counts how often its runs were cancelled. A run stops when that number is no longer what it was when the run began, so later runs
are not concerned, whatever becomes of the stopped ones.

A run may have several regions, and a region is not told which run it computes. ONNX Runtime says when a run begins and ends, and computes
its regions in the same thread, unless the session's execution mode is parallel. So each thread remembers its runs, which are several where
an operator runs another session. A region without such a run counts as a run of its own.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy

from ._abi cimport CREATE_RUN_OPTIONS, RELEASE_RUN_OPTIONS, RUN_OPTIONS_SET_TERMINATE, Api, change_t, create_object_t, release_t
from ._opaque cimport MOST_BYTES, UNKNOWN, done, place_of_flag, size_of
from ..runtime._structs cimport RELAXED, load

cdef extern from *:
    """
    #define MOST_RUNS 8
    /* The runs of this thread, each within the one before it; of more than MOST_RUNS, the inner ones are only counted. */
    static _Thread_local sparse_stop sparse_runs[MOST_RUNS];
    static _Thread_local int sparse_depth;
    """
    int MOST_RUNS
    Stop* sparse_runs
    int sparse_depth
    char load_flag "__atomic_load_n"(const char* p, int order) nogil


cdef int place_of_terminate(const Api* api) noexcept nogil:
    cdef char[MOST_BYTES] before
    cdef void* probe = NULL
    cdef size_t size
    cdef int place = UNKNOWN
    if not done(api, (<create_object_t>api.slots[CREATE_RUN_OPTIONS])(&probe)):
        return UNKNOWN
    size = size_of(probe)
    memcpy(before, probe, size)
    if done(api, (<change_t>api.slots[RUN_OPTIONS_SET_TERMINATE])(probe)):
        place = place_of_flag(before, <const char*>probe, size, False)
    (<release_t>api.slots[RELEASE_RUN_OPTIONS])(probe)
    return place


cdef void run_begins(const int64_t* cancels, const char* terminate) noexcept nogil:
    global sparse_depth
    if sparse_depth < MOST_RUNS:
        sparse_runs[sparse_depth].cancels = cancels
        sparse_runs[sparse_depth].cancels_before = load(cancels, RELAXED)
        sparse_runs[sparse_depth].terminate = terminate
    sparse_depth += 1


cdef void run_ends(const int64_t* cancels) noexcept nogil:
    global sparse_depth
    cdef int depth = sparse_depth
    if depth > MOST_RUNS:
        sparse_depth -= 1
        return
    while depth:
        depth -= 1
        if sparse_runs[depth].cancels == cancels:
            sparse_depth = depth
            return


cdef Stop stop_of_run(const int64_t* cancels) noexcept nogil:
    cdef Stop alone
    cdef int depth = min(sparse_depth, MOST_RUNS)
    while depth:
        depth -= 1
        if sparse_runs[depth].cancels == cancels:
            return sparse_runs[depth]
    alone.cancels = cancels
    alone.cancels_before = load(cancels, RELAXED)
    alone.terminate = NULL
    return alone


cdef const char* reason_to_stop(const Stop* stop) noexcept nogil:
    if load(stop.cancels, RELAXED) != stop.cancels_before:
        return b"cancelled by the dynamic option 'cancel' of its session"
    if stop.terminate != NULL and load_flag(stop.terminate, RELAXED):
        # the words of ONNX Runtime between two nodes
        return b"Exiting due to terminate flag being set to true."
    return NULL


def stopped(int runs, cancelled):
    """Return which of `runs` runs, at most 16, stop when session `cancelled` is, for tests: run i is session i's, within run i - 1."""
    cdef int64_t[16] cancels
    cdef Stop stop
    cdef int i
    found = []
    for i in range(runs):
        cancels[i] = 0
        run_begins(&cancels[i], NULL)
    cancels[<int>cancelled] += 1
    for i in range(runs):
        stop = stop_of_run(&cancels[i])
        found.append(reason_to_stop(&stop) != NULL)
    for i in range(runs - 1, -1, -1):
        run_ends(&cancels[i])
    return found
