"""Calls single kernels for bytes from numpy: for tests and benchmarks."""

import numpy as np

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t

cimport onnxruntime_ep_sparse_kernels.table_bytes as t
from onnxruntime_ep_sparse_kernels.table cimport Combination, Pool

from .quantised import Out


cdef t.ByteKernels* table_of(capsule) except NULL:
    return <t.ByteKernels*>PyCapsule_GetPointer(capsule, "onnxruntime_ep_sparse_kernels.table_bytes")


def pixels(capsule, form):
    """Return how many pixels the tile kernel of a form computes: a unit, or the lanes of a vector if they are few."""
    return table_of(capsule).lanes if form == "few" else table_of(capsule).unit


def spmm(capsule, form, const int32_t[:, ::1] row_start__bg, const int32_t[:, :, ::1] row__bgr,
         const uint16_t[:, ::1] offset__nc, const int32_t[:, ::1] value__nr, tiles, const int32_t[::1] bias__m,
         const float[::1] scale__m=None, out=Out.SUMS, float divisor=1, int zero=0, int low=-128, int high=255, bint signed=False,
         int repeat=1):
    """Run the kernel of the form "quads", "blocks" or "few" (blocks, for few pixels) over all K blocks of a packed matrix, a tile for each.

    Bytes are divided by `divisor`, and have this zero point and these bounds. `tiles` are uint8 arrays, or int32 arrays for blocks.
    Returns the results of M rows and `pixels(capsule, form)`: uint8, or int8 if `signed`; int32 for Out.SUMS, float32 for Out.FLOATS. For
    timing, everything runs `repeat` times.

    Raises ValueError if the arrays do not fit each other.
    """
    cdef t.ByteKernels* table = table_of(capsule)
    cdef int64_t columns = 8 if form == "quads" else 2, width = pixels(capsule, form), b, rows = bias__m.shape[0]
    if row_start__bg.shape[0] != len(tiles) or row__bgr.shape[0] != len(tiles) or row__bgr.shape[1] != row_start__bg.shape[1] - 1 or (
            row__bgr.shape[2] != 2 or offset__nc.shape[1] != columns or value__nr.shape[1] != 2):
        raise ValueError("row_start, row, offset and value do not fit each other")
    if row__bgr.shape[1] and (np.min(row__bgr) < 0 or np.max(row__bgr) >= rows):
        raise ValueError(f"row does not fit {rows} rows")
    if np.max(row_start__bg) > min(offset__nc.shape[0], value__nr.shape[0]) or np.min(row_start__bg) < 0:
        raise ValueError("entries beyond the last one")
    for b, tile in enumerate(tiles):
        if int(np.max(offset__nc[row_start__bg[b, 0]:row_start__bg[b, row_start__bg.shape[1] - 1]], initial=0)) + width > len(tile):
            raise ValueError("an entry reads beyond the tile")
    if (scale__m is None and out != Out.SUMS) or (scale__m is not None and scale__m.shape[0] != rows):
        raise ValueError("every row needs a scale")
    result = np.zeros((rows, width), {Out.SUMS: np.int32, Out.FLOATS: np.float32}.get(out, np.int8 if signed else np.uint8))
    cdef int32_t[:, ::1] partial = np.zeros((rows, width), np.int32)
    cdef int64_t[::1] place = np.array([tile.ctypes.data for tile in tiles], np.int64)
    cdef int64_t y = result.ctypes.data
    cdef t.BytesCall call
    cdef t.spmm_bytes_t kernel = table.quads if form == "quads" else table.blocks if form == "blocks" else table.few
    cdef int _
    if rows == 0:
        return result
    call.offset = &offset__nc[0, 0] if offset__nc.shape[0] else NULL
    call.value = &value__nr[0, 0] if value__nr.shape[0] else NULL
    call.partial = &partial[0, 0]
    call.partial_stride = width
    call.scale = &scale__m[0] if scale__m is not None else NULL
    call.y = <void*>y
    call.y_stride = width
    call.out = <t.Out><int>out
    t.set_results(&call, signed, zero, low, high, divisor, np.max(scale__m) if scale__m is not None else 1)
    call.ahead = NULL
    call.row_begin = 0
    call.row_end = <int32_t>row__bgr.shape[1]
    with nogil:
        for _ in range(repeat):
            for b in range(place.shape[0]):
                call.row_start = &row_start__bg[b, 0]
                call.row = &row__bgr[b, 0, 0]
                call.tile = <const uint8_t*>place[b]
                call.bias = &bias__m[0] if b == 0 else NULL
                call.finish = b == place.shape[0] - 1
                kernel(&call)
    return result


