from ._structs cimport StepKindOps

cdef void part_ops(StepKindOps* ops) noexcept
cdef void expand_ops(StepKindOps* ops) noexcept
