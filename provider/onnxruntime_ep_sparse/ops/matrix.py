"""Gemm and MatMul with one constant operand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..graph.ir import Graph, Node, attribute_of, shape_of
from ..graph.nonzeros import Nonzeros

if TYPE_CHECKING:
    from ..program.builder import Builder


def _gemm_can_run(graph: Graph, node: Node) -> str | None:
    constant = [graph.is_constant(name) for name in node.inputs[:2]]
    if constant.count(True) != 1:
        return "neither operand is constant" if not any(constant) else "both operands are constant"
    if any(len(shape_of(graph, name)) != 2 for name in node.inputs[:2]):
        return "operands are not matrices"
    if 0 in shape_of(graph, node.inputs[constant.index(True)]):
        return "the constant operand is empty"
    c = node.inputs[2] if len(node.inputs) > 2 else ""
    if c and not graph.is_constant(c) and float(attribute_of(node, "beta", 1.0)) != 1.0:
        return "a C that is not constant needs beta = 1"
    return None


def _gemm_lower(builder: Builder, node: Node) -> None:
    graph = builder.graph
    right = graph.is_constant(node.inputs[1])
    alpha, beta = np.float32(attribute_of(node, "alpha", 1.0)), np.float32(attribute_of(node, "beta", 1.0))
    name = node.inputs[1 if right else 0]
    weight = builder.weight(name) if alpha == 1 else builder.floats(name) * alpha
    weight__mk = weight if bool(attribute_of(node, "transB" if right else "transA", 0)) == right else weight.T
    # right: weights are B, outputs are features of a row of A; left: weights are A, pixels are the columns of B
    transposed = bool(attribute_of(node, "transA" if right else "transB", 0))
    x_rows = transposed != right
    c = node.inputs[2] if len(node.inputs) > 2 else ""
    bias, rest = None, None
    if c and graph.is_constant(c):
        addend = builder.floats(c) * beta
        # one number a feature, whatever the pixel, is a bias
        feature_axis = 1 if right else 0
        full = np.reshape(addend, (1,) * (2 - addend.ndim) + addend.shape)
        if full.shape[1 - feature_axis] == 1:
            bias = np.ascontiguousarray(np.broadcast_to(full.reshape(-1), weight__mk.shape[:1]))
        else:
            rest = builder.constant(full)
    elif c:
        rest = builder.value(c)
    product = builder.matrix(weight__mk, bias, x_rows=x_rows, y_rows=right)
    builder.product(node, node.inputs[0 if right else 1], product, None, addend=rest)


def _matmul_can_run(graph: Graph, node: Node) -> str | None:
    constant = [graph.is_constant(name) for name in node.inputs[:2]]
    if constant.count(True) != 1:
        return "neither operand is constant" if not any(constant) else "both operands are constant"
    shape = shape_of(graph, node.inputs[constant.index(True)])
    if not shape or 0 in shape:
        return "the constant operand is empty"
    if not shape_of(graph, node.inputs[constant.index(False)]):
        return "the operand is a scalar"
    return None


def _matmul_lower(builder: Builder, node: Node) -> None:
    right = builder.graph.is_constant(node.inputs[1])
    weight = builder.weight(node.inputs[1 if right else 0])
    vector, batch = len(weight.shape) == 1, weight.shape[:-2]
    matrices: Iterable[NDArray[np.float32] | Nonzeros] = [weight]
    if isinstance(weight, np.ndarray):
        if vector:
            weight = weight.reshape(-1, 1) if right else weight.reshape(1, -1)
        matrices = weight.reshape(-1, *weight.shape[-2:])
    product = builder.matrices(
        [matrix.T if right else matrix for matrix in matrices],
        right=right,
        batch=batch if math.prod(batch) > 1 else (1,) * len(batch),
        vector_operand=vector,
    )
    builder.product(node, node.inputs[0 if right else 1], product, None)
