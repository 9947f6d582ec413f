"""The form of a row in the table of step kinds, and the checks that the rows share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..enums import ElementType, StepKind
from ..limits import MAX_RANK
from ..steps import BYTES, Step

if TYPE_CHECKING:
    from ..verify import Values


class SecondOperand(Enum):
    """Whether steps of a kind read `r`."""

    NONE = auto()
    ADDEND = auto()
    """It may be there and is added to the result, whose shape it has."""
    REQUIRED = auto()
    OPTIONAL = auto()


Constants = Mapping[int, NDArray]
"""The constants of a program by the numbers of their values."""
MOVED = frozenset((ElementType.FLOAT32, ElementType.INT64, ElementType.INT32, *BYTES))
"""The element types of what steps move as it is."""
Ranks = Mapping[int, int]
"""The ranks of the values that have a name."""


class Origin(Enum):
    """The shapes that a number depends on: whether it changes where a batch is cut."""

    FREE = auto()
    """On no first dimension."""
    BATCH = auto()
    """It is the first dimension of a value, and is cut as all batches are."""
    MIXED = auto()


Origins = Mapping[int, tuple[Origin, ...]]
"""Of each list of numbers, by the number of its value."""


def begins_with_batch(origins: Sequence[Origin]) -> bool:
    """Return whether the first number of a shape is that of a batch, and no other one depends on it."""
    return origins[:1] == (Origin.BATCH,) and all(origin == Origin.FREE for origin in origins[1:])


def always_separable(step: Step, constants: Constants, ranks: Ranks) -> bool:
    """Return True: the kind computes each slice along the first dimension from the same slice of its operands."""
    return True


def never_separable(step: Step, constants: Constants, ranks: Ranks) -> bool:
    """Return False: the kind needs its operands whole."""
    return False


def only_floats(step: Step, values: Values) -> None:
    """ValueError unless x, r and y of a step are float32."""
    for value in (step.x, step.r, step.y):
        values.expect_type(value, ElementType.FLOAT32)


def all_floats_or_bytes(step: Step, values: Values) -> None:
    """ValueError unless x, r and y of a step are float32, or all of one type of 8 bits."""
    if values.type_of(step.y) not in BYTES:
        only_floats(step, values)
    for value in (step.x, step.r):
        values.expect_type(value, values.type_of(step.y))


def all_of_one_type(step: Step, values: Values) -> None:
    """ValueError unless x, r and y of a step are of one type of 32, 64 or 8 bits."""
    require(values.type_of(step.y) in MOVED, f"a result that is {values.type_of(step.y).name.lower()}")
    for value in (step.x, step.r):
        values.expect_type(value, values.type_of(step.y))


def _independent_of_numbers(step: Step, origins: Origins, ranks: Ranks) -> bool:
    return True


def _described_by_kind(step: Step) -> str:
    return ""


def _same_for_all_lanes(spec: Any, before: int, lanes: int) -> Any:
    return spec


@dataclass(frozen=True, slots=True)
class StepKindRow:
    """A kind of step.

    `spec` is the type of `Step.spec`. `ranks` are the least and the greatest rank of x.
    `verify(step, rank of x, rank of r, values)` returns the rank of the result, or None while later steps complete the result; it raises
    ValueError when the step may not be run. `separable(step, constants, ranks)` tells whether the step treats the slices along the first
    dimension of its operands independently, and `separable_by(step, origins, ranks)` whether it does by the numbers that the plan
    computes for it. `describe` says in a few words what the step computes, for people: `64->256 3x3/1, 90 % zeros`.
    `check_types(step, values)` raises ValueError unless the values of the step have element types that it can read and write.
    `for_lanes(spec, before, lanes)` returns the spec, packed for vectors of `before` elements, for vectors of `lanes`.
    """

    kind: StepKind
    spec: type
    verify: Callable[[Step, int, int | None, Values], int | None]
    second: SecondOperand = SecondOperand.NONE
    ranks: tuple[int, int] = (0, MAX_RANK)
    separable: Callable[[Step, Constants, Ranks], bool] = always_separable
    separable_by: Callable[[Step, Origins, Ranks], bool] = _independent_of_numbers
    describe: Callable[[Step], str] = _described_by_kind
    for_lanes: Callable[[Any, int, int], Any] = _same_for_all_lanes
    check_types: Callable[[Step, Values], None] = only_floats


def require(holds: bool, message: str) -> None:
    """ValueError with this message unless it holds."""
    if not holds:
        raise ValueError(message)


def expect_rank(rank: int, expected: int) -> int:
    """Return the rank of x; ValueError unless it is the expected one."""
    require(rank == expected, f"x has {rank} dimensions, {expected} are expected")
    return rank


def expect_shape(array: NDArray, expected: tuple[int, ...], what: str) -> None:
    """ValueError unless an array has the expected shape; `what` is plural: "the weights"."""
    require(array.shape == expected, f"{what} have the shape {array.shape}, {expected} is expected")


def same_rank(step: Step, x: int, r: int | None, values: Values) -> int:
    """Verify a step whose result has the rank of x whatever its data are."""
    return x
