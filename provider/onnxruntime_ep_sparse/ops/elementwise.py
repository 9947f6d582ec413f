"""Operators of two or more operands: one row each, from which its row in the table of operators follows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.elementwise import Act, Op

from .. import reasons
from ..graph.ir import Graph, Node, shape_of
from ..program.builder import Builder
from ..program.enums import StepKind
from ..program.kinds.elementwise import Binary
from ..program.kinds.layout import Reshape
from ..program.steps import Activation, Step
from ..reasons import Finding
from . import costs
from .activations import is_bounded
from .channels import ChannelPlan, Flow, Link
from .costs import Estimate, Setting
from .row import TRUTHS, OpRow, Shape


@dataclass(frozen=True, slots=True)
class BinaryRow:
    """One binary operator: the kernels' function, and numpy's for channels that are known. Before `first_version` it had an axis.

    `many`: it takes any number of operands. `keeps_x`: the result has the shape of the first operand. `blocked`: ONNX Runtime runs it in
    its blocked layout.
    """

    op_type: str
    op: Op
    ufunc: Callable[[NDArray, NDArray], NDArray]
    first_version: int = 1
    many: bool = False
    keeps_x: bool = False
    blocked: bool = True


def _prelu(x: NDArray, slope: NDArray) -> NDArray:
    return np.where(x < 0, x * slope, x)


BINARY: dict[str, BinaryRow] = {
    row.op_type: row
    for row in (
        BinaryRow("Add", Op.ADD, np.add, 7),
        BinaryRow("Sub", Op.SUB, np.subtract, 7),
        BinaryRow("Mul", Op.MUL, np.multiply, 7),
        BinaryRow("Div", Op.DIV, np.divide, 7),
        BinaryRow("Max", Op.MAX, np.maximum, many=True),
        BinaryRow("Min", Op.MIN, np.minimum, many=True),
        BinaryRow("Sum", Op.ADD, np.add, many=True),
        BinaryRow("PRelu", Op.PRELU, _prelu, 7, keeps_x=True, blocked=False),
    )
}
"""Every binary operator."""


@dataclass(frozen=True, slots=True)
class TruthRow:
    """One operator whose results are truths: the kernels' function of two operands, `swapped` the other way round.

    An operator of one operand compares it with the number `other`, or with itself where that is None.
    """

    op_type: str
    op: Op
    swapped: bool = False
    other: float | None = None
    first_version: int = 7


TRUTH_ROWS: dict[str, TruthRow] = {
    row.op_type: row
    for row in (
        TruthRow("Equal", Op.EQUAL),
        TruthRow("Less", Op.LESS),
        TruthRow("LessOrEqual", Op.LESS_EQUAL, first_version=12),
        TruthRow("Greater", Op.LESS, swapped=True),
        TruthRow("GreaterOrEqual", Op.LESS_EQUAL, swapped=True, first_version=12),
        TruthRow("And", Op.MUL),
        TruthRow("Or", Op.MAX),
        TruthRow("Xor", Op.UNEQUAL),
        TruthRow("Not", Op.EQUAL, other=0, first_version=1),
        TruthRow("IsNaN", Op.UNEQUAL, first_version=9),
    )
}
"""Every operator whose results are truths, 0 and 1 between steps."""


IS_TRUE = Op.UNEQUAL
"""Compares a number with 0, as a Cast to truths does: NaN is true."""


def _truth_can_run(graph: Graph, node: Node) -> Finding | None:
    return reasons.ALL_CONSTANT() if all(graph.is_constant(name) for name in node.inputs) else None


def _truth_lower(builder: Builder, node: Node) -> None:
    row = TRUTH_ROWS[node.op_type]
    names = node.inputs[::-1] if row.swapped else node.inputs
    x, y = builder.value(names[0]), builder.value(node.outputs[0])
    r = builder.value(names[-1]) if row.other is None else builder.constant(np.array(row.other, np.float32))
    builder.step(Step(StepKind.BINARY, x, y, r, spec=Binary(row.op)))


def _binary_can_run(graph: Graph, node: Node) -> Finding | None:
    row = BINARY.get(node.op_type)
    if row is not None and not row.many and len(node.inputs) != 2:
        return reasons.UNSUPPORTED_OPERAND_COUNT(count=len(node.inputs), supported=2)
    if all(graph.is_constant(name) for name in node.inputs):
        return reasons.ALL_CONSTANT()
    if row is not None and row.keeps_x and _widens(*(shape_of(graph, name) for name in node.inputs)):
        return reasons.MISMATCHED(what="the second operand", other="the first one")
    return None


def _widens(x: Shape, other: Shape) -> bool:
    """Return whether `x` becomes larger if it is broadcast with `other`, by the sizes that are known. ONNX Runtime does not check that."""
    ends = zip(x[::-1], other[::-1], strict=False)
    return len(other) > len(x) or any(isinstance(a, int) and isinstance(b, int) and b not in (1, a) for a, b in ends)


def _binary_lower(builder: Builder, node: Node) -> None:
    row = BINARY[node.op_type]
    if len(node.inputs) == 2 and not row.keeps_x:
        builder.binary(node, row.op)
    else:
        _chain(builder, node, Binary(row.op, row.keeps_x), Activation())


def _mean_lower(builder: Builder, node: Node) -> None:
    _chain(builder, node, Binary(Op.ADD), Activation(Act.AFFINE, 1 / len(node.inputs)))


def _chain(builder: Builder, node: Node, binary: Binary, last: Activation) -> None:
    """Append a step for each operand after the first, and a function of the result."""
    total, y = builder.value(node.inputs[0]), builder.value(node.outputs[0])
    rank = len(shape_of(builder.graph, node.inputs[0]))
    if len(node.inputs) == 1:
        builder.step(Step(StepKind.RESHAPE, total, y, spec=Reshape((0,) * rank)))
    for i, name in enumerate(node.inputs[1:], 2):
        is_last = i == len(node.inputs)
        rank = max(rank, len(shape_of(builder.graph, name)))
        result = y if is_last else builder.new_value(rank)
        activation = last if is_last else Activation()
        builder.step(Step(StepKind.BINARY, total, result, builder.value(name), activation, binary))
        total = result


def _binary_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    """Follow operands with the same channels, or one number for each of them, or one for all."""
    graph, y, row = flow.graph, node.outputs[0], BINARY[node.op_type]
    rank = flow.rank(y)
    joined = [name for name in node.inputs if name in flow.channels and flow.rank(name) == rank]
    if not joined:
        return None
    first = max((flow.channels[name] for name in joined), key=lambda channels: channels.size)
    axis, size = first.axis, first.size
    links, sliced, operands = [], [], []
    for i, name in enumerate(node.inputs):
        shape = (1,) * (rank - flow.rank(name)) + shape_of(graph, name)
        known__c, value__c = np.zeros(size, bool), np.zeros(size, np.float32)
        if graph.is_constant(name):
            array = flow.load(name)
            if shape[axis] not in (1, size):
                return None
            if shape[axis] == size:
                sliced.append((i, axis - rank + array.ndim, y))
            if array.size == shape[axis]:
                known__c, value__c = ~known__c, np.broadcast_to(array.reshape(-1), size)
        elif name in joined and flow.known_of(name, axis, size) is not None:
            links.append(Link(name))
            known__c, value__c = flow.channels[name].known__c, flow.channels[name].value__c
        elif shape[axis] == 1:
            flow.keep([name])
        else:
            return None
        operands.append((known__c, value__c))
    known__c = np.logical_and.reduce([known for known, _ in operands])
    value__c = operands[0][1]
    for _, other__c in operands[1:]:
        value__c = row.ufunc(value__c, other__c)
    if row.op == Op.MUL:
        (known_a__c, a__c), (known_b__c, b__c) = operands
        # a channel of zeros stays so after the gate of a squeeze-and-excite block, which is between 0 and 1
        for known_0__c, zero__c, gate in ((known_a__c, a__c, node.inputs[1]), (known_b__c, b__c, node.inputs[0])):
            if gate in graph.producer and is_bounded(graph.producer[gate]):
                gone__c = known_0__c & (zero__c == 0)
                known__c, value__c = known__c | gone__c, np.where(gone__c, np.float32(0), value__c)
    flow.make(y, axis, known__c, value__c)
    return ChannelPlan(node, tuple(links), sliced=tuple(sliced))


def _chain_estimate(setting: Setting, node: Node) -> Estimate:
    results = math.prod(setting.sizes(node.outputs[0])) * (len(node.inputs) - 1)
    return costs.elementwise("added", results)


ROWS = (
    *(
        OpRow(
            row.op_type,
            "neighbour",
            _binary_can_run,
            _binary_lower,
            "any number of operands, broadcast" if row.many else "two operands, broadcast",
            first_version=row.first_version,
            channels=_binary_channels,
            estimate=_chain_estimate,
            blocked=row.blocked,
            adds=row.op == Op.ADD,
        )
        for row in BINARY.values()
    ),
    *(
        OpRow(
            row.op_type,
            "neighbour",
            _truth_can_run,
            _truth_lower,
            "floats and truths",
            first_version=row.first_version,
            types=TRUTHS,
            estimate=costs.work_of("added"),
        )
        for row in TRUTH_ROWS.values()
    ),
    OpRow("Mean", "neighbour", _binary_can_run, _mean_lower, "any number of operands, broadcast", estimate=_chain_estimate),
)
