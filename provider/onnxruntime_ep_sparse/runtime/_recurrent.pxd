from libc.stdint cimport int32_t, int64_t

from ._structs cimport *

# One execution of a recurrent step; the caller fills it.
cdef struct RecurrentRun:
    CompiledProgram* program
    Step* step
    StepPlan* sp
    const float* x             # the input projection
    float* y
    const int32_t* lengths
    const float* initial_h
    const float* initial_c
    float* last_h
    float* last_c
    float* state
    float* scratch
    int64_t scratch_floats     # of a worker
    float* counters
    int64_t workers

cdef int infer_recurrent(Plan* plan, Step* step, char* message, size_t message_size) noexcept nogil
cdef int plan_recurrent(CompiledProgram* program, Plan* plan, int index) noexcept nogil
cdef int64_t recurrent_floats(const Step* step, const StepPlan* sp) noexcept nogil
cdef int run_recurrent(RecurrentRun* run, const Host* host) noexcept nogil
