"""Packs a pruned matrix of 8-bit weights in the order in which the tile kernels for bytes read it.

Two products of unsigned and signed bytes are added in 16 bits before four become one int32 (`vpmaddubsw`). Packing chooses the weights
beside each other so that this sum always fits: two of opposite signs, two of one sign whose magnitudes add up to at most SAFE, or one and
a zero. Every instruction set then gives equal bits.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport abs

from onnxruntime_ep_sparse_kernels.isa import STRIP

from .pack import cut, scratch_array

cdef enum:
    SAFE = 128   # times 255 is 32640
    MAGNITUDES = 129


def check_weights(matrix):
    """ValueError unless all nonzeros of a Csr are whole numbers that fit 8 bits, and few enough to count their entries in int32."""
    cdef const float[::1] values = matrix.value__n
    cdef int64_t n
    if len(matrix.k__n) > 0x3FFFFFFF:
        raise ValueError(f"{len(matrix.k__n)} nonzeros: more than 2**30 in one matrix are not supported")
    for n in range(values.shape[0]):
        if not -128 <= values[n] <= 127 or values[n] != <int32_t>values[n]:
            raise ValueError(f"weight {values[n]} is not an integer of 8 bits")


def pack_quads(matrix, const int64_t[::1] bounds):
    """Order a Csr matrix of M rows and K columns for the kernels of quads. K is cut into blocks at `bounds` int64 (blocks + 1,).

    Returns `(row_start__bg, row__bgr, k__nc, value__nr)`: int32 (blocks, groups + 1), positions of each group's entries, absolute; int32
    (blocks, groups, 2), the rows of each group; uint32 (n, 8), four columns for each row of an entry; int32 (n, 2), their four weights,
    the first in the lowest byte. In every block, rows of similar length within a strip form groups; the shorter ones end with zeros. If
    the last group lacks a row, it repeats its last one.

    Raises ValueError if `bounds` do not end with K, or for a weight that is not an integer of 8 bits.
    """
    cdef int64_t rows = matrix.rows, blocks = bounds.shape[0] - 1, b, m, n, first, count, slots = 0, most = 1
    if bounds[blocks] != matrix.depth:
        raise ValueError(f"blocks that end at {bounds[blocks]} do not fit {rows}x{matrix.depth} weights")
    check_weights(matrix)
    cdef const int64_t[::1] start = cut(matrix, bounds)
    cdef const uint32_t[::1] ks = matrix.k__n
    cdef const float[::1] values = matrix.value__n
    for n in range(rows * blocks):
        most = max(most, start[n + 1] - start[n])
    cdef int64_t[::1] order = np.empty(2 * most, np.int64)
    cdef int64_t capacity = 2 * values.shape[0] + 4 * rows * blocks
    cdef uint32_t[::1] slot_k = scratch_array(capacity, np.uint32)
    cdef int32_t[::1] slot_w = scratch_array(capacity, np.int32)
    begin__bm = np.empty((blocks, rows), np.int64)
    length__bm = np.empty((blocks, rows), np.int64)
    cdef int64_t[:, ::1] begin = begin__bm
    cdef int64_t[:, ::1] length = length__bm
    with nogil:
        for m in range(rows):
            for b in range(blocks):
                first = start[m * blocks + b]
                count = start[m * blocks + b + 1] - first
                begin[b, m] = slots
                if count:
                    slots += pair_safely(&ks[first], &values[first], count, &order[0], &slot_k[slots], &slot_w[slots])
                length[b, m] = (slots - begin[b, m]) // 4
    row_start__bg, row__bgr = grouped(length__bm)
    cdef const int32_t[:, ::1] row_start = row_start__bg
    cdef const int32_t[:, :, ::1] row = row__bgr
    cdef int64_t entries = row_start__bg[blocks - 1, row_start__bg.shape[1] - 1]
    k__nc = scratch_array((entries, 8), np.uint32)
    value__nr = scratch_array((entries, 2), np.int32)
    cdef uint32_t[:, ::1] to_k = k__nc
    cdef int32_t[:, ::1] to_value = value__nr
    cdef int64_t g, r, i, j, at
    cdef uint32_t word
    with nogil:
        for b in range(blocks):
            for g in range(row.shape[1]):
                for r in range(2):
                    m = row[b, g, r]
                    at = begin[b, m]
                    for j in range(row_start[b, g + 1] - row_start[b, g]):
                        n = row_start[b, g] + j
                        word = 0
                        for i in range(4):
                            # beyond the end of a row: zeros that read what its first column reads, or the block's
                            to_k[n, 4 * r + i] = slot_k[at + 4 * j + i] if j < length[b, m] else (
                                slot_k[at] if length[b, m] else <uint32_t>bounds[b])
                            if j < length[b, m]:
                                word |= (<uint32_t>slot_w[at + 4 * j + i] & 0xFF) << (8 * i)
                        to_value[n, r] = <int32_t>word
    return row_start__bg, row__bgr, k__nc, value__nr


cdef int64_t pair_safely(const uint32_t* ks, const float* values, int64_t n, int64_t* order, uint32_t* to_k,
                         int32_t* to_w) noexcept nogil:
    """Write n weights as safe pairs, and zeros up to a multiple of four; return how many slots they take.

    The largest weights of the sign that occurs more often meet one of the other sign. Of those that are left, the largest meets the
    smallest where that is safe.
    """
    cdef int64_t counts[2][MAGNITUDES + 1]
    cdef int64_t[2] size
    cdef int64_t* by_sign[2]
    cdef int64_t i, s, at, slots = 0, common, low, high
    cdef int32_t w
    by_sign[0] = order
    by_sign[1] = order + n
    for s in range(2):
        for i in range(MAGNITUDES + 1):
            counts[s][i] = 0
    for i in range(n):
        w = <int32_t>values[i]
        counts[w < 0][SAFE - abs(w) + 1] += 1
    for s in range(2):
        for i in range(MAGNITUDES):
            counts[s][i + 1] += counts[s][i]
        size[s] = counts[s][MAGNITUDES]
    for i in range(n):
        w = <int32_t>values[i]
        at = SAFE - abs(w)
        by_sign[w < 0][counts[w < 0][at]] = i
        counts[w < 0][at] += 1
    common = size[0] if size[0] < size[1] else size[1]
    for i in range(common):
        slots = add_pair(ks, values, by_sign[0][i], by_sign[1][i], to_k, to_w, slots)
    s = size[1] > size[0]
    low = common
    high = size[s] - 1
    while low <= high:
        if low < high and abs(<int32_t>values[by_sign[s][low]]) + abs(<int32_t>values[by_sign[s][high]]) <= SAFE:
            slots = add_pair(ks, values, by_sign[s][low], by_sign[s][high], to_k, to_w, slots)
            high -= 1
        else:
            slots = add_pair(ks, values, by_sign[s][low], -1, to_k, to_w, slots)
        low += 1
    if slots % 4:
        to_k[slots] = to_k[slots + 1] = to_k[slots - 1]
        to_w[slots] = to_w[slots + 1] = 0
        slots += 2
    return slots


cdef inline int64_t add_pair(const uint32_t* ks, const float* values, int64_t i, int64_t j, uint32_t* to_k, int32_t* to_w,
                             int64_t slots) noexcept nogil:
    """Write weights i and j as the next pair, or i and a zero; return the number of slots then."""
    to_k[slots] = ks[i]
    to_w[slots] = <int32_t>values[i]
    to_k[slots + 1] = ks[j] if j >= 0 else ks[i]
    to_w[slots + 1] = <int32_t>values[j] if j >= 0 else 0
    return slots + 2


def grouped(length__bm):
    """Put rows of similar length in groups of two, strip by strip. Returns (row_start__bg, row__bgr) as `pack_quads` does.

    `length__bm` int64 (blocks, M) has the entries of each row.
    """
    blocks, rows = length__bm.shape
    groups = (rows + 1) // 2
    strip__m = np.arange(rows) // STRIP
    row__bgr = np.empty((blocks, 2 * groups), np.int32)
    for b in range(blocks):
        row__bgr[b, :rows] = np.lexsort((length__bm[b], strip__m))
    row__bgr[:, rows:] = row__bgr[:, rows - 1 : rows]
    row__bgr = row__bgr.reshape(blocks, groups, 2)
    order__bm = row__bgr.reshape(blocks, -1).astype(np.int64)
    longest__bg = np.take_along_axis(length__bm, order__bm, axis=1).reshape(blocks, groups, 2).max(axis=2)
    ends__n = np.cumsum(longest__bg.reshape(-1))
    row_start__bg = np.zeros((blocks, groups + 1), np.int32)
    row_start__bg[:, 1:] = ends__n.reshape(blocks, groups)
    row_start__bg[1:, 0] = row_start__bg[:-1, -1]
    return row_start__bg, row__bgr


cdef inline bint unsafe(uint32_t word) noexcept nogil:
    """Return whether the products of a pair of these four weights may add up to more than 16 bits hold."""
    cdef int32_t a, b, i
    for i in range(2):
        a = <signed char>(word >> (16 * i))
        b = <signed char>(word >> (16 * i + 8))
        if (a ^ b) >= 0 and abs(a) + abs(b) > SAFE:
            return True
    return False


cdef void read_row(const uint32_t* ks, const float* values, int64_t n, int64_t taps, uint32_t* words) noexcept nogil:
    """Add the weights of a row to the words of their blocks of four channels."""
    cdef int64_t i, channel
    for i in range(n):
        channel = ks[i] // taps
        words[channel // 4 * taps + ks[i] % taps] |= (<uint32_t><int32_t>values[i] & 0xFF) << (8 * (channel % 4))


def count_blocks(matrix, int64_t taps):
    """Return how many entries the weights of a Csr take as blocks of four channels at the same of so many taps."""
    cdef const int64_t[::1] start = matrix.start__m
    cdef const uint32_t[::1] ks = matrix.k__n
    cdef const float[::1] values = matrix.value__n
    cdef int64_t columns = (matrix.depth // taps + 3) // 4 * taps, m, i, count = 0
    check_weights(matrix)
    cdef uint32_t[::1] words = np.zeros(columns, np.uint32)
    with nogil:
        for m in range(start.shape[0] - 1):
            if start[m] < start[m + 1]:
                read_row(&ks[start[m]], &values[start[m]], start[m + 1] - start[m], taps, &words[0])
            for i in range(columns):
                if words[i]:
                    count += 1 + unsafe(words[i])
                    words[i] = 0
    return count


def pack_blocks(matrix, int64_t taps, const int64_t[::1] bounds):
    """Order a Csr matrix for the kernels of blocks.

    Column c * taps + t of K is channel c at tap t; column q * taps + t of blocks has channels 4q to 4q + 3.

    `bounds` int64 (blocks of K + 1,) cut these columns of blocks. Returns what `pack_quads` does, with k__nc uint32 (n, 2): a column of
    blocks for each row of an entry. A block that is not safe becomes two entries.

    Raises ValueError if `bounds` do not end with the last column of blocks, or for a weight that is not an integer of 8 bits.
    """
    cdef int64_t rows = matrix.rows, blocks = bounds.shape[0] - 1, columns = (matrix.depth // taps + 3) // 4 * taps
    cdef int64_t b, m, i, entries, n = 0, total = count_blocks(matrix, taps)
    if bounds[blocks] != columns:
        raise ValueError(f"blocks that end at {bounds[blocks]} do not fit {rows}x{matrix.depth} weights")
    cdef const int64_t[::1] start = matrix.start__m
    cdef const uint32_t[::1] ks = matrix.k__n
    cdef const float[::1] values = matrix.value__n
    cdef uint32_t[::1] words = np.zeros(columns, np.uint32)
    cdef uint32_t[::1] slot_k = scratch_array(total + 1, np.uint32)
    cdef uint32_t[::1] slot_w = scratch_array(total + 1, np.uint32)
    begin__bm = np.empty((blocks, rows), np.int64)
    length__bm = np.empty((blocks, rows), np.int64)
    cdef int64_t[:, ::1] begin = begin__bm
    cdef int64_t[:, ::1] length = length__bm
    with nogil:
        for m in range(rows):
            if start[m] < start[m + 1]:
                read_row(&ks[start[m]], &values[start[m]], start[m + 1] - start[m], taps, &words[0])
            for b in range(blocks):
                begin[b, m] = n
                for i in range(bounds[b], bounds[b + 1]):
                    if words[i] and unsafe(words[i]):
                        slot_k[n] = slot_k[n + 1] = <uint32_t>i
                        slot_w[n] = words[i] & <uint32_t>0x00FF00FF
                        slot_w[n + 1] = words[i] & <uint32_t>0xFF00FF00U
                        n += 2
                    elif words[i]:
                        slot_k[n] = <uint32_t>i
                        slot_w[n] = words[i]
                        n += 1
                    words[i] = 0
                length[b, m] = n - begin[b, m]
    row_start__bg, row__bgr = grouped(length__bm)
    cdef const int32_t[:, ::1] row_start = row_start__bg
    cdef const int32_t[:, :, ::1] row = row__bgr
    entries = row_start__bg[blocks - 1, row_start__bg.shape[1] - 1]
    k__nc = scratch_array((entries, 2), np.uint32)
    value__nr = scratch_array((entries, 2), np.int32)
    cdef uint32_t[:, ::1] to_k = k__nc
    cdef int32_t[:, ::1] to_value = value__nr
    cdef int64_t g, r, j
    with nogil:
        for b in range(blocks):
            for g in range(row.shape[1]):
                for r in range(2):
                    m = row[b, g, r]
                    for j in range(row_start[b, g + 1] - row_start[b, g]):
                        n = row_start[b, g] + j
                        if j < length[b, m]:
                            to_k[n, r] = slot_k[begin[b, m] + j]
                            to_value[n, r] = <int32_t>slot_w[begin[b, m] + j]
                        else:
                            to_k[n, r] = slot_k[begin[b, m]] if length[b, m] else <uint32_t>bounds[b]
                            to_value[n, r] = 0
    return row_start__bg, row__bgr, k__nc, value__nr
