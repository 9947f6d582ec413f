"""Single kernels called from numpy: for tests and benches, without ONNX Runtime and without a program."""

import numpy as np

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint16_t

cimport onnxruntime_ep_sparse_kernels.table as t

from onnxruntime_ep_sparse_kernels.isa import APART


def spmm(capsule, int mr, int nv, const int32_t[::1] row_start, const int32_t[:, ::1] row__gr, const uint16_t[:, ::1] offset__nc,
         const float[:, ::1] value__nr, const float[::1] tile, const float[::1] bias__m, float[:, ::1] y__mp,
         const float[:, ::1] residual__mp=None, float low=-np.inf, float high=np.inf, bint finish=True, int repeat=1):
    """Run kernel (mr, nv) of an instruction set's `capsule` over all row groups, writing into `y__mp` of M rows by at least nv vectors.

    `row_start`, `row__gr`, `value__nr` are those of `pack` (one K block); entry j multiplies `tile[offset__nc[j]:]`. `bias__m` None
    continues from y. `residual__mp` (of y's shape, or y itself) and the clamp to [low, high] apply if `finish`. `repeat` runs it that many
    times, for timing.
    """
    cdef t.KernelTable* table = <t.KernelTable*>PyCapsule_GetPointer(capsule, "onnxruntime_ep_sparse_kernels.table")
    if not (0 < mr <= t.MAX_MR and 0 < nv <= t.MAX_NV) or table.spmm[mr][nv] == NULL:
        raise ValueError(f"no kernel with MR={mr}, NV={nv}")
    cdef int64_t groups = row_start.shape[0] - 1, width = nv * table.lanes, entries = row_start[row_start.shape[0] - 1]
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
    cdef t.SpmmCall call
    call.row_start = &row_start[0]
    call.row = &row__gr[0, 0]
    call.offset = &offset__nc[0, 0] if offset__nc.shape[0] else NULL
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
    call.finish = finish
    call.row_begin = 0
    call.row_end = <int32_t>groups
    cdef int _
    with nogil:
        for _ in range(repeat):
            table.spmm[mr][nv](&call)


def activate(capsule, const float[::1] x, int act, float alpha=0, float beta=0, const float[::1] residual=None):
    """act(x + residual) by the kernel of an instruction set; `act` is the number of `table.pxd`'s Activation. float32 (n,) -> (n,)."""
    cdef t.KernelTable* table = <t.KernelTable*>PyCapsule_GetPointer(capsule, "onnxruntime_ep_sparse_kernels.table")
    result = np.empty(x.shape[0], np.float32)
    cdef float[::1] y = result
    if x.shape[0]:
        table.activate(&y[0], &x[0], &residual[0] if residual is not None else NULL, x.shape[0], <t.Act>act, alpha, beta)
    return result
