"""Best times of short code, and the peak of one core."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels import call
from onnxruntime_ep_sparse_kernels.isa import SHARED, Isa


def best_seconds(run: Callable[[], object], budget_s: float = 0.1) -> float:
    """Return the shortest time of all runs within `budget_s` seconds, after a warm-up. Other load on the machine hardly changes it."""
    run()
    best, end = float("inf"), time.perf_counter() + budget_s
    while (start := time.perf_counter()) < end:
        run()
        best = min(best, time.perf_counter() - start)
    return best


def peak_gflops(isa: Isa) -> float:
    """Return the FMA peak of one core in GFLOP/s.

    It is the speed of the widest kernel for rows that share columns, with dense long rows, on one block of pixels that stays in L1.
    """
    nv, depth = isa.widest(SHARED), 64
    width = nv * isa.lanes
    tile = np.ones(depth * width + 16, np.float32)
    offset = np.tile(np.arange(depth, dtype=np.uint16) * width, 64)[:, None]
    value = np.full((len(offset), 4), 1e-3, np.float32)
    row_start, row = np.array([0, len(offset)], np.int32), np.arange(4, dtype=np.int32)[None]
    y = np.zeros((4, width), np.float32)
    table = kernels.table(isa.name)
    seconds = best_seconds(lambda: call.spmm(table, SHARED, nv, row_start, row, offset, value, tile, y[:, 0].copy(), y, repeat=200), 1.0)
    return 2 * value.size * width * 200 / seconds / 1e9
