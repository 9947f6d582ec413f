from ._structs cimport Shape

# Zeroed memory, to be freed with free().
cdef void* allocate(size_t size) except NULL
# The data of an array or a sequence, contiguous, for programs to read: where they lie if that is in a mapped file, else in shared memory.
# shared_drop() gives them back.
cdef void* memory_of(array, dtype) except NULL
cdef int fill_shape(Shape* shape, dims) except -1
