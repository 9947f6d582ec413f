from ._structs cimport StepKindOps

cdef void integers_ops(StepKindOps* ops) noexcept
cdef void range_ops(StepKindOps* ops) noexcept
cdef void accumulate_ops(StepKindOps* ops) noexcept
cdef void choose_ops(StepKindOps* ops) noexcept
