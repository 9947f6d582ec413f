from libc.stdint cimport int64_t

from ._job cimport Job

cdef void pool_item(Job* job, int64_t index, float* scratch) noexcept nogil
cdef void global_pool_item(Job* job, int64_t index, float* scratch) noexcept nogil
cdef void activate_item(Job* job, int64_t index, float* scratch) noexcept nogil
cdef void binary_item(Job* job, int64_t index, float* scratch) noexcept nogil
cdef void normalize_item(Job* job, int64_t index, float* scratch) noexcept nogil
cdef void copy_item(Job* job, int64_t index, float* scratch) noexcept nogil
cdef void pad_item(Job* job, int64_t index, float* scratch) noexcept nogil
cdef void resize_item(Job* job, int64_t index, float* scratch) noexcept nogil
