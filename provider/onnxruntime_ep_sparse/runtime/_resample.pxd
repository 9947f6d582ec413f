from ._structs cimport StepKindOps

cdef void resample_ops(StepKindOps* ops) noexcept
