from libc.stdint cimport int32_t, int64_t

cimport onnxruntime_ep_sparse_kernels.table as t

from ._packed cimport Offsets, Product, ProductPlan
from ._structs cimport CompiledProgram, Plan, Step, StepPlan

# Tiles, items and offsets of a product, or of bands of its rows; 0 on success.
cdef int plan_product(CompiledProgram* program, Plan* plan, int index) noexcept nogil

# Parts of that, for products of other elements. Sizes of the operands; 0 on success.
cdef int set_geometry(Plan* plan, const Step* step, StepPlan* sp) noexcept nogil
# A pointwise convolution: its image is one long row.
cdef bint is_one_row(const Product* p, const ProductPlan* q) noexcept nogil
# Positions from one output row to the next in a tile.
cdef void row_pitch(const Product* p, ProductPlan* q) noexcept nogil
# The smallest number of tiles from `least` to `most` with which all workers end together; `least` if there is none.
cdef int64_t tiles_for(int64_t least, int64_t most, int64_t parts, int64_t workers) noexcept nogil
# Lists the runs of all tiles of `lanes` pixels a vector.
cdef void keep_runs(const Product* p, ProductPlan* q, int64_t lanes) noexcept nogil

# The table for tiles of this geometry, or for dealt images, which plans share, or NULL without memory; and back, where NULL is allowed.
cdef Offsets* offsets_take(Product* p, int64_t pitch, int64_t width, int64_t slice_) noexcept nogil
cdef void offsets_return(Product* p, Offsets* o) noexcept nogil
# Where the pixels of one tile stand in a channel's planes.
cdef void list_runs(const Product* p, const ProductPlan* q, int64_t slice_, int64_t flat, t.Run* run, int32_t* unit_run) noexcept nogil
