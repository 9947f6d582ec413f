from ._structs cimport StepKindOps

cdef void byte_depthwise_ops(StepKindOps* ops) noexcept
