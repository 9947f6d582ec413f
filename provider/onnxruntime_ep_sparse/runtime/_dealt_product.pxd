from libc.stdint cimport int64_t

from ._structs cimport CompiledProgram, Deal, Job, Plan

# The functions of products where images stand dealt: see StepKindOps.
cdef bint product_deals(const CompiledProgram* program, const Plan* plan, int index, const Deal* deal, double* gain) noexcept nogil
cdef int plan_dealt(CompiledProgram* program, Plan* plan, int index) noexcept nogil
cdef int place_dealt(CompiledProgram* program, Plan* plan, int index) noexcept nogil
cdef void dealt_item(Job* job, int64_t index, float* scratch) noexcept nogil
