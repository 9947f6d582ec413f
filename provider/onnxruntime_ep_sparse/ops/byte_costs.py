"""Our work of products on bytes, and how long it takes.

`tests/benchmarks/int8_rates.py` measures the rates by these functions and prints them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

from onnxruntime_ep_sparse_kernels.isa import Isa

from ..program.byte_packing import FOUR, MAX_TILE, conv_vectors, matrix_vectors
from ..program.kinds.byte_product import MOST_ZIPPED
from ..program.packing import tap_layout
from ..program.steps import Window
from .costs import Amounts

BYTE_WORK = {
    "byte_nonzero": "nonzero of a convolution's weight and unit of pixels",
    "byte_zipped_nonzero": "the same of a weight whose columns are zipped where it has no zeros",
    "byte_row": "row of a weight and unit of pixels, for each block of inputs",
    "byte_gathered": "byte gathered into a tile",
    "byte_gathered_strided": "the same of a window of another stride than 1",
    "byte_rows_nonzero": "nonzero of a matrix and unit of rows",
    "byte_rows_row": "row of a matrix and unit of rows, for each block of inputs",
    "byte_rows_moved": "byte of a matrix that is read or written in another order than that of tiles",
    "byte_depthwise_entry": "four taps of a depthwise convolution and unit of a row of outputs",
    "byte_depthwise_row": "row of outputs of it, of one channel",
    "byte_depthwise_moved": "byte that it reads or writes",
}
"""Kinds of our work that have a rate here."""
BYTE_RATES: dict[str, Mapping[str, tuple[float, float]]] = {
    "avx512_vnni": {
        "byte_nonzero": (0.369, 0.234),
        "byte_zipped_nonzero": (0.25, 0.159),
        "byte_row": (2.83, 3.12),
        "byte_gathered": (0.0211, 0.03),
        "byte_gathered_strided": (0.101, 0.0888),
        "byte_rows_nonzero": (0.285, 0.147),
        "byte_rows_row": (15.4, 0.0),
        "byte_rows_moved": (0.0, 0.191),
        "byte_depthwise_entry": (0.433, 0.769),
        "byte_depthwise_row": (1.84, 1.57),
        "byte_depthwise_moved": (0.037, 0.0295),
    },
    "avx2_vnni": {
        "byte_nonzero": (0.247, 0.147),
        "byte_zipped_nonzero": (0.19, 0.113),
        "byte_row": (3.2, 2.52),
        "byte_gathered": (0.0264, 0.0322),
        "byte_gathered_strided": (0.0887, 0.062),
        "byte_rows_nonzero": (0.222, 0.113),
        "byte_rows_row": (0.0, 0.0),
        "byte_rows_moved": (0.162, 0.185),
        "byte_depthwise_entry": (0.723, 0.252),
        "byte_depthwise_row": (1.22, 3.12),
        "byte_depthwise_moved": (0.0364, 0.0313),
    },
    "avx2_madd": {
        "byte_nonzero": (0.345, 0.203),
        "byte_zipped_nonzero": (0.255, 0.15),
        "byte_row": (3.12, 2.46),
        "byte_gathered": (0.0222, 0.0305),
        "byte_gathered_strided": (0.0803, 0.0583),
        "byte_rows_nonzero": (0.333, 0.17),
        "byte_rows_row": (0.0, 0.0),
        "byte_rows_moved": (0.155, 0.19),
        "byte_depthwise_entry": (0.984, 0.545),
        "byte_depthwise_row": (0.0, 1.76),
        "byte_depthwise_moved": (0.0439, 0.0338),
    },
    "baseline_madd": {
        "byte_nonzero": (0.626, 0.342),
        "byte_zipped_nonzero": (0.49, 0.268),
        "byte_row": (4.7, 2.85),
        "byte_gathered": (0.032, 0.0395),
        "byte_gathered_strided": (0.0615, 0.0811),
        "byte_rows_nonzero": (0.629, 0.317),
        "byte_rows_row": (2.42, 1.23),
        "byte_rows_moved": (0.153, 0.218),
        "byte_depthwise_entry": (3.31, 1.45),
        "byte_depthwise_row": (0.15, 3.27),
        "byte_depthwise_moved": (0.0277, 0.0376),
    },
}
"""Nanoseconds per unit with one and with two threads, by the set of kernels for bytes: AMD EPYC (Zen 5), 2026-11-30."""

Work = tuple[Amounts, Amounts, float]
"""The work of a product whatever its weight is, that of a weight without zeros, and the multiply-adds by which threads share a step."""


@lru_cache(1024)
def convolution(isa: Isa, x: tuple[int, ...], weight: tuple[int, ...], y: tuple[int, ...], window: Window, groups: int) -> Work:
    """Return the work of a convolution of these shapes; `weight` and `window` are without the taps that never meet the image."""
    unit, size = FOUR * isa.lanes, math.prod(weight)
    height, width = (1, *y[2:])[-2:]
    # rows share their padding: that on the right of one is that on the left of the next
    flat = (height - 1) * (width + (window.kernel[-1] > 1)) + width
    images, vectors = y[0] * math.prod(y[2:-2]), conv_vectors(window, size // weight[0], isa)
    units, tiles = images * math.ceil(flat / unit), images * math.ceil(flat / unit / vectors)
    held = min(vectors, math.ceil(flat / unit)) * unit
    pitch = width + (window.kernel[-1] > 1)
    per_channel = sum(held + reach_y * pitch + reach_x for *_, reach_y, reach_x in tap_layout(window, x[-1], vectors * unit, 0)[0])
    blocks = math.ceil(weight[1] * per_channel / MAX_TILE)
    gathered = "byte_gathered" if max(window.stride) == 1 else "byte_gathered_strided"
    fixed = {
        "step": 1,
        "byte_row": weight[0] * units * blocks,
        gathered: tiles * x[1] * per_channel,
    }
    zipped = groups == 1 and weight[1] % FOUR > 0 and size // weight[0] <= MOST_ZIPPED
    return fixed, {"byte_zipped_nonzero" if zipped else "byte_nonzero": size * units}, size * units * unit / FOUR


@lru_cache(1024)
def depthwise(isa: Isa, x: tuple[int, ...], weight: tuple[int, ...], y: tuple[int, ...]) -> Amounts:
    """Return the work of a depthwise convolution of these shapes, whatever its weight."""
    rows, entries = math.prod(y[:-1]), math.prod(weight[2:-1]) * math.ceil(weight[-1] / FOUR)
    units = rows * math.ceil(y[-1] / (FOUR * isa.lanes))
    return {
        "step": 1,
        "byte_depthwise_entry": units * entries,
        "byte_depthwise_row": rows,
        "byte_depthwise_moved": math.prod(x) + math.prod(y),
    }


@lru_cache(1024)
def matrix(isa: Isa, rows: int, depth: int, outputs: int) -> Work:
    """Return the work of (rows, depth) bytes times a constant, which gives (rows, outputs)."""
    unit, size = FOUR * isa.lanes, depth * outputs
    units, vectors = math.ceil(rows / unit), matrix_vectors(depth, isa)
    blocks = math.ceil(depth * min(units, vectors) * unit / MAX_TILE)
    fixed = {"step": 1, "byte_rows_row": outputs * units * blocks, "byte_rows_moved": units * unit * (depth + outputs)}
    return fixed, {"byte_rows_nonzero": size * units}, size * units * unit / FOUR
