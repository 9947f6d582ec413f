from libc.stdint cimport int32_t, int64_t

from onnxruntime_ep_sparse._structs cimport CompiledProgram, Offsets, Plan, Product, ProductPlan, Step, StepPlan, Window
from onnxruntime_ep_sparse_kernels cimport table as t

cdef enum:
    # A parallel section costs a few microseconds: below this many multiply-adds (or elements) a step runs on the caller's thread.
    PARALLEL_FROM = 40000


# The caller holds the program's lock.
cdef int plan_product(CompiledProgram* program, Plan* plan, int index) noexcept nogil
cdef void plan_depthwise(Plan* plan, Step* step, StepPlan* sp) noexcept nogil
cdef int64_t shared_floats(const Product* p, const ProductPlan* q) noexcept nogil
cdef void offsets_release(Offsets* o) noexcept nogil
# Where the pixels of one tile stand in a channel's planes.
cdef void list_runs(const Product* p, const Window* w, const ProductPlan* q, int64_t slice_, int64_t flat, t.Run* run,
                    int32_t* unit_run) noexcept nogil
