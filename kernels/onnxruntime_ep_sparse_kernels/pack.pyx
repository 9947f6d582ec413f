"""Packs a pruned weight matrix in the order in which the tile kernels read it."""

from collections import namedtuple
from contextlib import suppress
from mmap import mmap
from threading import local

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from onnxruntime_ep_sparse_kernels.isa import APART, DEPTHWISE_OUTPUTS, SHARED, STRIP

cdef enum:
    PAGES = 1 << 15  # bytes from which an array may get pages of its own
    FIRST = 8        # columns by which rows are compared first

cdef uint64_t PRIME = 0x9E3779B97F4A7C15


Csr = namedtuple("Csr", ("rows", "depth", "start__m", "k__n", "value__n"))
Csr.__doc__ = """A matrix in compressed sparse row form: `rows` by `depth` elements, of which the nonzeros are stored row by row.

`start__m` int64 (rows + 1,): position of the first nonzero of each row. `k__n` uint32 (n,): their columns. `value__n` float32 (n,).
"""


_thread = local()


def use_own_pages():
    """Give large arrays of this thread pages of their own, which return to the system as soon as an array is freed.

    For threads that end soon: glibc would keep 6 MB per session of ResNet-50. Other threads are faster with memory that they used before.
    """
    _thread.use_own_pages = True


def scratch_array(shape, dtype):
    """Return an uninitialized array of this shape and dtype; see `use_own_pages`."""
    cdef int64_t size = np.prod(shape, dtype=np.int64) * np.dtype(dtype).itemsize
    if size >= PAGES and getattr(_thread, "use_own_pages", False):
        with suppress(OSError):  # at the limit of mappings of a process
            return np.frombuffer(mmap(-1, size), dtype).reshape(shape)
    return np.empty(shape, dtype)


def trimmed(array):
    """Return a copy of a slice, so that the larger array that it is a view of can be freed."""
    result = scratch_array(array.shape, array.dtype)
    result[:] = array
    return result


def compress(weight__mk):
    """Return the nonzeros of a float32 matrix of M rows and K columns as a Csr. Any memory order; -0.0 counts as zero, NaN does not."""
    if weight__mk.flags.f_contiguous and not weight__mk.flags.c_contiguous:
        return transpose(row_by_row(weight__mk.T))  # reads memory in its order
    return row_by_row(np.ascontiguousarray(weight__mk))


def row_by_row(const float[:, ::1] weight__mk):
    """Return the nonzeros of a matrix in row-major order as a Csr."""
    cdef int64_t rows = weight__mk.shape[0], depth = weight__mk.shape[1], m, k, n = 0
    start__m = np.empty(rows + 1, np.int64)
    # As large as a dense matrix; the system provides only the pages that are written. One element more, because the loop writes first and
    # counts afterwards: that avoids a branch that no predictor gets right.
    k__n = scratch_array(rows * depth + 1, np.uint32)
    value__n = scratch_array(rows * depth + 1, np.float32)
    cdef int64_t[::1] start = start__m
    cdef uint32_t[::1] ks = k__n
    cdef float[::1] values = value__n
    with nogil:
        for m in range(rows):
            start[m] = n
            for k in range(depth):
                ks[n] = <uint32_t>k
                values[n] = weight__mk[m, k]
                n += weight__mk[m, k] != 0
        start[rows] = n
    return Csr(rows, depth, start__m, k__n[:n], value__n[:n])


def at_places(int64_t rows, int64_t depth, const int64_t[::1] places, const float[::1] values):
    """Return the Csr of a matrix that has `values` at `places` and zeros elsewhere.

    `places` int64 (n,) ascend and count elements in row-major order. Zeros among the values are left out.
    """
    cdef int64_t i, m = 0, n = 0
    start__m = np.empty(rows + 1, np.int64)
    k__n = scratch_array(len(values) + 1, np.uint32)
    value__n = scratch_array(len(values) + 1, np.float32)
    cdef int64_t[::1] start = start__m
    cdef uint32_t[::1] ks = k__n
    cdef float[::1] to_value = value__n
    with nogil:
        start[0] = 0
        for i in range(values.shape[0]):
            while places[i] >= (m + 1) * depth:
                m += 1
                start[m] = n
            ks[n] = <uint32_t>(places[i] - m * depth)
            to_value[n] = values[i]
            n += values[i] != 0
        while m < rows:
            m += 1
            start[m] = n
    return Csr(rows, depth, start__m, k__n[:n], value__n[:n])


