from libc.stdint cimport int32_t, int64_t

from ._structs cimport CompiledProgram, Offsets, Plan, Product, ProductPlan, Step, StepPlan, Window, ceil_div
cimport onnxruntime_ep_sparse_kernels.table as t

cdef enum:
    # A parallel section costs a few microseconds: below this many multiply-adds (or elements) a step runs on the caller's thread.
    PARALLEL_FROM = 40000
    # Share of the workers' time that may be lost when some have one item more than others, in percent.
    IDLE_PERCENT = 15


cdef inline int64_t idle_percent(int64_t items, int64_t workers) noexcept nogil:
    """Of the workers' time, when all items take the same."""
    cdef int64_t rounds = ceil_div(items, workers)
    return 0 if items == 0 else 100 - 100 * items // (rounds * workers)


# The caller holds the program's lock.
cdef int plan_product(CompiledProgram* program, Plan* plan, int index) noexcept nogil
cdef void plan_depthwise(Plan* plan, Step* step, StepPlan* sp) noexcept nogil
cdef int64_t shared_floats(const Product* p, const ProductPlan* q) noexcept nogil
cdef Offsets* offsets_find(CompiledProgram* program, int index, int part, int64_t pitch, int64_t width) noexcept nogil
cdef Offsets* offsets_create(Product* p, int64_t pitch, int64_t width) noexcept nogil
cdef void offsets_release(Offsets* o) noexcept nogil
# Where the pixels of one tile stand in a channel's planes.
cdef void list_runs(const Product* p, const Window* w, const ProductPlan* q, int64_t slice_, int64_t flat, t.Run* run,
                    int32_t* unit_run) noexcept nogil
