"""Conversions between element types. Their C side is `runtime/_convert.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..enums import ElementType, StepKind
from ..steps import Step
from .row import StepKindRow, require, same_rank

if TYPE_CHECKING:
    from ..verify import Values

NARROW = (ElementType.FLOAT16, ElementType.BFLOAT16)
"""The types of 16 bits, whose values are computed in float32."""


@dataclass(frozen=True, slots=True)
class Convert:
    """`narrow` is the type of x, which becomes float32, or that of y, or x and y are float32 and y has x rounded to it."""

    narrow: ElementType


def _check_types(step: Step, values: Values) -> None:
    convert: Convert = step.spec
    x, y = values.type_of(step.x), values.type_of(step.y)
    float32 = ElementType.FLOAT32
    allowed = ((convert.narrow, float32), (float32, convert.narrow), (float32, float32))
    require(convert.narrow in NARROW and (x, y) in allowed, f"{x.name.lower()} to {y.name.lower()} through {convert.narrow.name.lower()}")


def _describe(step: Step) -> str:
    return step.spec.narrow.name.lower()


CONVERT = StepKindRow(StepKind.CONVERT, Convert, same_rank, describe=_describe, check_types=_check_types)
