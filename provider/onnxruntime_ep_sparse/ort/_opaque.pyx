"""Where a member stands in an opaque object of ONNX Runtime, for what its interface can set but does not tell.

An object of our own shows the place: the one that changes whenever the member is set. So no layout is assumed, and where no such place is
found, the member is unknown.
"""

from libc.stdint cimport int32_t
from libc.string cimport memcpy

from ._abi cimport RELEASE_STATUS, Api, Status, release_t

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


cdef size_t size_of(void* made) noexcept nogil:
    return min(block_size(made), <size_t>MOST_BYTES)


cdef bint done(const Api* api, Status status) noexcept nogil:
    if status != NULL:
        (<release_t>api.slots[RELEASE_STATUS])(status)
    return status == NULL


cdef inline int32_t number_at(const char* bytes, size_t place) noexcept nogil:
    cdef int32_t number
    memcpy(&number, bytes + place, sizeof(number))
    return number


cdef int place_of_number(const char* before, const char* after, size_t size, int old, int new) noexcept nogil:
    cdef size_t place = 0
    cdef int found = UNKNOWN
    while place + sizeof(int32_t) <= size:
        if number_at(before, place) == old and number_at(after, place) == new:
            if found != UNKNOWN:
                return UNKNOWN
            found = <int>place
        place += sizeof(int32_t)
    return found


cdef int place_of_flag(const char* before, const char* after, size_t size, bint old) noexcept nogil:
    cdef size_t place
    cdef int found = UNKNOWN
    for place in range(size):
        if before[place] != after[place]:
            if found != UNKNOWN or before[place] != old or after[place] != (not old):
                return UNKNOWN
            found = <int>place
    return found
