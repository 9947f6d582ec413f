"""Operators that take a part of a value by constants, or repeat it: Slice, Split, Gather, Expand, Where; ScatterND; Trilu."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import accumulate

import numpy as np

from onnxruntime_ep_sparse_kernels.elementwise import Act, Op

from .. import reasons
from ..graph.ir import BYTES, INT64, INTEGERS, Graph, Node, attribute_of, input_of, shape_of, sizes_of, type_name
from ..program.builder import Builder
from ..program.enums import NumberOp, StepKind
from ..program.kinds.elementwise import Binary
from ..program.kinds.integers import Choose, Integers, Scatter, Take
from ..program.kinds.layout import Reshape
from ..program.kinds.parts import BEYOND, Expand, Part
from ..program.kinds.quantized import ENTRIES, LookUp
from ..program.limits import MAX_RANK, MAX_SIZE
from ..program.steps import Activation, Step
from ..reasons import Finding
from . import costs
from .axes import axis_of
from .channels import ChannelPlan, Flow
from .costs import NONE, ORT_SPLIT_RESULTS, Estimate, Setting, moved
from .numbers import computed_shape_finding, count_of, is_computed
from .positions import as_column, counted, literal
from .row import ANY, FUSED, TRUTHS, OpRow, can_run_if

MOST_OUTPUTS = 1 << 10
"""At most so many results of a Split."""
SLICE_BY_INPUTS, SPLIT_BY_INPUT = 10, 13
"""From these versions on inputs say what attributes have said before."""


def _part_estimate(parts_of: Callable[[Graph, Node], list[Part] | Finding], setting: Setting, node: Node) -> Estimate:
    """Return the work of a node that takes parts: nothing of ours where each is one run of the value."""
    parts, x = parts_of(setting.graph, node), setting.sizes(node.inputs[0])
    assert not isinstance(parts, Finding)
    taken = [(setting.sizes(name), part) for name, part in zip(node.outputs, parts, strict=True) if name]
    copied = [math.prod(y) for y, part in taken if not _is_run(x, y, part)]
    floats = sum(math.prod(y) for y, _ in taken)
    ours = {"step": len(copied), **moved("copied", sum(copied))} if copied else NONE
    return Estimate({"node": 1, **moved("copied", floats)}, ours, ort_splits=floats >= ORT_SPLIT_RESULTS, floats=2 * sum(copied))


def _is_run(x: tuple[int, ...], y: tuple[int, ...], part: Part) -> bool:
    """Return whether a part of sizes `y` is one run of a value of sizes `x`, so that the runtime need not copy it."""
    if len(y) < len(x):  # a Gather of one index, whose axis goes away
        y = (*y[: part.axes[0]], 1, *y[part.axes[0] :])
    steps = dict(zip(part.axes, part.steps, strict=True))
    first = next((axis for axis, d in enumerate(y) if d != 1), len(y))
    return all(steps.get(axis, 1) == 1 and (axis == first or y[axis] == x[axis]) for axis in range(first, len(y)))


def _lower(parts_of: Callable[[Graph, Node], list[Part] | Finding], builder: Builder, node: Node) -> None:
    """Append a step for each part that is read."""
    parts = parts_of(builder.graph, node)
    assert not isinstance(parts, Finding)
    for name, part in zip(node.outputs, parts, strict=True):
        if builder.graph.is_read(name):
            x, y = builder.moved(node.inputs[0], name)
            builder.step(Step(StepKind.PART, x, y, spec=part))


def _listed(graph: Graph, node: Node, place: int, name: str) -> list[int] | Finding | None:
    """Return the integers that a constant input lists, None if it is not there, or the reason why it cannot be used."""
    if not input_of(node, place):
        return None
    array = graph.constant(node.inputs[place])
    if array is None:
        return reasons.PARAMETER_NOT_CONSTANT(name=name)
    if array.ndim > 1:
        return reasons.MISMATCHED(what=f"the shape of input {name}", other="a list")
    return [int(n) for n in array.reshape(-1)]


def _cut(place: int) -> int:
    return min(max(place, -BEYOND), BEYOND)


# --- Slice


def _slice_of(graph: Graph, node: Node) -> list[Part] | Finding:
    """Return the part that a Slice takes, or the reason why it cannot run."""
    rank = len(shape_of(graph, node.inputs[0]))
    lists: dict[str, list[int] | None] = {}
    for place, name in enumerate(("starts", "ends", "axes", "steps"), 1):
        found: list[int] | Finding | None
        if node.since_version < SLICE_BY_INPUTS:
            found = [int(n) for n in attribute_of(node, name, ())] or None
        else:
            found = _listed(graph, node, place, name)
            if isinstance(found, Finding) and place <= 2 and is_computed(graph, node.inputs[place]):
                found = [0] * count_of(graph, node.inputs[place])  # the plan says where
        if isinstance(found, Finding):
            return found
        lists[name] = found
    starts, ends = lists["starts"] or [], lists["ends"] or []
    axes, steps = lists["axes"] or list(range(len(starts))), lists["steps"] or [1] * len(starts)
    chosen = list(dict.fromkeys(axis + rank * (axis < 0) for axis in axes if -rank <= axis < rank))
    if not len(starts) == len(ends) == len(steps) == len(axes) == len(chosen):
        return reasons.MISMATCHED(what="starts, ends, axes or steps", other="the input")
    for n in steps:
        if not 0 < abs(n) <= MAX_SIZE:
            return reasons.OUT_OF_RANGE(what="steps", value=n, low=1, high=MAX_SIZE)
    return [Part(tuple(chosen), tuple(map(_cut, starts)), tuple(map(_cut, ends)), tuple(steps))]


def _slice_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    x, parts = flow.channels.get(node.inputs[0]), _slice_of(flow.graph, node)
    if x is None or isinstance(parts, Finding) or x.axis in parts[0].axes:
        return None
    return flow.same(node, node.inputs[0], x.known__c, x.value__c)


def _slice_lower(builder: Builder, node: Node) -> None:
    parts = _slice_of(builder.graph, node)
    assert not isinstance(parts, Finding)
    begins, ends = (
        builder.list_of(name).y if node.since_version >= SLICE_BY_INPUTS and not builder.graph.is_constant(name) else -1
        for name in (*node.inputs, "", "")[1:3]
    )
    part = replace(parts[0], computed_begins=begins, computed_ends=ends)
    x, y = builder.moved(node.inputs[0], node.outputs[0])
    builder.step(Step(StepKind.PART, x, y, spec=part))


# --- Split


def _split_of(graph: Graph, node: Node) -> list[Part] | Finding:
    """Return the parts that a Split makes, or the reason why it cannot run."""
    axis = axis_of(graph, node)
    if isinstance(axis, Finding):
        return axis
    size, count = shape_of(graph, node.inputs[0])[axis], len(node.outputs)
    sizes: list[int] | Finding | None
    if node.since_version < SPLIT_BY_INPUT:
        sizes = [int(n) for n in attribute_of(node, "split", ())] or None
    else:
        sizes = _listed(graph, node, 1, "split")
    if isinstance(sizes, Finding):
        return sizes
    if not isinstance(size, int):
        return reasons.SIZE_UNKNOWN(what="the dimension that is split")
    if sizes is None:
        each = -(-size // count)
        sizes = [max(0, min(each, size - i * each)) for i in range(count)]
    if len(sizes) != count or sum(sizes) != size or min(sizes) < 0:
        return reasons.MISMATCHED(what="split", other="the input")
    return [Part((axis,), (end - size,), (end,), (1,)) for end, size in zip(accumulate(sizes), sizes, strict=True)]


# --- Gather


def _gather_of(graph: Graph, node: Node) -> list[Part] | Finding:
    """Return the part that a Gather takes, or the reason why it cannot run. By a single index its axis goes away."""
    axis = axis_of(graph, node)
    if isinstance(axis, Finding):
        return axis
    array = graph.constant(node.inputs[1])
    if array is None:
        return reasons.PARAMETER_NOT_CONSTANT(name="indices")
    if array.ndim > 1 or array.size == 0:
        return reasons.UNSUPPORTED_RANK(rank=array.ndim, supported="0 and 1 (of input indices)")
    places = [int(n) for n in array.reshape(-1)]
    step = places[1] - places[0] if len(places) > 1 else 1
    steady = step != 0 and places == [places[0] + i * step for i in range(len(places))]
    if not steady or (places[0] < 0) != (places[-1] < 0) or not all(-MAX_SIZE <= n <= MAX_SIZE for n in places):
        return reasons.PARAMETER_NOT_CONSTANT(name="indices")
    end = places[-1] + (1 if step > 0 else -1)
    if (end < 0) != (places[-1] < 0):  # it would count from the other end
        end = BEYOND if step > 0 else -BEYOND
    return [Part((axis,), (places[0],), (end,), (step,), inside=True)]


def _gather_can_run(graph: Graph, node: Node) -> Finding | None:
    if not isinstance(_gather_of(graph, node), Finding):
        return None
    axis = axis_of(graph, node)
    return axis if isinstance(axis, Finding) else _indices_finding(graph, node, len(shape_of(graph, node.inputs[0])) - 1)


def _indices_finding(graph: Graph, node: Node, others: int) -> Finding | None:
    """Return why indices cannot be used, or None, where the result has `others` dimensions besides those of the indices."""
    indices = graph.values[node.inputs[1]]
    if indices.dtype not in INTEGERS:
        return reasons.INTEGERS_ONLY(type=type_name(indices.dtype))
    if graph.values[node.inputs[0]].dtype in BYTES and graph.is_constant(node.inputs[0]):
        return reasons.ALL_CONSTANT()
    rank = len(shape_of(graph, node.inputs[1])) + others
    return reasons.UNSUPPORTED_RANK(rank=rank, supported=f"at most {MAX_RANK}") if rank > MAX_RANK else None


def _gather_estimate(setting: Setting, node: Node) -> Estimate:
    if not isinstance(_gather_of(setting.graph, node), Finding):
        return _part_estimate(_gather_of, setting, node)
    return _taken_estimate(setting, node)


def _taken_estimate(setting: Setting, node: Node) -> Estimate:
    """Return the work of copying as much as the result holds."""
    floats = math.prod(setting.sizes(node.outputs[0]))
    work = moved("copied", floats)
    return Estimate({"node": 1, **work}, {"step": 1, **work}, ort_splits=floats >= ORT_SPLIT_RESULTS, floats=floats)


def _take_lower(builder: Builder, node: Node, take: Take) -> None:
    x, y = builder.moved(node.inputs[0], node.outputs[0])
    builder.step(Step(StepKind.TAKE, x, y, builder.whole(node.inputs[1]), spec=take))


def _gather_lower(builder: Builder, node: Node) -> None:
    parts = _gather_of(builder.graph, node)
    if isinstance(parts, Finding):
        axis = axis_of(builder.graph, node)
        assert isinstance(axis, int)
        return _take_lower(builder, node, Take(axis))
    if shape_of(builder.graph, node.inputs[1]):
        return _lower(_gather_of, builder, node)
    x, y = builder.moved(node.inputs[0], node.outputs[0])
    one = builder.new_like(x, len(shape_of(builder.graph, node.inputs[0])))
    builder.step(Step(StepKind.PART, x, one, spec=parts[0]))
    builder.step(Step(StepKind.RESHAPE, one, y, spec=Reshape(removed=parts[0].axes)))
    return None


def _gather_nd_can_run(graph: Graph, node: Node) -> Finding | None:
    if attribute_of(node, "batch_dims", 0):
        return reasons.UNSUPPORTED_ATTRIBUTE(name="batch_dims", value=node.attributes["batch_dims"])
    depth, rank = (shape_of(graph, node.inputs[1]) or (None,))[-1], len(shape_of(graph, node.inputs[0]))
    if not isinstance(depth, int) or not 0 < depth <= rank:
        return reasons.MISMATCHED(what="the last dimension of the indices", other="the input")
    return _indices_finding(graph, node, rank - depth - 1)


def _gather_nd_lower(builder: Builder, node: Node) -> None:
    depth = shape_of(builder.graph, node.inputs[1])[-1]
    assert isinstance(depth, int)
    _take_lower(builder, node, Take(depth=depth))


# --- ScatterND


def _scatter_can_run(graph: Graph, node: Node) -> Finding | None:
    if attribute_of(node, "reduction", "none") != "none":
        return reasons.UNSUPPORTED_ATTRIBUTE(name="reduction", value=node.attributes["reduction"])
    x, indices, updates = (shape_of(graph, name) for name in node.inputs)
    depth, dtype = (indices or (None,))[-1], graph.values[node.inputs[1]].dtype
    if dtype != INT64:
        return reasons.INTEGERS_ONLY(type=type_name(dtype))
    if not isinstance(depth, int) or not 0 < depth <= len(x):
        return reasons.MISMATCHED(what="the last dimension of the indices", other="the input")
    if len(updates) != len(indices) - 1 + len(x) - depth or graph.values[node.inputs[2]].dtype != graph.values[node.inputs[0]].dtype:
        return reasons.MISMATCHED(what="input updates", other="the input")
    return reasons.ALL_CONSTANT() if all(graph.is_constant(name) for name in node.inputs) else None


def _scatter_lower(builder: Builder, node: Node) -> None:
    depth = shape_of(builder.graph, node.inputs[1])[-1]
    assert isinstance(depth, int)
    number = builder.whole if builder.graph.values[node.outputs[0]].dtype in INTEGERS else builder.value
    x, updates, y = (number(name) for name in (node.inputs[0], node.inputs[2], node.outputs[0]))
    builder.step(Step(StepKind.SCATTER, x, y, builder.whole(node.inputs[1]), spec=Scatter(depth, updates)))


# --- Expand, Where


def _expand_can_run(graph: Graph, node: Node) -> Finding | None:
    if not graph.is_constant(node.inputs[1]):
        return computed_shape_finding(graph, node)
    target = _listed(graph, node, 1, "shape")
    if isinstance(target, Finding):
        return target
    for d in target or ():
        if not 0 <= d <= MAX_SIZE:
            return reasons.OUT_OF_RANGE(what="a dimension of the shape", value=d, low=0, high=MAX_SIZE)
    size = len(target or ())
    return reasons.UNSUPPORTED_RANK(rank=size, supported=f"at most {MAX_RANK}") if size > MAX_RANK else None


def _expand_lower(builder: Builder, node: Node) -> None:
    target = builder.graph.constant(node.inputs[1])
    given = None if target is None else tuple(int(d) for d in target.reshape(-1))
    expand = Expand(computed=builder.list_of(node.inputs[1]).y) if given is None else Expand(given)
    x, y = builder.moved(node.inputs[0], node.outputs[0])
    builder.step(Step(StepKind.EXPAND, x, y, spec=expand))


def _fill_can_run(graph: Graph, node: Node) -> Finding | None:
    """Return why a ConstantOfShape cannot run, or None."""
    if attribute_of(node, "value", 0.0) is None:
        return reasons.MISMATCHED(what="value", other="a number")
    return computed_shape_finding(graph, node, 0)


def _fill_estimate(setting: Setting, node: Node) -> Estimate:
    """Return the work of filling a value with a number."""
    floats = math.prod(setting.sizes(node.outputs[0]))
    work = moved("copied", floats)
    return Estimate({"node": 1, **work}, {"step": 1, **work}, ort_splits=floats >= ORT_SPLIT_RESULTS, floats=floats)


def _fill_lower(builder: Builder, node: Node) -> None:
    value, y, dtype = attribute_of(node, "value", 0.0), node.outputs[0], builder.graph.values[node.outputs[0]].dtype
    expand = Expand(computed=builder.list_of(node.inputs[0]).y)
    if dtype in INTEGERS:
        number = builder.integers(np.array(value, np.int64 if dtype == INT64 else np.int32))
        builder.step(Step(StepKind.EXPAND, number, builder.whole(y), spec=expand))
    else:
        builder.step(Step(StepKind.EXPAND, builder.constant(np.array(value, np.float32)), builder.value(y), spec=expand))


def _where_can_run(graph: Graph, node: Node) -> Finding | None:
    """Return why a Where cannot run, or None."""
    if all(graph.is_constant(name) for name in node.inputs):
        return reasons.ALL_CONSTANT()
    results = [graph.values[name].dtype for name in (*node.inputs[1:3], node.outputs[0])]
    if len(set(results)) > 1:
        return reasons.MISMATCHED(what="the types of the operands", other="each other")
    return None


def _chosen_of(graph: Graph, node: Node) -> tuple[str, float, float] | None:
    """Return the value that a Where by a computed condition passes, "" for none, and the numbers for a truth of 0 and of 1.

    NaN stands for the value. None unless one of the operands is a number.
    """
    numbers = [_number_of(graph, name) for name in node.inputs[1:3]]
    if_true, if_false = numbers
    if if_true is not None and if_false is not None:
        constants = [graph.values[name].shape or () for name in node.inputs[1:3]]
        return ("", if_false, if_true) if max(map(len, constants)) <= len(shape_of(graph, node.inputs[0])) else None
    nan = float("nan")
    if if_true is not None and not math.isnan(if_true):
        return node.inputs[2], nan, if_true
    if if_false is not None and not math.isnan(if_false):
        return node.inputs[1], if_false, nan
    return None


def _number_of(graph: Graph, name: str) -> float | None:
    """Return the only element of a constant, None of another value."""
    array = graph.constant(name)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def _where_of(graph: Graph, node: Node) -> tuple[str, np.ndarray, np.ndarray] | None:
    """Return the value that a Where by a constant condition passes, the constant that it puts in its place and where it does; or None."""
    mask = graph.load(node.inputs[0])
    constants = [graph.constant(name) for name in node.inputs[1:3]]
    for array, chosen, x in ((constants[0], mask, node.inputs[2]), (constants[1], ~mask, node.inputs[1])):
        if array is not None and not np.isnan(array).any():
            return x, array, chosen
    return None


def _where_lower(builder: Builder, node: Node) -> None:
    graph, is_whole = builder.graph, builder.graph.values[node.outputs[0]].dtype in INTEGERS
    masked = None if is_whole or not graph.is_constant(node.inputs[0]) else _where_of(graph, node)
    chosen = None if is_whole or graph.is_constant(node.inputs[0]) else _chosen_of(graph, node)
    if masked is not None:
        x, array, places = masked
        filling = np.where(places, array, np.float32(np.nan))  # NaN passes the value
        y = builder.value(node.outputs[0])
        builder.step(Step(StepKind.BINARY, builder.value(x), y, builder.constant(filling), spec=Binary(Op.FILL)))
    elif chosen is not None:
        _fill_by_truths(builder, node, *chosen)
    else:
        number = builder.whole if is_whole else builder.value
        if_true, if_false, y = (number(name) for name in (*node.inputs[1:3], node.outputs[0]))
        builder.step(Step(StepKind.CHOOSE, builder.value(node.inputs[0]), y, if_true, spec=Choose(if_false)))


def _fill_by_truths(builder: Builder, node: Node, x: str, if_false: float, if_true: float) -> None:
    """Append a step that turns truths into numbers, and one that puts these over the value, where they are not NaN."""
    condition, y = builder.value(node.inputs[0]), builder.value(node.outputs[0])
    if math.isfinite(if_false + if_true) and 0 in (if_false, if_true):  # else a product with a truth would not be exact
        builder.step(Step(StepKind.ACTIVATE, condition, y, activation=Activation(Act.AFFINE, if_true - if_false, if_false)))
        return
    table = np.zeros(ENTRIES, np.float32)
    table[:2] = if_false, if_true
    numbers = builder.new_value(len(shape_of(builder.graph, node.inputs[0]))) if x else y
    builder.step(Step(StepKind.LOOK_UP, condition, numbers, spec=LookUp(table, 0.0)))
    if x:
        builder.step(Step(StepKind.BINARY, builder.value(x), y, numbers, spec=Binary(Op.FILL)))


# --- Trilu

MOST_DIAGONAL = 1 << 40
"""Diagonals further away than this are beyond any matrix."""


def _triangle_can_run(graph: Graph, node: Node) -> Finding | None:
    rank, k = len(shape_of(graph, node.inputs[0])), input_of(node, 1)
    if rank < 2:
        return reasons.UNSUPPORTED_RANK(rank=rank, supported="2 and more")
    if not k or (graph.is_constant(k) and math.prod(sizes_of(graph, k)) == 1):
        return None
    return None if is_computed(graph, k) and count_of(graph, k) == 1 else reasons.PARAMETER_NOT_CONSTANT(name="k")


def _triangle_lower(builder: Builder, node: Node) -> None:
    """Compare the places of rows and columns, which depend on sizes alone, and choose the elements or 0."""

    def computed(op: NumberOp, *operands: int) -> int:
        return builder.compute(op, operands, shape=()).y

    graph, is_whole = builder.graph, builder.graph.values[node.outputs[0]].dtype in INTEGERS
    number = builder.whole if is_whole else builder.value
    x, y, rank = number(node.inputs[0]), number(node.outputs[0]), len(shape_of(graph, node.inputs[0]))
    height, width = (builder.compute(NumberOp.SHAPE, [x], shape=(), places=(rank - 2 + axis,)).y for axis in range(2))
    first = literal(builder, 0)
    if input_of(node, 1):
        array = graph.constant(node.inputs[1])
        if array is not None:
            first = literal(builder, min(max(int(array.reshape(())), -MOST_DIAGONAL), MOST_DIAGONAL))
        else:
            given = computed(NumberOp.MAX, builder.list_of(node.inputs[1]).y, literal(builder, -MOST_DIAGONAL))
            first = computed(NumberOp.MIN, given, literal(builder, MOST_DIAGONAL))
    rows = as_column(builder, counted(builder, computed(NumberOp.ADD, first, height), first))
    keys, kept = counted(builder, width), builder.new_value(2)
    operands = (rows, keys) if attribute_of(node, "upper", 1) else (keys, rows)
    builder.step(Step(StepKind.INTEGERS, operands[0], kept, operands[1], spec=Integers(NumberOp.LESS_EQUAL)))
    dtype = np.int64 if graph.values[node.outputs[0]].dtype == INT64 else np.int32
    nothing = builder.integers(np.array(0, dtype)) if is_whole else builder.constant(np.array(0, np.float32))
    builder.step(Step(StepKind.CHOOSE, kept, y, x, spec=Choose(nothing)))


FILL_NAN = "FillNaN"
"""A value with a number, the attribute `value`, in the place of NaN: what passes make of Where and IsNaN."""


def _fill_nan_can_run(graph: Graph, node: Node) -> Finding | None:
    return None


def _fill_nan_lower(builder: Builder, node: Node) -> None:
    number = builder.constant(np.array(attribute_of(node, "value", 0.0), np.float32))
    builder.step(Step(StepKind.BINARY, number, builder.value(node.outputs[0]), builder.value(node.inputs[0]), spec=Binary(Op.FILL)))


ROWS = (
    OpRow(
        "Slice",
        "neighbour",
        can_run_if(_slice_of),
        _slice_lower,
        "starts and ends constant or computed, constant axes and steps",
        parameters=(1, 2, 3, 4),
        types=ANY,
        channels=_slice_channels,
        estimate=partial(_part_estimate, _slice_of),
    ),
    OpRow(
        "Split",
        "neighbour",
        can_run_if(_split_of),
        partial(_lower, _split_of),
        "along an axis of known size, constant sizes",
        results=MOST_OUTPUTS,
        parameters=(1,),
        types=ANY,
        estimate=partial(_part_estimate, _split_of),
    ),
    OpRow(
        "Gather",
        "neighbour",
        _gather_can_run,
        _gather_lower,
        "indices constant or of int64 or int32",
        types=ANY,
        estimate=_gather_estimate,
    ),
    OpRow(
        "GatherND",
        "neighbour",
        _gather_nd_can_run,
        _gather_nd_lower,
        "indices of known depth; batch_dims of 0",
        first_version=11,
        types=ANY,
        estimate=_taken_estimate,
    ),
    OpRow(
        "ScatterND",
        "neighbour",
        _scatter_can_run,
        _scatter_lower,
        "indices of known depth; without a reduction",
        first_version=11,
        types=(*TRUTHS, *INTEGERS),
        estimate=_taken_estimate,
    ),
    OpRow(
        "Expand",
        "neighbour",
        _expand_can_run,
        _expand_lower,
        "shape constant or computed",
        first_version=8,
        parameters=(1,),
        types=ANY,
    ),
    OpRow(
        "ConstantOfShape",
        "neighbour",
        _fill_can_run,
        _fill_lower,
        "computed shape",
        parameters=(0,),
        types=(*TRUTHS, *INTEGERS),
        estimate=_fill_estimate,
    ),
    OpRow(
        "Trilu",
        "neighbour",
        _triangle_can_run,
        _triangle_lower,
        "k constant or computed",
        first_version=14,
        parameters=(1,),
        types=(*TRUTHS, *INTEGERS),
        estimate=costs.work_of("added"),
    ),
    OpRow(
        "Where",
        "neighbour",
        _where_can_run,
        _where_lower,
        first_version=9,
        types=(*TRUTHS, *INTEGERS),
        estimate=costs.work_of("added"),
    ),
    OpRow(FILL_NAN, "neighbour", _fill_nan_can_run, _fill_nan_lower, domains=(FUSED,), estimate=costs.work_of("added")),
)
