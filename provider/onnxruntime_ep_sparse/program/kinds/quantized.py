"""Steps of 8-bit integers, which are bytes, or floats less their zero points. Their C side is `runtime/_quantized.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..enums import ElementType, StepKind
from ..steps import BYTES, Step
from .elementwise import separable_operands
from .row import SecondOperand, StepKindRow, expect_shape, never_separable, only_floats, require, same_rank

if TYPE_CHECKING:
    from ..verify import Values

ENTRIES = 256
"""Numbers that 8 bits can hold."""
FAR = float(1 << 30)
"""A number that int32 holds, whatever it is rounded to."""


@dataclass(frozen=True, slots=True)
class LookUp:
    """The function that has `table` (256,) for the integers from `first` on."""

    table: NDArray[np.float32]
    first: float


@dataclass(frozen=True, slots=True)
class Combine:
    """The sum or, if it `multiplies`, the product of two quantised operands, quantised.

    x, r and y are all bytes, or all floats less their zero points. With X and R for the integers of the file, a sum is
    fma(X, x_scale, fma(R, r_scale, shift)), each fma with one rounding; a product is (X - x_zero) * (R - r_zero) * x_scale + y_zero.
    It is rounded half to even, and clamped so that it is in [low, high] less y_zero. A sum must stay below FAR.
    """

    multiplies: bool
    x_zero: float
    x_scale: float
    r_zero: float
    r_scale: float
    shift: float
    y_zero: float
    low: float
    high: float

    @property
    def most(self) -> float:
        """Return a bound of the sums of bytes, before they are clamped."""
        return (ENTRIES - 1) * (abs(self.x_scale) + abs(self.r_scale)) + abs(self.shift)


@dataclass(frozen=True, slots=True)
class DynamicQuantize:
    """x as uint8 less its zero point; the scale and the zero point, which follow from the extent of x, are the values of these numbers."""

    scale: int
    zero: int


@dataclass(frozen=True, slots=True)
class Carry:
    """Integers as floats less the number `zero`, or floats that are such as integers; the element types of x and y say which."""

    zero: float


INTEGERS = frozenset((ElementType.UINT8, ElementType.INT8, ElementType.INT32, ElementType.BOOL))


def _check_combined(step: Step, values: Values) -> None:
    found = {values.type_of(value) for value in (step.x, step.r, step.y)}
    require(found <= BYTES or found == {ElementType.FLOAT32}, "operands and a result that are not all bytes or all floats")


def _check_carried(step: Step, values: Values) -> None:
    found = {values.type_of(step.x), values.type_of(step.y)}
    require(ElementType.FLOAT32 in found and len(found & INTEGERS) == 1, "integers and floats are expected on either side")


def _check_dynamic(step: Step, values: Values) -> None:
    only_floats(step, values)
    for value in (step.spec.scale, step.spec.zero):
        values.expect_type(value, ElementType.FLOAT32)


def _verify_look_up(step: Step, x: int, r: int | None, values: Values) -> int:
    look_up: LookUp = step.spec
    expect_shape(look_up.table, (ENTRIES,), "the numbers of a table")
    return x


def _verify_combine(step: Step, x: int, r: int | None, values: Values) -> int:
    combine: Combine = step.spec
    require(combine.multiplies or combine.most < FAR, f"sums up to {combine.most}")
    return max(x, r or 0)


def _verify_dynamic(step: Step, x: int, r: int | None, values: Values) -> int:
    quantize: DynamicQuantize = step.spec
    require(quantize.scale >= 0 and quantize.zero >= 0, "a scale or a zero point without a number")
    values.define(quantize.scale, 0)
    values.define(quantize.zero, 0)
    return x


def _describe_combine(step: Step) -> str:
    combine: Combine = step.spec
    return "mul" if combine.multiplies else "add"


LOOK_UP = StepKindRow(StepKind.LOOK_UP, LookUp, _verify_look_up)
COMBINE = StepKindRow(
    StepKind.COMBINE,
    Combine,
    _verify_combine,
    second=SecondOperand.REQUIRED,
    separable=separable_operands,
    describe=_describe_combine,
    check_types=_check_combined,
)
DYNAMIC_QUANTIZE = StepKindRow(
    StepKind.DYNAMIC_QUANTIZE, DynamicQuantize, _verify_dynamic, separable=never_separable, check_types=_check_dynamic
)
CARRY = StepKindRow(StepKind.CARRY, Carry, same_rank, check_types=_check_carried)
