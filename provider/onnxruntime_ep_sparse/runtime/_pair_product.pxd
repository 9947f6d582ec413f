from ._structs cimport StepKindOps

cdef void pair_product_ops(StepKindOps* ops) noexcept
