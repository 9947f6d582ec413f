from libc.stdint cimport int64_t

from ._structs cimport Job, StepKindOps

cdef void product_ops(StepKindOps* ops) noexcept
# One tile of pixels times the rows of one group, or of one chunk of them. Where a plan has shared_gather, the tiles are gathered already.
cdef void product_item(Job* job, int64_t index, float* scratch) noexcept nogil
