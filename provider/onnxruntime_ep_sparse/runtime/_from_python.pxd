from ._structs cimport Shape

# Zeroed memory, to be freed with free().
cdef void* allocate(size_t size) except NULL
# The data of an array or a sequence, contiguous, in shared memory: shared_drop() gives them back.
cdef void* copy_of(array, dtype) except NULL
cdef int fill_shape(Shape* shape, dims) except -1
