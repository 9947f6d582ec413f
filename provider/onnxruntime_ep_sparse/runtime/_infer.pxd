from ._structs cimport CompiledProgram, Plan, Shape, Step

# Whether a value may be so large, 2**40 elements: what is reckoned with its sizes then stays within 64 bits.
cdef bint fits(const Shape* shape) noexcept nogil
# Sets shape and size of a step's results; 0 on success, else the reason is in `message`.
cdef int infer(CompiledProgram* program, Plan* plan, int index, char* message, size_t message_size) noexcept nogil
# Whether r of a step, if there is one, has the shape of the result, which is known; 0 if so, else the reason is in `message`.
cdef int infer_addend(Plan* plan, const Step* step, char* message, size_t message_size) noexcept nogil
