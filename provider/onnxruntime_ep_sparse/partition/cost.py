"""Expected times, of ONNX Runtime's CPU provider and of ours, from which `select` decides.

One core of the AVX2 reference machine (docs/benchmarks.md, "Cost model"); only ratios matter, and both sides scale with cores and clock.
Where a dimension is not known before the first run, a nominal one stands in: both sides grow with it alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..graph.ir import Graph, Node, shape_of
from ..ops import table as ops

NOMINAL_BATCH = 1
NOMINAL_SPATIAL = 28
NOMINAL_ROWS = 128
FEW_ROWS = (1, 2, 8)
"""What an unknown number of rows may be besides."""
FEW_SEQUENCES = (1, 4, 16)
"""What an unknown number of sequences may be."""
NOMINAL_TIMES = 64

ORT_MACS = 36e9
"""Multiply-adds a second of ONNX Runtime's dense Conv and Gemm (MLAS; ResNet-50's layers)."""
ORT_GROUPED_MACS = 10e9
"""The same for depthwise and other narrow grouped convolutions."""
ORT_NEAR_BYTES, ORT_FAR_BYTES, NEAR_BYTES = 50e9, 20e9, 16e6
"""Bytes of weights a second that a product with few pixels can read, which may or may not be in a cache still; and what a cache holds."""
LANES = 8
TILE_VECTORS = 8
NONZERO_SECONDS, ROWS_NONZERO_SECONDS = 0.5e-9, 1.3e-9
"""Of our tile kernels for rows apart: fixed time of a nonzero in a tile, the latter where rows are transposed (all but Conv) ..."""
VECTOR_SECONDS = 0.27e-9
"""... and for every vector of pixels."""
CELL_SECONDS = 1e-9
"""Of a gate of a hidden unit, on both sides."""
ONE_PIXEL_SECONDS, FEW_PIXELS_SECONDS = 0.35e-9, 0.5e-9
"""Of a nonzero where it meets one pixel, or a vector of them at most (`runtime/_sell.pyx`)."""
DENSE_MACS = 38e9
"""Of our tile kernels for rows that share columns."""
GROUPED_MACS = 10e9
GATHER_FLOATS = 3e9
"""Floats a second copied into tiles, and out of them."""
ELEMENTS = 2.5e9
"""Elements a second of activations, additions and pools, ours and theirs."""
HANDOVER_FLOATS = 1.5e9
"""Floats a second that cross the border of a region: ONNX Runtime leaves and re-enters its blocked layout and loses a fusion."""
NODE_SECONDS = 1.5e-6
"""Fixed time of a node, a region or a step."""
MARGIN = 1.1
"""A product is taken for its own sake only if it is expected to win by this factor."""


def sizes(graph: Graph, name: str, rows: int = NOMINAL_ROWS) -> tuple[int, ...]:
    """The shape of a value with nominal sizes for what is unknown; `rows` for those of a matrix."""
    shape = shape_of(graph, name)
    rank = len(shape)
    nominal = [NOMINAL_BATCH] + [NOMINAL_SPATIAL if rank > 3 else NOMINAL_ROWS] * (rank - 1)
    if rank == 2:
        nominal = [rows, rows]
    return tuple(d if isinstance(d, int) and d >= 0 else n for d, n in zip(shape, nominal, strict=True))


@dataclass(frozen=True, slots=True)
class Work:
    """Size of a product: multiply-adds when dense, weights, images x pixels of the output, floats gathered and stored, ONNX groups."""

    macs: float
    weights: int
    images: int
    pixels: int
    gathered: float
    stored: int
    groups: int


def product_work(graph: Graph, node: Node, rows: int = NOMINAL_ROWS) -> Work:
    """The work of a Conv, Gemm or MatMul; `rows` stands in for an unknown number of rows of a matrix."""
    y = sizes(graph, node.outputs[0], rows)
    stored = math.prod(y)
    if node.op_type == "Conv":
        weight = sizes(graph, node.inputs[1])
        groups = int(node.attributes.get("group", 1))  # type: ignore[call-overload]  # an INT attribute
        pixels = math.prod(y[2:])
        # tiles repeat the rows that neighbouring taps share
        gathered = math.prod(sizes(graph, node.inputs[0])[:2]) * pixels * (1 + 0.5 * (math.prod(weight[2:]) > 1))
        return Work(stored * math.prod(weight[1:]), math.prod(weight), y[0], pixels, gathered, stored, groups)
    right = graph.is_constant(node.inputs[1])
    x = math.prod(sizes(graph, node.inputs[0 if right else 1], rows))
    weight = sizes(graph, node.inputs[1 if right else 0])
    depth = weight[-2] if right and len(weight) > 1 else weight[-1]
    if node.op_type == "Gemm" and node.attributes.get("transB" if right else "transA"):
        depth = weight[-1] if right else weight[-2]
    return Work(stored * depth, math.prod(weight), 1, math.ceil(x / depth), x, stored, 1)


def dense_seconds(macs: float, weights: int) -> float:
    """ONNX Runtime's time of a dense matrix product: its multiply-adds, or reading the weights."""
    return max(macs / ORT_MACS, 4 * weights / (ORT_NEAR_BYTES if 4 * weights < NEAR_BYTES else ORT_FAR_BYTES))


