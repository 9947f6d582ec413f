from ._structs cimport StepKindOps

cdef void resize_ops(StepKindOps* ops) noexcept
