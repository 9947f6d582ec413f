"""Nodes with constant weights that are not layers, and why: a user looks for them in the report."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from onnx import GraphProto, NodeProto, helper

from ..formats.onnx_file import graphs_within
from ..ops.table import LEFT_PRODUCTS
from .operators import Places, operator_of
from .source import ONNX, Source


@dataclass(frozen=True, slots=True)
class Skipped:
    """A layer that gets no zeros, and why. `refitted` says whether its weights are fitted to its new inputs all the same."""

    name: str
    op_type: str
    reason: str
    refitted: bool = False


NOT_PRUNED = {
    ("", "ConvTranspose"): (1,),
    ("com.microsoft", "FusedConv"): (1,),
    ("com.microsoft", "FusedGemm"): (0, 1),
    ("com.microsoft", "FusedMatMul"): (0, 1),
}
"""Products that run on our kernels and whose weights are not pruned: domain and operator to the inputs that may be weights."""


def left_out(source: Source, layers: Collection[tuple[int, int]]) -> Iterator[tuple[int, Skipped]]:
    """Yield the nodes with a weight that are not a layer, with their indices. `layers` has the node and the input of each layer."""
    for index, node in enumerate(source.nodes):
        name = source.name(index)
        for suffix, places in _places(node).items():
            if not any((index, place) in layers for place in places) and (reason := _reason(source, node, places)):
                yield index, Skipped(f"{name}{suffix}", node.op_type, reason)
        for graph in graphs_within([node]):
            reason = f"it is in the body of {node.op_type} {name!r}: bodies of control flow are not pruned"
            yield from ((index, Skipped(each.name or each.output[0], each.op_type, reason)) for each in _products(graph, source))


def _places(node: NodeProto) -> Places:
    """Return which inputs of a node may be weights."""
    if row := operator_of(node):
        return row.weights
    domain = "" if node.domain in ONNX else node.domain
    left = LEFT_PRODUCTS.get((domain, node.op_type), ())
    return {"": tuple(weight.place for weight in left) or NOT_PRUNED.get((domain, node.op_type), ())}


def _inputs(node: NodeProto, places: Sequence[int]) -> list[str]:
    return [node.input[place] for place in places if place < len(node.input) and node.input[place]]


def _reason(source: Source, node: NodeProto, places: Sequence[int]) -> str:
    """Return why none of the inputs `places` of a node is a layer's weight, "" if none is a weight at all."""
    names = _inputs(node, places)
    constant = [name for name in names if source.is_constant(name)]
    row = operator_of(node)
    if not constant:
        return "its weight is not constant" if row and len(places) == 1 else ""
    if len(constant) > 1:  # the result is a constant too
        return ""
    (name,) = constant
    if name in source.sparse_constants:
        return "its weight is a sparse initializer, which has zeros already"
    if len(source.shape(name)) < 2:
        return ""
    if not row:
        return f"weights of {node.op_type} are not pruned"
    if not source.is_weight(name):
        return f"its weight is {helper.tensor_dtype_to_np_dtype(source.constants[name].data_type)}: only float32 is pruned"
    return f"this form of {node.op_type} is not pruned"


def _products(graph: GraphProto, source: Source) -> Iterator[NodeProto]:
    """Yield the nodes of a body that have a constant matrix as weight."""
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    ranks |= {node.output[0]: len(each.t.dims) for node in graph.node if node.op_type == "Constant" for each in node.attribute}
    for node in graph.node:
        names = _inputs(node, [*chain.from_iterable(_places(node).values())])
        if any(ranks[name] > 1 if name in ranks else name in source.constants and len(source.shape(name)) > 1 for name in names):
            yield node
