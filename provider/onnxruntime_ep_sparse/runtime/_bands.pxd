from libc.stdint cimport int64_t

from ._structs cimport CompiledProgram, Job, Plan

# Chooses the chains of steps that run together in bands. Runs when all shapes are known, before the steps are planned.
cdef void choose_chains(const CompiledProgram* program, Plan* plan) noexcept nogil
# Places in the scratch of a worker for what stands between the steps of a chain, when these are planned.
cdef void place_chains(const CompiledProgram* program, Plan* plan) noexcept nogil
# Some rows of the last result of a chain, of one image. `job` has the first step of the chain, and the place of the last result.
cdef void chain_item(Job* job, int64_t index, float* scratch) noexcept nogil
