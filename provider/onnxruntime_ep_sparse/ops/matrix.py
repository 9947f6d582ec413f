"""Gemm and MatMul with one constant operand, or of two values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .. import reasons
from ..graph.ir import Graph, Node, attribute_of, input_of, number_of, shape_of, sizes_of
from ..graph.nonzeros import Nonzeros
from ..program.builder import Builder
from ..program.kinds.product import PendingProduct
from ..program.steps import Activation
from ..reasons import Finding
from .channels import ChannelPlan, Flow
from .costs import FEW_ROWS, Amounts, Estimate, Setting, combined, elementwise, matrix_product
from .fused import activation_within, fused_can_run, fused_channels, fused_estimate, fused_row, gemm_activation
from .pairs import is_pair, lower_pair, lower_pair_gemm, pair_can_run, pair_estimate
from .row import OpRow, Shape

SMALLEST_ALPHA, LARGEST_ALPHA = 2.0**-60, 2.0**60
"""Weights are multiplied by alpha when they are packed: farther numbers could make a finite result infinite, NaN or 0."""


def _weights(graph: Graph, node: Node) -> tuple[str, ...]:
    return tuple(name for name in node.inputs[:2] if graph.is_constant(name))[:1]


def _one_constant(graph: Graph, node: Node) -> Finding | None:
    """Return None if one of the two operands is constant and the other is not, else the reason."""
    constant = [graph.is_constant(name) for name in node.inputs[:2]]
    if constant.count(True) == 1:
        return None
    return reasons.ALL_CONSTANT() if any(constant) else reasons.NO_CONSTANT_OPERAND()


def _row_counts(graph: Graph, node: Node) -> tuple[int | None, ...]:
    """Return the numbers of rows to judge by: a few where the number is only known at run time and may be 1.

    With batch and sequence as two dimensions that is unlikely.
    """
    if is_pair(graph, node):
        return (None,)
    x = shape_of(graph, next(name for name in node.inputs[:2] if not graph.is_constant(name)))
    return (None, *FEW_ROWS) if len(x) == 2 and not all(isinstance(d, int) for d in x) else (None,)


def _estimate(setting: Setting, node: Node, transposed: bool = False) -> Estimate:
    """Return the work of a matrix product; `transposed` says that the depth of the weight stands where its outputs usually do."""
    if is_pair(setting.graph, node):
        return pair_estimate(setting, node)
    right = setting.graph.is_constant(node.inputs[1])
    stored, x = math.prod(setting.sizes(node.outputs[0])), math.prod(setting.sizes(node.inputs[0 if right else 1]))
    weight = setting.sizes(node.inputs[1 if right else 0])
    depth = weight[-2] if right != transposed and len(weight) > 1 else weight[-1]
    rows = math.ceil(x / depth)
    return matrix_product(setting.isa, setting.weights, rows, depth, math.ceil(stored / max(rows, 1)), math.prod(weight))


def other_work(setting: Setting, node: Node, outputs: Sequence[str]) -> Amounts:
    """Return ONNX Runtime's work of a node that no region may hold: of a product of two activations, else of copying its `outputs`."""
    graph = setting.graph
    if node.op_type == "MatMul" and outputs and all(name in graph.values and graph.values[name].shape for name in node.inputs):
        return {"node": 1, "gemm_mac": math.prod(setting.sizes(outputs[0])) * setting.sizes(node.inputs[0])[-1]}
    return {"node": 1, "copied": sum(math.prod(setting.sizes(name)) for name in outputs)}


def check_alpha(node: Node) -> Finding | None:
    """Return None if weights can be multiplied by the alpha of a node, else the reason."""
    alpha = number_of(node, "alpha", 1.0)
    fits = alpha == 0 or SMALLEST_ALPHA <= abs(alpha) <= LARGEST_ALPHA
    return None if fits else reasons.UNSUPPORTED_ATTRIBUTE(name="alpha", value=alpha)


def gemm_can_run(graph: Graph, node: Node) -> Finding | None:
    """Return None if a Gemm can run, else the reason."""
    pair = is_pair(graph, node)
    finding = (None if pair else _one_constant(graph, node)) or _matrices_can_run(graph, node)
    if finding is None and not pair and 0 in shape_of(graph, _weights(graph, node)[0]):
        return reasons.WEIGHT_EMPTY()
    return finding


def _matrices_can_run(graph: Graph, node: Node) -> Finding | None:
    """Return None if A, B and C are matrices that a Gemm can add, else the reason."""
    ranks = [len(shape_of(graph, name)) for name in node.inputs[:2]]
    if ranks != [2, 2]:
        return reasons.UNSUPPORTED_RANK(rank=max(ranks, key=lambda rank: abs(rank - 2)), supported=2)
    beta = number_of(node, "beta", 1.0)
    if finding := check_alpha(node):
        return finding
    c = input_of(node, 2)
    if c and not graph.is_constant(c) and beta != 1.0:
        return reasons.GEMM_BETA(beta=beta)
    if c and not _fits_result(shape_of(graph, c), _gemm_result(graph, node)):
        return reasons.MISMATCHED(what="input C", other="the product")
    return None


