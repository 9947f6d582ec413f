"""LayerNormalization over the last dimension. Its C side is `runtime/_normalize.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..enums import StepKind
from ..limits import MAX_RANK
from ..steps import Step
from .row import Constants, Ranks, SecondOperand, StepKindRow, require

if TYPE_CHECKING:
    from ..verify import Values


@dataclass(frozen=True, slots=True)
class Normalize:
    """LayerNormalization over the last dimension; the step's `r` is a constant of shape (2, n): factors, then addends."""

    epsilon: float


def _verify(step: Step, x: int, r: int | None, values: Values) -> int:
    weights = values.constants.get(step.r)
    require(weights is not None and weights.ndim == 2 and len(weights) == 2, "factors and addends are not constant rows")
    return x


def _separable(step: Step, constants: Constants, ranks: Ranks) -> bool:
    return ranks.get(step.x, 0) >= 2


NORMALIZE = StepKindRow(StepKind.NORMALIZE, Normalize, _verify, second=SecondOperand.REQUIRED, ranks=(1, MAX_RANK), separable=_separable)
