from libc.stdint cimport int64_t

from ._packed cimport GatherGroup
from ._structs cimport Job

cdef enum:
    DENSE_SLICES = 4      # between which the work may be cut: what a kernel takes at a time


cdef float* dense_of(const GatherGroup* group, int64_t lanes) noexcept nogil
cdef void dense_item(Job* job, int64_t index, float* scratch) noexcept nogil
