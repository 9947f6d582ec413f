from ._structs cimport CompiledProgram, Plan, Shape

# The plan for these input shapes, or NULL with the reason in `message`.
cdef Plan* plan_create(CompiledProgram* program, const Shape* inputs, char* message, size_t message_size) noexcept nogil
cdef void plan_free(CompiledProgram* program, Plan* plan) noexcept nogil
