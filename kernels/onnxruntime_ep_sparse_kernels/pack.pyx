"""Packs a pruned weight matrix into the order in which the tile kernels read it."""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint32_t


def pack(const float[:, ::1] weight__mk, const int64_t[::1] bounds, int mr):
    """Compress a dense float32 matrix of M rows and K columns, K cut into blocks at `bounds` (first 0, last K).

    Rows are taken in groups of `mr`, and M must be a multiple of it; a group keeps a column where any of its rows is nonzero.
    Returns `(row_start, k, value)`: int32 of shape (blocks, M / mr + 1), positions of each group's entries, absolute; uint32 (nnz,),
    the column of each entry; float32 (nnz, mr), its values. Entries are ordered by block, group, column. -0.0 counts as zero, NaN does not.
    """
    cdef int64_t groups = weight__mk.shape[0] // mr, blocks = bounds.shape[0] - 1
    cdef int64_t b, g, k, r, n = 0
    if weight__mk.shape[0] % mr or bounds[blocks] != weight__mk.shape[1]:
        raise ValueError(f"{weight__mk.shape[0]}x{weight__mk.shape[1]} weights do not fit row groups of {mr} and K = {bounds[blocks]}")
    row_start__bg = np.empty((blocks, groups + 1), np.int32)
    cdef int32_t[:, ::1] row_start = row_start__bg
    cdef int keep
    # An upper bound on the entries: count them group by group, without the block order.
    with nogil:
        for g in range(groups):
            for k in range(weight__mk.shape[1]):
                keep = 0
                for r in range(mr):
                    keep |= weight__mk[g * mr + r, k] != 0
                n += keep
    if n > 0x7FFFFFFF:
        raise ValueError(f"{n} nonzeros: more than 2**31 - 1 in one matrix are not supported")
    k__n = np.empty(n, np.uint32)
    value__nr = np.empty((n, mr), np.float32)
    cdef uint32_t[::1] ks = k__n
    cdef float[:, ::1] values = value__nr
    n = 0
    with nogil:
        for b in range(blocks):
            for g in range(groups):
                row_start[b, g] = <int32_t>n
                for k in range(bounds[b], bounds[b + 1]):
                    keep = 0
                    for r in range(mr):
                        keep |= weight__mk[g * mr + r, k] != 0
                    if keep:
                        ks[n] = <uint32_t>k
                        for r in range(mr):
                            values[n, r] = weight__mk[g * mr + r, k]
                        n += 1
            row_start[b, groups] = <int32_t>n
    return row_start__bg, k__n, value__nr
