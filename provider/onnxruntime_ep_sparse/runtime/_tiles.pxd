from libc.stdint cimport int32_t, int64_t

cimport onnxruntime_ep_sparse_kernels.table as t

from ._packed cimport Offsets, Product, ProductPlan
from ._structs cimport CompiledProgram, Plan

# Tiles, items and offsets of a product, or of a band of its pixels; 0 on success.
cdef int plan_product(CompiledProgram* program, Plan* plan, int index) noexcept nogil

# The table for tiles of this geometry, or for dealt images, which plans share, or NULL without memory; and back, where NULL is allowed.
cdef Offsets* offsets_take(Product* p, int64_t pitch, int64_t width, bint dealt) noexcept nogil
cdef void offsets_return(Product* p, Offsets* o) noexcept nogil
# Where the pixels of one tile stand in a channel's planes.
cdef void list_runs(const Product* p, const ProductPlan* q, int64_t slice_, int64_t flat, t.Run* run, int32_t* unit_run) noexcept nogil
