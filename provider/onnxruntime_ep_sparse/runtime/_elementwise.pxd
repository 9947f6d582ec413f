from ._structs cimport StepKindOps

cdef void activate_ops(StepKindOps* ops) noexcept
cdef void binary_ops(StepKindOps* ops) noexcept
