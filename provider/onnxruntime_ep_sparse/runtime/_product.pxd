from libc.stdint cimport int64_t

from ._job cimport Job

# Where a plan has shared_gather, all items of gather_item come before the first of product_item.
cdef void gather_item(Job* job, int64_t index, float* scratch) noexcept nogil
cdef void product_item(Job* job, int64_t index, float* scratch) noexcept nogil
cdef void few_pixels_item(Job* job, int64_t index, float* scratch) noexcept nogil
cdef void depthwise_item(Job* job, int64_t index, float* scratch) noexcept nogil
cdef void band_item(Job* job, int64_t index, float* scratch) noexcept nogil
