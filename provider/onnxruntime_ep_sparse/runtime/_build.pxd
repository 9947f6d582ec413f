from ._structs cimport CompiledProgram

# Zeroed memory, to be freed with free().
cdef void* allocate(size_t size) except NULL
# What a `steps.ProgramSpec` says, into a program of zeros; program_clear frees it again, also what an exception has left half filled.
cdef int fill_program(CompiledProgram* program, spec) except -1
cdef void program_clear(CompiledProgram* program) noexcept nogil
