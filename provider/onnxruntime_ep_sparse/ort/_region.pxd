"""Compiled regions of a session. See ort/_region.pyx."""

from libc.stdint cimport int64_t

from ._abi cimport Api, OrtNodeComputeInfo
from ._binding cimport Kernel


cdef struct Region:
    OrtNodeComputeInfo base  # first: ONNX Runtime holds a pointer to it
    const Api* api
    const int64_t* cancels  # how often the session's runs were cancelled
    Region* next
    Kernel kernel
    char* labels  # JSON: kind, name and description of each step
    bint last  # of those compiled together
    bint has_pool  # the session may have threads besides the caller's
    long forks  # that had led to the process which made the region


cdef str node_name(const Api* api, const void* node)
# `known`: the compressed weights decoded so far; `figures`: what was measured, by the names of regions' outputs. If the session wants a
# compiled model, `context` becomes the region's EPContext node.
cdef Region* region_of(const Api* api, const void* ort_graph, const void* fused_node, str name, options, request, dict known, dict ranks,
                       dict figures, void** context) except NULL
cdef void release_region(Region* region) noexcept nogil

# `regions` is the session's list of all regions that are not released, `cancels` its count of cancelled runs.
cdef void keep(Region** regions, Region* region, const int64_t* cancels) noexcept nogil
cdef void forget(Region** regions, Region* region) noexcept nogil
cdef list step_totals(const Region* regions)
