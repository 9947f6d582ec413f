"""Expected times of a node, from which `partition` decides: constants, and the estimates that several operators share.

One core of the AVX2 reference machine (docs/benchmarks.md, "Cost model"); only ratios matter, and both sides scale with cores and clock.
Where a dimension is not known before the first run, a nominal one stands in: both sides grow with it alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..graph.ir import Graph, Node, shape_of

NOMINAL_BATCH = 1
NOMINAL_SPATIAL = 28
NOMINAL_ROWS = 128
FEW_ROWS = (1, 2, 8)
"""What an unknown number of rows may be besides."""
FEW_SEQUENCES = (1, 4, 16)
"""What an unknown number of sequences may be."""
NOMINAL_TIMES = 64

ORT_MACS = 36e9
"""Multiply-adds per second of ONNX Runtime's dense Conv and Gemm (MLAS; ResNet-50's layers)."""
ORT_GROUPED_MACS = 10e9
"""The same for depthwise and other narrow grouped convolutions."""
ORT_NEAR_BYTES, ORT_FAR_BYTES, NEAR_BYTES = 50e9, 20e9, 16e6
"""Bytes of weights per second that a product with few pixels reads from a cache and from memory; and the bytes that a cache holds."""
LANES = 8
TILE_VECTORS = 8
NONZERO_SECONDS, ROWS_NONZERO_SECONDS = 0.5e-9, 1.3e-9
"""Of our tile kernels for rows apart: fixed time per nonzero and tile, the latter where rows are transposed (all but Conv) ..."""
VECTOR_SECONDS = 0.27e-9
"""... and per nonzero and vector of pixels."""
CELL_SECONDS = 1e-9
"""Per gate of a hidden unit, on both sides."""
ONE_PIXEL_SECONDS, FEW_PIXELS_SECONDS = 0.35e-9, 0.5e-9
"""Per nonzero that meets one pixel, or at most a vector of them (`runtime/_sell.pyx`)."""
DENSE_MACS = 38e9
"""Multiply-adds per second of our tile kernels for rows that share columns."""
GROUPED_MACS = 10e9
GATHER_FLOATS = 3e9
"""Floats per second copied into tiles, and out of them."""
ELEMENTS = 2.5e9
"""Elements per second of activations, additions and pools, on both sides."""
NODE_SECONDS = 1.5e-6
"""Fixed time of a node, a region or a step."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Expected seconds of a node: `ort` with ONNX Runtime's CPU provider; with ours `fixed`, `dense` for all of a dense weight with rows
    apart, and at most `most` for the weight, which is the time with rows that share columns."""

    ort: float
    fixed: float
    dense: float = 0.0
    most: float = math.inf

    def ours(self, density: float) -> float:
        """Return our seconds for a weight with this share of nonzeros."""
        return self.fixed + min(density * self.dense, self.most)


@dataclass(frozen=True, slots=True)
class Work:
    """Size of a product: multiply-adds when dense, weights, images x pixels of the output, floats gathered and stored, ONNX groups.

    `transposes` says that pixels are the rows of a matrix, which are transposed into tiles.
    """

    macs: float
    weights: int
    images: int
    pixels: int
    gathered: float
    stored: int
    groups: int
    transposes: bool


def sizes(graph: Graph, name: str, rows: int = NOMINAL_ROWS) -> tuple[int, ...]:
    """Return the shape of a value with nominal sizes for unknown ones; `rows` for those of a matrix."""
    shape = shape_of(graph, name)
    rank = len(shape)
    nominal = [NOMINAL_BATCH, *[NOMINAL_SPATIAL if rank > 3 else NOMINAL_ROWS] * (rank - 1)][:rank]
    if rank == 2:
        nominal = [rows, rows]
    return tuple(d if isinstance(d, int) and d >= 0 else n for d, n in zip(shape, nominal, strict=True))


def dense_seconds(macs: float, weights: int) -> float:
    """Return ONNX Runtime's time of a dense matrix product: its multiply-adds, or reading the weights."""
    return max(macs / ORT_MACS, 4 * weights / (ORT_NEAR_BYTES if 4 * weights < NEAR_BYTES else ORT_FAR_BYTES))


