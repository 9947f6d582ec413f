from libc.stdint cimport int64_t

cdef struct Arena:
    Arena* next
    const void* user       # who had it last
    int64_t floats
    float* data

# An arena of at least this size, 64-byte aligned with anything in it, or NULL.
cdef Arena* arena_take(const void* user, int64_t floats) noexcept nogil
cdef void arena_return(Arena* arena) noexcept nogil
# Frees what this user had last. It has returned everything and never comes back.
cdef void arenas_forget(const void* user) noexcept nogil
