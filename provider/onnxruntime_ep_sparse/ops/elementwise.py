"""Binary operators: one row each, from which its row in the table of operators follows. And squares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.elementwise import Op

from .. import reasons
from ..graph.ir import Graph, Node, shape_of
from ..program.builder import Builder
from ..program.enums import StepKind
from ..program.kinds.elementwise import Binary
from ..program.steps import Step
from ..reasons import Finding
from . import costs
from .activations import is_bounded
from .channels import ChannelPlan, Flow, Link
from .row import OpRow


@dataclass(frozen=True, slots=True)
class BinaryRow:
    """One binary operator: the kernels' function, and numpy's for channels that are known. Before `first_version` it had an axis."""

    op_type: str
    op: Op
    ufunc: Callable[[NDArray, NDArray], NDArray]
    first_version: int = 1


BINARY: dict[str, BinaryRow] = {
    row.op_type: row
    for row in (
        BinaryRow("Add", Op.ADD, np.add, 7),
        BinaryRow("Sub", Op.SUB, np.subtract, 7),
        BinaryRow("Mul", Op.MUL, np.multiply, 7),
        BinaryRow("Div", Op.DIV, np.divide, 7),
        BinaryRow("Max", Op.MAX, np.maximum),
        BinaryRow("Min", Op.MIN, np.minimum),
    )
}
"""Every binary operator."""


def _binary_can_run(graph: Graph, node: Node) -> Finding | None:
    if len(node.inputs) != 2:
        return reasons.UNSUPPORTED_OPERAND_COUNT(count=len(node.inputs), supported=2)
    if all(graph.is_constant(name) for name in node.inputs):
        return reasons.ALL_CONSTANT()
    return None


def _binary_lower(builder: Builder, node: Node) -> None:
    builder.binary(node, BINARY[node.op_type].op)


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
    (known_a__c, a__c), (known_b__c, b__c) = operands
    value__c = row.ufunc(a__c, b__c)
    known__c = known_a__c & known_b__c
    if row.op == Op.MUL:
        # a channel of zeros stays so after the gate of a squeeze-and-excite block, which is between 0 and 1
        for known_0__c, zero__c, gate in ((known_a__c, a__c, node.inputs[1]), (known_b__c, b__c, node.inputs[0])):
            if gate in graph.producer and is_bounded(graph.producer[gate]):
                gone__c = known_0__c & (zero__c == 0)
                known__c, value__c = known__c | gone__c, np.where(gone__c, np.float32(0), value__c)
    flow.make(y, axis, known__c, value__c)
    return ChannelPlan(node, tuple(links), sliced=tuple(sliced))


def _square_can_run(graph: Graph, node: Node) -> Finding | None:
    exponent = graph.constant(node.inputs[1])
    if exponent is None or exponent.size != 1 or exponent.item() != 2 or exponent.ndim > len(shape_of(graph, node.inputs[0])):
        return reasons.EXPONENT()
    return None


def _square_lower(builder: Builder, node: Node) -> None:
    x = builder.value(node.inputs[0])
    builder.step(Step(StepKind.BINARY, x, builder.value(node.outputs[0]), x, spec=Binary(Op.MUL)))


ROWS = (
    *(
        OpRow(
            row.op_type,
            "neighbour",
            _binary_can_run,
            _binary_lower,
            "two operands, broadcast",
            first_version=row.first_version,
            channels=_binary_channels,
            estimate=costs.work_of("added"),
            blocked=True,
        )
        for row in BINARY.values()
    ),
    OpRow("Pow", "neighbour", _square_can_run, _square_lower, "squares", parameters=(1,), estimate=costs.work_of("added")),
)
