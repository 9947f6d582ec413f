"""Marks which nodes compute numbers of a plan and which compute with tensors of integers: both have rows of their own."""

from __future__ import annotations

from dataclasses import replace

from ..graph.ir import INTEGERS, Graph, Node
from . import table
from .integers import INTEGER_ROWS
from .numbers import with_counts
from .row import ONNX


def marked(graph: Graph) -> Graph:
    """Return the graph with `Node.counts` and `Node.integers` set."""
    graph = with_counts(graph)
    tensors = _tensors(graph)
    nodes = tuple(_with_integers(graph, replace(node, counts=False) if node.index in tensors else node) for node in graph.nodes)
    return replace(graph, nodes=nodes)


def _with_integers(graph: Graph, node: Node) -> Node:
    if node.counts or node.domain not in ONNX:
        return node
    names = (*node.inputs, *node.outputs) if node.op_type in INTEGER_ROWS else node.outputs
    if not any(name in graph.values and graph.values[name].dtype in INTEGERS for name in names):
        return node
    return replace(node, integers=True)


def _tensors(graph: Graph) -> set[int]:
    """Return the indices of nodes that count, but are better run as steps: they read contents, and no plan needs their numbers.

    A plan of contents holds for these only. Ids and positions change from run to run.
    """
    read: set[str] = set()
    for node in graph.nodes:
        others = (name for name in node.inputs if not graph.is_constant(name))
        if node.counts and node.op_type not in SHAPES and any(_is_content(graph, name) or name in read for name in others):
            read.add(node.outputs[0])
    if not read:
        return set()
    needed: set[str] = set()
    found = set()
    for node in reversed(graph.nodes):
        row = table.row_for(_with_integers(graph, node))
        if node.counts and node.outputs[0] in needed:
            needed.update(node.inputs)
        elif node.counts and node.outputs[0] in read and _can_be_tensor(graph, node):
            found.add(node.index)
        elif node.counts:
            needed.update(node.inputs)
        elif row is not None:
            needed.update(node.inputs[place] for place in row.parameters if place < len(node.inputs))
    return found


SHAPES = ("Shape", "Size")
"""Operators that read no contents."""


def _is_content(graph: Graph, name: str) -> bool:
    maker = graph.producer.get(name)
    return bool(name) and (maker is None or not maker.counts)


def _can_be_tensor(graph: Graph, node: Node) -> bool:
    """Return whether a node can run as a step."""
    try:
        return table.can_run(graph, _with_integers(graph, replace(node, counts=False))) is None
    except (RuntimeError, OSError):  # constants that cannot be read
        return False
