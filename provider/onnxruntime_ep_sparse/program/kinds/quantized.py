"""Steps of 8-bit integers, which are bytes, or floats less their zero points. Their C side is `runtime/_quantized.pyx`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..enums import ElementType, StepKind
from ..steps import BYTES, Step
from .elementwise import separable_operands
from .row import Constants, Ranks, SecondOperand, StepKindRow, expect_shape, never_separable, only_floats, require

if TYPE_CHECKING:
    from ..verify import Values

ENTRIES = 256
"""Numbers that 8 bits can hold."""
FAR = float(1 << 30)
"""A number that int32 holds, whatever it is rounded to."""
EXACT = 1 << 53
"""Integers up to this are exact in float64."""


@dataclass(frozen=True, slots=True)
class LookUp:
    """The function that has `table` (256,) for the integers from `first` on.

    x and y are floats less their zero points, or both bytes: then `first` is the least of x's type.
    """

    table: NDArray[np.float32]
    first: float


@dataclass(frozen=True, slots=True)
class Combine:
    """The sum or, if it `multiplies`, the product of two quantised operands, quantised.

    x, r and y are all bytes, or all floats less their zero points. With X and R for the integers of the file, a sum is
    fma(X, x_scale, fma(R, r_scale, shift)), each fma with one rounding; a product is (X - x_zero) * (R - r_zero) * x_scale + y_zero.
    It is rounded half to even, and clamped so that it is in [low, high] less y_zero.
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
    def fits(self) -> bool:
        """Return whether int32 holds all sums of bytes, and float64 does before they are rounded: kernels rely upon both."""
        numbers = (self.x_scale, self.r_scale, self.shift)
        if not all(map(math.isfinite, numbers)):
            return False
        most = (ENTRIES - 1) * (abs(self.x_scale) + abs(self.r_scale)) + abs(self.shift)
        return most < FAR and math.ceil(most) * max(number.as_integer_ratio()[1] for number in numbers) < EXACT


@dataclass(frozen=True, slots=True)
class DynamicQuantize:
    """x as uint8; the scale and the zero point, which follow from the extent of x, are the values of these numbers.

    y is uint8, or float32: the integers less the zero point.
    """

    scale: int
    zero: int


@dataclass(frozen=True, slots=True)
class Carry:
    """Integers as floats, or the reverse; the element types of x and y say which.

    A float is (integer - zero) * scale; an integer is float / scale, rounded half to even, plus zero, clamped to the type.
    `zero__c` and `scale__c`, where they are there, have the numbers along `axis`. int32 has no other scale than 1, and one zero point.
    """

    zero: float = 0.0
    scale: float = 1.0
    zero__c: NDArray[np.float32] | None = None
    scale__c: NDArray[np.float32] | None = None
    axis: int = 0


INTEGERS = frozenset((ElementType.UINT8, ElementType.INT8, ElementType.INT32, ElementType.BOOL))


def _check_combined(step: Step, values: Values) -> None:
    found = {values.type_of(value) for value in (step.x, step.r, step.y)}
    require(found <= BYTES or found == {ElementType.FLOAT32}, "operands and a result that are not all bytes or all floats")


def _check_carried(step: Step, values: Values) -> None:
    found = {values.type_of(step.x), values.type_of(step.y)}
    require(ElementType.FLOAT32 in found and len(found & INTEGERS) == 1, "integers and floats are expected on either side")
    carry: Carry = step.spec
    if ElementType.INT32 in found:
        require(carry.scale == 1 and carry.zero__c is None and carry.scale__c is None, "int32 with a scale")


def _verify_carry(step: Step, x: int, r: int | None, values: Values) -> int:
    carry: Carry = step.spec
    zeros = np.array([carry.zero], np.float32) if carry.zero__c is None else carry.zero__c
    scales = np.array([carry.scale], np.float32) if carry.scale__c is None else carry.scale__c
    count = max(zeros.size, scales.size)
    for numbers, what in ((zeros, "zero points"), (scales, "scales")):
        require(numbers.ndim == 1 and numbers.size in (1, count), f"{what} of the shape {numbers.shape} along {count} elements")
    require(count == 1 or 0 <= carry.axis < x, f"axis {carry.axis} of {x} dimensions")
    require(bool((np.abs(zeros) < ENTRIES).all()), f"zero points up to {np.abs(zeros).max()}")
    require(bool((np.isfinite(scales) & (scales > 0)).all()), "scales that are not positive")
    return x


def _separable_carry(step: Step, constants: Constants, ranks: Ranks) -> bool:
    carry: Carry = step.spec
    return carry.axis != 0 or (carry.zero__c is None and carry.scale__c is None)


def _check_looked_up(step: Step, values: Values) -> None:
    look_up: LookUp = step.spec
    x, y = values.type_of(step.x), values.type_of(step.y)
    if {x, y}.isdisjoint(BYTES):
        only_floats(step, values)
        return
    require({x, y} <= BYTES, "a table of bytes and floats")
    require(look_up.first == np.iinfo(x.bits).min, f"a table from {look_up.first} on")
    table, integers = look_up.table, np.arange(np.iinfo(y.bits).min, np.iinfo(y.bits).max + 1)
    require(bool(np.isfinite(table).all() and np.isin(table, integers).all()), "a table with numbers that are not bytes")


def _check_dynamic(step: Step, values: Values) -> None:
    require(values.type_of(step.y) in (ElementType.UINT8, ElementType.FLOAT32), "the result is uint8 or float32")
    for value in (step.x, step.spec.scale, step.spec.zero):
        values.expect_type(value, ElementType.FLOAT32)


def _verify_look_up(step: Step, x: int, r: int | None, values: Values) -> int:
    look_up: LookUp = step.spec
    expect_shape(look_up.table, (ENTRIES,), "the numbers of a table")
    return x


def _verify_combine(step: Step, x: int, r: int | None, values: Values) -> int:
    combine: Combine = step.spec
    require(combine.multiplies or combine.fits, "sums that are too large, or of scales that are too far apart")
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


LOOK_UP = StepKindRow(StepKind.LOOK_UP, LookUp, _verify_look_up, check_types=_check_looked_up)
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
CARRY = StepKindRow(StepKind.CARRY, Carry, _verify_carry, separable=_separable_carry, check_types=_check_carried)
