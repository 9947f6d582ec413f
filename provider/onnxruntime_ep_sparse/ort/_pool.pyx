"""The number of threads of a session's own pool, which ONNX Runtime's interface can set but does not tell.

GetCapability and Compile need it before anything has run, so that to watch which threads take part in the first runs would tell it too
late, and not on a busy machine.
"""

from libc.stdint cimport int32_t
from libc.string cimport memcpy

from ._abi cimport (
    CREATE_SESSION_OPTIONS,
    DISABLE_PER_SESSION_THREADS,
    RELEASE_SESSION_OPTIONS,
    SET_INTRA_OP_NUM_THREADS,
    Api,
    change_t,
    create_object_t,
    release_t,
    set_number_t,
)
from ._opaque cimport MOST_BYTES, UNKNOWN, done, place_of_flag, place_of_number, size_of

cdef enum:
    # Numbers of threads that no other member of the options has.
    FIRST_MARK = 19088743
    SECOND_MARK = 1985229328


cdef int pool_size(const Api* api, const void* session_options) noexcept nogil:
    """Return the threads of the session's own pool, with the caller; 0 if ONNX Runtime chooses, the pool is shared, or it is unknown."""
    cdef char[MOST_BYTES] before
    cdef void* probe = NULL
    cdef char* bytes
    cdef size_t size
    cdef int32_t threads
    cdef int number = UNKNOWN, shared = UNKNOWN
    if not done(api, (<create_object_t>api.slots[CREATE_SESSION_OPTIONS])(&probe)):
        return 0
    bytes = <char*>probe
    size = size_of(probe)
    if done(api, (<set_number_t>api.slots[SET_INTRA_OP_NUM_THREADS])(probe, FIRST_MARK)):
        memcpy(before, bytes, size)
        if done(api, (<set_number_t>api.slots[SET_INTRA_OP_NUM_THREADS])(probe, SECOND_MARK)):
            number = place_of_number(before, bytes, size, FIRST_MARK, SECOND_MARK)
        memcpy(before, bytes, size)
        if done(api, (<change_t>api.slots[DISABLE_PER_SESSION_THREADS])(probe)):
            shared = place_of_flag(before, bytes, size, True)
    (<release_t>api.slots[RELEASE_SESSION_OPTIONS])(probe)
    if number == UNKNOWN or shared == UNKNOWN or (<const char*>session_options)[shared] == 0:
        return 0
    memcpy(&threads, <const char*>session_options + number, sizeof(threads))
    return max(threads, 0)
