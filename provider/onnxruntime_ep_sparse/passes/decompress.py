"""Rewrites a graph's compressed operators (`formats/schema.py`) as ONNX's.

A weight that a node Weight makes is a constant then. The node stays, because regions are made of nodes; `join_weights` makes it a part of
the node that reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from ..formats.schema import DOMAIN, OPERATORS, SINCE_VERSION, WEIGHT, WEIGHT_SHAPE
from ..formats.weight_codec import decode, nonzeros_of, shape_of
from ..graph.ir import Graph, Node, derived, with_constants
from ..graph.nonzeros import Nonzeros
from .patterns import exchanged, fused, only_reader

Weight = TypeVar("Weight", np.ndarray, Nonzeros)
Known = dict[tuple, Nonzeros]
"""Weights that have been decoded."""


def is_compressed(graph: Graph, node: Node) -> bool:
    """Return whether a node is one of these operators, of which every tensor is known."""
    return (
        node.domain == DOMAIN and node.op_type in OPERATORS and all(name in graph.values for name in (*node.inputs, *node.outputs) if name)
    )


def plain(graph: Graph, known: Known | None = None) -> Graph:
    """Return the graph with ONNX's operators and constant weights in place of compressed ones, which are decoded when they are loaded.

    Decoded weights go into `known`. Later calls with the same `known` use them while the constants stay where they are.
    ValueError that names the node if its weight is not constant or its shape is wrong; loading raises it for other damage.
    """
    compressed = [_checked(graph, node) for node in graph.nodes if is_compressed(graph, node)]
    weights = {_weight_name(node): node for node in compressed if node.op_type != WEIGHT or only_reader(graph, node.outputs[0])}
    if not weights:
        return graph
    nodes = tuple(_plain_node(node) if is_compressed(graph, node) and node.op_type != WEIGHT else node for node in graph.nodes)
    dense = {name: (weight_shape(node), partial(_decoded, graph, node, decode)) for name, node in weights.items()}
    known = {} if known is None else known
    products = {name: node for name, node in weights.items() if node.op_type != WEIGHT}
    return with_constants(graph, nodes, dense, {name: partial(_nonzeros, graph, node, known) for name, node in products.items()})


def join_weights(graph: Graph) -> Graph:
    """Return the graph with each node Weight as a part of the only node that reads it; without any, the graph itself."""
    replaced: dict[int, Node] = {}
    dropped = set()
    for node in graph.nodes:
        if node.domain != DOMAIN or node.op_type != WEIGHT or not graph.is_constant(node.outputs[0]):
            continue
        reader = only_reader(graph, node.outputs[0])
        if reader is not None:
            replaced[reader.index] = fused(replaced.get(reader.index, reader), [node])
            dropped.add(node.index)
    return exchanged(graph, replaced, dropped) if dropped else graph


def _nonzeros(graph: Graph, node: Node, known: Known) -> Nonzeros:
    """Return the weight of a compressed node by its nonzeros, found by where the two tensors that it is made of lie."""
    key = (weight_shape(node), *(graph.load(name).__array_interface__["data"][0] for name in _tensors(node)))
    if key not in known:
        known[key] = _decoded(graph, node, nonzeros_of)
    return known[key]


def _decoded(graph: Graph, node: Node, decode: Callable[[np.ndarray, np.ndarray], Weight]) -> Weight:
    """Return the weight of a compressed node, dense or by its nonzeros."""
    try:
        values, index = map(graph.load, _tensors(node))
        return decode(values, index)
    except ValueError as error:
        raise ValueError(f"{label_of(node)}: {error}") from None


def weight_shape(node: Node) -> tuple[int, ...]:
    """Return the attribute WEIGHT_SHAPE. ValueError if a weight of this operator cannot have that shape."""
    shape: Any = node.attributes.get(WEIGHT_SHAPE)
    if not isinstance(shape, tuple) or len(shape) not in OPERATORS[node.op_type].weight_ranks or min(shape) < 1:
        raise ValueError(f"{label_of(node)}: invalid {WEIGHT_SHAPE} {shape} for a {node.op_type}")
    return shape


def _plain_node(node: Node) -> Node:
    attributes = {key: value for key, value in node.attributes.items() if key != WEIGHT_SHAPE}
    inputs = (node.inputs[0], _weight_name(node), *node.inputs[3:])
    return replace(node, domain="", since_version=SINCE_VERSION, inputs=inputs, attributes=attributes)


def _checked(graph: Graph, node: Node) -> Node:
    """Return the node, if its weight is constant and of the shape that it says."""
    if len(_tensors(node)) < 2 or not all(graph.is_constant(name) for name in _tensors(node)):
        raise ValueError(f"{label_of(node)}: its weight is not constant")
    try:
        written = shape_of(graph.load(_tensors(node)[1]))
    except ValueError as error:
        raise ValueError(f"{label_of(node)}: {error}") from None
    if written != weight_shape(node):
        raise ValueError(f"{label_of(node)}: {WEIGHT_SHAPE} is {list(weight_shape(node))}, its weight has shape {list(written)}")
    return node


def _tensors(node: Node) -> tuple[str, ...]:
    """Return the names of the nonzeros and of the index of a compressed node's weight."""
    place = OPERATORS[node.op_type].weight
    return node.inputs[place : place + 2]


def _weight_name(node: Node) -> str:
    """Return the name of the node's weight: of a product a new one, which follows from its output and so is unique."""
    return node.outputs[0] if node.op_type == WEIGHT else derived("compressed weight", node.outputs[0])


def label_of(node: Node) -> str:
    """Return the name by which messages call a node."""
    return f"{node.op_type} {node.name or node.outputs[0]!r}"
