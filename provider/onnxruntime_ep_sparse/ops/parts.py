"""Operators that take a part of a value by constants, or repeat it: Slice, Split, Gather, Expand, Where."""

from __future__ import annotations

import math

import numpy as np

from onnxruntime_ep_sparse_kernels.elementwise import Op

from .. import reasons
from ..graph.ir import Graph, Node, attribute_of, shape_of
from ..program.builder import Builder
from ..program.enums import StepKind
from ..program.kinds.elementwise import Binary
from ..program.kinds.layout import Reshape
from ..program.kinds.parts import BEYOND, Expand, Part
from ..program.limits import MAX_RANK, MAX_SIZE
from ..program.steps import Step
from ..reasons import Finding
from . import costs
from .axes import axis_of
from .channels import ChannelPlan, Flow
from .costs import NONE, Estimate, Setting, moved
from .row import OpRow, can_run_if

MOST_OUTPUTS = 1 << 10
"""At most so many results of a Split."""
SLICE_BY_INPUTS, SPLIT_BY_INPUT = 10, 13
"""From these versions on inputs say what attributes have said before."""


def _part_estimate(setting: Setting, node: Node) -> Estimate:
    """Return the work of a node that takes parts: nothing of ours where they are runs of the value."""
    shapes = [setting.sizes(name) for name in node.outputs if name]
    floats = sum(math.prod(shape) for shape in shapes)
    x = setting.sizes(node.inputs[0])
    cut = [axis for axis, d in enumerate(x) if any(len(shape) != len(x) or shape[axis] != d for shape in shapes)]
    copies = moved("copied", floats)
    return Estimate({"node": 1, **copies}, NONE if not cut or math.prod(x[: cut[0]]) == 1 else {"step": len(shapes), **copies})


def _listed(graph: Graph, node: Node, place: int, name: str) -> list[int] | Finding | None:
    """Return the integers that a constant input lists, None if it is not there, or the reason why it cannot be used."""
    if place >= len(node.inputs) or not node.inputs[place]:
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


def _slice_of(graph: Graph, node: Node) -> Part | Finding:
    """Return the part that a Slice takes, or the reason why it cannot run."""
    rank = len(shape_of(graph, node.inputs[0]))
    lists: dict[str, list[int] | None] = {}
    for place, name in enumerate(("starts", "ends", "axes", "steps"), 1):
        found: list[int] | Finding | None
        if node.since_version < SLICE_BY_INPUTS:
            found = [int(n) for n in attribute_of(node, name, ())] or None
        else:
            found = _listed(graph, node, place, name)
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
    return Part(tuple(chosen), tuple(map(_cut, starts)), tuple(map(_cut, ends)), tuple(steps))


def _slice_lower(builder: Builder, node: Node) -> None:
    part = _slice_of(builder.graph, node)
    assert isinstance(part, Part)
    builder.step(Step(StepKind.PART, builder.value(node.inputs[0]), builder.value(node.outputs[0]), spec=part))


def _slice_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    x, part = flow.channels.get(node.inputs[0]), _slice_of(flow.graph, node)
    if x is None or isinstance(part, Finding) or x.axis in part.axes:
        return None
    return flow.same(node, node.inputs[0], x.known__c, x.value__c)


# --- Split


