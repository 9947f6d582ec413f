from libc.stdint cimport int64_t

from ._packed cimport Layout, Product, ProductPlan
from ._structs cimport Job, Plan, Step, StepKindOps, StepPlan, Variant
cimport onnxruntime_ep_sparse_kernels.table as t

cdef void product_ops(StepKindOps* ops) noexcept
# Shapes of results, and the end of a plan, of every step whose data and plan begin with a Product and a ProductPlan.
cdef int infer(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil
cdef void release_plan(const Step* step, StepPlan* sp) noexcept nogil
# The kernels of a product in some layout: `width` is the vectors of its tiles, or the pixels of a call.
cdef void layout_variant(const t.KernelTable* kernels, const Product* p, Layout layout, int64_t width, Variant* v) noexcept nogil
# One tile of pixels times the rows of one group, or of one chunk of them. Where a plan has shared_gather, the tiles are gathered already.
cdef void product_item(Job* job, int64_t index, float* scratch) noexcept nogil
# The runs of an output plane that positions [flat, end) of its tiles fill, which `run` has room for; their number.
cdef int output_runs(const ProductPlan* q, int64_t flat, int64_t end, t.Run* run) noexcept nogil
