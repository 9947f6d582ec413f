from libc.stdint cimport int64_t

from ._structs cimport GatherGroup, Product, ProductPlan, Sell, Step
cimport onnxruntime_ep_sparse_kernels.table as t

cdef enum:
    SELL_VECTORS = 1  # of pixels, up to which a product runs so


cdef bint sell_fits(const Product* p, const ProductPlan* q, int64_t lanes) noexcept nogil
# The caller holds the program's lock.
cdef int sell_create(GatherGroup* group, int64_t lanes) noexcept nogil
cdef void sell_free(Sell* sell) noexcept nogil
cdef int64_t sell_floats(const Product* p, const ProductPlan* q, int64_t lanes) noexcept nogil
cdef void sell_item(const Step* step, const ProductPlan* q, const t.KernelTable* kernels, int64_t index, const float* x, const float* r,
                    float* y, float* scratch) noexcept nogil
