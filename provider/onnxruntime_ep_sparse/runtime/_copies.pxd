from libc.stdint cimport int64_t

from ._structs cimport Job, StepKindOps, StepPlan

cdef void reshape_ops(StepKindOps* ops) noexcept
cdef void concat_ops(StepKindOps* ops) noexcept
cdef void pad_ops(StepKindOps* ops) noexcept
cdef void transpose_ops(StepKindOps* ops) noexcept

# Loops over `n` dimensions for copy_item, whose strides are those of x and of y; they are the first of StepPlan.own.
cdef void set_loops(StepPlan* sp, int64_t workers, int n, const int64_t* extent, const int64_t* a_stride,
                    const int64_t* b_stride) noexcept nogil
cdef void copy_item(Job* job, int64_t index, float* scratch) noexcept nogil
