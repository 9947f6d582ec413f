"""Resize of images. Its C side is `runtime/_resize.pyx`."""

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
class Resize:
    """New height and width: `size` where it is not -1, else `scale` times the old one."""

    interpolation: Interpolation
    coordinates: Coordinates
    scale: tuple[float, float] = (1.0, 1.0)
    size: tuple[int, int] = (-1, -1)


def _verify(step: Step, x: int, r: int | None, values: Values) -> int:
    resize: Resize = step.spec
    require(all(1 / MAX_SCALE <= scale <= MAX_SCALE for scale in resize.scale), f"scales {resize.scale}")
    require(all(-1 <= size <= MAX_SIZE for size in resize.size), f"sizes {resize.size}")
    return x


def _describe(step: Step) -> str:
    resize: Resize = step.spec
    return resize.interpolation.name.lower()


RESIZE = StepKindRow(StepKind.RESIZE, Resize, _verify, ranks=(4, 4), describe=_describe)
