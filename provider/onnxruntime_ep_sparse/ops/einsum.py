"""Einsum of two operands that is a matrix product: by a constant weight, or of two values, as in attention."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from .. import reasons
from ..graph.ir import Graph, Node, attribute_of, shape_of, sizes_of
from ..program.builder import Builder
from ..program.enums import StepKind
from ..program.kinds.layout import Reshape
from ..program.kinds.pair_product import is_order
from ..program.steps import Step
from ..reasons import Finding
from .costs import Estimate, Setting, matrix_product
from .matrix import packed_matmul
from .pairs import ORDERED, is_pair, lower_pair, pair_estimate
from .row import FUSED, OpRow, can_run_if

EQUATION = "equation"


@dataclass(frozen=True, slots=True)
class WeightedSum:
    """x times a weight: which inputs they are, the dimensions of the weight with the `summed` first ones before its outputs."""

    x: int
    weight: int
    order: tuple[int, ...]
    summed: int


def sum_of(graph: Graph, node: Node) -> Node | WeightedSum | Finding:
    """Return what a node asks for, a product of two values as a node with their orders; or the reason why it cannot run."""
    terms = _terms_of(node)
    names = node.inputs
    if terms is None or [len(shape_of(graph, name)) for name in names] != list(map(len, terms[:2])):
        return _unknown(node)
    constant = [graph.is_constant(name) for name in names]
    if is_pair(graph, node):
        found = _ordered(node, *terms) or _ordered(replace(node, inputs=names[::-1]), terms[1], terms[0], terms[2])
        return found or _unknown(node)
    if constant.count(True) != 1:
        return reasons.ALL_CONSTANT() if any(constant) else reasons.NO_CONSTANT_OPERAND()
    weight = constant.index(True)
    return _weighted(graph, node, 1 - weight, weight, terms) or _unknown(node)


def _unknown(node: Node) -> Finding:
    return reasons.UNSUPPORTED_ATTRIBUTE(name=EQUATION, value=attribute_of(node, EQUATION, ""))


def _terms_of(node: Node) -> tuple[str, str, str] | None:
    """Return the letters of both operands and of the result; None of other equations, and of a letter twice in one of them."""
    left, arrow, y = str(attribute_of(node, EQUATION, "")).replace(" ", "").partition("->")
    x, comma, r = left.partition(",")
    if not arrow:
        y = "".join(sorted(letter for letter in {*x, *r} if (x + r).count(letter) == 1))
    terms = (x, r, y)
    plain = all(term.isalpha() and term.isascii() and len(set(term)) == len(term) for term in terms)
    return terms if comma and plain and len(node.inputs) == 2 and set(y) <= {*x, *r} else None


def _ordered(node: Node, x: str, r: str, y: str) -> Node | None:
    """Return the product of two values as a node with their orders: each has one dimension of its own, one is summed, others are shared."""
    rows, columns, summed = ([letter for letter in term if letter not in other] for term, other in ((x, r), (r, x), (x, y)))
    shared = [letter for letter in y if letter in x and letter in r]
    if not len(rows) == len(columns) == len(summed) == 1 or summed == rows or len(shared) + 2 != len(x) or len(x) != len(r):
        return None
    if not set(rows + columns) <= set(y):
        return None
    wanted = (shared + rows + summed, shared + summed + columns)
    orders = [tuple(map(term.index, letters)) for term, letters in zip((x, r), wanted, strict=True)]
    y_order = tuple(map((shared + rows + columns).index, y))
    if not all(is_order(order, len(x), places) for order, places in zip((*orders, y_order), (2, 2, 1), strict=True)):
        return None
    attributes = {"x_order": orders[0], "r_order": orders[1], "y_order": y_order}
    return replace(node, op_type=ORDERED, domain=FUSED, attributes=attributes)


def _weighted(graph: Graph, node: Node, x: int, weight: int, terms: tuple[str, str, str]) -> WeightedSum | None:
    """Return the product by a weight: what is summed are the last dimensions of x, which the outputs of the weight take the place of."""
    summed = "".join(letter for letter in terms[x] if letter in terms[weight])
    outputs = "".join(letter for letter in terms[2] if letter in terms[weight])
    before = terms[x].removesuffix(summed)
    fits = terms[x] == before + summed and terms[2] == before + outputs and sorted(summed + outputs) == sorted(terms[weight])
    if not (fits and summed and outputs and before):
        return None
    order = tuple(map(terms[weight].index, summed + outputs))
    sizes = sizes_of(graph, node.inputs[weight])
    depth = tuple(sizes[axis] for axis in order[: len(summed)])
    read = shape_of(graph, node.inputs[x])[len(before) :]
    known = read == depth or (len(summed) == 1 and not isinstance(read[0], int))  # a run checks the only one
    return WeightedSum(x, weight, order, len(summed)) if known and 0 not in sizes else None


def _lower(builder: Builder, node: Node) -> None:
    found = sum_of(builder.graph, node)
    if isinstance(found, Node):
        return lower_pair(builder, found)
    assert isinstance(found, WeightedSum)
    name, y = node.inputs[found.x], node.outputs[0]
    weight = builder.floats(node.inputs[found.weight]).transpose(found.order)
    depth, outputs = weight.shape[: found.summed], weight.shape[found.summed :]
    product = packed_matmul(builder, np.ascontiguousarray(weight.reshape(math.prod(depth), math.prod(outputs))), right=True)
    if len(depth) == len(outputs) == 1:
        return builder.product(node, name, product)
    rank = len(shape_of(builder.graph, name)) - len(depth)
    x = builder.value(name)
    if len(depth) > 1:
        flat = builder.new_value(rank + 1)
        builder.step(Step(StepKind.RESHAPE, x, flat, spec=Reshape((*(0,) * rank, -1))))
        x = flat
    made = builder.new_value(rank + 1) if len(outputs) > 1 else builder.value(y)
    builder.step(Step(StepKind.PRODUCT, x, made, spec=product))
    if len(outputs) > 1:
        builder.step(Step(StepKind.RESHAPE, made, builder.value(y), spec=Reshape((*(0,) * rank, *outputs))))
    return None


def _weights(graph: Graph, node: Node) -> tuple[str, ...]:
    return tuple(name for name in node.inputs if graph.is_constant(name))[:1]


def _output_axis(graph: Graph, node: Node) -> int:
    found = sum_of(graph, node)
    return found.order[found.summed] if isinstance(found, WeightedSum) else 0


def _estimate(setting: Setting, node: Node) -> Estimate:
    found = sum_of(setting.graph, node)
    if isinstance(found, Node):
        return pair_estimate(setting, found)
    assert isinstance(found, WeightedSum)
    sizes = setting.sizes(node.inputs[found.weight])
    depth = math.prod(sizes[axis] for axis in found.order[: found.summed])
    rows = math.ceil(math.prod(setting.sizes(node.inputs[found.x])) / depth)
    return matrix_product(setting.isa, setting.weights, rows, depth, math.prod(sizes) // depth, math.prod(sizes))


ROWS = (
    OpRow(
        "Einsum",
        "product",
        can_run_if(sum_of),
        _lower,
        "of two operands, one of which may be constant: a matrix product, with the dimensions of values in the order of its kernels",
        first_version=12,
        weights=_weights,
        output_axis=_output_axis,
        estimate=_estimate,
    ),
)
