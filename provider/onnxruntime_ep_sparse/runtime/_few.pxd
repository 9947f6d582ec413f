from libc.stdint cimport int64_t

from ._packed cimport Layout, Product, ProductPlan
from ._structs cimport CompiledProgram
cimport onnxruntime_ep_sparse_kernels.table as t

# The layout in which the pixels of a plan are multiplied.
cdef Layout layout_of(const Product* p, const ProductPlan* q, const t.KernelTable* kernels) noexcept nogil
# Makes what this layout needs; 0 on success, else memory is short.
cdef int few_create(Product* p, const ProductPlan* q, int64_t lanes) noexcept nogil
