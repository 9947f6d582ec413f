from ._structs cimport StepKindOps

cdef void byte_product_ops(StepKindOps* ops) noexcept
