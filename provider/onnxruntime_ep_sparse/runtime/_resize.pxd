from libc.stdint cimport int64_t

from ._structs cimport StepKindOps

# How a pixel of a resized image finds its place in the original: numbers of Interpolation and Coordinates.
cdef struct Place:
    int interpolation
    int coordinates

cdef void resize_ops(StepKindOps* ops) noexcept
cdef float original_place(const Place* how, float place, float scale, float out, float size) noexcept nogil
cdef int64_t nearest_pixel(const Place* how, float place, bint shrinks) noexcept nogil