def transpose(matrix):
    """Return the transposed matrix as a Csr."""
    cdef const int64_t[::1] start = matrix.start__m
    cdef const uint32_t[::1] ks = matrix.k__n
    cdef const float[::1] values = matrix.value__n
    cdef int64_t rows = matrix.rows, depth = matrix.depth, m, n, k, begin = 0, length
    start__k = np.zeros(depth + 1, np.int64)
    m__n = scratch_array(len(ks), np.uint32)
    value__n = scratch_array(len(ks), np.float32)
    cdef int64_t[::1] place = start__k
    cdef uint32_t[::1] to_m = m__n
    cdef float[::1] to_value = value__n
    with nogil:
        for n in range(start[rows]):
            place[ks[n]] += 1
        for k in range(depth + 1):
            length = place[k]
            place[k] = begin
            begin += length
        for m in range(rows):
            for n in range(start[m], start[m + 1]):
                k = ks[n]
                to_m[place[k]] = <uint32_t>m
                to_value[place[k]] = values[n]
                place[k] += 1
        # each place now stands at the end of its column, where the next one begins
        for k in range(depth, 0, -1):
            place[k] = place[k - 1]
        place[0] = 0
    return Csr(depth, rows, start__k, m__n, value__n)


def common_columns(matrix, int64_t step, order__m=None):
    """Return (columns, nonzeros), summed over every `step`-th group of SHARED rows: columns with a nonzero in any row, and all nonzeros.

    Rows follow each other as they are, or in the order of `order__m` int32 (M,).
    """
    cdef const int64_t[::1] start = matrix.start__m
    cdef const uint32_t[::1] ks = matrix.k__n
    cdef int64_t mr = SHARED, groups = matrix.rows // mr, g = 0, i, m, n, columns = 0, nonzeros = 0
    cdef int64_t[::1] last = np.full(matrix.depth, -1, np.int64)
    cdef const int32_t[::1] order = np.arange(matrix.rows, dtype=np.int32) if order__m is None else order__m
    with nogil:
        while g < groups:
            for i in range(g * mr, (g + 1) * mr):
                m = order[i]
                for n in range(start[m], start[m + 1]):
                    columns += last[ks[n]] != g
                    last[ks[n]] = g
                nonzeros += start[m + 1] - start[m]
            g += step
    return columns, nonzeros


