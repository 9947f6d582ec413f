from libc.stddef cimport size_t

# If these bytes lie in a mapped file: keeps the file mapped until mapping_drop() of the same address, and returns 1.
cdef bint mapping_keep(const void* data, size_t size) noexcept nogil
# If this address is one that mapping_keep() has kept: gives it back, and returns 1.
cdef bint mapping_drop(const void* data) noexcept nogil
