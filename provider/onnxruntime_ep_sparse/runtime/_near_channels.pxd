from ._structs cimport StepKindOps

cdef void normalize_near_ops(StepKindOps* ops) noexcept
