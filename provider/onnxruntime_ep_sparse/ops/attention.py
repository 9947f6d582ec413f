"""Attention of com.microsoft, as ONNX Runtime's optimizer for transformers writes it: products of Q, K and V and the core in one node.

The node becomes the steps that it stands for: three products by parts of its weight, the scores, their mask, Softmax and the product by V.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from onnxruntime_ep_sparse_kernels.elementwise import Act, Op

from .. import reasons
from ..graph.ir import FLOAT, INT32, Graph, Node, attribute_of, input_of, number_of, shape_of, sizes_of, type_name
from ..program.builder import Builder
from ..program.enums import StepKind
from ..program.kinds.elementwise import Binary
from ..program.kinds.layout import Reshape
from ..program.kinds.pair_product import PairProduct
from ..program.kinds.quantized import Carry
from ..program.kinds.reduce import Softmax
from ..program.steps import Activation, Step
from ..reasons import Finding
from .costs import Estimate, Setting, combined, moved, ort_matrix_product, scaled
from .matrix import MATMUL, packed_matmul
from .row import MICROSOFT, OpRow, can_run_if

X, WEIGHTS, BIAS, MASK, PAST, SCORES_BIAS = range(6)
"""Inputs."""
HEADS_FIRST, HEADS_LAST, KEYS_LAST = (0, 2, 1, 3), (0, 2, 1, 3), (0, 2, 3, 1)
"""Orders of (batch, position, head, channel): a matrix for each head, and back, and the transposed matrix."""


@dataclass(frozen=True, slots=True)
class Attention:
    """An Attention node: how many heads, the outputs of Q, K and V, the factor of the scores and what stands for a masked one."""

    heads: int
    sizes: tuple[int, int, int]
    scale: float
    masked: float


def attention_of(graph: Graph, node: Node) -> Attention | Finding:
    """Return what an Attention node asks for, or the reason why it cannot run."""
    for name in ("unidirectional", "do_rotary", "past_present_share_buffer"):
        if attribute_of(node, name, 0):
            return reasons.UNSUPPORTED_ATTRIBUTE(name=name, value=1)
    if input_of(node, PAST):
        return reasons.EXTRA_INPUT(name="past")
    weight, bias = input_of(node, WEIGHTS), input_of(node, BIAS)
    if not graph.is_constant(weight):
        return reasons.WEIGHT_NOT_CONSTANT()
    if bias and not graph.is_constant(bias):
        return reasons.PARAMETER_NOT_CONSTANT(name="bias")
    shape, rank = sizes_of(graph, weight), len(shape_of(graph, node.inputs[X]))
    if rank != 3 or len(shape) != 2:
        return reasons.UNSUPPORTED_RANK(rank=rank, supported="3")
    heads = int(attribute_of(node, "num_heads", 0))
    given = attribute_of(node, "qkv_hidden_sizes", ())
    sizes = tuple(int(size) for size in given) if isinstance(given, tuple) and given else (shape[1] // 3,) * 3
    fits = len(sizes) == 3 and sum(sizes) == shape[1] and sizes[0] == sizes[1]
    if not fits or heads < 1 or any(n < 1 or n % heads for n in sizes) or (bias and sizes_of(graph, bias) != (shape[1],)):
        return reasons.MISMATCHED(what="the weights", other="num_heads and qkv_hidden_sizes")
    mask = input_of(node, MASK)
    if mask and (graph.values[mask].dtype != INT32 or graph.values[mask].shape is None or len(shape_of(graph, mask)) != 2):
        return reasons.UNSUPPORTED_MASK(supported="int32 of shape (batch, positions)")
    added = input_of(node, SCORES_BIAS)
    if added and graph.values[added].dtype != FLOAT:
        return reasons.NOT_FLOAT32(type=type_name(graph.values[added].dtype))
    if added and (graph.values[added].shape is None or len(shape_of(graph, added)) != 4):
        return reasons.UNSUPPORTED_MASK(supported="an attention_bias of 4 dimensions")
    scale = number_of(node, "scale", 0.0) or 1.0 / math.sqrt(sizes[0] // heads)
    return Attention(heads, (sizes[0], sizes[1], sizes[2]), float(np.float32(scale)), number_of(node, "mask_filter_value", -10000.0))


def _lower(builder: Builder, node: Node) -> None:
    attention = attention_of(builder.graph, node)
    assert isinstance(attention, Attention)
    x, weight = builder.value(node.inputs[X]), builder.floats(node.inputs[WEIGHTS])
    bias = builder.floats(node.inputs[BIAS]) if input_of(node, BIAS) else np.zeros(weight.shape[1], np.float32)
    parts, begin = [], 0
    for size in attention.sizes:
        end = begin + size
        product = packed_matmul(builder, np.ascontiguousarray(weight[:, begin:end]), right=True, bias__m=bias[begin:end])
        made, headed = builder.new_value(3), builder.new_value(4)
        builder.step(Step(StepKind.PRODUCT, x, made, spec=product))
        builder.step(Step(StepKind.RESHAPE, made, headed, spec=Reshape((0, 0, attention.heads, size // attention.heads))))
        parts.append(headed)
        begin = end
    q, k, v = parts
    scores = builder.new_value(4)
    scaling = Activation(Act.AFFINE, attention.scale)
    builder.step(Step(StepKind.PAIR_PRODUCT, q, scores, k, scaling, PairProduct(HEADS_FIRST, KEYS_LAST)))
    for addend in _addends(builder, node, attention):
        total = builder.new_value(4)
        builder.step(Step(StepKind.BINARY, scores, total, addend, spec=Binary(Op.ADD, keeps_x=True)))
        scores = total
    weights, headed = builder.new_value(4), builder.new_value(4)
    builder.step(Step(StepKind.SOFTMAX, scores, weights, spec=Softmax(3)))
    builder.step(Step(StepKind.PAIR_PRODUCT, weights, headed, v, spec=PairProduct((), HEADS_FIRST, HEADS_LAST)))
    builder.step(Step(StepKind.RESHAPE, headed, builder.value(node.outputs[0]), spec=Reshape((0, 0, attention.sizes[2]))))


def _addends(builder: Builder, node: Node, attention: Attention) -> list[int]:
    """Return what is added to the scores: the bias of the node, and its mask, 0 where a position counts (a number above 0)."""
    found = []
    mask = input_of(node, MASK)
    if mask:
        floats, ones, added, spread = (builder.new_value(2 if i < 3 else 4) for i in range(4))
        builder.step(Step(StepKind.CARRY, builder.integers(mask), floats, spec=Carry(0.0)))
        builder.step(Step(StepKind.ACTIVATE, floats, ones, activation=Activation(Act.CLAMP, 0.0, 1.0)))
        builder.step(Step(StepKind.ACTIVATE, ones, added, activation=Activation(Act.AFFINE, -attention.masked, attention.masked)))
        builder.step(Step(StepKind.RESHAPE, added, spread, spec=Reshape((0, 1, 1, -1))))
        found.append(spread)
    if input_of(node, SCORES_BIAS):
        found.append(builder.value(node.inputs[SCORES_BIAS]))
    return found


def _estimate(setting: Setting, node: Node) -> Estimate:
    """Return the work of the products by the weight, and of the core."""
    attention = attention_of(setting.graph, node)
    assert isinstance(attention, Attention)
    batch, positions, _ = setting.sizes(node.inputs[X])
    product = MATMUL.estimate(setting, replace(node, op_type=MATMUL.op_type, inputs=node.inputs[:2]))
    ort, ours, matrices = product.ort, combined(product.ours, {"step": 5}), batch * attention.heads
    for depth, columns in ((attention.sizes[0] // attention.heads, positions), (positions, attention.sizes[2] // attention.heads)):
        size = depth * columns
        one = ort_matrix_product(setting.isa.lanes, matrices * size, positions, depth, columns, size)
        ort = combined(ort, scaled({name: amount for name, amount in one.items() if name != "node"}, matrices))
        macs = matrices * positions * math.ceil(columns / setting.isa.lanes) * setting.isa.lanes * depth
        ours = combined(ours, {"pair_mac": macs, "pair_packed": matrices * size})
    scores = moved("exp", matrices * positions * positions)
    return replace(product, ort=combined(ort, scores), ours=combined(ours, scores))


ROWS = (
    OpRow(
        "Attention",
        "product",
        can_run_if(attention_of),
        _lower,
        "constant weights and bias; without past, rotary embedding and `unidirectional`; masks of two dimensions",
        MICROSOFT,
        parameters=(BIAS, MASK, PAST, 6),
        weights=lambda graph, node: (node.inputs[WEIGHTS],) if graph.is_constant(input_of(node, WEIGHTS)) else (),
        output_axis=lambda graph, node: 1,
        estimate=_estimate,
        implied=lambda graph, node: {node.outputs[0]: (None, None, None)},
    ),
)
