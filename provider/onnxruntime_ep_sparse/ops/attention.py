"""Attention: com.microsoft's, as ONNX Runtime's optimizer for transformers writes it, and ONNX's.

A node becomes the steps that it stands for: scores, their mask, Softmax and the product by V. com.microsoft's begins with three products by
parts of a weight.
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
from .costs import Amounts, Estimate, Setting, combined, moved, ort_matrix_product, scaled
from .matrix import MATMUL, packed_matmul
from .row import MICROSOFT, OpRow, Shape, can_run_if

X, WEIGHTS, BIAS, MASK, PAST, SCORES_BIAS = range(6)
"""Inputs of com.microsoft's."""
Q, K, V, SCORES_MASK, PAST_KEY, PAST_VALUE = range(6)
"""Inputs of ONNX's."""


@dataclass(frozen=True, slots=True)
class Heads:
    """Orders of the dimensions of Q, K, V and the result: a matrix for each head, that of K transposed."""

    q: tuple[int, ...]
    k: tuple[int, ...]
    v: tuple[int, ...]
    y: tuple[int, ...]


LATER, FIRST = Heads((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3), (0, 2, 1, 3)), Heads((), (0, 1, 3, 2), (), ())
"""Those of values of (batch, position, head, channel), and of (batch, head, position, channel)."""


@dataclass(frozen=True, slots=True)
class Attention:
    """An Attention node: how many heads, the outputs of Q, K and V, the factor of the scores and what stands for a masked one."""

    heads: int
    sizes: tuple[int, int, int]
    scale: float
    masked: float


def _unknown_attribute(node: Node, known: tuple[str, ...]) -> Finding | None:
    """Return the reason why a node cannot run if it has another attribute than these, which later versions add, unless that is 0."""
    for name, value in node.attributes.items():
        if name not in known and value != 0:
            return reasons.UNSUPPORTED_ATTRIBUTE(name=name, value=value)
    return None


def attention_of(graph: Graph, node: Node) -> Attention | Finding:
    """Return what an Attention node asks for, or the reason why it cannot run."""
    unknown = _unknown_attribute(node, ("num_heads", "qkv_hidden_sizes", "scale", "mask_filter_value", "rotary_embedding_dim"))
    if unknown is not None:
        return unknown
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
    headed = _core(builder, (q, k, v), attention.scale, _addends(builder, node, attention), LATER)
    builder.step(Step(StepKind.RESHAPE, headed, builder.value(node.outputs[0]), spec=Reshape((0, 0, attention.sizes[2]))))


def _core(builder: Builder, qkv: tuple[int, int, int], scale: float, addends: list[int], heads: Heads, *, masks: bool = False) -> int:
    """Append softmax(scale * Q K^T + addends) V of values of 4 dimensions, and return the number of the result.

    `masks`: a position whose scores are all -Inf gets zeros.
    """
    q, k, v = qkv
    scores, weights, result = (builder.new_value(4) for _ in range(3))
    builder.step(Step(StepKind.PAIR_PRODUCT, q, scores, k, Activation(Act.AFFINE, scale), PairProduct(heads.q, heads.k)))
    for addend in addends:
        total = builder.new_value(4)
        builder.step(Step(StepKind.BINARY, scores, total, addend, spec=Binary(Op.ADD, keeps_x=True)))
        scores = total
    builder.step(Step(StepKind.SOFTMAX, scores, weights, spec=Softmax(3, masks=masks)))
    builder.step(Step(StepKind.PAIR_PRODUCT, weights, result, v, spec=PairProduct((), heads.v, heads.y)))
    return result


