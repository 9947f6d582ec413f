"""The number of threads of a session's own pool, which ONNX Runtime's interface can set but does not tell.

Session options are an opaque object. Where in it the number is follows from an object of our own: the place that changes whenever the
number is set. So no layout is assumed, and where no such place is found, the number is unknown. GetCapability and Compile need it before
anything has run, so that to watch which threads take part in the first runs would tell it too late, and not on a busy machine.
"""

from libc.stdint cimport int32_t
from libc.string cimport memcpy

from ._abi cimport (
    CREATE_SESSION_OPTIONS,
    DISABLE_PER_SESSION_THREADS,
    RELEASE_SESSION_OPTIONS,
    RELEASE_STATUS,
    SET_INTRA_OP_NUM_THREADS,
    Api,
    Status,
    change_t,
    create_object_t,
    release_t,
    set_number_t,
)

cdef extern from *:
    """
    #if defined(__GLIBC__)
    #include <malloc.h>
    #define sparse_block_size malloc_usable_size
    #else
    static size_t sparse_block_size(void *block) { return 0; }
    #endif
    """
    size_t block_size "sparse_block_size"(void* block) nogil

cdef enum:
    # Numbers of threads that no other member of the options has.
    FIRST_MARK = 19088743
    SECOND_MARK = 1985229328
    MOST_BYTES = 4096
    UNKNOWN = -1


cdef int pool_size(const Api* api, const void* session_options) noexcept nogil:
    """The threads of the session's own pool, with the caller; 0 if ONNX Runtime chooses, the pool is shared, or it cannot be known."""
    cdef char[MOST_BYTES] before
    cdef void* probe = NULL
    cdef char* bytes
    cdef size_t size
    cdef int number = UNKNOWN, shared = UNKNOWN
    if not done(api, (<create_object_t>api.slots[CREATE_SESSION_OPTIONS])(&probe)):
        return 0
    bytes = <char*>probe
    size = min(block_size(probe), <size_t>MOST_BYTES)
    if done(api, (<set_number_t>api.slots[SET_INTRA_OP_NUM_THREADS])(probe, FIRST_MARK)):
        memcpy(before, bytes, size)
        if done(api, (<set_number_t>api.slots[SET_INTRA_OP_NUM_THREADS])(probe, SECOND_MARK)):
            number = place_of_number(before, bytes, size)
        memcpy(before, bytes, size)
        if done(api, (<change_t>api.slots[DISABLE_PER_SESSION_THREADS])(probe)):
            shared = place_of_flag(before, bytes, size)
    (<release_t>api.slots[RELEASE_SESSION_OPTIONS])(probe)
    if number == UNKNOWN or shared == UNKNOWN or (<const char*>session_options)[shared] == 0:
        return 0
    return max(number_at(<const char*>session_options, number), 0)


cdef inline bint done(const Api* api, Status status) noexcept nogil:
    if status != NULL:
        (<release_t>api.slots[RELEASE_STATUS])(status)
    return status == NULL


cdef inline int32_t number_at(const char* bytes, size_t place) noexcept nogil:
    cdef int32_t number
    memcpy(&number, bytes + place, sizeof(number))
    return number


cdef int place_of_number(const char* before, const char* after, size_t size) noexcept nogil:
    """The only place where the first mark became the second one."""
    cdef size_t place = 0
    cdef int found = UNKNOWN
    while place + sizeof(int32_t) <= size:
        if number_at(before, place) == FIRST_MARK and number_at(after, place) == SECOND_MARK:
            if found != UNKNOWN:
                return UNKNOWN
            found = <int>place
        place += sizeof(int32_t)
    return found


cdef int place_of_flag(const char* before, const char* after, size_t size) noexcept nogil:
    """The only byte that changed, from 1 to 0."""
    cdef size_t place
    cdef int found = UNKNOWN
    for place in range(size):
        if before[place] != after[place]:
            if found != UNKNOWN or before[place] != 1 or after[place] != 0:
                return UNKNOWN
            found = <int>place
    return found
