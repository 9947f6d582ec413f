"""What the items of all kinds of steps share. An item function does item `index` of job.items; no two of them write the same memory."""

from libc.stdint cimport int64_t

from ._structs cimport CompiledProgram, Plan, Step, StepPlan

cdef enum:
    ACTIVATE_CHUNK = 16384

cdef struct Job:
    CompiledProgram* program
    Plan* plan
    Step* step
    StepPlan* sp
    const float* x
    const float* r
    float* y
    float* scratch
    float* shared
    int64_t scratch_floats
    float* counters
    int64_t workers
    int64_t items
    float** values           # those of `recurrent_values`
    void (*item)(Job* job, int64_t index, float* scratch) noexcept nogil


cdef inline int64_t runs_per_item(const StepPlan* sp) noexcept nogil:
    return ACTIVATE_CHUNK // sp.inner if sp.inner < ACTIVATE_CHUNK else 1


cdef inline int64_t items_of_runs(const StepPlan* sp) noexcept nogil:
    return (sp.items + runs_per_item(sp) - 1) // runs_per_item(sp) if sp.items else 0