def _addends(builder: Builder, node: Node, attention: Attention) -> list[int]:
    """Return what is added to the scores: the bias of the node, and its mask, 0 where a position counts (a number above 0)."""
    found = []
    mask = input_of(node, MASK)
    if mask:
        floats, ones, added, spread = (builder.new_value(2 if i < 3 else 4) for i in range(4))
        builder.step(Step(StepKind.CARRY, builder.whole(mask), floats, spec=Carry(0.0)))
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
    channels, v_channels = (attention.sizes[i] // attention.heads for i in (0, 2))
    ort, ours = _core_work(setting, batch * attention.heads, (positions, positions), channels, v_channels)
    return replace(product, ort=combined(product.ort, ort), ours=combined(product.ours, ours))


def _core_work(setting: Setting, heads: int, positions: tuple[int, int], channels: int, v_channels: int) -> tuple[Amounts, Amounts]:
    """Return the work of the core of so many heads, ONNX Runtime's and ours, besides a node and its first step."""
    rows, keys = positions
    ort: Amounts = {}
    ours: Amounts = {"step": 4}
    for depth, columns in ((channels, keys), (keys, v_channels)):
        size = depth * columns
        one = ort_matrix_product(setting.isa.lanes, heads * size, rows, depth, columns, size)
        ort = combined(ort, scaled({name: amount for name, amount in one.items() if name != "node"}, heads))
        macs = heads * rows * math.ceil(columns / setting.isa.lanes) * setting.isa.lanes * depth
        ours = combined(ours, {"pair_mac": macs, "pair_packed": heads * size})
    scores = moved("exp", heads * rows * keys)
    return combined(ort, scores), combined(ours, scores)


# --- ONNX's


@dataclass(frozen=True, slots=True)
class PlainAttention:
    """An Attention node of ONNX: its heads, 0 where values have a dimension of heads, and the factor of the scores."""

    heads: int
    scale: float


def plain_attention_of(graph: Graph, node: Node) -> PlainAttention | Finding:
    """Return what an Attention node of ONNX asks for, or the reason why it cannot run."""
    unknown = _unknown_attribute(node, ("q_num_heads", "kv_num_heads", "scale"))
    if unknown is not None:
        return unknown
    for place, name in ((PAST_KEY, "past_key"), (PAST_VALUE, "past_value"), (PAST_VALUE + 1, "nonpad_kv_seqlen")):
        if input_of(node, place):
            return reasons.EXTRA_INPUT(name=name)
    if not all(input_of(node, place) for place in (Q, K, V)):
        return reasons.MISMATCHED(what="the inputs", other="Q, K and V")
    q, k, v = (shape_of(graph, node.inputs[place]) for place in (Q, K, V))
    if not len(q) == len(k) == len(v) or len(q) not in (3, 4):
        return reasons.UNSUPPORTED_RANK(rank=len(q), supported="3 and 4")
    if any(graph.is_constant(node.inputs[place]) for place in (Q, K, V)):
        return reasons.ALL_CONSTANT()
    if len(q) == 4:
        counts, channels = (q[1], k[1], v[1]), q[3]
    else:
        heads, kv_heads = (int(attribute_of(node, name, 0)) for name in ("q_num_heads", "kv_num_heads"))
        counts, channels = (heads, kv_heads, kv_heads), q[2] // heads if heads > 0 and isinstance(q[2], int) and q[2] % heads == 0 else None
    if len(set(counts)) > 1 or not isinstance(counts[0], int) or counts[0] < 1 or not isinstance(channels, int):
        return reasons.MISMATCHED(what="the heads of K and V", other="those of Q")
    mask = input_of(node, SCORES_MASK)
    if mask and (graph.values[mask].dtype != FLOAT or graph.values[mask].shape is None):
        return reasons.UNSUPPORTED_MASK(supported="float32 of known rank")
    scale = number_of(node, "scale", 0.0) or 1.0 / math.sqrt(channels)
    return PlainAttention(0 if len(q) == 4 else counts[0], float(np.float32(scale)))


def _plain_lower(builder: Builder, node: Node) -> None:
    attention = plain_attention_of(builder.graph, node)
    assert isinstance(attention, PlainAttention)
    values = [builder.value(node.inputs[place]) for place in (Q, K, V)]
    addends = [builder.value(node.inputs[SCORES_MASK])] if input_of(node, SCORES_MASK) else []
    y = builder.value(node.outputs[0])
    if attention.heads:
        for i, value in enumerate(values):
            values[i] = builder.new_value(4)
            builder.step(Step(StepKind.RESHAPE, value, values[i], spec=Reshape((0, 0, attention.heads, -1))))
    q, k, v = values
    headed = _core(builder, (q, k, v), attention.scale, addends, LATER if attention.heads else FIRST, masks=True)
    builder.step(Step(StepKind.RESHAPE, headed, y, spec=Reshape((0, 0, -1) if attention.heads else (0, 0, 0, 0))))


def _plain_estimate(setting: Setting, node: Node) -> Estimate:
    """Return the work of the core."""
    attention = plain_attention_of(setting.graph, node)
    assert isinstance(attention, PlainAttention)
    q, k, v = (setting.sizes(node.inputs[place]) for place in (Q, K, V))
    heads = attention.heads or q[1]
    shared = heads if attention.heads else 1
    ort, ours = _core_work(setting, q[0] * heads, (q[-2], k[-2]), q[-1] // shared, v[-1] // shared)
    return Estimate(combined(ort, {"node": 1}), combined(ours, {"step": 1}))


def _plain_implied(graph: Graph, node: Node) -> dict[str, Shape]:
    shape = graph.values[node.inputs[Q]].shape
    return {} if shape is None else {node.outputs[0]: (None,) * len(shape)}


ROWS = (
    OpRow(
        "Attention",
        "neighbour",
        can_run_if(plain_attention_of),
        _plain_lower,
        "not causal, without past, as many heads of K and V as of Q; a mask of float32",
        parameters=(PAST_VALUE + 1,),
        estimate=_plain_estimate,
        implied=_plain_implied,
    ),
)
NAMESAKES = (
    OpRow(
        "Attention",
        "product",
        can_run_if(attention_of),
        _lower,
        "constant weights and bias; not causal, without past; a mask of two dimensions",
        MICROSOFT,
        parameters=(MASK, PAST, SCORES_BIAS + 1),
        weights=lambda graph, node: (node.inputs[WEIGHTS],) if graph.is_constant(input_of(node, WEIGHTS)) else (),
        output_axis=lambda graph, node: 1,
        estimate=_estimate,
        implied=lambda graph, node: {node.outputs[0]: (None, None, None)},
    ),
)
"""Operators of another domain with the name of one of ONNX's."""
