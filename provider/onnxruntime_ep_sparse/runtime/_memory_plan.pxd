from ._structs cimport CompiledProgram, Plan

# Shapes, and what runs together in bands, are known by now. Sets plan.arena_floats to what the values need. 0 on success, else memory is
# short.
cdef int place_values(CompiledProgram* program, Plan* plan) noexcept nogil
