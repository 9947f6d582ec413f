"""Calls single kernels from numpy: for tests, benchmarks and weights of 16 bits, without ONNX Runtime and without a program."""

import numpy as np

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint16_t

cimport onnxruntime_ep_sparse_kernels.table as t
from onnxruntime_ep_sparse_kernels._enums cimport APART, MAX_MR, MAX_NV, SHARED

from .pack import depthwise_values


cdef t.KernelTable* table_of(capsule) except NULL:
    return <t.KernelTable*>PyCapsule_GetPointer(capsule, "onnxruntime_ep_sparse_kernels.table")


def spmm(capsule, int mr, int nv, const int32_t[::1] row_start, const int32_t[:, ::1] row__gr, const uint16_t[:, ::1] offset__nc,
         const float[:, ::1] value__nr, const float[::1] tile, const float[::1] bias__m, float[:, ::1] y__mp,
         const float[:, ::1] residual__mp=None, float low=-np.inf, float high=np.inf, bint finish=True, int repeat=1, bint pixel=False):
    """Run tile kernel (mr, nv) of an instruction set's `capsule` over all row groups and write into `y__mp` of M rows.

    `row_start`, `row__gr` and `value__nr` come from `pack` (one K block). Entry j multiplies nv vectors of pixels from
    `tile[offset__nc[j]]` on. With `bias__m` None the sums continue from y. If `finish`, `residual__mp` (of y's shape, or y itself) is added
    and the result is clamped to [low, high]. For timing, the kernel runs `repeat` times. Columns of y after nv vectors stay as they are.
    With `pixel` it is the kernel that computes one pixel more.

    Raises ValueError if there is no such kernel, or if the arrays do not fit each other.
    """
    cdef t.KernelTable* table = table_of(capsule)
    if not (0 < mr <= MAX_MR and 0 < nv <= MAX_NV) or table.spmm[mr][nv] == NULL or (
            pixel and (mr != SHARED or nv != table.pixel_vectors)):
        raise ValueError(f"no kernel with MR={mr}, NV={nv}{' and a pixel' if pixel else ''}")
    cdef t.spmm_t kernel = table.spmm_pixel if pixel else table.spmm[mr][nv]
    cdef int64_t groups = row_start.shape[0] - 1, width = nv * table.lanes + pixel, entries = row_start[row_start.shape[0] - 1]
    cdef int64_t rows = y__mp.shape[0]
    if groups and (np.min(row__gr) < 0 or np.max(row__gr) >= rows or row__gr.shape[0] != groups or row__gr.shape[1] != mr):
        raise ValueError(f"{groups} groups of {mr} rows do not fit {rows} rows of y")
    if y__mp.shape[1] < width or (bias__m is not None and bias__m.shape[0] != rows):
        raise ValueError(f"y and bias must have {rows} rows, y at least {width} columns")
    if residual__mp is not None and (residual__mp.shape[0] != rows or residual__mp.shape[1] != y__mp.shape[1]):
        raise ValueError("residual must have the shape of y")
    if offset__nc.shape[0] and int(np.max(offset__nc)) + width > tile.shape[0]:
        raise ValueError("an entry reads beyond the tile")
    if row_start[0] < 0 or entries > offset__nc.shape[0] or entries > value__nr.shape[0] or value__nr.shape[1] != mr or (
            offset__nc.shape[1] != (mr if mr == APART else 1)):
        raise ValueError("row_start, offset and value do not fit each other")
    if groups == 0:
        return
    # kernels read SPMM_SLACK offsets too many
    cdef const uint16_t[::1] offset = np.concatenate([np.ravel(offset__nc), np.zeros(t.SPMM_SLACK, np.uint16)])
    cdef t.SpmmCall call
    call.row_start = &row_start[0]
    call.row = &row__gr[0, 0]
    call.offset = &offset[0]
    call.value = &value__nr[0, 0] if value__nr.shape[0] else NULL
    call.tile = &tile[0]
    call.bias = &bias__m[0] if bias__m is not None else NULL
    call.y = &y__mp[0, 0]
    call.y_stride = y__mp.shape[1]
    call.partial = call.y
    call.partial_stride = call.y_stride
    call.residual = &residual__mp[0, 0] if residual__mp is not None else NULL
    call.low = low
    call.high = high
    call.ahead = call.residual
    t.read_tile(&call)
    call.finish = finish
    call.row_begin = 0
    call.row_end = <int32_t>groups
    cdef int _
    with nogil:
        for _ in range(repeat):
            kernel(&call)


