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
from ..graph.ir import BOOL, FLOAT, INT32, Graph, Node, attribute_of, input_of, number_of, shape_of, sizes_of, type_name
from ..program.builder import Builder
from ..program.enums import NumberOp, StepKind
from ..program.kinds.elementwise import Binary
from ..program.kinds.integers import Integers
from ..program.kinds.layout import Concat, Reshape, Transpose
from ..program.kinds.pair_product import PairProduct
from ..program.kinds.parts import Part
from ..program.kinds.quantized import ENTRIES, Carry, LookUp
from ..program.kinds.reduce import Softmax
from ..program.steps import Activation, Numbers, Step
from ..reasons import Finding
from .costs import Amounts, Estimate, Setting, combined, moved, ort_matrix_product, scaled
from .matrix import MATMUL, packed_matmul
from .positions import as_column, counted
from .row import MICROSOFT, TRUTHS, OpRow, Shape, can_run_if

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


SHARED = Heads((0, 2, 3, 1, 4), (0, 1, 2, 4, 3), (), (0, 3, 1, 2, 4))
"""Those of queries (batch, position, head of K and V, one of its heads of Q, channel), and keys (batch, head, 1, position, channel)."""


@dataclass(frozen=True, slots=True)
class Attention:
    """An Attention node: how many heads, the outputs of Q, K and V, the factor of the scores and what stands for a masked one.

    `causal`: a query reads no later key.
    """

    heads: int
    sizes: tuple[int, int, int]
    scale: float
    masked: float
    causal: bool


def unknown_attribute(node: Node, known: tuple[str, ...]) -> Finding | None:
    """Return the reason why a node cannot run if it has another attribute than these, which later versions add, unless that is 0."""
    for name, value in node.attributes.items():
        if name not in known and value != 0:
            return reasons.UNSUPPORTED_ATTRIBUTE(name=name, value=value)
    return None


