"""Reductions: one row each, from which its row in the table of operators follows. Global pools among them, and Softmax."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from onnxruntime_ep_sparse_kernels.elementwise import Act, Op

from .. import reasons
from ..graph.ir import Graph, Node, attribute_of, shape_of
from ..program.builder import Builder
from ..program.enums import StepKind
from ..program.kinds.reduce import Reduce, Softmax
from ..program.steps import Step
from ..reasons import Finding
from . import costs
from .channels import ChannelPlan, Flow
from .costs import Estimate, Setting, moved
from .row import OpRow

SOFTMAX_OF_ONE_AXIS = 13
"""From this version on Softmax normalizes along one axis, before along all from that one on together."""


@dataclass(frozen=True, slots=True)
class ReductionRow:
    """One reduction: the function of every element, the operator that joins them, the function of the result; see `Reduce`.

    `is_pool` says that it reduces the images of all channels, whatever the node says.
    """

    op_type: str
    op: Op
    before: Act = Act.NONE
    after: Act = Act.NONE
    mean: bool = False
    takes_empty: bool = True
    is_pool: bool = False


REDUCTIONS: dict[str, ReductionRow] = {
    row.op_type: row
    for row in (
        ReductionRow("GlobalAveragePool", Op.ADD, mean=True, takes_empty=False, is_pool=True),
        ReductionRow("GlobalMaxPool", Op.MAX, takes_empty=False, is_pool=True),
        ReductionRow("ReduceMean", Op.ADD, mean=True),
        ReductionRow("ReduceSum", Op.ADD),
        ReductionRow("ReduceMax", Op.MAX),
        ReductionRow("ReduceMin", Op.MAX, Act.NEG, Act.NEG),
        ReductionRow("ReduceL1", Op.ADD, Act.ABS),
        ReductionRow("ReduceL2", Op.ADD, Act.POWER, Act.SQRT),
        ReductionRow("ReduceSumSquare", Op.ADD, Act.POWER),
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
    axes = tuple(sorted({int(axis) + rank * (axis < 0) for axis in given if -rank <= axis < rank}))
    return axes if len(axes) == len(given) else reasons.MISMATCHED(what="input axes", other="the input")


def _reduce_can_run(graph: Graph, node: Node) -> Finding | None:
    axes = axes_of(graph, node)
    return axes if isinstance(axes, Finding) else None


def _reduce_lower(builder: Builder, node: Node) -> None:
    axes, row = axes_of(builder.graph, node), REDUCTIONS[node.op_type]
    assert not isinstance(axes, Finding)
    keeps = row.is_pool or attribute_of(node, "keepdims", 1) == 1
    reduce = Reduce(axes, row.op, row.before, row.after, row.mean, keeps, row.takes_empty)
    builder.step(Step(StepKind.REDUCE, builder.value(node.inputs[0]), builder.value(node.outputs[0]), spec=reduce))


def _pool_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    x = flow.channels.get(node.inputs[0])
    return flow.same(node, node.inputs[0], x.known__c, x.value__c) if x is not None and x.axis == 1 else None


def _reduce_estimate(setting: Setting, node: Node) -> Estimate:
    results, floats = (math.prod(setting.sizes(name)) for name in (node.outputs[0], node.inputs[0]))
    work = {"pooled_channel": results, **moved("pooled", floats)}
    return Estimate({"node": 1, **work}, {"step": 1, **work})


def _softmax_axis(graph: Graph, node: Node) -> int | Finding:
    """Return the axis of a Softmax as a number from 0 on, or the reason why it cannot run."""
    rank = len(shape_of(graph, node.inputs[0]))
    axis = int(attribute_of(node, "axis", -1 if node.since_version >= SOFTMAX_OF_ONE_AXIS else 1))
    return axis % rank if -rank <= axis < rank else reasons.OUT_OF_RANGE(what="axis", value=axis, low=-rank, high=rank - 1)


def _softmax_can_run(graph: Graph, node: Node) -> Finding | None:
    axis = _softmax_axis(graph, node)
    return axis if isinstance(axis, Finding) else None


def _softmax_lower(is_log: bool, builder: Builder, node: Node) -> None:
    axis = _softmax_axis(builder.graph, node)
    assert isinstance(axis, int)
    softmax = Softmax(axis, node.since_version < SOFTMAX_OF_ONE_AXIS, is_log)
    builder.step(Step(StepKind.SOFTMAX, builder.value(node.inputs[0]), builder.value(node.outputs[0]), spec=softmax))


ROWS = (
    *(
        OpRow(
            row.op_type,
            "neighbour",
            _reduce_can_run,
            _reduce_lower,
            "" if row.is_pool else "constant axes",
            parameters=() if row.is_pool else (1,),
            channels=_pool_channels if row.is_pool else None,
            estimate=_reduce_estimate,
            blocked=row.is_pool,
        )
        for row in REDUCTIONS.values()
    ),
    *(
        OpRow(
            op_type,
            "neighbour",
            _softmax_can_run,
            partial(_softmax_lower, op_type == "LogSoftmax"),
            "any axis",
            estimate=costs.work_of("exp"),
        )
        for op_type in ("Softmax", "LogSoftmax")
    ),
)
