from ._structs cimport StepKindOps

cdef void reshape_ops(StepKindOps* ops) noexcept
cdef void concat_ops(StepKindOps* ops) noexcept
cdef void pad_ops(StepKindOps* ops) noexcept
cdef void shuffle_ops(StepKindOps* ops) noexcept
cdef void transpose_ops(StepKindOps* ops) noexcept
