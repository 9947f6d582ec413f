"""Steps of attention that depend on positions: rotations, and caches of keys and values. Their C side is `runtime/_positions.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..enums import ElementType, StepKind
from ..steps import Step
from .row import SecondOperand, StepKindRow, expect_rank, never_separable, require

if TYPE_CHECKING:
    from ..verify import Values


@dataclass(frozen=True, slots=True)
class Rotate:
    """x (batch, position, head, channel) with pairs of channels turned by angles with the cosines r and the sines `sine`.

    These are (batch or 1, position, pair), or without a batch. The channels of a pair stand next to each other if `interleaved`, else half
    of all turned ones apart; channels after these stay. `in_front`: the heads of x stand before its positions.
    """

    sine: int
    in_front: bool = False
    interleaved: bool = False


@dataclass(frozen=True, slots=True)
class Extend:
    """The first positions of x (batch, head, position, channel), after them r, which has all heads of a position together, then zeros.

    `lengths` are how many positions of x count: int64, one for each of the batch. The result has as many positions as the number `size` of
    the plan says. Without `has_past` nothing of x counts, which then is r.
    """

    lengths: int
    size: int
    has_past: bool = True


def _verify_rotate(step: Step, x: int, r: int | None, values: Values) -> int:
    require(r in (2, 3) and values.rank(step.spec.sine) == r, f"cosines of {r} dimensions, or sines of others")
    return expect_rank(x, 4)


def _check_rotate(step: Step, values: Values) -> None:
    for value in (step.x, step.r, step.y, step.spec.sine):
        values.expect_type(value, ElementType.FLOAT32)


def _verify_extend(step: Step, x: int, r: int | None, values: Values) -> int:
    require(r == 4 and values.rank(step.spec.lengths) == 1, f"new positions of {r} dimensions, or lengths that are not a list")
    require(values.list_of(step.spec.size).count == 1, "a size that is not one number of the plan")
    return expect_rank(x, 4)


def _check_extend(step: Step, values: Values) -> None:
    for value in (step.x, step.r, step.y):
        values.expect_type(value, ElementType.FLOAT32)
    for value in (step.spec.lengths, step.spec.size):
        values.expect_type(value, ElementType.INT64)


ROTATE = StepKindRow(
    StepKind.ROTATE, Rotate, _verify_rotate, second=SecondOperand.REQUIRED, separable=never_separable, check_types=_check_rotate
)
EXTEND = StepKindRow(
    StepKind.EXTEND, Extend, _verify_extend, second=SecondOperand.REQUIRED, separable=never_separable, check_types=_check_extend
)
