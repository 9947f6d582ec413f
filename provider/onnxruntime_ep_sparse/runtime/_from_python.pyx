"""From Python's data to memory in C: what `build` of every kind of step needs."""

import numpy as np

from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc
from libc.string cimport memcpy

from ._mapped_files cimport mapping_keep
from ._structs cimport MAX_RANK, Shape
from ._weight_store cimport shared_new, shared_settled


cdef void* allocate(size_t size) except NULL:
    cdef void* memory = calloc(size + 1, 1)
    if memory == NULL:
        raise MemoryError(f"no memory for {size} bytes for a compiled program")
    return memory


cdef void* memory_of(array, dtype) except NULL:
    contiguous = np.ascontiguousarray(array, dtype)
    cdef uintptr_t source = contiguous.ctypes.data
    cdef size_t size = contiguous.nbytes
    cdef void* memory
    if size and mapping_keep(<void*>source, size):
        return <void*>source
    memory = shared_new(size)
    if memory == NULL:
        raise MemoryError(f"no memory for {size} bytes for a compiled program")
    with nogil:
        memcpy(memory, <void*>source, size)
        memory = shared_settled(memory)
    return memory


cdef int fill_shape(Shape* shape, dims) except -1:
    if len(dims) > MAX_RANK:
        raise ValueError(f"{len(dims)} dimensions: at most {MAX_RANK} are supported")
    shape.rank = len(dims)
    for i, size in enumerate(dims):
        shape.dims[i] = size
    return 0
