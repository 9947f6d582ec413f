from libc.stdint cimport int64_t

from ._packed cimport GatherGroup, Product, ProductPlan
from ._structs cimport Job

cdef enum:
    SELL_VECTORS = 1  # of pixels, up to which a product runs so


cdef bint sell_fits(const Product* p, const ProductPlan* q, int64_t lanes) noexcept nogil
# Makes the layout of a group, unless it has one already; 0 on success, else memory is short.
cdef int sell_create(GatherGroup* group, int64_t lanes) noexcept nogil
cdef int64_t sell_floats(const Product* p, const ProductPlan* q, int64_t lanes) noexcept nogil
cdef void sell_item(Job* job, int64_t index, float* scratch) noexcept nogil
