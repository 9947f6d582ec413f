from ._structs cimport StepKindOps

cdef void carry_ops(StepKindOps* ops) noexcept
cdef void look_up_ops(StepKindOps* ops) noexcept
cdef void combine_ops(StepKindOps* ops) noexcept
cdef void dynamic_quantize_ops(StepKindOps* ops) noexcept
