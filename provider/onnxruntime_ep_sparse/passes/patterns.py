"""Finds and replaces small patterns of nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from ..graph.ir import Graph, Node, shape_of


def made_by(graph: Graph, name: str, op_type: str) -> Node | None:
    """Return the node of this type that makes a value, or None."""
    node = graph.producer.get(name)
    return node if node is not None and node.op_type == op_type else None


def is_product(node: Node, a: str, b: str) -> bool:
    """Return whether the node is a * b or b * a."""
    return node.op_type == "Mul" and node.inputs in ((a, b), (b, a))


def only_reader(graph: Graph, name: str) -> Node | None:
    """Return the node that alone reads this value, if it does not leave the region."""
    readers = graph.consumers.get(name, [])
    return readers[0] if len(readers) == 1 and name not in graph.outputs else None


def with_number(graph: Graph, node: Node, op_type: str) -> tuple[str, float]:
    """x and c of a node that is x op c for one constant c, not 0; a division is a Mul by 1 / c. "" and 0 of any other node."""
    divides = op_type == "Mul" and node.op_type == "Div"
    if node.op_type != op_type and not divides:
        return "", 0.0
    for x, other in (node.inputs, node.inputs[::-1])[: 1 if divides else 2]:
        array = graph.constant(other)
        if array is not None and array.size == 1 and array.ndim <= len(shape_of(graph, x)) and array.any():
            c = float(array.reshape(()))
            return x, 1 / c if divides else c
    return "", 0.0


def fused(node: Node, others: Iterable[Node], **changes: object) -> Node:
    """Return `node` with other fields, such that it does the work of the `others` too."""
    covered = {index for other in others for index in (other.index, *other.covers)} - {node.index}
    changes = {"integers": False, **changes}
    return replace(node, covers=tuple(sorted({*node.covers, *covered})), **changes)  # type: ignore[arg-type]  # fields of Node


def exchanged(graph: Graph, replaced: Mapping[int, Node], dropped: Collection[int]) -> Graph:
    """Return the graph with other nodes in some places, and without some, by index."""
    if not replaced:
        return graph
    nodes = tuple(replaced.get(node.index, node) for node in graph.nodes if node.index not in dropped)
    return replace(graph, nodes=nodes)
