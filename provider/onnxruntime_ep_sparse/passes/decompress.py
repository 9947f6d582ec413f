"""The compressed operators (domain `ep.sparse`) in terms of ONNX's: what a graph that has them means, and the shape of what they make.

A compressed Conv, MatMul or Gemm has the inputs X, nonzeros of the weight, index of the weight (`formats/weight_codec.py`) and then ONNX's
own from the third on; the attributes are ONNX's and WEIGHT_SHAPE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from ..formats.weight_codec import decode, nonzeros_of, shape_of
from ..graph.ir import Graph, Node, with_constants
from ..graph.nonzeros import Nonzeros
from ..ops.windows import window_of
from ..program.enums import AutoPad

DOMAIN = "ep.sparse"
VERSION = 1
WEIGHT_SHAPE = "weight_shape"
SINCE_VERSION = 13
"""The version of ONNX's operators that the compressed ones mean."""
ATTRIBUTES: dict[str, dict[str, type]] = {
    "Conv": {
        "auto_pad": str,
        "dilations": tuple,
        "group": int,
        "kernel_shape": tuple,
        "pads": tuple,
        "strides": tuple,
        WEIGHT_SHAPE: tuple,
    },
    "MatMul": {WEIGHT_SHAPE: tuple},
    "Gemm": {"alpha": float, "beta": float, "transA": int, "transB": int, WEIGHT_SHAPE: tuple},
}
"""The operators with their attributes; tuple stands for several integers."""
RANKS = {"Conv": (3, 4, 5), "MatMul": (2,), "Gemm": (2,)}
"""How many dimensions their weights may have."""

Shape = tuple[int | str | None, ...]
Weight = TypeVar("Weight", np.ndarray, Nonzeros)
Known = dict[tuple, Nonzeros]
"""Weights that have been decoded."""


def is_compressed(node: Node) -> bool:
    """Whether it is one of these operators."""
    return node.domain == DOMAIN and node.op_type in ATTRIBUTES


def plain(graph: Graph, known: Known | None = None) -> Graph:
    """The graph with ONNX's operators and constant weights in place of compressed ones, which are decoded when they are loaded.

    What is decoded goes into `known` and is not decoded again by whoever brings the same while the constants stay where they are.
    ValueError that names the node if its weight is not constant or its shape is wrong; loading raises it for other damage.
    """
    weights = {_weight_name(node): _checked(graph, node) for node in graph.nodes if is_compressed(node)}
    if not weights:
        return graph
    nodes = tuple(_plain_node(node) if is_compressed(node) else node for node in graph.nodes)
    dense = {name: (weight_shape(node), partial(_decoded, graph, node, decode)) for name, node in weights.items()}
    known = {} if known is None else known
    return with_constants(graph, nodes, dense, {name: partial(_nonzeros, graph, node, known) for name, node in weights.items()})


def _nonzeros(graph: Graph, node: Node, known: Known) -> Nonzeros:
    """The weight of a compressed node by its nonzeros, found by where the two tensors that it is made of lie."""
    key = (weight_shape(node), *(graph.load(name).__array_interface__["data"][0] for name in node.inputs[1:3]))
    if key not in known:
        known[key] = _decoded(graph, node, nonzeros_of)
    return known[key]


def _decoded(graph: Graph, node: Node, decode: Callable[[np.ndarray, np.ndarray], Weight]) -> Weight:
    """The weight of a compressed node, dense or by its nonzeros."""
    try:
        return decode(graph.load(node.inputs[1]), graph.load(node.inputs[2]))
    except ValueError as error:
        raise ValueError(f"{_words(node)}: {error}") from None


def weight_shape(node: Node) -> tuple[int, ...]:
    """The attribute, checked. ValueError if it is none of a weight of this operator."""
    shape: Any = node.attributes.get(WEIGHT_SHAPE)
    if not isinstance(shape, tuple) or len(shape) not in RANKS[node.op_type] or min(shape) < 1:
        raise ValueError(f"{_words(node)}: {WEIGHT_SHAPE} {shape} is none of a {node.op_type}")
    return shape


def _plain_node(node: Node) -> Node:
    attributes = {key: value for key, value in node.attributes.items() if key != WEIGHT_SHAPE}
    inputs = (node.inputs[0], _weight_name(node), *node.inputs[3:])
    return replace(node, domain="", since_version=SINCE_VERSION, inputs=inputs, attributes=attributes)


def _checked(graph: Graph, node: Node) -> Node:
    """The node, if its weight is constant and of the shape that it says."""
    if len(node.inputs) < 3 or not all(graph.is_constant(name) for name in node.inputs[1:3]):
        raise ValueError(f"{_words(node)}: its weight is not constant")
    try:
        written = shape_of(graph.load(node.inputs[2]))
    except ValueError as error:
        raise ValueError(f"{_words(node)}: {error}") from None
    if written != weight_shape(node):
        raise ValueError(f"{_words(node)}: {WEIGHT_SHAPE} is {list(weight_shape(node))}, its weight has shape {list(written)}")
    return node


def _weight_name(node: Node) -> str:
    """By what the node makes, as no other does."""
    return f"compressed weight of {node.outputs[0]}"


def _words(node: Node) -> str:
    return f"{node.op_type} {node.name or node.outputs[0]!r}"


def output_shape(node: Node, x: Shape) -> Shape:
    """Shape of the output for an input of shape `x`; None where a dimension is not known. ValueError if the input does not fit."""
    weight = weight_shape(node)
    if node.op_type == "MatMul":
        return (*x[:-1], weight[1])
    if len(x) != len(weight):
        raise ValueError(f"{_words(node)}: an input of {len(x)} dimensions, {len(weight)} are wanted")
    if node.op_type == "Gemm":
        return (x[1 if node.attributes.get("transA") else 0], weight[0 if node.attributes.get("transB") else 1])
    window = window_of(node, weight[2:])
    if (
        any(len(sizes) != len(x) - 2 for sizes in (window.stride, window.dilation, window.pad_begin, window.pad_end))
        or min(window.stride) < 1
    ):
        raise ValueError(f"{_words(node)}: strides, dilations or pads do not fit {len(x) - 2} dimensions")
    return (x[0], weight[0], *(_size(window, axis, size) for axis, size in enumerate(x[2:])))


def _size(window: Any, axis: int, size: int | str | None) -> int | None:
    """Of one axis of a convolution's output, if it is known and not negative."""
    if not isinstance(size, int):
        return None
    stride = window.stride[axis]
    if window.auto_pad != AutoPad.EXPLICIT:
        return -(-size // stride)
    extent = (window.kernel[axis] - 1) * window.dilation[axis] + 1
    padded = size + window.pad_begin[axis] + window.pad_end[axis]
    return (padded - extent) // stride + 1 if padded >= extent else None
