"""The time that a region is expected to save, in units: what the passes make of several nodes is taken or given back as one."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

from ..graph.ir import Graph
from ..ops.costs import NODE_SECONDS, sizes
from .cost import HANDOVER_FLOATS, node_seconds

Unit = tuple[int, ...]
"""Indices of nodes, ascending."""


class RegionGain:
    """Seconds that taking some nodes as one region is expected to save, the hand-over at its border included.

    ONNX Runtime runs the nodes of `graph`; the provider runs those of `rewritten`, what the passes have made of them, with weights of
    the density (share of nonzeros) that stands in `density` by index, 1 by default.
    """

    def __init__(self, graph: Graph, rewritten: Graph, members: Iterable[int], density: Mapping[int, float]) -> None:
        self.graph = graph
        self.members = set(members)
        self.saved: dict[Unit, float] = {}
        for node in rewritten.nodes:
            unit = tuple(sorted((node.index, *node.covers)))
            if self.members.issuperset(unit):
                theirs = sum(node_seconds(graph, graph.nodes[i], density.get(i, 1.0))[0] for i in unit)
                self.saved[unit] = theirs - node_seconds(rewritten, node, density.get(node.index, 1.0))[1]
        # where only a part of a unit is in the region, its nodes run one by one
        for i in self.members.difference(*self.saved):
            theirs, ours = node_seconds(graph, graph.nodes[i], density.get(i, 1.0))
            self.saved[(i,)] = theirs - ours

    def holds(self, index: int, gone: Unit = ()) -> bool:
        """Whether the region, without the nodes that are `gone`, holds a node."""
        return index in self.members and index not in gone

    def crossing(self, name: str, gone: Unit = ()) -> float:
        """Seconds for handing over a value at the border of the region without the nodes that are `gone`.

        0 for a value that stays inside or outside, and for the graph's own inputs and outputs.
        """
        maker = self.graph.producer.get(name)
        if maker is None:
            return 0.0
        inside = self.holds(maker.index, gone)
        if all(self.holds(reader.index, gone) == inside for reader in self.graph.consumers.get(name, ())):
            return 0.0
        return math.prod(sizes(self.graph, name)) / HANDOVER_FLOATS

    def values(self, indices: Iterable[int]) -> list[str]:
        """The names of the values that these nodes read or make and that some node makes."""
        nodes = [self.graph.nodes[i] for i in indices]
        return list(dict.fromkeys(name for node in nodes for name in (*node.inputs, *node.outputs) if name in self.graph.producer))

    def total(self) -> float:
        """Seconds that the region saves as it is."""
        return sum(self.saved.values()) - sum(self.crossing(name) for name in self.values(self.members)) - NODE_SECONDS

    def without(self, unit: Unit) -> float:
        """Seconds that giving back one unit would add to the saving."""
        return sum(self.crossing(name) - self.crossing(name, unit) for name in self.values(unit)) - self.saved[unit]

    def trim(self, wanted: Collection[int]) -> None:
        """Give back units at the border that hold no wanted node, one at a time, as long as that is expected to save time."""
        changed = True
        while changed:
            changed = False
            for unit in sorted(self.saved):
                if self._is_at_border(unit) and not any(i in wanted for i in unit) and self.without(unit) > 0:
                    self.members.difference_update(unit)
                    del self.saved[unit]
                    changed = True

    def _is_at_border(self, unit: Unit) -> bool:
        """Whether no value comes to the unit from the rest of the region, or none goes there."""
        graph, nodes = self.graph, [self.graph.nodes[i] for i in unit]
        makers = (graph.producer[name] for node in nodes for name in node.inputs if name in graph.producer)
        readers = (reader for node in nodes for name in node.outputs for reader in graph.consumers.get(name, ()))
        return not all(any(self.holds(node.index, unit) for node in side) for side in (makers, readers))
