"""Lets regions compute values of float16 and bfloat16 in float32: weights are widened once, what crosses a region's border in every run.

The results of a region are rounded once, where ONNX Runtime's CPU provider, which computes in float32 too, inserts a Cast.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels import call

from ..graph.ir import BFLOAT16, FLOAT, FLOAT16, KEPT, Graph

NARROW = (FLOAT16, BFLOAT16)


def widened(graph: Graph) -> Graph:
    """Return the graph with float32 in place of these types; `Graph.narrow` keeps what they were."""
    narrow = {name: value.dtype for name, value in graph.values.items() if value.dtype in NARROW}
    if not narrow:
        return graph

    @lru_cache(KEPT)
    def wide(name: str) -> NDArray[np.float32]:
        return float32_of(graph.load(name), narrow[name])

    return replace(
        graph,
        values={name: replace(value, dtype=FLOAT) if name in narrow else value for name, value in graph.values.items()},
        load=lambda name: wide(name) if name in narrow else graph.load(name),
        narrow=narrow,
    )


def float32_of(array: NDArray, dtype: int) -> NDArray[np.float32]:
    """Return float16, or the bits of bfloat16 as uint16, as float32."""
    bits = np.ascontiguousarray(array).view(np.uint16).reshape(-1)
    # numpy takes 2.6 ns for each element, the kernels 0.05
    return call.widen(kernels.table(kernels.available_isas()[0]), bits, dtype == FLOAT16).reshape(array.shape)
