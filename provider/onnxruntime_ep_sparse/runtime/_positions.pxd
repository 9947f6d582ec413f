from ._structs cimport StepKindOps

cdef void rotate_ops(StepKindOps* ops) noexcept
cdef void extend_ops(StepKindOps* ops) noexcept
