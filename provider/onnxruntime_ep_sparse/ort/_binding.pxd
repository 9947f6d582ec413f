"""Runs a compiled program with ONNX Runtime's arguments. See ort/_binding.pyx."""

from ._abi cimport Api, Status
from ._runs cimport Stop
from ..runtime._program cimport CompiledProgram, Program
from ..runtime._structs cimport Recording


cdef struct Kernel:
    CompiledProgram* program
    size_t input_count
    size_t* inputs  # input i of the program is input inputs[i] of the node
    size_t* outputs
    char* name


# Takes the program over; `inputs` and `outputs` are the node's, by name.
cdef int kernel_fill(Kernel* kernel, Program program, list inputs, list outputs, str name) except -1
# `stop` can stop the run; NULL: nothing does. `recording` gets its steps; NULL: nothing does.
cdef Status kernel_run(const Api* api, const Kernel* kernel, void* context, const Stop* stop, Recording* recording) noexcept nogil
cdef void kernel_release(Kernel* kernel) noexcept nogil
