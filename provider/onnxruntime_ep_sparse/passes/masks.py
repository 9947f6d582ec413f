"""Fuses what puts a number in the place of NaN: exporters write it after the Softmax of rows that a mask may leave without a number."""

from __future__ import annotations

from ..graph.ir import Graph, Node
from ..ops.parts import FILL_NAN
from ..ops.row import FUSED
from .patterns import exchanged, fused, made_by, only_reader


def fuse_nan_fills(graph: Graph) -> Graph:
    """Replace Where(IsNaN(x), c, x) for one number c by one node."""
    dropped: set[int] = set()
    replaced: dict[int, Node] = {}
    for node in graph.nodes:
        if node.op_type != "Where" or node.counts:
            continue
        condition, filling, x = node.inputs
        test, number = made_by(graph, condition, "IsNaN"), graph.constant(filling)
        if test is None or number is None or number.size != 1 or test.inputs[0] != x or only_reader(graph, condition) is None:
            continue
        changes = {"op_type": FILL_NAN, "domain": FUSED, "inputs": (x,), "attributes": {"value": float(number.reshape(()))}}
        replaced[node.index] = fused(node, [test], **changes)
        dropped.add(test.index)
    return exchanged(graph, replaced, dropped)
