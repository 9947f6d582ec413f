from ._structs cimport CompiledProgram, Key, Plan

# The plan for such inputs, or NULL with the reason in `message`.
cdef Plan* plan_create(CompiledProgram* program, const Key* key, char* message, size_t message_size) noexcept nogil
cdef void plan_free(CompiledProgram* program, Plan* plan) noexcept nogil