def attention_of(graph: Graph, node: Node) -> Attention | Finding:
    """Return what an Attention node asks for, or the reason why it cannot run."""
    unknown = unknown_attribute(node, ("num_heads", "qkv_hidden_sizes", "scale", "mask_filter_value", "unidirectional"))
    if unknown is not None:
        return unknown
    past = input_of(node, PAST)
    if past and (graph.values[past].dtype != FLOAT or graph.values[past].shape is None or len(shape_of(graph, past)) != 5):
        return reasons.UNSUPPORTED_PAST(supported="float32 of 5 dimensions")
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
    if past and sizes[2] != sizes[1]:
        return reasons.MISMATCHED(what="the channels of V", other="those of K, which stand with them in input past")
    if past and mask:
        return reasons.UNSUPPORTED_MASK(supported="none beside a past")
    scale = number_of(node, "scale", 0.0) or 1.0 / math.sqrt(sizes[0] // heads)
    masked, causal = number_of(node, "mask_filter_value", -10000.0), bool(attribute_of(node, "unidirectional", 0))
    return Attention(heads, (sizes[0], sizes[1], sizes[2]), float(np.float32(scale)), masked, causal)


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
    addends, heads, past = _addends(builder, node, attention), LATER, None
    if input_of(node, PAST) or builder.graph.is_read(output_of(node, 1)):
        past = builder.value(node.inputs[PAST]) if input_of(node, PAST) else None
        k, v = (_in_front(builder, each) for each in (k, v))
        if past is not None:
            k, v = (_joined(builder, _half(builder, past, i), each, builder.new_value(4)) for i, each in enumerate((k, v)))
        heads = Heads(LATER.q, FIRST.k, FIRST.v, LATER.y)
        if builder.graph.is_read(output_of(node, 1)):
            _stacked(builder, (k, v), builder.value(node.outputs[1]))
    if attention.causal:
        addends.append(_causal_addend(builder, (q, 1), (k, 1 if heads is LATER else 2), None if past is None else (past, 3)))
    headed = core(builder, (q, k, v), attention.scale, addends, heads)
    builder.step(Step(StepKind.RESHAPE, headed, builder.value(node.outputs[0]), spec=Reshape((0, 0, attention.sizes[2]))))


def output_of(node: Node, place: int) -> str:
    """Return the name of a result, "" if the node does not have it."""
    return node.outputs[place] if place < len(node.outputs) else ""


def _in_front(builder: Builder, value: int) -> int:
    """Append a step that brings the heads of (batch, position, head, channel) before the positions, and return its result."""
    headed = builder.new_value(4)
    builder.step(Step(StepKind.TRANSPOSE, value, headed, spec=Transpose(LATER.q)))
    return headed


def _joined(builder: Builder, past: int, value: int, y: int) -> int:
    """Append steps that join positions of (batch, head, position, channel), and return `y`, their result."""
    for i, part in enumerate((past, value)):
        builder.step(Step(StepKind.CONCAT, part, y, spec=Concat(2, begins=i == 0)))
    return y


def _half(builder: Builder, past: int, place: int) -> int:
    """Append steps that take the keys (0) or the values (1) of a past of both, and return their result."""
    part, half = builder.new_value(5), builder.new_value(4)
    builder.step(Step(StepKind.PART, past, part, spec=Part((0,), (place,), (place + 1,), (1,), inside=True)))
    builder.step(Step(StepKind.RESHAPE, part, half, spec=Reshape(removed=(0,))))
    return half


def _stacked(builder: Builder, kv: tuple[int, int], y: int) -> None:
    """Append steps that make `y` (2, batch, head, position, channel) of keys and values."""
    for i, value in enumerate(kv):
        one = builder.new_value(5)
        builder.step(Step(StepKind.RESHAPE, value, one, spec=Reshape(inserted=(0,))))
        builder.step(Step(StepKind.CONCAT, one, y, spec=Concat(0, begins=i == 0)))


Places = tuple[int, int]
"""A value, and its dimension of positions."""


def _causal_addend(builder: Builder, q: Places, k: Places, past: Places | None) -> int:
    """Append steps that make what is added to scores so that no query reads a later key: 0 or -Inf. The plan computes it.

    `past` has the positions before those of Q, None where there are none.
    """

    def size(of: Places) -> int:
        return builder.compute(NumberOp.SHAPE, [of[0]], shape=(), places=(of[1],)).y

    first = None if past is None else size(past)
    end = size(q) if first is None else builder.compute(NumberOp.ADD, [first, size(q)], shape=()).y
    rows = as_column(builder, counted(builder, end, first))
    return later_addend(builder, rows, counted(builder, size(k)))


def later_addend(builder: Builder, rows: int, keys: int) -> int:
    """Append steps that make -Inf where a key has a later position than its row, else 0, and return the result."""
    rank = max(builder.ranks[rows], builder.ranks[keys])
    later, added = builder.new_value(rank), builder.new_value(rank)
    builder.step(Step(StepKind.INTEGERS, rows, later, keys, spec=Integers(NumberOp.LESS)))
    table = np.zeros(ENTRIES, np.float32)
    table[1] = -np.inf
    builder.step(Step(StepKind.LOOK_UP, later, added, spec=LookUp(table, 0.0)))
    return added


def softcap_of(node: Node) -> float | Finding:
    """Return the softcap that `core` is given, or the reason why a node cannot run."""
    softcap = number_of(node, "softcap", 0.0)
    return softcap if 0 <= softcap < math.inf else reasons.UNSUPPORTED_ATTRIBUTE(name="softcap", value=softcap)


def core(
    builder: Builder,
    qkv: tuple[int, int, int],
    scale: float,
    addends: list[int],
    heads: Heads,
    *,
    masks: bool = False,
    all_heads: int = -1,
    softcap: float = 0.0,
) -> int:
    """Append softmax(scale * Q K^T + addends) V, and return the number of the result.

    `masks`: a position whose scores are all -Inf gets zeros. `all_heads`: where heads of Q share those of K and V, numbers of the plan with
    the shape (batch, head of Q, position, key), for what is added. `softcap`: scores s become softcap * tanh(s / softcap) before the
    addends, unless it is 0.
    """
    q, k, v = qkv
    rank = 5 if heads is SHARED else 4
    scores, weights, result = (builder.new_value(rank) for _ in range(3))
    capped = Activation(Act.SCALED_TANH, softcap, scale / softcap) if softcap else Activation(Act.AFFINE, scale)
    builder.step(Step(StepKind.PAIR_PRODUCT, q, scores, k, capped, PairProduct(heads.q, heads.k)))
    apart = scores
    if addends and all_heads != -1:
        scores = builder.new_value(4)
        builder.step(Step(StepKind.RESHAPE, apart, scores, spec=Reshape(computed=all_heads)))
    for addend in addends:
        total = builder.new_value(4)
        builder.step(Step(StepKind.BINARY, scores, total, addend, spec=Binary(Op.ADD, keeps_x=True)))
        scores = total
    if addends and all_heads != -1:
        shared, sizes = builder.new_value(rank), builder.compute(NumberOp.SHAPE, [apart], shape=(rank,), places=tuple(range(rank)))
        builder.step(Step(StepKind.RESHAPE, scores, shared, spec=Reshape(computed=sizes.y)))
        scores = shared
    builder.step(Step(StepKind.SOFTMAX, scores, weights, spec=Softmax(rank - 1, masks=masks)))
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
    ort, ours = core_work(setting, batch * attention.heads, (positions, positions), channels, v_channels)
    return replace(product, ort=combined(product.ort, ort), ours=combined(product.ours, ours))


def core_work(setting: Setting, heads: int, positions: tuple[int, int], channels: int, v_channels: int) -> tuple[Amounts, Amounts]:
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
    """An Attention node of ONNX: the heads of Q, those of K and V, the channels of one of Q, and the factor of the scores.

    `in_front`: values have a dimension of heads, before that of positions. `causal`: a query reads no later key. `softcap` as in `core`.
    """

    heads: int
    kv_heads: int
    channels: int
    scale: float
    in_front: bool
    causal: bool
    softcap: float


def plain_attention_of(graph: Graph, node: Node) -> PlainAttention | Finding:
    """Return what an Attention node of ONNX asks for, or the reason why it cannot run."""
    unknown = unknown_attribute(node, ("q_num_heads", "kv_num_heads", "scale", "is_causal", "softcap"))
    if unknown is not None:
        return unknown
    softcap = softcap_of(node)
    if isinstance(softcap, Finding):
        return softcap
    if input_of(node, PAST_VALUE + 1):
        return reasons.EXTRA_INPUT(name="nonpad_kv_seqlen")
    if not all(input_of(node, place) for place in (Q, K, V)):
        return reasons.MISMATCHED(what="the inputs", other="Q, K and V")
    if graph.is_read(output_of(node, 3)) or not node.outputs[0]:
        return reasons.EXTRA_OUTPUTS()
    pasts = [name for place in (PAST_KEY, PAST_VALUE) if (name := input_of(node, place))]
    if len(pasts) == 1 or any(graph.values[name].shape is None or len(shape_of(graph, name)) != 4 for name in pasts):
        return reasons.UNSUPPORTED_PAST(supported="past_key and past_value of 4 dimensions")
    q, k, v = (shape_of(graph, node.inputs[place]) for place in (Q, K, V))
    if not len(q) == len(k) == len(v) or len(q) not in (3, 4):
        return reasons.UNSUPPORTED_RANK(rank=len(q), supported="3 and 4")
    if any(graph.is_constant(node.inputs[place]) for place in (Q, K, V)):
        return reasons.ALL_CONSTANT()
    channels: int | str | None
    if len(q) == 4:
        counts, channels = (q[1], k[1], v[1]), q[3]
    else:
        heads, kv_heads = (int(attribute_of(node, name, 0)) for name in ("q_num_heads", "kv_num_heads"))
        counts, channels = (heads, kv_heads, kv_heads), q[2] // heads if heads > 0 and isinstance(q[2], int) and q[2] % heads == 0 else None
    heads, kv_heads, others = (n if isinstance(n, int) else 0 for n in counts)
    if min(heads, kv_heads, others) < 1 or kv_heads != others or heads % kv_heads or not isinstance(channels, int):
        return reasons.MISMATCHED(what="the heads of K and V", other="those of Q")
    mask = input_of(node, SCORES_MASK)
    if mask and (graph.values[mask].dtype not in TRUTHS or graph.values[mask].shape is None):
        return reasons.UNSUPPORTED_MASK(supported="float32 or bool of known rank")
    scale = number_of(node, "scale", 0.0) or 1.0 / math.sqrt(channels)
    causal = bool(attribute_of(node, "is_causal", 0))
    return PlainAttention(heads, kv_heads, channels, float(np.float32(scale)), len(q) == 4, causal, softcap)


def _plain_lower(builder: Builder, node: Node) -> None:
    attention = plain_attention_of(builder.graph, node)
    assert isinstance(attention, PlainAttention)
    in_front, group = attention.in_front, attention.heads // attention.kv_heads
    q, k, v = (builder.value(node.inputs[place]) for place in (Q, K, V))
    if not in_front:
        counts = (attention.heads, attention.kv_heads, attention.kv_heads)
        q, k, v = (regrouped(builder, x, (0, 0, n, -1)) for x, n in zip((q, k, v), counts, strict=True))
    addends = [_mask_addend(builder, node.inputs[SCORES_MASK])] if input_of(node, SCORES_MASK) else []
    heads, past = FIRST if in_front else LATER, None
    if group > 1 or input_of(node, PAST_KEY) or any(builder.graph.is_read(output_of(node, place)) for place in (1, 2)):
        k, v = (x if in_front else _in_front(builder, x) for x in (k, v))
        past = builder.value(node.inputs[PAST_KEY]) if input_of(node, PAST_KEY) else None
        k, v = (_present(builder, node, place, x) for place, x in ((0, k), (1, v)))
        heads = FIRST if in_front else Heads(LATER.q, FIRST.k, FIRST.v, LATER.y)
    rows, keys = (q, 2 if in_front else 1), (k, 1 if heads is LATER else 2)
    if attention.causal:
        addends.append(_causal_addend(builder, rows, keys, None if past is None else (past, 2)))
    all_heads = all_heads_of(builder, rows, keys, attention.heads) if group > 1 and addends else -1
    if group > 1 and in_front:  # queries of heads that share keys are rows of one matrix
        q = regrouped(builder, q, (0, attention.kv_heads, -1, attention.channels))
    elif group > 1:
        heads, q = SHARED, regrouped(builder, q, (0, 0, attention.kv_heads, group, -1))
        k, v = (with_axis(builder, x, 2) for x in (k, v))
    headed = core(builder, (q, k, v), attention.scale, addends, heads, masks=True, all_heads=all_heads, softcap=attention.softcap)
    y = builder.value(node.outputs[0])
    if in_front and group > 1:
        sizes = [_sizes(builder, rows[0], (0, 1, 2)), _sizes(builder, headed, (3,))]
        builder.step(Step(StepKind.RESHAPE, headed, y, spec=Reshape(computed=_listed(builder, sizes))))
    else:
        builder.step(Step(StepKind.RESHAPE, headed, y, spec=Reshape((0, 0, 0, 0) if in_front else (0, 0, -1))))


def regrouped(builder: Builder, value: int, target: tuple[int, ...]) -> int:
    """Append a Reshape and return its result."""
    made = builder.new_value(len(target))
    builder.step(Step(StepKind.RESHAPE, value, made, spec=Reshape(target)))
    return made


def with_axis(builder: Builder, value: int, axis: int) -> int:
    """Append a step that gives a value of 4 dimensions one more, of size 1, and return its result."""
    made = builder.new_value(5)
    builder.step(Step(StepKind.RESHAPE, value, made, spec=Reshape(inserted=(axis,))))
    return made


def _present(builder: Builder, node: Node, place: int, value: int) -> int:
    """Append the steps that make all keys (0) or values (1) of a node: those of its past, if any, and new ones. Return their number."""
    name, past = output_of(node, 1 + place), input_of(node, PAST_KEY + place)
    is_read = builder.graph.is_read(name)
    if past:
        return _joined(builder, builder.value(past), value, builder.value(name) if is_read else builder.new_value(4))
    if is_read:
        builder.step(Step(StepKind.RESHAPE, value, builder.value(name), spec=Reshape((0, 0, 0, 0))))
    return value


def _mask_addend(builder: Builder, name: str) -> int:
    """Return what is added to scores for a mask: itself, or 0 where it is true and -Inf elsewhere."""
    mask = builder.value(name)
    if builder.graph.values[name].dtype != BOOL:
        return mask
    table, added = np.zeros(ENTRIES, np.float32), builder.new_value(len(shape_of(builder.graph, name)))
    table[0] = -np.inf
    builder.step(Step(StepKind.LOOK_UP, mask, added, spec=LookUp(table, 0.0)))
    return added


def _sizes(builder: Builder, value: int, axes: tuple[int, ...]) -> Numbers:
    """Return dimensions of a value as numbers of the plan."""
    return builder.compute(NumberOp.SHAPE, [value], shape=(len(axes),), places=axes)


def _listed(builder: Builder, lists: list[Numbers]) -> int:
    """Return the number of a list of all these numbers of the plan."""
    first, *others = lists
    for other in others:
        first = builder.compute(NumberOp.JOIN, [first.y, other.y], shape=(first.count + other.count,))
    return first.y


def all_heads_of(builder: Builder, q: Places, k: Places, heads: int) -> int:
    """Return the shape of scores, (batch, head of Q, position, key), as numbers of the plan."""
    count = builder.compute(NumberOp.LITERAL, shape=(1,), integers=(heads,))
    return _listed(builder, [_sizes(builder, q[0], (0,)), count, _sizes(builder, q[0], (q[1],)), _sizes(builder, k[0], (k[1],))])


def _plain_estimate(setting: Setting, node: Node) -> Estimate:
    """Return the work of the core, and of joining a past."""
    attention = plain_attention_of(setting.graph, node)
    assert isinstance(attention, PlainAttention)
    q, k, v = (setting.sizes(node.inputs[place]) for place in (Q, K, V))
    keys, joined = k[-2], 0
    if input_of(node, PAST_KEY):
        past = setting.sizes(node.inputs[PAST_KEY])
        keys, joined = keys + past[2], 2 * math.prod(past) + math.prod(k) + math.prod(v)
    shared = 1 if attention.in_front else attention.kv_heads
    ort, ours = core_work(setting, q[0] * attention.heads, (q[-2], keys), attention.channels, v[-1] // shared)
    copied = moved("copied", joined) if joined else {}
    return Estimate(combined(combined(ort, {"node": 1}), copied), combined(combined(ours, {"step": 1 + 4 * bool(joined)}), copied))


def _plain_implied(graph: Graph, node: Node) -> dict[str, Shape]:
    shape = graph.values[node.inputs[Q]].shape
    known: dict[str, Shape] = {} if shape is None else {node.outputs[0]: (None,) * len(shape)}
    return known | {name: (None,) * 4 for name in node.outputs[1:3] if name}


ROWS = (
    OpRow(
        "Attention",
        "neighbour",
        can_run_if(plain_attention_of),
        _plain_lower,
        "a mask of float32 or bool as wide as the keys; without nonpad_kv_seqlen and qk_matmul_output",
        results=4,
        parameters=(PAST_VALUE + 1,),
        types=TRUTHS,
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
        "constant weights and bias; a mask of two dimensions, none with a past",
        MICROSOFT,
        results=2,
        parameters=(MASK, SCORES_BIAS + 1),
        weights=lambda graph, node: (node.inputs[WEIGHTS],) if graph.is_constant(input_of(node, WEIGHTS)) else (),
        output_axis=lambda graph, node: 1,
        estimate=_estimate,
        implied=lambda graph, node: {name: (None,) * rank for name, rank in zip(node.outputs, (3, 5), strict=False) if name},
    ),
)
"""Operators of another domain with the name of one of ONNX's."""