def depthwise(capsule, const float[:, ::1] x__hw, const float[:, ::1] weight__kk, float bias, strides, pads, dilations=(1, 1),
              int64_t rows_per_call=0, float low=-np.inf, float high=np.inf):
    """Convolve one plane with a window by the depthwise kernel of an instruction set's `capsule`.

    `strides` and `dilations` are those of rows and columns; so many `pads` surround x, above and below, left and right. The result is
    clamped to [low, high]. The kernel makes `rows_per_call` rows of the output per call, or all at once if that is 0. Returns float32
    (out_height, out_width).

    Raises ValueError if a number is out of range, or if the window is larger than the padded image.
    """
    cdef t.KernelTable* table = table_of(capsule)
    cdef int64_t row, i, lines
    cdef t.Depthwise d
    d.size[0] = d.kernel[0] = d.stride[0] = d.dilation[0] = 1
    d.pad[0] = d.slice = 0
    out = []
    for i in range(2):
        d.size[i + 1] = x__hw.shape[i]
        d.kernel[i + 1] = weight__kk.shape[i]
        d.stride[i + 1], d.dilation[i + 1], d.pad[i + 1] = strides[i], dilations[i], pads[i]
        if weight__kk.shape[i] == 0 or strides[i] < 1 or dilations[i] < 1 or pads[i] < 0 or rows_per_call < 0:
            raise ValueError(f"a window of {weight__kk.shape[i]} taps, stride {strides[i]}, {pads[i]} pads is invalid")
        reach = (weight__kk.shape[i] - 1) * dilations[i] + 1
        if x__hw.shape[i] == 0 or x__hw.shape[i] + 2 * pads[i] < reach:
            raise ValueError(f"an image of {x__hw.shape[0]}x{x__hw.shape[1]} with {pads[i]} pads is smaller than the window")
        out.append((x__hw.shape[i] + 2 * pads[i] - reach) // strides[i] + 1)
    result = np.empty(out, np.float32)
    cdef float[:, ::1] y = result
    cdef const float[:, :, ::1] value = depthwise_values(np.asarray(weight__kk).reshape(1, -1))
    d.many = 1
    d.out_width = y.shape[1]
    lines = rows_per_call or y.shape[0]
    cdef float[::1] scratch = np.full(table.depthwise_floats(&d, lines), np.nan, np.float32)
    table.depthwise_begin(&d, &scratch[0], lines)
    d.x = &x__hw[0, 0]
    d.x_plane = d.size[1] * d.size[2]
    d.y = &y[0, 0]
    d.y_stride = y.shape[0] * y.shape[1]
    d.value = &value[0, 0, 0]
    d.bias = &bias
    d.first = 0
    d.outputs = 1
    d.low = low
    d.high = high
    for row in range(0, y.shape[0], lines):
        d.row_begin = row
        d.row_end = row + lines if row + lines < y.shape[0] else y.shape[0]
        table.depthwise(&d)
    return result


def activate(capsule, const float[::1] x, int act, float alpha=0, float beta=0, const float[::1] residual=None):
    """Return act(x + residual), computed by the kernel of an instruction set's `capsule`. float32 (n,) -> (n,).

    `act` is a member of `elementwise.Act`; `alpha` and `beta` are its parameters.
    """
    cdef t.KernelTable* table = table_of(capsule)
    result = np.empty(x.shape[0], np.float32)
    cdef float[::1] y = result
    if x.shape[0]:
        table.activate(&y[0], &x[0], &residual[0] if residual is not None else NULL, x.shape[0], <t.Act>act, alpha, beta)
    return result


def binary(capsule, const float[::1] a, const float[::1] b, int op):
    """Return a op b, computed by the kernel of an instruction set's `capsule`. float32 (n,), (n,) -> (n,).

    One operand, or both, may have length 1. `op` is a member of `elementwise.Op`. Raises ValueError if the lengths do not fit each other.
    """
    cdef t.KernelTable* table = table_of(capsule)
    cdef int64_t n = a.shape[0] if b.shape[0] == 1 else b.shape[0]
    if a.shape[0] not in (1, n):
        raise ValueError(f"operands of {a.shape[0]} and {b.shape[0]} elements do not fit each other")
    result = np.empty(n, np.float32)
    cdef float[::1] y = result
    if n:
        table.binary(&y[0], &a[0], a.shape[0] != 1, &b[0], b.shape[0] != 1, n, <t.Op>op)
    return result


def widen(capsule, const uint16_t[::1] bits, bint half):
    """Return numbers as float32, by the kernel of an instruction set's `capsule`. (n,) -> (n,).

    `bits` are those of float16 if `half`, else of bfloat16.
    """
    cdef t.KernelTable* table = table_of(capsule)
    result = np.empty(bits.shape[0], np.float32)
    cdef float[::1] y = result
    if bits.shape[0]:
        (table.from_half if half else table.from_bfloat16)(&y[0], &bits[0], bits.shape[0])
    return result


def narrow(capsule, const float[::1] x, bint half):
    """Return the bits of float32 numbers, rounded to float16 if `half`, else to bfloat16, by the kernel of a `capsule`. (n,) -> (n,)."""
    cdef t.KernelTable* table = table_of(capsule)
    result = np.empty(x.shape[0], np.uint16)
    cdef uint16_t[::1] y = result
    if x.shape[0]:
        (table.to_half if half else table.to_bfloat16)(&y[0], &x[0], x.shape[0])
    return result
