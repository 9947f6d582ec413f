from ._structs cimport CompiledProgram

# What a `steps.ProgramSpec` says, into a program of zeros; program_clear frees it again, also what an exception has left half filled.
cdef int fill_program(CompiledProgram* program, spec) except -1
cdef void program_clear(CompiledProgram* program) noexcept nogil
