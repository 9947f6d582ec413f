"""Expected times of nodes and regions with both providers, from which `select` decides. Estimates of operators stand in `ops`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ..graph.ir import Graph, Node
from ..ops.costs import NODE_SECONDS, sizes
from ..ops.table import row_for

HANDOVER_FLOATS = 1.5e9
"""Floats per second that cross the border of a region: ONNX Runtime leaves and re-enters its blocked layout and loses a fusion."""
MARGIN = 1.1
"""A product is taken for its own sake only if it is expected to win by this factor."""


def node_seconds(graph: Graph, node: Node, density: float) -> tuple[float, float]:
    """Return the expected seconds (ONNX Runtime, ours) of a supported node whose weight has this share of nonzeros."""
    row = row_for(node)
    assert row is not None, node.op_type
    estimate = row.estimate(graph, node, None)
    return estimate.ort, estimate.ours(density)


def break_even(graph: Graph, node: Node) -> float:
    """Return the sparsity from which a node with a weight is expected to win by MARGIN; above 1 if none is enough.

    Where the number of rows is not known, the worst case counts.
    """
    row = row_for(node)
    assert row is not None, node.op_type
    worst = 0.0
    for rows in row.row_counts(graph, node):
        estimate = row.estimate(graph, node, rows)
        density = (estimate.ort / MARGIN - estimate.fixed) / estimate.dense
        worst = max(worst, 1.0 - min(density, 1.0) if density > 0 else 2.0)
    return worst


class RegionGain:
    """The seconds that taking some nodes as one region is expected to save, hand-over at its border included.

    Our side runs the nodes of `folded`, with weights of this density.
    """

    def __init__(self, graph: Graph, folded: Graph, members: Iterable[int], density: Mapping[int, float]) -> None:
        self.graph = graph
        self.members = set(members)
        self.saved = {}
        for i in self.members:
            self.saved[i] = node_seconds(graph, graph.nodes[i], density[i])[0] - node_seconds(folded, folded.nodes[i], density[i])[1]

    def crossing(self, name: str, members: set[int]) -> float:
        """Return the seconds for handing a value over at the border of the region; inputs and outputs of the graph cost nothing."""
        maker = self.graph.producer.get(name)
        if maker is None:
            return 0.0
        inside = maker.index in members
        if all((reader.index in members) == inside for reader in self.graph.consumers.get(name, ())):
            return 0.0
        return math.prod(sizes(self.graph, name)) / HANDOVER_FLOATS

    def values(self, index: int) -> list[str]:
        """Return the names of the values that a node reads or makes."""
        node = self.graph.nodes[index]
        return list(dict.fromkeys(name for name in (*node.inputs, *node.outputs) if name in self.graph.producer))

    def total(self) -> float:
        """Return the expected saving of all members in seconds."""
        names = dict.fromkeys(name for i in self.members for name in self.values(i))
        return sum(self.saved[i] for i in self.members) - sum(self.crossing(name, self.members) for name in names) - NODE_SECONDS

    def without(self, index: int) -> float:
        """Return the seconds that giving back one member would add to the saving."""
        rest = self.members - {index}
        names = self.values(index)
        return sum(self.crossing(n, self.members) - self.crossing(n, rest) for n in names) - self.saved[index]
