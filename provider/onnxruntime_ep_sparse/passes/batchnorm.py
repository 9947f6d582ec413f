"""BatchNormalization as part of the convolution before it.

ONNX Runtime does this before a provider sees the graph, but not for convolutions in other domains than its own, as compressed ones are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..graph.ir import Graph, Node, derived, shape_of, with_constants
from ..graph.nonzeros import Nonzeros
from .patterns import fused

Computed = dict[str, tuple[tuple[int, ...], Callable[[], NDArray[np.float32]]]]


def fold_batchnorms(graph: Graph) -> Graph:
    """Return the graph without the BatchNormalizations that alone read a convolution with constant weights, which compute both.

    The arithmetic is that of ONNX Runtime's own fusion, so that the weights are the same bits.
    """
    computed: Computed = {}
    nonzeros: dict[str, Callable[[], Nonzeros | None]] = {}
    replaced: dict[int, Node] = {}
    gone: set[int] = set()
    for norm in graph.nodes:
        conv = graph.producer.get(norm.inputs[0]) if norm.op_type == "BatchNormalization" else None
        if conv is not None and absorbs(graph, conv) and shape_of(graph, norm.inputs[1]) == shape_of(graph, conv.inputs[1])[:1]:
            weight, bias = (derived(what, norm.outputs[0]) for what in ("weight", "bias"))
            shape = graph.values[conv.inputs[1]].shape
            computed[weight] = shape, partial(weight_of, graph, conv, norm)  # type: ignore[assignment]  # constants have their sizes
            nonzeros[weight] = partial(nonzeros_of, graph, conv, norm)
            computed[bias] = shape[:1], partial(bias_of, graph, conv, norm)  # type: ignore[assignment,index]  # as above
            replaced[conv.index] = fused(conv, [norm], inputs=(conv.inputs[0], weight, bias), outputs=norm.outputs[:1])
            gone.add(norm.index)
    if not computed:
        return graph
    return with_constants(
        graph, tuple(replaced.get(node.index, node) for node in graph.nodes if node.index not in gone), computed, nonzeros
    )


def absorbs(graph: Graph, conv: Node) -> bool:
    """Return whether `conv` is a convolution with constant weights whose result one node reads, and no output of the graph."""
    y = conv.outputs[0]
    constant = all(graph.is_constant(name) for name in conv.inputs[1:] if name)
    return conv.op_type == "Conv" and constant and y not in graph.outputs and len(graph.consumers[y]) == 1


def factor_of(graph: Graph, norm: Node) -> NDArray[np.float32]:
    """Return the factor of each channel."""
    epsilon = np.float32(norm.attributes.get("epsilon", 1e-5))  # type: ignore[arg-type]  # ONNX: a float
    return np.asarray(graph.load(norm.inputs[1]) / np.sqrt(graph.load(norm.inputs[4]) + epsilon), np.float32)


@np.errstate(all="ignore")
def weight_of(graph: Graph, conv: Node, norm: Node) -> NDArray[np.float32]:
    """Return the weight times the factor of its output."""
    weight = graph.load(conv.inputs[1])
    return weight * factor_of(graph, norm).reshape(-1, *[1] * (weight.ndim - 1))


@np.errstate(all="ignore")
def nonzeros_of(graph: Graph, conv: Node, norm: Node) -> Nonzeros | None:
    """Return the same weight by its nonzeros, if the convolution's weight is available so."""
    weight = graph.nonzeros(conv.inputs[1])
    return None if weight is None else weight.scaled(factor_of(graph, norm))


@np.errstate(all="ignore")
def bias_of(graph: Graph, conv: Node, norm: Node) -> NDArray[np.float32]:
    """Return the bias of each output."""
    offset, mean = (graph.load(name) for name in norm.inputs[2:4])
    if len(conv.inputs) > 2 and conv.inputs[2]:
        return (graph.load(conv.inputs[2]) - mean) * factor_of(graph, norm) + offset
    return offset - mean * factor_of(graph, norm)