def gather(capsule, const uint8_t[:, ::1] x__cp, runs, int64_t length, int stride=1, int zero=0, bint blocks=False):
    """Gather runs `(source or -1, target, length)` of the planes of x into a tile. Returns uint8 (C, length), or int32 (C / 4, length)."""
    cdef t.ByteKernels* table = table_of(capsule)
    cdef int64_t channels = x__cp.shape[0], i
    result = np.full(((channels + 3) // 4 if blocks else channels, length), 77, np.int32 if blocks else np.uint8)
    cdef int64_t y = result.ctypes.data
    cdef t.Run[64] run
    if len(runs) > 64:
        raise ValueError(f"{len(runs)} runs are more than 64")
    for i in range(len(runs)):
        run[i].source, run[i].target, run[i].length = runs[i]
        if not 0 <= runs[i][1] <= length - runs[i][2] or runs[i][0] + (runs[i][2] - 1) * stride >= x__cp.shape[1]:
            raise ValueError(f"run {runs[i]} does not fit the plane or the tile")
    if blocks:
        table.gather_blocks(<int32_t*>y, length, &x__cp[0, 0], x__cp.shape[1], channels, run, len(runs), stride, <uint8_t>zero)
    else:
        table.gather(<uint8_t*>y, length, &x__cp[0, 0], x__cp.shape[1], channels, run, len(runs), stride, <uint8_t>zero)
    return result


def gather_rows(capsule, const uint8_t[:, ::1] x__rk):
    """Return the transposed matrix, uint8 (K, pitch): as many columns as rows of x, and the last one again up to whole units."""
    cdef t.ByteKernels* table = table_of(capsule)
    cdef int64_t rows = x__rk.shape[0], pitch = (rows + table.unit - 1) // table.unit * table.unit
    result = np.zeros((x__rk.shape[1], pitch), np.uint8)
    cdef uint8_t[:, ::1] tile = result
    table.gather_rows(&tile[0, 0], pitch, &x__rk[0, 0], x__rk.shape[1], rows, x__rk.shape[1])
    return result


def scatter_rows(capsule, const uint8_t[:, ::1] tile__mp, int64_t rows):
    """Return the first `rows` columns of a tile transposed, uint8 (rows, M)."""
    cdef t.ByteKernels* table = table_of(capsule)
    if not 0 < rows <= tile__mp.shape[1] or tile__mp.shape[1] % table.unit:
        raise ValueError(f"{rows} pixels of {tile__mp.shape[1]}, which is to be a multiple of {table.unit}")
    result = np.zeros((rows, tile__mp.shape[0]), np.uint8)
    cdef uint8_t[:, ::1] y = result
    table.scatter_rows(&y[0, 0], tile__mp.shape[0], &tile__mp[0, 0], tile__mp.shape[1], rows, tile__mp.shape[0])
    return result


def combine(capsule, a, b, dtype, bint multiplies=False, float a_zero=0, float a_scale=1, float b_zero=0, float b_scale=1, float shift=0,
            float y_zero=0, float low=-255, float high=255, int repeat=1):
    """Return `a` combined with `b`, arrays of uint8 or int8, as an array of `dtype`; either may have one element for all of the other.

    The numbers are those of `Combination`. For timing, it runs `repeat` times. Raises ValueError if the arrays do not fit each other.
    """
    cdef t.ByteKernels* table = table_of(capsule)
    cdef int64_t n = max(a.size, b.size), a_step = a.size == n, b_step = b.size == n
    if min(a.size, b.size) not in (1, n):
        raise ValueError(f"{a.size} and {b.size} elements")
    result = np.zeros(n, dtype)
    cdef const uint8_t[::1] left = a.view(np.uint8), right = b.view(np.uint8)
    cdef uint8_t[::1] y = result.view(np.uint8)
    cdef Combination c
    cdef int _
    c.multiplies = multiplies
    c.a_zero, c.a_scale, c.b_zero, c.b_scale = a_zero, a_scale, b_zero, b_scale
    c.shift, c.y_zero, c.low, c.high = shift, y_zero, low, high
    c.a_signed, c.b_signed, c.y_signed = a.dtype == np.int8, b.dtype == np.int8, dtype == np.int8
    with nogil:
        for _ in range(repeat):
            table.combine(&y[0], &left[0], a_step, &right[0], b_step, n, &c)
    return result


def max_pool(capsule, x__hw, kernel, strides, pads, dilations=(1, 1), int repeat=1):
    """Return the maxima of the windows in an image of uint8 or int8, padded by `pads` in front and after it as far as they reach.

    For timing, it runs `repeat` times.
    """
    cdef t.ByteKernels* table = table_of(capsule)
    cdef const uint8_t[:, ::1] x = x__hw.view(np.uint8)
    cdef Pool p
    cdef int _
    p.height, p.width = x__hw.shape
    p.kernel_y, p.kernel_x = kernel
    p.stride_y, p.stride_x = strides
    p.dilation_y, p.dilation_x = dilations
    p.pad_y, p.pad_x = pads
    p.row_begin = 0
    p.row_end = (p.height + 2 * p.pad_y - (p.kernel_y - 1) * p.dilation_y - 1) // p.stride_y + 1
    p.out_width = (p.width + 2 * p.pad_x - (p.kernel_x - 1) * p.dilation_x - 1) // p.stride_x + 1
    result = np.zeros((p.row_end, p.out_width), x__hw.dtype)
    cdef uint8_t[:, ::1] y = result.view(np.uint8)
    cdef uint8_t[::1] line = np.zeros(p.width + 2 * p.pad_x + p.kernel_x * p.dilation_x + 3 * p.stride_x * table.unit, np.uint8)
    p.x = <const float*>&x[0, 0]
    p.y = <float*>&y[0, 0]
    p.line = <float*>&line[0]
    cdef bint is_signed = x__hw.dtype == np.int8
    with nogil:
        for _ in range(repeat):
            table.max_pool(&p, is_signed, &x[0, 0] + p.height * p.width)
    return result


def look_up(capsule, x, const uint8_t[::1] table, int repeat=1):
    """Return the entry of `table`, uint8 (256,), for each byte of x, uint8 (N,). For timing, it runs `repeat` times."""
    cdef t.ByteKernels* kernels = table_of(capsule)
    result = np.zeros_like(x)
    cdef const uint8_t[::1] source = x
    cdef uint8_t[::1] y = result
    cdef int _
    if table.shape[0] != 256:
        raise ValueError(f"a table of {table.shape[0]} entries, 256 are expected")
    with nogil:
        for _ in range(repeat):
            kernels.look_up(&y[0], &source[0], source.shape[0], &table[0])
    return result


def sum(capsule, x, int repeat=1):
    """Return the sum of x, uint8 or int8 (N,). For timing, it runs `repeat` times."""
    cdef t.ByteKernels* kernels = table_of(capsule)
    cdef const uint8_t[::1] source = x.view(np.uint8)
    cdef bint is_signed = x.dtype == np.int8
    cdef int64_t total = 0
    cdef int _
    with nogil:
        for _ in range(repeat):
            total = kernels.sum(&source[0], source.shape[0], is_signed)
    return total


def quantize(capsule, const float[::1] x, const float[::1] scale, const float[::1] zero, dtype, int repeat=1):
    """Return x / scale + zero as uint8 or int8 (N,): one scale and zero point, or one of each element. It runs `repeat` times."""
    cdef t.ByteKernels* kernels = table_of(capsule)
    result = np.zeros(x.shape[0], dtype)
    cdef uint8_t[::1] y = result.view(np.uint8)
    cdef int64_t step = expect_numbers(x.shape[0], scale.shape[0], zero.shape[0])
    cdef bint is_signed = dtype == np.int8
    cdef int _
    with nogil:
        for _ in range(repeat):
            kernels.quantize(&y[0], &x[0], x.shape[0], &scale[0], &zero[0], step, is_signed)
    return result


def dequantize(capsule, x, const float[::1] scale, const float[::1] zero, int repeat=1):
    """Return (x - zero) * scale of uint8 or int8 as float32 (N,): likewise."""
    cdef t.ByteKernels* kernels = table_of(capsule)
    cdef const uint8_t[::1] source = x.view(np.uint8)
    result = np.zeros(x.size, np.float32)
    cdef float[::1] y = result
    cdef int64_t step = expect_numbers(x.size, scale.shape[0], zero.shape[0])
    cdef bint is_signed = x.dtype == np.int8
    cdef int _
    with nogil:
        for _ in range(repeat):
            kernels.dequantize(&y[0], &source[0], source.shape[0], &scale[0], &zero[0], step, is_signed)
    return result


def expect_numbers(n, scales, zeros):
    """Return the step of scales and zero points; ValueError unless there is one of each, or one for each of n elements."""
    if scales != zeros or scales not in (1, n):
        raise ValueError(f"{scales} scales and {zeros} zero points of {n} elements")
    return int(scales == n)