def _gemm_result(graph: Graph, node: Node) -> tuple[int | str | None, ...]:
    """Return the shape of a Gemm's result, as it follows from A and B."""
    a, b = shape_of(graph, node.inputs[0]), shape_of(graph, node.inputs[1])
    return a[1 if attribute_of(node, "transA", 0) else 0], b[0 if attribute_of(node, "transB", 0) else 1]


def _fits_result(addend: tuple[int | str | None, ...], result: tuple[int | str | None, ...]) -> bool:
    """Return whether an addend may broadcast to the result, which keeps its shape. Sizes only known at run time are checked there."""
    extra = len(result) - len(addend)
    known = [(d, whole) for d, whole in zip(addend, result[max(extra, 0) :], strict=False) if isinstance(d, int) and isinstance(whole, int)]
    return extra >= 0 and all(d in (1, whole) for d, whole in known)


def _gemm_implied(graph: Graph, node: Node) -> dict[str, Shape]:
    """Return the rank of a Gemm's matrices."""
    return dict.fromkeys((*node.inputs[:2], *node.outputs), (None, None))


@np.errstate(all="ignore")  # of alpha and beta, as ONNX Runtime does
def gemm_product(builder: Builder, node: Node) -> tuple[str, PendingProduct, int | None]:
    """Return the operand of a Gemm that is not constant, its weights, and a value that is to be added and is not a bias, or None."""
    graph = builder.graph
    right = graph.is_constant(node.inputs[1])
    alpha, beta = np.float32(attribute_of(node, "alpha", 1.0)), np.float32(attribute_of(node, "beta", 1.0))
    name = node.inputs[1 if right else 0]
    weight = builder.weight(name) if alpha == 1 else builder.floats(name) * alpha
    weight__mk = weight if bool(attribute_of(node, "transB" if right else "transA", 0)) == right else weight.T
    # right: weights are B, outputs are features of a row of A; left: weights are A, pixels are the columns of B
    transposed = bool(attribute_of(node, "transA" if right else "transB", 0))
    x_rows = transposed != right
    c = input_of(node, 2)
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
    return node.inputs[0 if right else 1], product, rest


def _gemm_lower(builder: Builder, node: Node, activation: Activation | None = None) -> None:
    if is_pair(builder.graph, node):
        return lower_pair_gemm(builder, node, activation)
    x, product, rest = gemm_product(builder, node)
    builder.product(node, x, product, addend=rest, activation=activation)
    return None


def _gemm_transposes(graph: Graph, node: Node) -> bool:
    """Return whether the constant operand is transposed."""
    return bool(attribute_of(node, "transB" if graph.is_constant(node.inputs[1]) else "transA", 0))


def _gemm_output_axis(graph: Graph, node: Node) -> int:
    return int(graph.is_constant(node.inputs[1])) ^ _gemm_transposes(graph, node)


def gemm_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    """Follow channels through a Gemm, by its weights."""
    if not flow.graph.is_constant(node.inputs[1]) or attribute_of(node, "transA", 0):
        return None
    rows = 0 if attribute_of(node, "transB", 0) else 1
    outputs = sizes_of(flow.graph, node.inputs[1])[rows]
    alpha, beta = number_of(node, "alpha", 1.0), number_of(node, "beta", 1.0)
    c = input_of(node, 2)
    addend = flow.graph.constant(c) if c else np.zeros(1, np.float32)
    if addend is None or not (addend.size == 1 or addend.size == addend.shape[-1] == outputs):
        return None
    bias__m = np.broadcast_to(addend.reshape(-1) * np.float32(beta), outputs)
    plan = flow.product(node, node.inputs[0], 1, rows, bias__m, alpha=alpha)
    if plan.node.inputs[2:3] != node.inputs[2:3]:
        plan.node = replace(plan.node, attributes={**node.attributes, "beta": 1.0})
    return plan


def gemm_estimate(setting: Setting, node: Node) -> Estimate:
    """Return the work of a Gemm."""
    estimate = _estimate(setting, node, _gemm_transposes(setting.graph, node))
    if not is_pair(setting.graph, node) or not input_of(node, 2):
        return estimate
    added = elementwise("added", math.prod(setting.sizes(node.outputs[0])))
    return replace(estimate, ours=combined(estimate.ours, added.ours))


def matmul_can_run(graph: Graph, node: Node) -> Finding | None:
    """Return None if a MatMul can run, else the reason."""
    if is_pair(graph, node):
        return pair_can_run(graph, node)
    finding = _one_constant(graph, node)
    if finding is not None:
        return finding
    right = graph.is_constant(node.inputs[1])
    x, weight = (shape_of(graph, name) for name in (node.inputs if right else node.inputs[::-1]))
    if not weight or 0 in weight:
        return reasons.WEIGHT_EMPTY()
    if not x:
        return reasons.UNSUPPORTED_RANK(rank=0, supported="1 and more")
    return None