def alike_rows(matrix):
    """Return an order of rows, int32 (M,), in which SHARED at a time begin with the same columns and are as long; None if few rows do.

    Blocks of SHARED outputs are found so whatever the order of the outputs. Rows that lack companions come last.
    """
    cdef const int64_t[::1] start = matrix.start__m
    cdef const uint32_t[::1] ks = matrix.k__n
    cdef int64_t rows = matrix.rows, m, n
    cdef uint64_t key
    if rows < SHARED:
        return None
    key__m = np.empty(rows, np.uint64)
    cdef uint64_t[::1] keys = key__m
    with nogil:
        for m in range(rows):
            key = <uint64_t>(start[m + 1] - start[m])
            for n in range(start[m], min(start[m + 1], start[m] + FIRST)):
                key = (key ^ ks[n]) * PRIME
                key ^= key >> 29
            keys[m] = key
    order__m = np.argsort(key__m, kind="stable").astype(np.int32)
    sorted__m = key__m[order__m]
    if 4 * np.count_nonzero(sorted__m[1:] == sorted__m[:-1]) < rows:
        return None
    first__m = np.concatenate([[True], sorted__m[1:] != sorted__m[:-1]])
    begin__g = np.flatnonzero(first__m)
    size__g = np.diff(np.append(begin__g, rows))
    group__m = np.cumsum(first__m) - 1
    whole__m = np.arange(rows) - begin__g[group__m] < (size__g // SHARED * SHARED)[group__m]
    if 2 * np.count_nonzero(whole__m) < rows:
        return None
    # the groups in the order of their first rows, so that neighbours in memory stay near
    firsts__m = order__m[begin__g][group__m]
    return order__m[np.lexsort((order__m, np.where(whole__m, firsts__m, rows)))]


def pack(matrix, const int64_t[::1] bounds, int mr, order__m=None):
    """Order a Csr matrix of M rows and K columns for the kernels. K is cut into blocks at `bounds` int64 (blocks + 1,), first 0, last K.

    Returns `(row_start__bg, row__bgr, k__nc, value__nr)`: int32 (blocks, groups + 1), positions of each group's entries, absolute; int32
    (blocks, groups, mr), the rows of each group; uint32 (n, mr or 1), the columns of each entry; float32 (n, mr), its values. Entries are
    ordered by block, group, column.

    `mr` = SHARED: a group has rows that are neighbours, in the order of `order__m` int32 (M,) if that is given, and keeps a column if any
    of them has a nonzero there. `mr` = APART: each row has columns
    of its own. In every block, rows of similar length within a strip form groups; the shorter ones end with zeros at their own last
    column. If the last group lacks rows, it repeats its last one.

    Raises ValueError if `bounds` do not end with K, if there are no kernels with this `mr`, and above 2**30 nonzeros.
    """
    cdef int64_t rows = matrix.rows, blocks = bounds.shape[0] - 1
    if bounds[blocks] != matrix.depth:
        raise ValueError(f"blocks that end at {bounds[blocks]} do not fit {rows}x{matrix.depth} weights")
    if mr not in (APART, SHARED):
        raise ValueError(f"no kernels with MR={mr}")
    if len(matrix.k__n) * 2 > 0x7FFFFFFF:
        raise ValueError(f"{len(matrix.k__n)} nonzeros: more than 2**30 in one matrix are not supported")
    if mr == APART:
        return pack_apart(rows, blocks, cut(matrix, bounds), matrix.k__n, matrix.value__n)
    order__m = np.arange(rows, dtype=np.int32) if order__m is None else order__m
    return pack_shared(rows, blocks, cut(matrix, bounds), matrix.k__n, matrix.value__n, order__m)


def cut(matrix, const int64_t[::1] bounds):
    """Return the position of the first nonzero of each row and block, and the end of the last: int64 (M * blocks + 1,)."""
    cdef const int64_t[::1] start = matrix.start__m
    cdef const uint32_t[::1] ks = matrix.k__n
    cdef int64_t rows = matrix.rows, blocks = bounds.shape[0] - 1, m, b, n = 0
    start__mb = scratch_array(rows * blocks + 1, np.int64)
    cdef int64_t[::1] begin = start__mb
    with nogil:
        for m in range(rows):
            for b in range(blocks):
                begin[m * blocks + b] = n
                while n < start[m + 1] and ks[n] < bounds[b + 1]:
                    n += 1
        begin[rows * blocks] = n
    return start__mb


def pack_apart(int64_t rows, int64_t blocks, const int64_t[::1] start, const uint32_t[::1] ks, const float[::1] values):
    """Return what `pack` returns for groups of two rows of similar length, each with columns of its own."""
    cdef int64_t groups = (rows + 1) // 2, b, g, r, m, i, j, n = 0, longest, length, first, strip = STRIP
    row__bgr = scratch_array((blocks, groups, 2), np.int32)
    row_start__bg = np.zeros((blocks, groups + 1), np.int32)
    cdef int32_t[:, :, ::1] row = row__bgr
    cdef int32_t[:, ::1] row_start = row_start__bg
    cdef int32_t[::1] order = np.empty(rows + 1, np.int32)
    with nogil:
        for b in range(blocks):
            for m in range(rows):
                # insertion sort within the strip: stable, and strips are short
                length = start[m * blocks + b + 1] - start[m * blocks + b]
                i = m
                while i > m - m % strip and start[order[i - 1] * blocks + b + 1] - start[order[i - 1] * blocks + b] > length:
                    order[i] = order[i - 1]
                    i -= 1
                order[i] = <int32_t>m
            if rows % 2:
                order[rows] = order[rows - 1]
            for g in range(groups):
                row_start[b, g] = <int32_t>n
                longest = 0
                for r in range(2):
                    m = row[b, g, r] = order[2 * g + r]
                    length = start[m * blocks + b + 1] - start[m * blocks + b]
                    longest = length if length > longest else longest
                n += longest
            row_start[b, groups] = <int32_t>n
    k__nc = scratch_array((n, 2), np.uint32)
    value__nr = scratch_array((n, 2), np.float32)
    cdef uint32_t[:, ::1] to_k = k__nc
    cdef float[:, ::1] to_value = value__nr
    with nogil:
        for b in range(blocks):
            for g in range(groups):
                longest = row_start[b, g + 1] - row_start[b, g]
                for r in range(2):
                    first = start[row[b, g, r] * blocks + b]
                    length = start[row[b, g, r] * blocks + b + 1] - first
                    n = row_start[b, g]
                    for j in range(length):
                        to_k[n + j, r] = ks[first + j]
                        to_value[n + j, r] = values[first + j]
                    for j in range(length, longest):
                        # an empty row reads its neighbour's pixels
                        to_k[n + j, r] = ks[first + length - 1] if length else ks[start[row[b, g, 1] * blocks + b]]
                        to_value[n + j, r] = 0
    return row_start__bg, row__bgr, k__nc, value__nr


def pack_shared(int64_t rows, int64_t blocks, const int64_t[::1] start, const uint32_t[::1] ks, const float[::1] values, order__m):
    """Return what `pack` returns for groups of SHARED rows that follow each other in this order, merged column by column."""
    cdef int64_t mr = SHARED, groups = (rows + mr - 1) // mr, b, g, r, n = 0
    cdef int64_t[4] at
    cdef int64_t[4] end
    cdef uint32_t k, none = 0xFFFFFFFF
    row = np.concatenate([order__m, np.repeat(order__m[-1:], groups * mr - rows)]).reshape(1, groups, mr)
    row__bgr = np.repeat(row, blocks, axis=0)
    row_start__bg = np.zeros((blocks, groups + 1), np.int32)
    cdef int32_t[:, :, ::1] rs = row__bgr
    cdef int32_t[:, ::1] row_start = row_start__bg
    # merged columns are at most as many as those of single rows
    k__nc = scratch_array((len(ks), 1), np.uint32)
    value__nr = scratch_array((len(ks), mr), np.float32)
    cdef uint32_t[:, ::1] to_k = k__nc
    cdef float[:, ::1] to_value = value__nr
    with nogil:
        for b in range(blocks):
            for g in range(groups):
                row_start[b, g] = <int32_t>n
                for r in range(mr):
                    at[r] = start[rs[b, g, r] * blocks + b]
                    end[r] = start[rs[b, g, r] * blocks + b + 1]
                while True:
                    k = none
                    for r in range(mr):
                        if at[r] < end[r] and ks[at[r]] < k:
                            k = ks[at[r]]
                    if k == none:
                        break
                    to_k[n, 0] = k
                    for r in range(mr):
                        to_value[n, r] = 0
                        if at[r] < end[r] and ks[at[r]] == k:
                            to_value[n, r] = values[at[r]]
                            at[r] += 1
                    n += 1
            row_start[b, groups] = <int32_t>n
    return row_start__bg, row__bgr, trimmed(k__nc[:n]), trimmed(value__nr[:n])


def depthwise_values(value__mt):
    """Return the weights of a depthwise convolution as its kernels read them: DEPTHWISE_OUTPUTS outputs beside each other, tap after tap.

    float32 (M, taps) -> (outputs / DEPTHWISE_OUTPUTS, taps, DEPTHWISE_OUTPUTS), with zeros for outputs after M.
    """
    outputs, taps = value__mt.shape
    blocks = -(-outputs // DEPTHWISE_OUTPUTS)
    padded = np.zeros((blocks * DEPTHWISE_OUTPUTS, taps), np.float32)
    padded[:outputs] = value__mt
    return np.ascontiguousarray(padded.reshape(blocks, DEPTHWISE_OUTPUTS, taps).swapaxes(1, 2))
