"""GroupQueryAttention of com.microsoft: rotations, a cache of keys and values, and the core with heads of Q that share those of K and V.

The lengths of sequences are contents of a tensor; the number of positions of the longest one is a number of the plan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxruntime_ep_sparse_kernels.elementwise import Op

from .. import reasons
from ..graph.ir import INT32, Graph, Node, attribute_of, input_of, number_of, shape_of
from ..program.builder import Builder
from ..program.enums import ElementType, NumberOp, StepKind
from ..program.kinds.elementwise import Binary
from ..program.kinds.integers import Integers
from ..program.kinds.layout import Reshape
from ..program.kinds.parts import BEYOND, Part
from ..program.kinds.positions import Extend
from ..program.steps import Numbers, Step
from ..reasons import Finding
from .attention import FIRST, LATER, SHARED, Heads, all_heads_of, core, core_work, later_addend, output_of, regrouped, softcap_of, with_axis
from .costs import Estimate, Setting, combined, moved
from .numbers import is_computed
from .positions import as_column, counted, literal, whole_value
from .rotary import angles_at, turned
from .row import MICROSOFT, OpRow, Shape, can_run_if

QUERY, KEY, VALUE, PAST_KEY, PAST_VALUE, LENGTHS, TOTAL, COSINES, SINES, POSITIONS = range(10)
"""Inputs."""
DEFAULTS = {"smooth_softmax": 0, "qk_output": 0, "k_quant_type": "NONE", "v_quant_type": "NONE"}
"""Attributes that have to have their default."""


@dataclass(frozen=True, slots=True)
class Grouped:
    """A node: the heads of Q, those of K and V, the channels of one, the factor of the scores, and how it turns pairs of channels.

    `packed`: one input holds Q, K and V. `softcap` as in `core`. `window`: how many positions a query reads, its own the last, -1 for all.
    """

    heads: int
    kv_heads: int
    channels: int
    scale: float
    packed: bool
    rotates: bool
    interleaved: bool
    softcap: float
    window: int


def grouped_of(graph: Graph, node: Node) -> Grouped | Finding:
    """Return what a GroupQueryAttention asks for, or the reason why it cannot run."""
    for name, value in node.attributes.items():
        if name in DEFAULTS and value != DEFAULTS[name] and not (name == "smooth_softmax" and value == -1):
            return reasons.UNSUPPORTED_ATTRIBUTE(name=name, value=value)
    for place, name in ((POSITIONS, "position_ids"), (10, "attention_bias"), (11, "head_sink"), (12, "k_scale"), (13, "v_scale")):
        if input_of(node, place):
            return reasons.EXTRA_INPUT(name=name)
    if graph.is_read(output_of(node, 3)) or not node.outputs[0]:
        return reasons.EXTRA_OUTPUTS()
    heads, kv_heads = (int(attribute_of(node, name, 0)) for name in ("num_heads", "kv_num_heads"))
    packed = not input_of(node, KEY)
    width, all_heads = shape_of(graph, node.inputs[QUERY])[-1:], heads + 2 * kv_heads * packed
    rank = len(shape_of(graph, node.inputs[QUERY]))
    if rank != 3:
        return reasons.UNSUPPORTED_RANK(rank=rank, supported="3")
    if not isinstance(width[0], int) or min(heads, kv_heads) < 1 or heads % kv_heads or width[0] % all_heads:
        return reasons.MISMATCHED(what="the query", other="num_heads and kv_num_heads")
    channels = width[0] // all_heads
    if packed != (not input_of(node, VALUE)) or any(
        shape_of(graph, node.inputs[place])[-1:] != (kv_heads * channels,) for place in (KEY, VALUE) if not packed
    ):
        return reasons.MISMATCHED(what="key or value", other="kv_num_heads")
    pasts = [name for place in (PAST_KEY, PAST_VALUE) if (name := input_of(node, place))]
    if len(pasts) == 1 or any(len(shape_of(graph, name)) != 4 for name in pasts):
        return reasons.UNSUPPORTED_PAST(supported="past_key and past_value of 4 dimensions")
    lengths, total = graph.values[node.inputs[LENGTHS]], node.inputs[TOTAL]
    if lengths.dtype != INT32 or lengths.shape is None or len(lengths.shape) != 1:
        return reasons.MISMATCHED(what="seqlens_k", other="a list of int32")
    constant = graph.constant(total)
    if not (is_computed(graph, total, INT32) or (constant is not None and constant.size == 1)):
        return reasons.PARAMETER_NOT_CONSTANT(name="total_sequence_length")
    rotates = bool(attribute_of(node, "do_rotary", 0))
    if rotates and (tables := _tables_finding(graph, node, channels)) is not None:
        return tables
    softcap, window = softcap_of(node), int(attribute_of(node, "local_window_size", -1))
    if isinstance(softcap, Finding):
        return softcap
    if window != -1 and not 0 < window < 1 << 40:
        return reasons.UNSUPPORTED_ATTRIBUTE(name="local_window_size", value=window)
    scale = float(np.float32(number_of(node, "scale", 0.0) or 1.0 / math.sqrt(channels)))
    interleaved = bool(attribute_of(node, "rotary_interleaved", 0))
    return Grouped(heads, kv_heads, channels, scale, packed, rotates, interleaved, softcap, window)


def _tables_finding(graph: Graph, node: Node, channels: int) -> Finding | None:
    """Return why the cosines or sines cannot be used, or None."""
    shapes = [shape_of(graph, name) if (name := input_of(node, place)) else () for place in (COSINES, SINES)]
    pairs = shapes[0][-1] if len(shapes[0]) == len(shapes[1]) == 2 else None
    if not isinstance(pairs, int) or not 0 < 2 * pairs <= channels:
        return reasons.MISMATCHED(what="the cosines or sines", other="the channels")
    return None


def _past_lengths(builder: Builder, node: Node, total: Numbers, new: Numbers) -> int:
    """Append steps that make how many positions of each sequence are past ones: none in a prompt, else all but the new ones.

    The node has the number of all positions, less one. A run is a prompt where the longest sequence has as many as are new.
    """
    one, zero = literal(builder, 1), literal(builder, 0)
    is_prompt = builder.compute(NumberOp.EQUAL, [total.y, new.y], element=ElementType.BOOL, shape=())
    factor = builder.compute(NumberOp.SELECT, [is_prompt.y, zero, one], shape=())
    fewer = builder.compute(NumberOp.SUB, [one, new.y], shape=())
    lengths, older, past = (whole_value(builder, 1) for _ in range(3))
    builder.step(Step(StepKind.INTEGERS, builder.whole(node.inputs[LENGTHS]), lengths, spec=Integers(NumberOp.CAST)))
    builder.step(Step(StepKind.INTEGERS, lengths, older, fewer.y, spec=Integers(NumberOp.ADD)))
    builder.step(Step(StepKind.INTEGERS, older, past, factor.y, spec=Integers(NumberOp.MUL)))
    return past


def _parts(builder: Builder, node: Node, grouped: Grouped) -> tuple[int, int, int]:
    """Return Q, K and V as (batch, position, head, channel)."""
    if grouped.packed:
        whole = builder.value(node.inputs[QUERY])
        ends = np.cumsum([0, grouped.heads, grouped.kv_heads, grouped.kv_heads]) * grouped.channels
        values = [builder.new_value(3) for _ in range(3)]
        for y, begin, end in zip(values, ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            builder.step(Step(StepKind.PART, whole, y, spec=Part((2,), (begin,), (end,), (1,))))
    else:
        values = [builder.value(node.inputs[place]) for place in (QUERY, KEY, VALUE)]
    counts = (grouped.heads, grouped.kv_heads, grouped.kv_heads)
    q, k, v = (regrouped(builder, x, (0, 0, n, -1)) for x, n in zip(values, counts, strict=True))
    return q, k, v


def _lower(builder: Builder, node: Node) -> None:
    grouped = grouped_of(builder.graph, node)
    assert isinstance(grouped, Grouped)
    q, k, v = _parts(builder, node, grouped)
    total = builder.compute(NumberOp.CAST, [builder.list_of(node.inputs[TOTAL]).y], shape=(1,))
    new = builder.compute(NumberOp.SHAPE, [q], shape=(), places=(1,))
    past = _past_lengths(builder, node, total, new)
    column, rows = as_column(builder, past), whole_value(builder, 2)
    builder.step(Step(StepKind.INTEGERS, column, rows, counted(builder, new.y), spec=Integers(NumberOp.ADD)))
    if grouped.rotates:
        tables = builder.value(node.inputs[COSINES]), builder.value(node.inputs[SINES])
        angles = angles_at(builder, tables, rows)
        for i, x in enumerate((q, k)):
            y = builder.new_value(4)
            turned(builder, x, angles, y, in_front=False, interleaved=grouped.interleaved)
            q, k = (q, y) if i else (y, k)
    k, v = (_extended(builder, node, place, x, past, total) for place, x in ((0, k), (1, v)))
    deep, added = whole_value(builder, 3), builder.new_value(4)
    builder.step(Step(StepKind.RESHAPE, rows, deep, spec=Reshape(inserted=(2,))))
    apart = later_addend(builder, deep, counted(builder, total.y))
    if grouped.window > 0:
        apart = _with_window(builder, apart, deep, total, grouped.window)
    builder.step(Step(StepKind.RESHAPE, apart, added, spec=Reshape(inserted=(1,))))
    group, heads, all_heads = grouped.heads // grouped.kv_heads, Heads(LATER.q, FIRST.k, FIRST.v, LATER.y), -1
    if group > 1:
        heads, all_heads = SHARED, all_heads_of(builder, (q, 1), (k, 2), grouped.heads)
        q = regrouped(builder, q, (0, 0, grouped.kv_heads, group, -1))
        k, v = (with_axis(builder, x, 2) for x in (k, v))
    headed = core(builder, (q, k, v), grouped.scale, [added], heads, masks=True, all_heads=all_heads, softcap=grouped.softcap)
    builder.step(Step(StepKind.RESHAPE, headed, builder.value(node.outputs[0]), spec=Reshape((0, 0, -1))))


def _with_window(builder: Builder, added: int, rows: int, total: Numbers, window: int) -> int:
    """Append steps that add -Inf where a key is not among the last `window` up to its row, and return the result."""
    width, both = literal(builder, window - 1), builder.new_value(3)
    end = builder.compute(NumberOp.ADD, [total.y, width], shape=(1,))
    ends = counted(builder, end.y, width)  # the last row that reads each key
    builder.step(Step(StepKind.BINARY, added, both, later_addend(builder, ends, rows), spec=Binary(Op.ADD)))
    return both


def _extended(builder: Builder, node: Node, place: int, value: int, past: int, total: Numbers) -> int:
    """Append steps that put new keys (0) or values (1) after past ones, and return those that count, (batch, head, position, channel)."""
    name, before = output_of(node, 1 + place), input_of(node, PAST_KEY + place)
    x, size = builder.value(before) if before else value, total
    if before:
        room = builder.compute(NumberOp.SHAPE, [x], shape=(1,), places=(2,))
        size = builder.compute(NumberOp.MAX, [total.y, room.y], shape=(1,))
    y, counting = builder.value(name) if builder.graph.is_read(name) else builder.new_value(4), builder.new_value(4)
    builder.step(Step(StepKind.EXTEND, x, y, value, spec=Extend(past, size.y, bool(before))))
    builder.step(Step(StepKind.PART, y, counting, spec=Part((2,), (0,), (BEYOND,), (1,), computed_ends=total.y)))
    return counting


def _estimate(setting: Setting, node: Node) -> Estimate:
    """Return the work of the core, of the rotations, and of copying the cache."""
    grouped = grouped_of(setting.graph, node)
    assert isinstance(grouped, Grouped)
    batch, rows, _ = setting.sizes(node.inputs[QUERY])
    keys = rows + (setting.sizes(node.inputs[PAST_KEY])[2] if input_of(node, PAST_KEY) else 0)
    ort, ours = core_work(setting, batch * grouped.heads, (rows, keys), grouped.channels, grouped.channels)
    copied = moved("copied", 2 * batch * grouped.kv_heads * keys * grouped.channels)
    turning = moved("added", batch * rows * (grouped.heads + grouped.kv_heads) * grouped.channels) if grouped.rotates else {}
    work = combined(copied, turning)
    return Estimate(combined(combined(ort, work), {"node": 1}), combined(combined(ours, work), {"step": 12}))


def _implied(graph: Graph, node: Node) -> dict[str, Shape]:
    return {name: (None,) * rank for name, rank in zip(node.outputs, (3, 4, 4), strict=False) if name}


ROWS = (
    OpRow(
        "GroupQueryAttention",
        "neighbour",
        can_run_if(grouped_of),
        _lower,
        "without position_ids, attention_bias, head_sink or a quantised cache",
        MICROSOFT,
        results=4,
        parameters=(LENGTHS, TOTAL, POSITIONS),
        estimate=_estimate,
        implied=_implied,
    ),
)