def _matmul_implied(graph: Graph, node: Node) -> dict[str, Shape]:
    """Return the rank of the result, which is that of the operand if the weight is a matrix."""
    x, weight = node.inputs[::-1] if graph.is_constant(node.inputs[0]) else node.inputs
    shape = graph.values[x].shape if x in graph.values else None
    if shape is None or not graph.is_constant(weight) or len(shape) < 2 or len(shape_of(graph, weight)) != 2:
        return {}
    return {node.outputs[0]: (None,) * len(shape)}


def _matmul_lower(builder: Builder, node: Node) -> None:
    """Append a MatMul, or a FusedMatMul, whose constant operand may be transposed and scaled."""
    if is_pair(builder.graph, node):
        return lower_pair(builder, node)
    right = builder.graph.is_constant(node.inputs[1])
    name, alpha = node.inputs[1 if right else 0], np.float32(attribute_of(node, "alpha", 1.0))
    transposes = bool(attribute_of(node, "transB" if right else "transA", 0)) and len(shape_of(builder.graph, name)) > 1
    weight = builder.weight(name) if alpha == 1 and not transposes else builder.floats(name) * alpha
    if transposes:
        assert isinstance(weight, np.ndarray)
        weight = weight.swapaxes(-1, -2)
    builder.product(node, node.inputs[0 if right else 1], packed_matmul(builder, weight, right=right))
    return None


def packed_matmul(
    builder: Builder, weight: NDArray[np.float32] | Nonzeros, *, right: bool, bias__m: NDArray[np.float32] | None = None
) -> PendingProduct:
    """Return the product of a MatMul with this weight, which stands on the `right` or on the left."""
    vector, batch = len(weight.shape) == 1, weight.shape[:-2]
    matrices: Iterable[NDArray[np.float32] | Nonzeros] = [weight]
    if isinstance(weight, np.ndarray):
        if vector:
            weight = weight.reshape(-1, 1) if right else weight.reshape(1, -1)
        matrices = weight.reshape(-1, *weight.shape[-2:])
    return builder.matrices(
        [matrix.T if right else matrix for matrix in matrices],
        right=right,
        batch=batch if math.prod(batch) > 1 else (1,) * len(batch),
        vector_operand=vector,
        bias__m=bias__m,
    )


def matmul_output_axis(graph: Graph, node: Node) -> int:
    """Return the axis of the outputs in the constant operand of a MatMul."""
    return -1 if graph.is_constant(node.inputs[1]) else max(-2, -len(shape_of(graph, node.inputs[0])))


def _matmul_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    rank = flow.rank(node.inputs[0])
    right = flow.graph.is_constant(node.inputs[1]) and flow.rank(node.inputs[1]) == 2
    return flow.product(node, node.inputs[0], rank - 1, 1, None) if right and rank >= 2 else None


def _fused_gemm_lower(builder: Builder, node: Node) -> None:
    _gemm_lower(builder, node, activation_within(builder.graph, node, gemm_activation))


def _fused_matmul_can_run(graph: Graph, node: Node) -> Finding | None:
    """Return None for a product whose constant operand alone may be transposed, else the reason."""
    finding = matmul_can_run(graph, node)
    if finding is not None:
        return finding
    pair = is_pair(graph, node)
    for name in ("transBatchA", "transBatchB", *(() if pair else ("transA" if graph.is_constant(node.inputs[1]) else "transB",))):
        if attribute_of(node, name, 0):
            return reasons.UNSUPPORTED_ATTRIBUTE(name=name, value=1)
    return None if pair else check_alpha(node)


def _fused_matmul_output_axis(graph: Graph, node: Node) -> int:
    axis, rank = matmul_output_axis(graph, node), len(shape_of(graph, node.inputs[int(graph.is_constant(node.inputs[1]))]))
    return -3 - axis if _gemm_transposes(graph, node) and rank > 1 else axis


GEMM = OpRow(
    "Gemm",
    "product",
    gemm_can_run,
    _gemm_lower,
    "one constant operand, or two that are not; a C that is not constant needs beta = 1",
    weights=_weights,
    output_axis=_gemm_output_axis,
    implied=_gemm_implied,
    channels=gemm_channels,
    estimate=gemm_estimate,
    row_counts=_row_counts,
)
MATMUL = OpRow(
    "MatMul",
    "product",
    matmul_can_run,
    _matmul_lower,
    "a constant operand of any rank, on either side, or two operands of at least two dimensions",
    weights=_weights,
    output_axis=matmul_output_axis,
    implied=_matmul_implied,
    channels=_matmul_channels,
    estimate=_estimate,
    row_counts=_row_counts,
)
ROWS = (
    GEMM,
    MATMUL,
    fused_row(
        GEMM,
        "FusedGemm",
        "as `Gemm`",
        can_run=partial(fused_can_run, gemm_can_run, gemm_activation),
        lower=_fused_gemm_lower,
        channels=partial(fused_channels, gemm_channels, gemm_activation),
        estimate=partial(fused_estimate, gemm_estimate, gemm_activation),
    ),
    fused_row(
        MATMUL,
        "FusedMatMul",
        "as `MatMul`; if one operand is constant, only that one transposed",
        can_run=_fused_matmul_can_run,
        channels=None,
        output_axis=_fused_matmul_output_axis,
        estimate=gemm_estimate,
    ),
)
