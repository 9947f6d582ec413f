"""Axes that nodes name, which ONNX counts from either end."""

from __future__ import annotations

from collections.abc import Sequence

from .. import reasons
from ..graph.ir import Graph, Node, attribute_of, shape_of
from ..reasons import Finding


def axis_of(graph: Graph, node: Node, default: int = 0) -> int | Finding:
    """Return the attribute `axis` of a node, of its first input, as a number from 0 on; or the reason why it cannot run."""
    axis, rank = int(attribute_of(node, "axis", default)), len(shape_of(graph, node.inputs[0]))
    return axis % rank if -rank <= axis < rank else reasons.OUT_OF_RANGE(what="axis", value=axis, low=-rank, high=rank - 1)


def ascending(axes: Sequence[int], rank: int) -> tuple[int, ...] | Finding:
    """Return axes as numbers from 0 on, ascending; or the reason why a node cannot run: there is no such axis, or one is there twice."""
    found = tuple(sorted({axis % rank for axis in axes if -rank <= axis < rank}))
    return found if len(found) == len(axes) else reasons.MISMATCHED(what="input axes", other="the input")
