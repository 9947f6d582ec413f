from ._structs cimport StepKindOps

cdef void normalize_ops(StepKindOps* ops) noexcept
cdef void normalize_groups_ops(StepKindOps* ops) noexcept
cdef void scale_channels_ops(StepKindOps* ops) noexcept