def product_seconds(node: Node, work: Work) -> tuple[float, float, float]:
    """Expected seconds of a product: ONNX Runtime's, ours without any nonzero, ours for all of a dense weight, rows apart."""
    move = (work.gathered + 0.5 * work.stored) / GATHER_FLOATS
    if work.groups > 1:
        return NODE_SECONDS + work.macs / ORT_GROUPED_MACS, NODE_SECONDS, work.macs / GROUPED_MACS
    ort = dense_seconds(work.macs, work.weights)
    vectors = work.images * math.ceil(work.pixels / LANES)
    tiles = work.images * math.ceil(work.pixels / LANES / TILE_VECTORS)
    each = NONZERO_SECONDS if node.op_type == "Conv" else ROWS_NONZERO_SECONDS
    if work.pixels == 1 or (work.pixels <= LANES and node.op_type != "Conv"):
        each = ONE_PIXEL_SECONDS if work.pixels == 1 else FEW_PIXELS_SECONDS
        return NODE_SECONDS + ort, NODE_SECONDS + move, work.images * work.weights * each
    return NODE_SECONDS + ort, NODE_SECONDS + move, work.weights * (tiles * each + vectors * VECTOR_SECONDS)


def recurrent_seconds(graph: Graph, node: Node, sequences: int) -> tuple[float, float, float]:
    """`product_seconds` of an LSTM, GRU or RNN; `sequences` stands in for an unknown number of them."""
    shape = shape_of(graph, node.inputs[0])
    times, batch = shape[1::-1] if node.attributes.get("layout") else shape[:2]
    times = times if isinstance(times, int) else NOMINAL_TIMES
    batch = batch if isinstance(batch, int) else sequences
    directions, rows, depth = sizes(graph, node.inputs[1])
    hidden = directions * rows
    weights = hidden * sizes(graph, node.inputs[2])[-1]
    pixels = times * batch
    projection = Work(pixels * hidden * depth, hidden * depth, 1, pixels, pixels * depth, pixels * hidden, 1)
    ort, fixed, dense = product_seconds(node, projection)
    # R is read time after time: caches hold what they can
    ort += times * max(weights * batch / ORT_MACS, 4 * weights / ORT_NEAR_BYTES)
    each = ONE_PIXEL_SECONDS if batch == 1 else FEW_PIXELS_SECONDS * math.ceil(batch / LANES)
    cells = times * (hidden * batch * CELL_SECONDS + NODE_SECONDS)
    return ort + cells, fixed + cells, dense + times * weights * each


