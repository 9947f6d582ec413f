"""Recordings of runs: what each step has cost in one run. See runtime/_recording.pyx."""

from ._structs cimport Recording, StepRun

# Appends a run of a step, which the caller fills; NULL without memory.
cdef StepRun* next_step_run(Recording* recording) noexcept nogil
