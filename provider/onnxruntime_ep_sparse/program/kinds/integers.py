"""Steps of int64 and int32, and steps that choose or take elements of any type. Their C side is `runtime/_integers.pyx` and `_take.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..enums import ElementType, NumberOp, StepKind
from ..steps import Step
from .elementwise import separable_operands
from .row import (
    MOVED,
    Constants,
    Ranks,
    SecondOperand,
    StepKindRow,
    never_separable,
    require,
)

if TYPE_CHECKING:
    from ..verify import Values

WHOLE = frozenset((ElementType.INT64, ElementType.INT32))
"""The element types of integers that keep their type between steps."""
COMPARISONS = frozenset((NumberOp.EQUAL, NumberOp.LESS, NumberOp.LESS_EQUAL))
UNARY = frozenset((NumberOp.CAST, NumberOp.NEG, NumberOp.ABS))
BINARY = COMPARISONS | {NumberOp.ADD, NumberOp.SUB, NumberOp.MUL, NumberOp.DIV, NumberOp.MOD, NumberOp.MIN, NumberOp.MAX}


@dataclass(frozen=True, slots=True)
class Integers:
    """`op` of one operand or two, which broadcast as in ONNX. Comparisons, and a CAST to a `truth`, give 0 or 1 as floats."""

    op: NumberOp
    truth: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """The integers from x on to before the number `limit`, each by the number `delta` above the one before. All are of the plan."""

    limit: int
    delta: int


@dataclass(frozen=True, slots=True)
class Accumulate:
    """Sums of x along `axis` up to each element, or to before it if `exclusive`; from the end on if `reverse`."""

    axis: int
    exclusive: bool = False
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Choose:
    """r where x is not 0, else the value `other`; the three broadcast."""

    other: int


@dataclass(frozen=True, slots=True)
class Take:
    """Parts of x along `axis` by the indices r, as in Gather; with a `depth` by as many of r's last dimension as that, as in GatherND."""

    axis: int = 0
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Scatter:
    """x with the parts that `depth` numbers of the indices r name taken from the value `updates`, as in ScatterND."""

    depth: int
    updates: int


def _verify_integers(step: Step, x: int, r: int | None, values: Values) -> int:
    op = step.spec.op
    require((r is None and op in UNARY) or (r is not None and op in BINARY), f"{op.name} of another number of operands")
    return max(x, r or 0)


def _check_integers(step: Step, values: Values) -> None:
    op, x, y = step.spec.op, values.type_of(step.x), values.type_of(step.y)
    is_truth = op in COMPARISONS or step.spec.truth
    require(not step.spec.truth or op == NumberOp.CAST, f"{op.name} as a truth")
    require(y == ElementType.FLOAT32 if is_truth else y in WHOLE | {ElementType.FLOAT32}, "a truth of another type")
    if op == NumberOp.CAST:
        require(x in WHOLE or (x == ElementType.FLOAT32 and y in WHOLE), f"{x.name.lower()} to {y.name.lower()}")
        return
    require(x in WHOLE and (is_truth or x == y), f"{op.name} of {x.name.lower()} to {y.name.lower()}")
    values.expect_type(step.r, x)


def _separable_integers(step: Step, constants: Constants, ranks: Ranks) -> bool:
    return step.r == -1 or separable_operands(step, constants, ranks)


def _describe_integers(step: Step) -> str:
    return step.spec.op.name.lower()


def _verify_range(step: Step, x: int, r: int | None, values: Values) -> int:
    for value in (step.x, step.spec.limit, step.spec.delta):
        require(values.list_of(value).count == 1, f"value {value} is not one number of the plan")
    return 1


def _check_range(step: Step, values: Values) -> None:
    require(values.type_of(step.y) in WHOLE, "a range that is not of integers")
    for value in (step.x, step.spec.limit, step.spec.delta):
        values.expect_type(value, values.type_of(step.y))


