from onnxruntime_ep_sparse._structs cimport CompiledProgram, Plan, Product, ProductPlan, Shape, Window
from onnxruntime_ep_sparse_kernels cimport table as t
from libc.stdint cimport int32_t, int64_t

# The plan for these input shapes, or NULL with the reason in `message`.
cdef Plan* plan_create(CompiledProgram* program, const Shape* inputs, char* message, size_t message_size) noexcept nogil
cdef void plan_free(CompiledProgram* program, Plan* plan) noexcept nogil
# Where the pixels of one tile stand in a channel's planes.
cdef void list_runs(const Product* p, const Window* w, const ProductPlan* q, int64_t slice_, int64_t flat, t.Run* run,
                    int32_t* unit_run) noexcept nogil
