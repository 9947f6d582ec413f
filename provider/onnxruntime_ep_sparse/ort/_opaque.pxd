"""Where a member stands in an opaque object of ONNX Runtime. See ort/_opaque.pyx."""

from ._abi cimport Api, Status

cdef enum:
    # Objects are looked at up to here.
    MOST_BYTES = 4096
    UNKNOWN = -1

# Bytes of an object that ONNX Runtime has allocated, MOST_BYTES at most; 0 if the system does not tell.
cdef size_t size_of(void* made) noexcept nogil
# Whether a call succeeded; releases its status.
cdef bint done(const Api* api, Status status) noexcept nogil
# The only place where the number `old` became `new` between two states of an object; UNKNOWN if there is none or another.
cdef int place_of_number(const char* before, const char* after, size_t size, int old, int new) noexcept nogil
# The only byte that changed, provided that it was `old` and became the other truth value.
cdef int place_of_flag(const char* before, const char* after, size_t size, bint old) noexcept nogil
