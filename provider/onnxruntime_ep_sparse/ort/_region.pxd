"""Compiled regions of a session. See ort/_region.pyx."""

from libc.stdint cimport int64_t

from ._abi cimport Api, OrtNodeComputeInfo
from ._binding cimport Kernel


# The words for a step.
cdef struct Label:
    char* name  # its node, with what is fused into it
    char* plain_name  # for profiles: without the characters that JSON escapes
    char* kind
    char* description  # what it computes


cdef struct Region:
    OrtNodeComputeInfo base  # first: ONNX Runtime holds a pointer to it
    const Api* api
    const int64_t* cancels  # how often the session's runs were cancelled
    const int64_t* profilers  # of the session, how many of them are at work
    Region* next
    Kernel kernel
    Label* labels  # of each step
    int n_labels
    char* isa  # name of the instruction set
    char* byte_set  # name of the set of kernels for bytes
    bint last  # of those compiled together
    bint has_pool  # the session may have threads besides the caller's
    long forks  # that had led to the process which made the region


cdef str node_name(const Api* api, const void* node)
# `known`: the compressed weights decoded so far; `figures`: what was measured, by the names of regions' outputs. If the session wants a
# compiled model, `context` becomes the region's EPContext node.
cdef Region* region_of(const Api* api, const void* ort_graph, const void* fused_node, str name, options, request, dict known, dict ranks,
                       dict figures, void** context) except NULL
cdef void release_region(Region* region) noexcept nogil

# `regions` is the session's list of all regions that are not released, `cancels` its count of cancelled runs, `profilers` that of profilers
# at work.
cdef void keep(Region** regions, Region* region, const int64_t* cancels, const int64_t* profilers) noexcept nogil
cdef void forget(Region** regions, Region* region) noexcept nogil
cdef list step_totals(const Region* regions)
