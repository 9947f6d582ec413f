"""Expected times, of ONNX Runtime's CPU provider and of ours, from which `select` decides.

One core of the AVX2 reference machine (docs/benchmarks.md, "Cost model"); only ratios matter, and both sides scale with cores and clock.
Where a dimension is not known before the first run, a nominal one stands in: both sides grow with it alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from . import ops
from .graph import Graph, Node

NOMINAL_BATCH = 1
NOMINAL_SPATIAL = 28
NOMINAL_ROWS = 128

ORT_MACS = 36e9
"""Multiply-adds a second of ONNX Runtime's dense Conv and Gemm (MLAS; ResNet-50's layers)."""
ORT_GROUPED_MACS = 10e9
"""The same for depthwise and other narrow grouped convolutions."""
SPARSE_MACS = 20e9
"""Of our 1-row tile kernel, on nonzeros."""
DENSE_MACS = 38e9
"""Of our 4-row tile kernel."""
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


def sizes(graph: Graph, name: str) -> tuple[int, ...]:
    """The shape of a value with nominal sizes for what is unknown."""
    shape = ops.shape_of(graph, name)
    rank = len(shape)
    nominal = [NOMINAL_BATCH] + [NOMINAL_SPATIAL] * (rank - 1) if rank > 3 else [NOMINAL_BATCH] + [NOMINAL_ROWS] * (rank - 1)
    if rank == 2:
        nominal[0] = NOMINAL_ROWS if isinstance(shape[1], int) and shape[0] is None else NOMINAL_BATCH
    return tuple(d if isinstance(d, int) and d >= 0 else n for d, n in zip(shape, nominal, strict=True))


def product_work(graph: Graph, node: Node) -> tuple[float, float, float, int]:
    """(multiply-adds when dense, floats gathered, floats stored, ONNX groups) of a Conv, Gemm or MatMul."""
    y = sizes(graph, node.outputs[0])
    stored = math.prod(y)
    if node.op_type == "Conv":
        weight = sizes(graph, node.inputs[1])
        groups = int(node.attributes.get("group", 1))  # type: ignore[call-overload]  # an INT attribute
        # tiles repeat the rows that neighbouring taps share
        gathered = math.prod(sizes(graph, node.inputs[0])[:2]) * math.prod(y[2:]) * (1 + 0.5 * (math.prod(weight[2:]) > 1))
        return stored * math.prod(weight[1:]), gathered, stored, groups
    right = graph.is_constant(node.inputs[1])
    x = sizes(graph, node.inputs[0 if right else 1])
    weight = sizes(graph, node.inputs[1 if right else 0])
    depth = weight[-2] if right and len(weight) > 1 else weight[-1]
    if node.op_type == "Gemm" and node.attributes.get("transB" if right else "transA"):
        depth = weight[-1] if right else weight[-2]
    return stored * depth, math.prod(x), stored, 1


def node_seconds(graph: Graph, node: Node, density: float) -> tuple[float, float]:
    """Expected seconds of a node (ONNX Runtime, ours)."""
    row = ops.row_for(node)
    if row is None or row.role != "product":
        if node.op_type in ("Reshape", "Flatten"):
            return 0.0, 0.0
        # an activation rides along with the product before it, on both sides
        factor = 0.25 if row is not None and row.role == "activation" else 1.0
        seconds = factor * math.prod(sizes(graph, node.outputs[0])) / ELEMENTS
        return seconds, seconds
    macs, gathered, stored, groups = product_work(graph, node)
    if groups > 1:
        return NODE_SECONDS + macs / ORT_GROUPED_MACS, NODE_SECONDS + macs * density / GROUPED_MACS
    move = (gathered + 0.5 * stored) / GATHER_FLOATS
    ours = min(macs * density / SPARSE_MACS, macs / DENSE_MACS) + move
    return NODE_SECONDS + macs / ORT_MACS, NODE_SECONDS + ours


def break_even(graph: Graph, node: Node, shape: Sequence[int]) -> float:
    """The sparsity from which a product of this shape is expected to win by MARGIN; above 1 when none does."""
    ort, _ = node_seconds(graph, node, 1.0)
    _, fixed = node_seconds(graph, node, 0.0)
    _, half = node_seconds(graph, node, 0.01)
    slope = (half - fixed) / 0.01
    density = (ort / MARGIN - fixed) / slope if slope > 0 else 0.0
    return 1.0 - min(density, 1.0) if density > 0 else 2.0


class RegionGain:
    """Seconds that taking some nodes as one region is expected to save, hand-over at its border included."""

    def __init__(self, graph: Graph, members: Iterable[int], density: Mapping[int, float]) -> None:
        self.graph = graph
        self.members = set(members)
        self.saved = {}
        for i in self.members:
            ort, ours = node_seconds(graph, graph.nodes[i], density[i])
            self.saved[i] = ort - ours

    def crossing(self, name: str, members: set[int]) -> float:
        """Seconds for a value that another node makes and the region reads, or the reverse. The graph's own inputs and outputs cost nobody."""
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
