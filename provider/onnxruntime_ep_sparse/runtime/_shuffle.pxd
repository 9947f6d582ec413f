from ._structs cimport StepKindOps

cdef void shuffle_ops(StepKindOps* ops) noexcept
