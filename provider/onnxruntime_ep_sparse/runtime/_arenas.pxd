from libc.stddef cimport size_t
from libc.stdint cimport int64_t

cdef struct Arena:
    Arena* next
    const void* user       # who had it last
    int64_t floats
    size_t bytes           # of the mapping
    int64_t touched        # floats from the beginning that runs may have written to
    int64_t recent         # the most that a run of this epoch has needed
    int64_t epoch          # in which it was returned last
    float* data

# An arena of at least this size, 64-byte aligned with anything in it, or NULL.
cdef Arena* arena_take(const void* user, int64_t floats) noexcept nogil
cdef void arena_return(Arena* arena) noexcept nogil
# Frees what this user had last. It has returned everything and never comes back.
cdef void arenas_forget(const void* user) noexcept nogil
