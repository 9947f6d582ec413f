from ._structs cimport CompiledProgram, Plan, Shape, Step, StepPlan

# Whether a value may be so large, 2**40 elements: what is reckoned with its sizes then stays within 64 bits.
cdef bint fits(const Shape* shape) noexcept nogil
# Sets shape and size of a step's results; 0 on success, else the reason is in `message`.
cdef int infer(CompiledProgram* program, Plan* plan, int index, char* message, size_t message_size) noexcept nogil
# Sets StepPlan.apart of a product whose own result has its shape.
cdef void infer_addend(Plan* plan, const Step* step, StepPlan* sp) noexcept nogil
# Sets y to the shape to which both broadcast, dimensions from the last on; 0 on success, else the reason is in `message`.
cdef int broadcast(const Shape* a, const Shape* b, Shape* y, char* message, size_t message_size) noexcept nogil
