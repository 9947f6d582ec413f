"""First fit in O(log holes): a treap (Seidel and Aragon 1996) of the holes by address, each node with the longest hole below it.

A list of holes took as long as the list for each value: 64 times as long for 8 times as many values.
"""

from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc

cdef enum:
    NO_HOLE = -1


cdef int holes_begin(Holes* holes, int places) noexcept nogil:
    cdef int i, nodes = places + 2
    holes.hole = <Hole*>malloc(nodes * sizeof(Hole))
    if holes.hole == NULL:
        return 1
    for i in range(nodes):
        holes.hole[i].right = i + 1 if i + 1 < nodes else NO_HOLE
    holes.unused = 0
    holes.priority = 0
    holes.visits = 0
    holes.root = added(holes, 0, <int64_t>1 << 62)
    return 0


cdef void holes_end(Holes* holes) noexcept nogil:
    free(holes.hole)


cdef int64_t holes_take(Holes* holes, int64_t floats) noexcept nogil:
    cdef int64_t offset = 0
    holes.root = shortened(holes, holes.root, floats, &offset)
    return offset


cdef void holes_give(Holes* holes, int64_t offset, int64_t floats) noexcept nogil:
    """Holes that meet become one."""
    cdef int before = NO_HOLE, after = NO_HOLE, node
    cdef int64_t begin = offset, end = offset + floats
    divide(holes, holes.root, offset, &before, &after)
    node = before
    while node != NO_HOLE and holes.hole[node].right != NO_HOLE:
        holes.visits += 1
        node = holes.hole[node].right
    if node != NO_HOLE and holes.hole[node].offset + holes.hole[node].floats == begin:
        begin = holes.hole[node].offset
        before = without_last(holes, before)
    node = after
    while node != NO_HOLE and holes.hole[node].left != NO_HOLE:
        holes.visits += 1
        node = holes.hole[node].left
    if node != NO_HOLE and holes.hole[node].offset == end:
        end += holes.hole[node].floats
        after = without_first(holes, after)
    holes.root = joined(holes, joined(holes, before, added(holes, begin, end - begin)), after)


cdef int added(Holes* holes, int64_t offset, int64_t floats) noexcept nogil:
    """Return a new tree of one node."""
    cdef int node = holes.unused
    cdef Hole* hole = &holes.hole[node]
    cdef uint32_t x
    holes.unused = hole.right
    # numbers in an order that looks like chance: a step of a Weyl sequence, mixed
    holes.priority += 0x9E3779B9U
    x = holes.priority
    x = (x ^ (x >> 16)) * 0x85EBCA6BU
    hole.priority = x ^ (x >> 13)
    hole.offset = offset
    hole.floats = hole.longest = floats
    hole.left = hole.right = NO_HOLE
    return node


cdef void drop(Holes* holes, int node) noexcept nogil:
    holes.hole[node].right = holes.unused
    holes.unused = node


cdef void refresh(Holes* holes, int node) noexcept nogil:
    """Set the longest hole of a subtree from those of its children."""
    cdef Hole* hole = &holes.hole[node]
    holes.visits += 1
    hole.longest = hole.floats
    if hole.left != NO_HOLE and holes.hole[hole.left].longest > hole.longest:
        hole.longest = holes.hole[hole.left].longest
    if hole.right != NO_HOLE and holes.hole[hole.right].longest > hole.longest:
        hole.longest = holes.hole[hole.right].longest


cdef int shortened(Holes* holes, int node, int64_t floats, int64_t* offset) noexcept nogil:
    """Return the tree without the beginning of the first hole that is long enough, which is the place. Such a hole exists."""
    cdef Hole* hole = &holes.hole[node]
    cdef int rest
    if hole.left != NO_HOLE and holes.hole[hole.left].longest >= floats:
        hole.left = shortened(holes, hole.left, floats, offset)
    elif hole.floats >= floats:
        offset[0] = hole.offset
        hole.offset += floats
        hole.floats -= floats
        if hole.floats == 0:
            rest = joined(holes, hole.left, hole.right)
            drop(holes, node)
            return rest
    else:
        hole.right = shortened(holes, hole.right, floats, offset)
    refresh(holes, node)
    return node


cdef void divide(Holes* holes, int node, int64_t offset, int* before, int* after) noexcept nogil:
    """Divide a tree in two: the holes before an offset, and those after it."""
    cdef Hole* hole
    if node == NO_HOLE:
        before[0] = after[0] = NO_HOLE
        return
    hole = &holes.hole[node]
    if hole.offset < offset:
        divide(holes, hole.right, offset, &hole.right, after)
        before[0] = node
    else:
        divide(holes, hole.left, offset, before, &hole.left)
        after[0] = node
    refresh(holes, node)


cdef int joined(Holes* holes, int before, int after) noexcept nogil:
    """Return one tree of two, all holes of one before those of the other."""
    cdef int node
    if before == NO_HOLE:
        return after
    if after == NO_HOLE:
        return before
    if holes.hole[before].priority > holes.hole[after].priority:
        holes.hole[before].right = joined(holes, holes.hole[before].right, after)
        node = before
    else:
        holes.hole[after].left = joined(holes, before, holes.hole[after].left)
        node = after
    refresh(holes, node)
    return node


cdef int without_last(Holes* holes, int node) noexcept nogil:
    cdef int rest = holes.hole[node].left
    if holes.hole[node].right == NO_HOLE:
        drop(holes, node)
        return rest
    holes.hole[node].right = without_last(holes, holes.hole[node].right)
    refresh(holes, node)
    return node


cdef int without_first(Holes* holes, int node) noexcept nogil:
    cdef int rest = holes.hole[node].right
    if holes.hole[node].left == NO_HOLE:
        drop(holes, node)
        return rest
    holes.hole[node].left = without_first(holes, holes.hole[node].left)
    refresh(holes, node)
    return node


def first_fit(requests):
    """Return the offset of each place, and how many holes were looked at, for tests.

    A request is the number of floats of a place (above 0), or -1 - i: place number i is free again.
    """
    cdef Holes holes
    cdef int64_t floats
    if holes_begin(&holes, len(requests)):
        raise MemoryError
    offsets, sizes = [], []
    try:
        for request in requests:
            floats = request
            if floats > 0:
                offsets.append(holes_take(&holes, floats))
                sizes.append(floats)
            else:
                holes_give(&holes, offsets[-1 - floats], sizes[-1 - floats])
        return offsets, holes.visits
    finally:
        holes_end(&holes)
