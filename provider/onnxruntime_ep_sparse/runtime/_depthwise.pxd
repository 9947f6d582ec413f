from ._structs cimport StepKindOps

cdef void depthwise_ops(StepKindOps* ops) noexcept
