from ._structs cimport StepKindOps

cdef void convert_ops(StepKindOps* ops) noexcept
