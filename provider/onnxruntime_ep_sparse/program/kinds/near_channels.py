"""LRN. Its C side is `runtime/_near_channels.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..enums import StepKind
from ..steps import Step
from .row import StepKindRow, require

if TYPE_CHECKING:
    from ..verify import Values

MOST_NEAR = (1 << 16) - 1
"""At most so many channels near each other."""


@dataclass(frozen=True, slots=True)
class NormalizeNear:
    """Divide by (bias + alpha / size * s)^beta, where s is the sum of squares of the `size` channels around each, at the same pixel."""

    size: int
    alpha: float
    beta: float
    bias: float


def _verify(step: Step, x: int, r: int | None, values: Values) -> int:
    spec: NormalizeNear = step.spec
    require(0 < spec.size <= MOST_NEAR and spec.size % 2 == 1, f"{spec.size} channels near each other")
    return x


def _describe(step: Step) -> str:
    spec: NormalizeNear = step.spec
    return f"{spec.size} channels"


NORMALIZE_NEAR = StepKindRow(StepKind.NORMALIZE_NEAR, NormalizeNear, _verify, ranks=(4, 4), describe=_describe)
