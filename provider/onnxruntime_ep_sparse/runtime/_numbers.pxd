from libc.stdint cimport int64_t

from ._structs cimport MAX_NUMBERS, CompiledProgram, Number, Plan, Shape

# Fills the program's lists of numbers from `spec.computed`, a sequence of program.numbers.Numbers.
cdef int fill_numbers(CompiledProgram* program, object spec) except -1
# Computes list `index` of the program in a plan; 0 on success, else the reason is in `message`.
cdef int compute_numbers(CompiledProgram* program, Plan* plan, int index, char* message, size_t message_size) noexcept nogil
# Copies what the plan depends on of the inputs' contents to `contents`, MAX_NUMBERS for each list that is read; 0 on success, else the
# reason is in `message`.
cdef int read_contents(CompiledProgram* program, const void** inputs, const Shape* shapes, Number* contents, char* message,
                       size_t message_size) noexcept nogil
# Writes the numbers of a value of the plan as a tensor of their type.
cdef void write_numbers(CompiledProgram* program, const Plan* plan, int value, void* y) noexcept nogil
# Where steps read list `index` of the program: in the plan.
cdef inline void* numbers_as_tensor(const Plan* plan, int64_t index) noexcept nogil:
    return plan.tensors + index * MAX_NUMBERS
# A shape of numbers of the plan; 0 on success. Numbers below `least` or beyond what a dimension can be are an error.
cdef int shape_of_numbers(const Plan* plan, int value, int64_t least, Shape* shape, char* message, size_t message_size) noexcept nogil
