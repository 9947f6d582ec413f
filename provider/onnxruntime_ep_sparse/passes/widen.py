"""Lets regions compute values of float16 and bfloat16 in float32: weights are widened once, what crosses a region's border in every run.

The results of a region are rounded once, where ONNX Runtime's CPU provider, which computes in float32 too, inserts a Cast.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

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
    if dtype == FLOAT16:
        return array.astype(np.float32)
    return (array.astype(np.uint32) << 16).view(np.float32)
