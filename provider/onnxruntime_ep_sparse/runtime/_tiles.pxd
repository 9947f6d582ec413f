from libc.stdint cimport int32_t, int64_t

cimport onnxruntime_ep_sparse_kernels.table as t

from ._packed cimport Offsets, Product, ProductPlan
from ._structs cimport CompiledProgram, Plan, StepPlan

# Tiles, items and offsets of a product, or of a band of its pixels; 0 on success. The caller holds the program's lock.
cdef int plan_product(CompiledProgram* program, Plan* plan, int index) noexcept nogil

# The table of a product of a step, of which it may have several.
ctypedef Offsets* (*OffsetsOf)(const StepPlan* sp, int part) noexcept nogil
# A table with this geometry, from another plan of the step or a new one; NULL without memory. The caller holds the program's lock.
cdef Offsets* offsets_for(CompiledProgram* program, int index, OffsetsOf offsets_of, int part, Product* p, int64_t pitch,
                          int64_t width) noexcept nogil
cdef void offsets_release(Offsets* o) noexcept nogil
# Where the pixels of one tile stand in a channel's planes.
cdef void list_runs(const Product* p, const ProductPlan* q, int64_t slice_, int64_t flat, t.Run* run, int32_t* unit_run) noexcept nogil
