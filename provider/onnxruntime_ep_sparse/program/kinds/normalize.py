"""Normalization of rows, and of groups of channels. Its C side is `runtime/_normalize.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..enums import StepKind
from ..limits import MAX_RANK, MAX_SIZE
from ..steps import Step
from .row import Constants, Ranks, SecondOperand, StepKindRow, require

if TYPE_CHECKING:
    from ..verify import Values


@dataclass(frozen=True, slots=True)
class Normalize:
    """LayerNormalization over the last dimension, RMSNormalization where the rows are not `centred`.

    The step's `r` is a constant of shape (2, n): factors, then addends.
    """

    epsilon: float
    centred: bool = True


@dataclass(frozen=True, slots=True)
class NormalizeGroups:
    """GroupNormalization of images (N, C, ...) in so many groups of channels, InstanceNormalization where `groups` is 0.

    The step's `r` is a constant of shape (2, C): factors, then addends.
    """

    epsilon: float
    groups: int = 0


def _verify(step: Step, x: int, r: int | None, values: Values) -> int:
    weights = values.constants.get(step.r)
    require(weights is not None and weights.ndim == 2 and len(weights) == 2, "factors and addends are not constant rows")
    return x


def _separable(step: Step, constants: Constants, ranks: Ranks) -> bool:
    return ranks.get(step.x, 0) >= 2


def _verify_groups(step: Step, x: int, r: int | None, values: Values) -> int:
    spec: NormalizeGroups = step.spec
    require(0 <= spec.groups <= MAX_SIZE, f"{spec.groups} groups")
    return _verify(step, x, r, values)


def _describe(step: Step) -> str:
    spec: Normalize = step.spec
    return "" if spec.centred else "root mean square"


def _describe_groups(step: Step) -> str:
    spec: NormalizeGroups = step.spec
    return f"{spec.groups} groups" if spec.groups else "each channel"


NORMALIZE = StepKindRow(
    StepKind.NORMALIZE,
    Normalize,
    _verify,
    second=SecondOperand.REQUIRED,
    ranks=(1, MAX_RANK),
    separable=_separable,
    describe=_describe,
)
NORMALIZE_GROUPS = StepKindRow(
    StepKind.NORMALIZE_GROUPS,
    NormalizeGroups,
    _verify_groups,
    second=SecondOperand.REQUIRED,
    ranks=(2, MAX_RANK),
    separable=_separable,
    describe=_describe_groups,
)
SCALE_CHANNELS = StepKindRow(
    StepKind.SCALE_CHANNELS,
    type(None),
    _verify,
    second=SecondOperand.REQUIRED,
    ranks=(2, MAX_RANK),
    separable=_separable,
)
"""The step's `r` is a constant of shape (2, C): factors, then addends."""
