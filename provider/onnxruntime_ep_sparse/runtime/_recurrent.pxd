from ._structs cimport StepKindOps

cdef void recurrent_ops(StepKindOps* ops) noexcept
