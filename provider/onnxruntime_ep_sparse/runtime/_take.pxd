from ._structs cimport StepKindOps

cdef void scatter_ops(StepKindOps* ops) noexcept
cdef void take_ops(StepKindOps* ops) noexcept