def _verify_accumulate(step: Step, x: int, r: int | None, values: Values) -> int:
    require(0 <= step.spec.axis < x, f"axis {step.spec.axis} of {x} dimensions")
    return x


def _check_accumulate(step: Step, values: Values) -> None:
    require(values.type_of(step.y) in WHOLE | {ElementType.FLOAT32}, f"sums of {values.type_of(step.y).name.lower()}")
    values.expect_type(step.x, values.type_of(step.y))


def _separable_accumulate(step: Step, constants: Constants, ranks: Ranks) -> bool:
    return bool(step.spec.axis != 0)


def _verify_choose(step: Step, x: int, r: int | None, values: Values) -> int:
    return max(x, r or 0, values.rank(step.spec.other))


def _check_choose(step: Step, values: Values) -> None:
    element = values.type_of(step.y)
    require(element in WHOLE | {ElementType.FLOAT32}, f"a choice of {element.name.lower()}")
    values.expect_type(step.x, ElementType.FLOAT32)
    for value in (step.r, step.spec.other):
        values.expect_type(value, element)


def _verify_take(step: Step, x: int, r: int | None, values: Values) -> int:
    take, indices = step.spec, r or 0
    if take.depth:
        require(take.axis == 0 and take.depth <= x and indices > 0, f"indices of {take.depth} of {x} dimensions")
        return x - take.depth + indices - 1
    require(0 <= take.axis < x, f"axis {take.axis} of {x} dimensions")
    return x - 1 + indices


def _check_take(step: Step, values: Values) -> None:
    require(values.type_of(step.r) in WHOLE, "indices that are not integers")
    require(values.type_of(step.y) in MOVED, f"a result that is {values.type_of(step.y).name.lower()}")
    values.expect_type(step.x, values.type_of(step.y))


def _separable_take(step: Step, constants: Constants, ranks: Ranks) -> bool:
    """Return whether the result is cut with its indices: rows of a constant."""
    return step.x in constants and step.r not in constants and step.spec.axis == 0 and ranks.get(step.r, 0) > step.spec.depth > -1


def _describe_take(step: Step) -> str:
    return f"axis {step.spec.axis}"


def _verify_scatter(step: Step, x: int, r: int | None, values: Values) -> int:
    depth, indices, updates = step.spec.depth, r or 0, values.rank(step.spec.updates)
    require(0 < depth <= x and indices > 0, f"indices of {depth} of {x} dimensions")
    require(updates == indices - 1 + x - depth, f"updates of {updates} dimensions")
    return x


def _check_scatter(step: Step, values: Values) -> None:
    _check_take(step, values)
    values.expect_type(step.spec.updates, values.type_of(step.y))


INTEGERS = StepKindRow(
    StepKind.INTEGERS,
    Integers,
    _verify_integers,
    second=SecondOperand.OPTIONAL,
    separable=_separable_integers,
    describe=_describe_integers,
    check_types=_check_integers,
)
RANGE = StepKindRow(StepKind.RANGE, Range, _verify_range, separable=never_separable, check_types=_check_range)
ACCUMULATE = StepKindRow(
    StepKind.ACCUMULATE, Accumulate, _verify_accumulate, separable=_separable_accumulate, check_types=_check_accumulate
)
CHOOSE = StepKindRow(
    StepKind.CHOOSE, Choose, _verify_choose, second=SecondOperand.REQUIRED, separable=never_separable, check_types=_check_choose
)
TAKE = StepKindRow(
    StepKind.TAKE,
    Take,
    _verify_take,
    second=SecondOperand.REQUIRED,
    separable=_separable_take,
    describe=_describe_take,
    check_types=_check_take,
)
SCATTER = StepKindRow(
    StepKind.SCATTER,
    Scatter,
    _verify_scatter,
    second=SecondOperand.REQUIRED,
    separable=never_separable,
    check_types=_check_scatter,
)
