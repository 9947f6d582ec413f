from ._structs cimport StepKindOps

cdef void normalize_ops(StepKindOps* ops) noexcept
