"""The free parts of an arena while values get their places: holes by address, each search and each change in O(log holes)."""

from libc.stdint cimport int64_t, uint32_t

# A node of a treap: ordered by offset, a heap by priority.
cdef struct Hole:
    int64_t offset
    int64_t floats
    int64_t longest        # of the subtree
    uint32_t priority
    int left
    int right              # of an unused node: the next one

cdef struct Holes:
    Hole* hole
    int root
    int unused
    uint32_t priority      # of the node that was used last
    int64_t visits         # of nodes, for tests

# One hole without an end; 0 on success, else memory is short. At most `places` places are taken at the same time.
cdef int holes_begin(Holes* holes, int places) noexcept nogil
cdef void holes_end(Holes* holes) noexcept nogil
# The first place with so many floats.
cdef int64_t holes_take(Holes* holes, int64_t floats) noexcept nogil
# A place is free again. It may be a part of one that was taken, or several.
cdef void holes_give(Holes* holes, int64_t offset, int64_t floats) noexcept nogil
