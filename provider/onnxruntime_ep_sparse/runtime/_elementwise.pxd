from libc.stdint cimport int64_t

from ._structs cimport CompiledProgram, Operand, Plan, Step, StepKindOps, StepPlan

cdef void activate_ops(StepKindOps* ops) noexcept
cdef void binary_ops(StepKindOps* ops) noexcept

# Functions of other kinds whose elements are computed each on its own: of one operand, of which the result has the shape and may take the
# memory, and of two operands that broadcast, whose plan is a Loops.
cdef int infer_activate(Plan* plan, const Step* step, StepPlan* sp, char* message, size_t message_size) noexcept nogil
cdef int plan_activate(CompiledProgram* program, Plan* plan, int index) noexcept nogil
cdef Operand activate_overwrites(const Step* step, const StepPlan* sp) noexcept nogil
cdef int plan_binary(CompiledProgram* program, Plan* plan, int index) noexcept nogil

cdef enum:
    LINE = 16            # floats of a cache line, between which results are cut into items
