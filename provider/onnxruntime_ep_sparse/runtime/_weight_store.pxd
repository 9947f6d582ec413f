from libc.stddef cimport size_t

# Zeroed memory that its maker alone has and may write, or NULL.
cdef void* shared_new(size_t size) noexcept nogil
# Ends writing: the memory is merged with a block of equal bytes, if there is one. Returns the block to read, and to drop.
cdef void* shared_settled(void* data) noexcept nogil
# Gives back what either of these returned, or a part of a mapped file that mapping_keep() has kept; NULL is allowed.
cdef void shared_drop(void* data) noexcept nogil
