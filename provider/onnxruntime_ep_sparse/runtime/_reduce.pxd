from ._structs cimport StepKindOps

cdef void reduce_ops(StepKindOps* ops) noexcept
cdef void softmax_ops(StepKindOps* ops) noexcept
