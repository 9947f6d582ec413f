"""Our steps in ONNX Runtime's own profiles. See ort/_profiler.pyx."""

from libc.stdint cimport int64_t

from ._abi cimport Api
from ._region cimport Region
from ..runtime._structs cimport Recording


# The steps of one run of a region.
cdef struct Chunk:
    Chunk* next
    const Region* region
    Recording recording
    int64_t began  # when the region was called, in ns of our clock
    long thread
    int64_t begin  # of ONNX Runtime's event of the node, in us of its profile
    int64_t end


# Returns a profiler of a session, whose count of `profilers` tells how many of them are at work; NULL without memory.
cdef void* new_profiler(const Api* api, const Api* ep_api, int64_t* profilers) noexcept nogil

# Where a profiler listens in this thread, returns a chunk for the steps of a run; else, or without memory, NULL.
cdef Chunk* chunk_begins(const Region* region) noexcept nogil
# Leaves the chunk to that profiler. NULL is allowed.
cdef void chunk_ends(Chunk* chunk) noexcept nogil
