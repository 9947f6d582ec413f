"""Resize along one axis. Its C side is `runtime/_resample.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..enums import Coordinates, Interpolation, StepKind
from ..limits import MAX_SCALE, MAX_SIZE
from ..steps import Step
from .row import StepKindRow, require

if TYPE_CHECKING:
    from ..verify import Values


@dataclass(frozen=True, slots=True)
class Resample:
    """A new size of `axis`: `size` where it is not -1, else `scale` times the old one.

    `cubic` is the coefficient of a cubic interpolation; what stands beside the image counts nothing where it `excludes`, else as the pixel
    at the edge.
    """

    axis: int
    interpolation: Interpolation
    coordinates: Coordinates
    scale: float = 1.0
    size: int = -1
    cubic: float = -0.75
    excludes: bool = False


def _verify(step: Step, x: int, r: int | None, values: Values) -> int:
    spec: Resample = step.spec
    require(2 <= spec.axis < x, f"axis {spec.axis} of {x} dimensions")
    require(1 / MAX_SCALE <= spec.scale <= MAX_SCALE, f"a scale of {spec.scale}")
    require(-1 <= spec.size <= MAX_SIZE, f"a size of {spec.size}")
    return x


def _describe(step: Step) -> str:
    spec: Resample = step.spec
    return f"{spec.interpolation.name.lower()}, axis {spec.axis}"


RESAMPLE = StepKindRow(StepKind.RESAMPLE, Resample, _verify, ranks=(3, 5), describe=_describe)
