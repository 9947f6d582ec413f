from ._structs cimport CompiledProgram

# Fills a program of zeros from a `steps.ProgramSpec`; program_clear frees it again, also if an exception has left it half filled.
cdef int fill_program(CompiledProgram* program, spec) except -1
cdef void program_clear(CompiledProgram* program) noexcept nogil
