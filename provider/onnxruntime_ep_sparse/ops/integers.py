"""Operators of int64 and int32 tensors, as exporters compute positions, masks and ids with them; floats have rows of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .. import reasons
from ..graph.ir import BOOL, FLOAT, INTEGERS, Graph, Node, attribute_of, shape_of, type_name
from ..program.builder import TYPE_OF, Builder
from ..program.enums import NumberOp, StepKind
from ..program.kinds.convert import Convert
from ..program.kinds.integers import Integers, Range
from ..program.steps import Step
from ..reasons import Finding
from . import costs
from .numbers import is_computed
from .row import OpRow

TYPES = (*INTEGERS, BOOL, FLOAT)
"""Element types of what these operators read and make: a Cast, a comparison."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """One operator of one or two operands; `swapped`: with its operands the other way round; `many`: or of any number of them.

    Before `first_version` it was another one.
    """

    op_type: str
    op: NumberOp
    first_version: int = 7
    swapped: bool = False
    many: bool = False


ARITHMETIC = {
    each.op_type: each
    for each in (
        Arithmetic("Add", NumberOp.ADD),
        Arithmetic("Sub", NumberOp.SUB),
        Arithmetic("Mul", NumberOp.MUL),
        Arithmetic("Div", NumberOp.DIV),
        Arithmetic("Mod", NumberOp.MOD, 10),
        Arithmetic("Min", NumberOp.MIN, 12, many=True),
        Arithmetic("Max", NumberOp.MAX, 12, many=True),
        Arithmetic("Neg", NumberOp.NEG, 6),
        Arithmetic("Abs", NumberOp.ABS, 6),
        Arithmetic("Equal", NumberOp.EQUAL),
        Arithmetic("Less", NumberOp.LESS, 9),
        Arithmetic("LessOrEqual", NumberOp.LESS_EQUAL, 12),
        Arithmetic("Greater", NumberOp.LESS, 9, swapped=True),
        Arithmetic("GreaterOrEqual", NumberOp.LESS_EQUAL, 12, swapped=True),
    )
}
"""Every such operator."""


def _can_run(graph: Graph, node: Node) -> Finding | None:
    each = ARITHMETIC[node.op_type]
    if all(graph.is_constant(name) for name in node.inputs):
        return reasons.ALL_CONSTANT()
    types = {graph.values[name].dtype for name in node.inputs}
    if len(types) > 1 or not types <= set(INTEGERS):
        return reasons.INTEGERS_ONLY(type=type_name(max(types)))
    if each.many and len(node.inputs) < 2:
        return reasons.UNSUPPORTED_OPERAND_COUNT(count=1, supported="2 and more")
    if attribute_of(node, "fmod", 0):
        return reasons.UNSUPPORTED_ATTRIBUTE(name="fmod", value=1)
    if each.op in (NumberOp.DIV, NumberOp.MOD):
        divisor = graph.constant(node.inputs[1])
        if divisor is None or not divisor.all():
            return reasons.PARAMETER_NOT_CONSTANT(name="divisor, other than 0,")
    return None


def _lower(builder: Builder, node: Node) -> None:
    each = ARITHMETIC[node.op_type]
    names = node.inputs[::-1] if each.swapped else node.inputs
    result, ranks = node.outputs[0], [len(shape_of(builder.graph, name)) for name in names]
    is_truth = builder.graph.values[result].dtype == BOOL
    total = builder.whole(names[0])
    last = len(names) - 1
    for i, name in enumerate(names[1:last], 2):
        made = builder.new_like(total, max(ranks[:i]))
        builder.step(Step(StepKind.INTEGERS, total, made, builder.whole(name), spec=Integers(each.op)))
        total = made
    y = builder.value(result) if is_truth else builder.whole(result)
    builder.step(Step(StepKind.INTEGERS, total, y, builder.whole(names[last]) if last else -1, spec=Integers(each.op)))


# --- Cast


def _cast_can_run(graph: Graph, node: Node) -> Finding | None:
    return reasons.ALL_CONSTANT() if graph.is_constant(node.inputs[0]) else None


def _cast_lower(builder: Builder, node: Node) -> None:
    graph, (x, y) = builder.graph, (node.inputs[0], node.outputs[0])
    operand = builder.whole(x) if graph.values[x].dtype in INTEGERS else builder.value(x)
    target = graph.values[y].dtype
    result = builder.whole(y) if target in INTEGERS else builder.value(y)
    made = builder.new_value(len(shape_of(graph, y))) if y in graph.narrow else result
    builder.step(Step(StepKind.INTEGERS, operand, made, spec=Integers(NumberOp.CAST, truth=target == BOOL)))
    if y in graph.narrow:
        builder.step(Step(StepKind.CONVERT, made, result, spec=Convert(TYPE_OF[graph.narrow[y]])))


# --- Range


def _range_can_run(graph: Graph, node: Node) -> Finding | None:
    dtype = graph.values[node.outputs[0]].dtype
    for name, parameter in zip(node.inputs, ("start", "limit", "delta"), strict=True):
        constant = graph.constant(name)
        known = constant is not None and constant.size == 1
        if graph.values[name].dtype != dtype or not (known or is_computed(graph, name, dtype)):
            return reasons.PARAMETER_NOT_CONSTANT(name=parameter)
    return None


def _range_lower(builder: Builder, node: Node) -> None:
    start, limit, delta = (builder.list_of(name).y for name in node.inputs)
    builder.step(Step(StepKind.RANGE, start, builder.whole(node.outputs[0]), spec=Range(limit, delta)))


Check = Callable[[Graph, Node], Finding | None]


def _row(op_type: str, can_run: Check, lower: Callable[[Builder, Node], None], note: str, **fields: object) -> OpRow:
    estimate = costs.work_of("added")
    return OpRow(op_type, "integers", can_run, lower, note, types=TYPES, estimate=estimate, **fields)  # type: ignore[arg-type]  # of OpRow


INTEGER_ROWS: dict[str, OpRow] = {
    row.op_type: row
    for row in (
        *(
            _row(
                each.op_type,
                _can_run,
                _lower,
                "int64 and int32" + "; constant divisor" * (each.op in (NumberOp.DIV, NumberOp.MOD)),
                first_version=each.first_version,
            )
            for each in ARITHMETIC.values()
        ),
        _row("Cast", _cast_can_run, _cast_lower, "from and to int64 and int32", first_version=6),
        _row("Range", _range_can_run, _range_lower, "int64 and int32; numbers constant or computed", parameters=(0, 1, 2)),
    )
}
"""Operators of integers, by name."""
