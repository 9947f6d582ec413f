from ._structs cimport CompiledProgram, Host, Plan

# Runs every step of a plan. `inputs` and `outputs` are dense; `arena` has plan.arena_floats, 64-byte aligned. 0 on success, else the
# reason is in `message`.
cdef int execute(CompiledProgram* program, Plan* plan, const Host* host, const float** inputs, float** outputs, float* arena,
                 char* message, size_t message_size) noexcept nogil
