from ._structs cimport CompiledProgram, Plan

# Finds the steps of a plan whose results depend on its shapes alone; 0 on success. Sets StepPlan.fixed. All steps are planned.
cdef int choose_fixed(const CompiledProgram* program, Plan* plan) noexcept nogil
# Computes the results of these steps and keeps those that other steps read; 0 on success, else the reason is in `message`. Values have
# their places.
cdef int compute_fixed(CompiledProgram* program, Plan* plan, char* message, size_t message_size) noexcept nogil
# Frees what a plan keeps.
cdef void release_fixed(const CompiledProgram* program, Plan* plan) noexcept nogil
