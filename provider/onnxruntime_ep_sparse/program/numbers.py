"""Numbers that a plan computes from shapes, such as the target of a Reshape: whether they may be computed.

Their C side is `runtime/_numbers.pyx`.

They are not steps: making a plan computes them, and a run of known shapes does nothing for them. A list has at most MAX_NUMBERS of them,
and its length is known when a program is made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from .enums import ElementType, NumberOp
from .kinds.row import Origin, Origins, require
from .limits import MAX_NUMBERS
from .steps import Numbers

if TYPE_CHECKING:
    from .verify import Values


LISTED = frozenset((ElementType.INT64, ElementType.INT32, ElementType.BOOL, ElementType.FLOAT32))
"""Element types of numbers that a plan computes."""
COUNT_OF_OPERANDS = {
    NumberOp.LITERAL: 0,
    NumberOp.SELECT: 3,
    **dict.fromkeys((NumberOp.INPUT, NumberOp.SHAPE, NumberOp.PICK, NumberOp.SUM, NumberOp.PRODUCT), 1),
    **{op: 1 for op in NumberOp if NumberOp.CAST <= op <= NumberOp.NOT},
    **{op: 2 for op in NumberOp if op == NumberOp.JOIN or NumberOp.ADD <= op <= NumberOp.OR},
}
"""How many operands each way to compute has."""
COMPARISONS = frozenset((NumberOp.EQUAL, NumberOp.LESS, NumberOp.LESS_EQUAL))
TRUTHS = frozenset((NumberOp.NOT, NumberOp.AND, NumberOp.OR))
FLOATS_ONLY = frozenset((NumberOp.FLOOR, NumberOp.CEIL, NumberOp.ROUND, NumberOp.SQRT))


def verify(numbers: Numbers, values: Values) -> None:
    """ValueError unless the runtime may compute these numbers; records them in `values`."""
    op, operands, element = numbers.op, numbers.operands, values.type_of(numbers.y)
    require(element in LISTED, f"numbers that are {element.name.lower()}")
    least = 1 if len(numbers.shape) > 1 else 0
    fits = len(numbers.shape) <= 2 and all(least <= d <= MAX_NUMBERS for d in numbers.shape) and numbers.count <= MAX_NUMBERS
    require(fits and (op == NumberOp.PICK or len(numbers.shape) <= 1), f"numbers of the shape {numbers.shape[:9]}")
    require(len(operands) == COUNT_OF_OPERANDS[op], f"{len(operands)} operands of {op.name}")
    if op == NumberOp.LITERAL:
        is_float = element == ElementType.FLOAT32
        require(len(numbers.floats if is_float else numbers.integers) == numbers.count, "literals of another count")
    elif op == NumberOp.SHAPE:
        rank = values.rank_of_any(operands[0])
        require(element == ElementType.INT64 and all(0 <= place < rank for place in numbers.places), f"places of {rank} dimensions")
        require(len(numbers.places) == numbers.count, "places of another count")
    elif op == NumberOp.INPUT:
        values.read_contents(operands[0], len(numbers.shape))
        values.expect_type(operands[0], element)
    else:
        _verify_types(op, element, [values.type_of(v) for v in operands])
        _verify_lengths(numbers, [values.list_of(v) for v in operands])
    values.define(numbers.y, len(numbers.shape))
    values.lists[numbers.y] = numbers


def _verify_types(op: NumberOp, element: ElementType, operands: Sequence[ElementType]) -> None:
    if op == NumberOp.SELECT:
        require(operands[0] == ElementType.BOOL, "a condition that is not a truth")
        operands = operands[1:]
    require(len(set(operands)) == 1, "operands of several types")
    require(op == NumberOp.CAST or op in COMPARISONS or operands[0] == element, "a result of another type than its operands")
    require(op not in COMPARISONS | TRUTHS or element == ElementType.BOOL, "a truth of another type")
    require(op not in FLOATS_ONLY or element == ElementType.FLOAT32, f"{op.name} of integers")


def _verify_lengths(numbers: Numbers, operands: Sequence[Numbers]) -> None:
    op = numbers.op
    if op == NumberOp.JOIN:
        require(numbers.count == sum(operand.count for operand in operands), "a list of another length than its parts")
    elif op == NumberOp.PICK:
        inside = all(0 <= place < operands[0].count for place in numbers.places)
        require(inside and len(numbers.places) == numbers.count, f"places of {operands[0].count} numbers")
    elif op in (NumberOp.SUM, NumberOp.PRODUCT):
        require(numbers.count == 1, "several totals")
    else:
        require(all(operand.count in (1, numbers.count) for operand in operands), "operands of several lengths")


def origins_of(computed: Sequence[Numbers], constants: Mapping[int, object]) -> Origins:
    """Return what each number depends on."""
    found: dict[int, tuple[Origin, ...]] = {}
    for numbers in computed:
        operands = [found[v] for v in numbers.operands if v in found]
        if numbers.op == NumberOp.SHAPE and numbers.operands[0] not in constants:
            made = tuple(Origin.FREE if place else Origin.BATCH for place in numbers.places)
        elif numbers.op == NumberOp.PICK:
            made = tuple(operands[0][place] for place in numbers.places)
        elif numbers.op == NumberOp.JOIN:
            made = operands[0] + operands[1]
        else:
            free = all(origin == Origin.FREE for operand in operands for origin in operand)
            made = (Origin.FREE if free else Origin.MIXED,) * numbers.count
        found[numbers.y] = made
    return found


def all_separable(computed: Sequence[Numbers], outputs: Collection[int]) -> bool:
    """Return whether a batch may be cut: no numbers are read from an input, or leave the program."""
    return not any(numbers.op == NumberOp.INPUT or numbers.y in outputs for numbers in computed)
