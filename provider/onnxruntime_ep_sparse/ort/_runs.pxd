"""The runs in progress, and what stops them. See ort/_runs.pyx."""

from libc.stdint cimport int64_t

from ._abi cimport Api


cdef extern from *:
    """
    #include <stdint.h>
    /* The reasons that stop one run. */
    typedef struct {
        const int64_t* cancels;  /* of its session: how often the runs of that were cancelled */
        int64_t cancels_before;  /* that number when the run began */
        const char* terminate;   /* RunOptions.terminate, or NULL: not known */
    } sparse_stop;
    """
    ctypedef struct Stop "sparse_stop":
        const int64_t* cancels
        int64_t cancels_before
        const char* terminate


# Where RunOptions have `terminate`, or UNKNOWN.
cdef int place_of_terminate(const Api* api) noexcept nogil

# ONNX Runtime calls these around every run, in the thread of the caller. `cancels` stands for the session.
cdef void run_begins(const int64_t* cancels, const char* terminate) noexcept nogil
cdef void run_ends(const int64_t* cancels) noexcept nogil

# Returns the reason that stops the session's run in this thread.
cdef Stop stop_of_run(const int64_t* cancels) noexcept nogil
# Why that run is to stop now, or NULL.
cdef const char* reason_to_stop(const Stop* stop) noexcept nogil
