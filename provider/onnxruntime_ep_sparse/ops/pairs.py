"""Products of two values that a run computes, as in attention; `passes/pairs.py` fuses transpositions and factors into them."""

from __future__ import annotations

import math

import numpy as np

from onnxruntime_ep_sparse_kernels.elementwise import Act, Op

from .. import reasons
from ..graph.ir import Graph, Node, attribute_of, input_of, number_of, shape_of
from ..program.builder import Builder
from ..program.enums import StepKind
from ..program.kinds.elementwise import Binary
from ..program.kinds.pair_product import PairProduct
from ..program.steps import Activation, Step
from ..reasons import Finding
from .costs import ORT_SPLIT_MACS, Estimate, Setting, ort_matrix_product
from .quantized import is_dequantised_constant
from .row import FUSED, OpRow

ORDERED = "OrderedMatMul"
"""A MatMul with the dimensions of its operands and of its result in other orders, and a factor: what passes make of several nodes."""


def is_pair(graph: Graph, node: Node) -> bool:
    """Return whether a run computes both operands of a matrix product. Weights that callers may override, or of integers, are others."""
    return not any(name in graph.defaults or graph.is_constant(name) or is_dequantised_constant(graph, name) for name in node.inputs[:2])


def pair_can_run(graph: Graph, node: Node) -> Finding | None:
    """Return None if both operands have the dimensions of matrices, else the reason."""
    rank = min(len(shape_of(graph, name)) for name in node.inputs[:2])
    return None if rank >= 2 else reasons.UNSUPPORTED_RANK(rank=rank, supported="2 and more of both operands")


def swapped(rank: int) -> tuple[int, ...]:
    """Return the order of dimensions in which the last two have changed places."""
    return (*range(rank - 2), rank - 1, rank - 2)


def lower_pair(builder: Builder, node: Node, y: int | None = None) -> None:
    """Append a product of two values, each of which may be transposed, times a number; `y` is its result unless that is the node's."""
    graph, alpha = builder.graph, number_of(node, "alpha", 1.0)
    orders = [tuple(attribute_of(node, name, ())) for name in ("x_order", "r_order", "y_order")]
    for i, name in enumerate(("transA", "transB")):
        if attribute_of(node, name, 0):
            orders[i] = swapped(len(shape_of(graph, node.inputs[i])))
    activation = Activation() if alpha == 1 else Activation(Act.AFFINE, alpha)
    x, r = (builder.value(name) for name in node.inputs[:2])
    y = builder.value(node.outputs[0]) if y is None else y
    builder.step(Step(StepKind.PAIR_PRODUCT, x, y, r, activation, PairProduct(*orders)))


@np.errstate(all="ignore")  # of beta, as ONNX Runtime does
def lower_pair_gemm(builder: Builder, node: Node, activation: Activation | None) -> None:
    """Append a Gemm of two values: their product, the addition of C, an activation."""
    c, beta = input_of(node, 2), np.float32(attribute_of(node, "beta", 1.0))
    if not c and activation is None:
        return lower_pair(builder, node)
    product = builder.new_value(2)
    lower_pair(builder, node, product)
    y = builder.value(node.outputs[0])
    if not c:
        return builder.step(Step(StepKind.ACTIVATE, product, y, activation=activation or Activation()))
    addend = builder.constant(builder.floats(c) * beta) if beta != 1 else builder.value(c)
    return builder.step(Step(StepKind.BINARY, product, y, addend, activation or Activation(), Binary(Op.ADD, keeps_x=True)))


def pair_estimate(setting: Setting, node: Node) -> Estimate:
    """Return the work of a product of two values."""
    x, r = (
        tuple(shape[axis] for axis in attribute_of(node, name, ()) or range(len(shape)))
        for shape, name in zip(map(setting.sizes, node.inputs), ("x_order", "r_order"), strict=False)
    )
    rows, depth = x[:-3:-1] if attribute_of(node, "transA", 0) else x[-2:]
    columns = r[-2 if attribute_of(node, "transB", 0) else -1]
    matrices = math.ceil(math.prod(setting.sizes(node.outputs[0])) / max(rows * columns, 1))
    size, lanes = depth * columns, setting.isa.lanes
    one = ort_matrix_product(lanes, matrices * size, rows, depth, columns, size)
    ort = {name: amount if name == "node" else matrices * amount for name, amount in one.items()}
    macs = matrices * rows * math.ceil(columns / lanes) * lanes * depth
    ours = {"step": 1, "pair_mac": macs, "pair_packed": matrices * size}
    floats = math.prod(x) + math.prod(setting.sizes(node.outputs[0]))
    return Estimate(ort, ours, ort_splits=matrices * rows * size >= ORT_SPLIT_MACS, floats=floats)


ROWS = (OpRow(ORDERED, "neighbour", pair_can_run, lower_pair, domains=(FUSED,), estimate=pair_estimate),)
