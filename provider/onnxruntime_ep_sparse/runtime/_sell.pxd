from libc.stdint cimport int64_t

from ._packed cimport GatherGroup, Product, ProductPlan, Sell
from ._structs cimport Job
cimport onnxruntime_ep_sparse_kernels.table as t


cdef inline int64_t sell_width(const t.KernelTable* kernels, int64_t pixels) noexcept nogil:
    """Pixels of the narrowest kernel for so many pixels, at most a vector of them."""
    while kernels.sell[pixels] == NULL:
        pixels += 1
    return pixels

cdef Sell* sell_of(const GatherGroup* group, int64_t lanes) noexcept nogil
cdef int64_t sell_floats(const Product* p, const ProductPlan* q, int64_t lanes) noexcept nogil
cdef void sell_item(Job* job, int64_t index, float* scratch) noexcept nogil