def _split_of(graph: Graph, node: Node) -> tuple[int, list[int]] | Finding:
    """Return the axis of a Split and the sizes of its results, or the reason why it cannot run."""
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
        return reasons.AXES_UNKNOWN()
    if sizes is None:
        each = -(-size // count)
        sizes = [max(0, min(each, size - i * each)) for i in range(count)]
    if len(sizes) != count or sum(sizes) != size or min(sizes) < 0:
        return reasons.MISMATCHED(what="split", other="the input")
    return axis, sizes


def _split_lower(builder: Builder, node: Node) -> None:
    found = _split_of(builder.graph, node)
    assert not isinstance(found, Finding)
    axis, sizes = found
    begin = 0
    for name, size in zip(node.outputs, sizes, strict=True):
        if name and (name in builder.graph.consumers or name in builder.graph.outputs):
            part = Part((axis,), (begin,), (begin + size,), (1,))
            builder.step(Step(StepKind.PART, builder.value(node.inputs[0]), builder.value(name), spec=part))
        begin += size


# --- Gather


def _gather_of(graph: Graph, node: Node) -> tuple[Part, bool] | Finding:
    """Return the part that a Gather takes and whether its axis goes away, or the reason why it cannot run."""
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
        return reasons.UNSTEADY_INDICES()
    end = places[-1] + (1 if step > 0 else -1)
    if (end < 0) != (places[-1] < 0):  # it would count from the other end
        end = BEYOND if step > 0 else -BEYOND
    return Part((axis,), (places[0],), (end,), (step,), inside=True), array.ndim == 0


def _gather_lower(builder: Builder, node: Node) -> None:
    found = _gather_of(builder.graph, node)
    assert not isinstance(found, Finding)
    part, goes = found
    x, y = builder.value(node.inputs[0]), builder.value(node.outputs[0])
    if not goes:
        builder.step(Step(StepKind.PART, x, y, spec=part))
        return
    one = builder.new_value()
    builder.ranks[one] = len(shape_of(builder.graph, node.inputs[0]))
    builder.step(Step(StepKind.PART, x, one, spec=part))
    builder.step(Step(StepKind.RESHAPE, one, y, spec=Reshape(removed=part.axes)))


# --- Expand, Where


def _expand_can_run(graph: Graph, node: Node) -> Finding | None:
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
    assert target is not None
    expand = Expand(tuple(int(d) for d in target.reshape(-1)))
    builder.step(Step(StepKind.EXPAND, builder.value(node.inputs[0]), builder.value(node.outputs[0]), spec=expand))


def _where_of(graph: Graph, node: Node) -> tuple[str, np.ndarray] | Finding:
    """Return the value that a Where passes and what it puts in its place, NaN where nothing; or the reason why it cannot run."""
    mask = graph.constant(node.inputs[0])
    if mask is None:
        return reasons.PARAMETER_NOT_CONSTANT(name="condition")
    constants = [graph.constant(name) for name in node.inputs[1:3]]
    if all(array is not None for array in constants):
        return reasons.ALL_CONSTANT()
    for array, chosen, x in ((constants[0], mask, node.inputs[2]), (constants[1], ~mask, node.inputs[1])):
        if array is not None and not np.isnan(array).any():
            return x, np.where(chosen, array, np.float32(np.nan))
    return reasons.NO_CONSTANT_OPERAND()


def _where_lower(builder: Builder, node: Node) -> None:
    found = _where_of(builder.graph, node)
    assert not isinstance(found, Finding)
    x, filling = found
    y = builder.value(node.outputs[0])
    builder.step(Step(StepKind.BINARY, builder.value(x), y, builder.constant(filling), spec=Binary(Op.FILL)))


ROWS = (
    OpRow(
        "Slice",
        "neighbour",
        can_run_if(_slice_of),
        _slice_lower,
        "constant starts, ends, axes and steps",
        parameters=(1, 2, 3, 4),
        channels=_slice_channels,
        estimate=_part_estimate,
    ),
    OpRow(
        "Split",
        "neighbour",
        can_run_if(_split_of),
        _split_lower,
        "along an axis of known size, constant sizes",
        results=MOST_OUTPUTS,
        parameters=(1,),
        estimate=_part_estimate,
    ),
    OpRow(
        "Gather",
        "neighbour",
        can_run_if(_gather_of),
        _gather_lower,
        "constant indices: a number, or numbers with one step between them",
        parameters=(1,),
        estimate=_part_estimate,
    ),
    OpRow("Expand", "neighbour", _expand_can_run, _expand_lower, "constant shape", first_version=8, parameters=(1,)),
    OpRow(
        "Where",
        "neighbour",
        can_run_if(_where_of),
        _where_lower,
        "constant condition, one operand constant and without NaN",
        first_version=9,
        parameters=(0,),
        estimate=costs.work_of("added"),
    ),
)