def product_seconds(work: Work) -> Estimate:
    """Estimate a product."""
    move = (work.gathered + 0.5 * work.stored) / GATHER_FLOATS
    if work.groups > 1:
        return Estimate(NODE_SECONDS + work.macs / ORT_GROUPED_MACS, NODE_SECONDS, work.macs / GROUPED_MACS)
    ort = dense_seconds(work.macs, work.weights)
    vectors = work.images * math.ceil(work.pixels / LANES)
    tiles = work.images * math.ceil(work.pixels / LANES / TILE_VECTORS)
    if work.pixels == 1 or (work.pixels <= LANES and work.transposes):
        dense = work.images * work.weights * (ONE_PIXEL_SECONDS if work.pixels == 1 else FEW_PIXELS_SECONDS)
    else:
        nonzero = ROWS_NONZERO_SECONDS if work.transposes else NONZERO_SECONDS
        dense = work.weights * (tiles * nonzero + vectors * VECTOR_SECONDS)
    return Estimate(NODE_SECONDS + ort, NODE_SECONDS + move, dense, work.macs / DENSE_MACS)


def recurrent_seconds(graph: Graph, node: Node, rows: int | None = None) -> Estimate:
    """Estimate an LSTM, GRU or RNN; `rows` stands in for an unknown number of sequences."""
    shape = shape_of(graph, node.inputs[0])
    times, batch = shape[1::-1] if node.attributes.get("layout") else shape[:2]
    times = times if isinstance(times, int) else NOMINAL_TIMES
    batch = batch if isinstance(batch, int) else NOMINAL_BATCH if rows is None else rows
    directions, gates, depth = sizes(graph, node.inputs[1])
    hidden = directions * gates
    weights = hidden * sizes(graph, node.inputs[2])[-1]
    pixels = times * batch
    projection = product_seconds(Work(pixels * hidden * depth, hidden * depth, 1, pixels, pixels * depth, pixels * hidden, 1, True))
    # R is read in every time step: caches hold what they can
    read = times * max(weights * batch / ORT_MACS, 4 * weights / ORT_NEAR_BYTES)
    each = ONE_PIXEL_SECONDS if batch == 1 else FEW_PIXELS_SECONDS * math.ceil(batch / LANES)
    cells = times * (hidden * batch * CELL_SECONDS + NODE_SECONDS)
    return Estimate(projection.ort + read + cells, projection.fixed + cells, projection.dense + times * weights * each)


def elementwise_seconds(graph: Graph, node: Node, rows: int | None = None) -> Estimate:
    """Estimate a node whose time follows from the size of its result, the same on both sides."""
    seconds = math.prod(sizes(graph, node.outputs[0])) / ELEMENTS
    return Estimate(seconds, seconds)


def activation_seconds(graph: Graph, node: Node, rows: int | None = None) -> Estimate:
    """Estimate an activation, which is computed together with the product before it on both sides."""
    seconds = 0.25 * math.prod(sizes(graph, node.outputs[0])) / ELEMENTS
    return Estimate(seconds, seconds)


def no_seconds(graph: Graph, node: Node, rows: int | None = None) -> Estimate:
    """Estimate a node that moves no data."""
    return Estimate(0.0, 0.0)


def nominal_rows(graph: Graph, node: Node) -> tuple[int, ...]:
    """Return the numbers of rows that a product is judged by, where none is unknown."""
    return (NOMINAL_ROWS,)


def few_sequences(graph: Graph, node: Node) -> tuple[int, ...]:
    """Return the numbers of sequences that a recurrent node is judged by."""
    return FEW_SEQUENCES
