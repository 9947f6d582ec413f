"""Reductions: one row each, from which its row in the table of operators follows. Global pools among them, and Softmax."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from onnxruntime_ep_sparse_kernels.elementwise import Act, Op

from .. import reasons
from ..graph.ir import INTEGERS, Graph, Node, attribute_of, shape_of
from ..program.builder import Builder
from ..program.enums import StepKind
from ..program.kinds.integers import Accumulate
from ..program.kinds.reduce import Reduce, Softmax
from ..program.steps import Step
from ..reasons import Finding
from . import costs
from .axes import ascending, axis_of
from .channels import ChannelPlan, Flow, Link
from .costs import ORT_SPLIT_RESULTS, Estimate, Setting, moved
from .row import FLOATS, OpRow, can_run_if

SOFTMAX_OF_ONE_AXIS = 13
"""From this version on Softmax normalizes along one axis, before along all from that one on together."""


@dataclass(frozen=True, slots=True)
class ReductionRow:
    """One reduction: the data of its step, but for axes.

    `is_pool` says that it reduces the images of all channels, whatever the node says, and that there must be elements.
    """

    op_type: str
    reduce: Reduce
    is_pool: bool = False


REDUCTIONS: dict[str, ReductionRow] = {
    row.op_type: row
    for row in (
        ReductionRow("GlobalAveragePool", Reduce((), Op.ADD, mean=True), is_pool=True),
        ReductionRow("GlobalMaxPool", Reduce((), Op.MAX), is_pool=True),
        ReductionRow("ReduceMean", Reduce((), Op.ADD, mean=True)),
        ReductionRow("ReduceSum", Reduce((), Op.ADD)),
        ReductionRow("ReduceMax", Reduce((), Op.MAX)),
        ReductionRow("ReduceMin", Reduce((), Op.MAX, Act.NEG, Act.NEG)),
        ReductionRow("ReduceL1", Reduce((), Op.ADD, Act.ABS)),
        ReductionRow("ReduceL2", Reduce((), Op.ADD, Act.POWER, Act.SQRT)),
        ReductionRow("ReduceSumSquare", Reduce((), Op.ADD, Act.POWER)),
    )
}
"""Every reduction, by operator."""


def axes_of(graph: Graph, node: Node) -> tuple[int, ...] | Finding:
    """Return the axes that a node reduces, ascending; or the reason why it cannot run."""
    rank = len(shape_of(graph, node.inputs[0]))
    if REDUCTIONS[node.op_type].is_pool:
        return tuple(range(2, rank)) if rank >= 3 else reasons.UNSUPPORTED_RANK(rank=rank, supported="3 and more")
    given = graph.constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else attribute_of(node, "axes", ())
    if given is None:
        return reasons.PARAMETER_NOT_CONSTANT(name="axes")
    if np.ndim(given) != 1:
        return reasons.MISMATCHED(what="the shape of input axes", other="a list")
    if not len(given):
        return reasons.NO_AXES() if attribute_of(node, "noop_with_empty_axes", 0) else tuple(range(rank))
    return ascending([int(axis) for axis in given], rank)


def _reduce_lower(builder: Builder, node: Node) -> None:
    axes, row = axes_of(builder.graph, node), REDUCTIONS[node.op_type]
    assert not isinstance(axes, Finding)
    keeps = row.is_pool or attribute_of(node, "keepdims", 1) == 1
    reduce = replace(row.reduce, axes=axes, keeps=keeps, takes_empty=not row.is_pool)
    builder.step(Step(StepKind.REDUCE, builder.value(node.inputs[0]), builder.value(node.outputs[0]), spec=reduce))


def _channels(flow: Flow, node: Node) -> ChannelPlan | None:
    """Follow channels through a reduction of other axes: a mean or an extreme of equal numbers is that number, a sum of zeros is 0."""
    name, row = node.inputs[0], REDUCTIONS[node.op_type]
    x, axes, shape = flow.channels.get(name), axes_of(flow.graph, node), shape_of(flow.graph, name)
    if x is None or isinstance(axes, Finding) or x.axis in axes:
        return None
    # the mean of no elements is not their number
    if not row.is_pool and any(shape[axis] in (0, None) or isinstance(shape[axis], str) for axis in axes):
        return None
    keeps = row.is_pool or attribute_of(node, "keepdims", 1) == 1
    equal = row.reduce.mean or row.reduce.op == Op.MAX
    known__c = x.known__c if equal else x.known__c & (x.value__c == 0)
    flow.make(node.outputs[0], x.axis - (0 if keeps else sum(axis < x.axis for axis in axes)), known__c, x.value__c)
    return ChannelPlan(node, (Link(name),))


def _reduce_estimate(setting: Setting, node: Node) -> Estimate:
    results, floats = (math.prod(setting.sizes(name)) for name in (node.outputs[0], node.inputs[0]))
    work = {"pooled_channel": results, **moved("pooled", floats)}
    return Estimate({"node": 1, **work}, {"step": 1, **work}, ort_splits=floats >= ORT_SPLIT_RESULTS, floats=floats + results)


def _softmax_axis(graph: Graph, node: Node) -> int | Finding:
    """Return the axis of a Softmax as a number from 0 on, or the reason why it cannot run."""
    return axis_of(graph, node, -1 if node.since_version >= SOFTMAX_OF_ONE_AXIS else 1)


def _softmax_lower(is_log: bool, builder: Builder, node: Node) -> None:
    axis = _softmax_axis(builder.graph, node)
    assert isinstance(axis, int)
    softmax = Softmax(axis, node.since_version < SOFTMAX_OF_ONE_AXIS, is_log)
    builder.step(Step(StepKind.SOFTMAX, builder.value(node.inputs[0]), builder.value(node.outputs[0]), spec=softmax))


def _sums_of(graph: Graph, node: Node) -> Accumulate | Finding:
    """Return which sums a CumSum makes, or the reason why it cannot run."""
    axis, rank = graph.constant(node.inputs[1]), len(shape_of(graph, node.inputs[0]))
    if axis is None or axis.size != 1:
        return reasons.PARAMETER_NOT_CONSTANT(name="axis")
    number = int(axis.reshape(()))
    if not -rank <= number < rank:
        return reasons.OUT_OF_RANGE(what="axis", value=number, low=-rank, high=rank - 1)
    return Accumulate(number % rank, *(attribute_of(node, name, 0) == 1 for name in ("exclusive", "reverse")))


def _sums_lower(builder: Builder, node: Node) -> None:
    sums = _sums_of(builder.graph, node)
    assert isinstance(sums, Accumulate)
    x, y = builder.moved(node.inputs[0], node.outputs[0])
    builder.step(Step(StepKind.ACCUMULATE, x, y, spec=sums))


ROWS = (
    OpRow(
        "CumSum",
        "neighbour",
        can_run_if(_sums_of),
        _sums_lower,
        "constant axis; float32, int64 and int32",
        parameters=(1,),
        types=(*FLOATS, *INTEGERS),
        estimate=costs.work_of("added"),
    ),
    *(
        OpRow(
            row.op_type,
            "neighbour",
            can_run_if(axes_of),
            _reduce_lower,
            "" if row.is_pool else "constant axes",
            parameters=() if row.is_pool else (1,),
            channels=_channels,
            estimate=_reduce_estimate,
            blocked=row.is_pool,
        )
        for row in REDUCTIONS.values()
    ),
    *(
        OpRow(
            op_type,
            "neighbour",
            can_run_if(_softmax_axis),
            partial(_softmax_lower, op_type == "LogSoftmax"),
            "any axis",
            estimate=costs.work_of("exp"),
        )
        for op_type in ("Softmax", "LogSoftmax")
    ),
)