def node_seconds(graph: Graph, node: Node, density: float) -> tuple[float, float]:
    """Expected seconds of a node (ONNX Runtime, ours)."""
    row = ops.row_for(node)
    if row is not None and row.role == "recurrent":
        ort, fixed, dense = recurrent_seconds(graph, node, NOMINAL_BATCH)
        return ort, fixed + density * dense
    if row is None or row.role != "product":
        if node.op_type in ("Reshape", "Flatten"):
            return 0.0, 0.0
        # an activation rides along with the product before it, on both sides
        factor = 0.25 if row is not None and row.role == "activation" else 1.0
        seconds = factor * math.prod(sizes(graph, node.outputs[0])) / ELEMENTS
        return seconds, seconds
    work = product_work(graph, node)
    ort, fixed, dense = product_seconds(node, work)
    return ort, fixed + min(density * dense, work.macs / DENSE_MACS if work.groups == 1 else dense)


def break_even(graph: Graph, node: Node) -> float:
    """The sparsity from which a product is expected to win by MARGIN; above 1 when none does. The worst case of an unknown row count."""
    if node.op_type in ops.recurrent.GATES:
        cases = [recurrent_seconds(graph, node, sequences) for sequences in FEW_SEQUENCES]
    else:
        counts = (*FEW_ROWS, NOMINAL_ROWS) if unknown_rows(graph, node) else (NOMINAL_ROWS,)
        cases = [product_seconds(node, product_work(graph, node, rows)) for rows in counts]
    worst = 0.0
    for ort, fixed, dense in cases:
        density = (ort / MARGIN - fixed) / dense
        worst = max(worst, 1.0 - min(density, 1.0) if density > 0 else 2.0)
    return worst


def unknown_rows(graph: Graph, node: Node) -> bool:
    """A matrix product whose number of rows is known only at run time and may well be 1. (With batch and sequence that is unlikely.)"""
    if node.op_type == "Conv":
        return False
    x = shape_of(graph, next(name for name in node.inputs[:2] if not graph.is_constant(name)))
    return len(x) == 2 and not all(isinstance(d, int) for d in x)


class RegionGain:
    """Seconds that taking some nodes as one region is expected to save, hand-over at its border included. We run the nodes as they stand
    in `folded`, with weights of this density."""

    def __init__(self, graph: Graph, folded: Graph, members: Iterable[int], density: Mapping[int, float]) -> None:
        self.graph = graph
        self.members = set(members)
        self.saved = {}
        for i in self.members:
            self.saved[i] = node_seconds(graph, graph.nodes[i], density[i])[0] - node_seconds(folded, folded.nodes[i], density[i])[1]

    def crossing(self, name: str, members: set[int]) -> float:
        """Seconds for a value that another node makes and the region reads, or the reverse; the graph's own inputs and outputs are free."""
        maker = self.graph.producer.get(name)
        if maker is None:
            return 0.0
        inside = maker.index in members
        if all((reader.index in members) == inside for reader in self.graph.consumers.get(name, ())):
            return 0.0
        return math.prod(sizes(self.graph, name)) / HANDOVER_FLOATS

    def values(self, index: int) -> list[str]:
        """The values a node touches."""
        node = self.graph.nodes[index]
        return list(dict.fromkeys(name for name in (*node.inputs, *node.outputs) if name in self.graph.producer))

    def total(self) -> float:
        """Expected saving of the members as they are."""
        names = dict.fromkeys(name for i in self.members for name in self.values(i))
        return sum(self.saved[i] for i in self.members) - sum(self.crossing(name, self.members) for name in names) - NODE_SECONDS

    def without(self, index: int) -> float:
        """What giving back one member would add to the saving."""
        rest = self.members - {index}
        names = self.values(index)
        return sum(self.crossing(n, self.members) - self.crossing(n, rest) for n in names) - self.saved[index]
