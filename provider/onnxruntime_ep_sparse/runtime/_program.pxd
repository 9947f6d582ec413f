"""The part of a compiled program that the plugin needs. Plain C: a program outlives every Python object of its session's creation."""

from libc.stdint cimport int64_t

from ._structs cimport CompiledProgram, Host, StepTotals


# Runs once. inputs[i] is dense, of the shape dims[i][0..ranks[i]) and the element type of its value. Thread-safe. Returns 0, or another
# number with the reason in `message`.
cdef int program_run(CompiledProgram* program, const Host* host, const float** inputs, const int64_t** dims, const size_t* ranks,
                     char* message, size_t message_size) noexcept nogil

cdef void program_release(CompiledProgram* program) noexcept nogil


cdef class Program:
    """A compiled region. `input_names` and `output_names` say what program_run's indices mean, `labels` (kind, name, description) what its
    steps are. See runtime/_program.pyx."""
    cdef CompiledProgram* compiled
    cdef readonly tuple input_names
    cdef readonly tuple output_names
    cdef list input_types   # of numpy, in the order of the names
    cdef list output_types
    cdef readonly tuple labels
    # Hands the C object to the caller, who must program_release() it; this object can then no longer run.
    cdef CompiledProgram* detach(self) except NULL
