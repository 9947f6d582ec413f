from ._structs cimport CompiledProgram, Plan, Shape

cdef bint fits(const Shape* shape) noexcept nogil

# Sets the shape and size of a step's output and its padding; 0 on success, else the reason is in `message`.
cdef int infer(CompiledProgram* program, Plan* plan, int index, char* message, size_t message_size) noexcept nogil
