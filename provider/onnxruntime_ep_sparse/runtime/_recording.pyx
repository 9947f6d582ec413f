"""Recordings of runs, which grow while a run is recorded."""

from libc.stdint cimport int64_t
from libc.stdlib cimport realloc

from ._structs cimport Recording, StepRun

cdef enum:
    # Steps of a usual region, at first.
    SOME_STEPS = 64


cdef StepRun* next_step_run(Recording* recording) noexcept nogil:
    cdef int64_t room
    cdef StepRun* runs
    if recording.count == recording.room:
        room = 2 * recording.room if recording.room else SOME_STEPS
        runs = <StepRun*>realloc(recording.runs, room * sizeof(StepRun))
        if runs == NULL:
            recording.lost += 1
            return NULL
        recording.runs = runs
        recording.room = room
    recording.count += 1
    return &recording.runs[recording.count - 1]
