"""Steps of 8-bit integers, which floats less their zero points stand for. Their C side is `runtime/_quantized.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..enums import ElementType, StepKind
from ..steps import Step
from .elementwise import separable_operands
from .row import SecondOperand, StepKindRow, expect_shape, never_separable, only_floats, require, same_rank

if TYPE_CHECKING:
    from ..verify import Values

ENTRIES = 256
"""Numbers that 8 bits can hold."""


@dataclass(frozen=True, slots=True)
class LookUp:
    """The function that has `table` (256,) for the integers from `first` on."""

    table: NDArray[np.float32]
    first: float


@dataclass(frozen=True, slots=True)
class Combine:
    """The sum or, if it `multiplies`, the product of two quantised operands less their zero points, quantised, less its zero point.

    A sum is fma(x + x_zero, x_scale, fma(r + r_zero, r_scale, shift)) - y_zero, each fma with one rounding; a product is
    (x * r * x_scale + y_zero) - y_zero. It is rounded half to even before y_zero is taken from it, then clamped to [low, high].
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
)
DYNAMIC_QUANTIZE = StepKindRow(
    StepKind.DYNAMIC_QUANTIZE, DynamicQuantize, _verify_dynamic, separable=never_separable, check_types=_check_dynamic
)
CARRY = StepKindRow(StepKind.CARRY, Carry, same_rank, check_types=_check_carried)
