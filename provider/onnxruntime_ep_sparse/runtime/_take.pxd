from ._structs cimport StepKindOps

cdef void take_ops(StepKindOps* ops) noexcept
