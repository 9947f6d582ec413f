"""Resize of images. Its C side is `runtime/_resize.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..enums import Coordinates, ElementType, Interpolation, StepKind
from ..limits import MAX_SCALE, MAX_SIZE
from ..steps import BYTES, Step
from .row import Origin, Origins, Ranks, StepKindRow, all_floats_or_bytes, require

if TYPE_CHECKING:
    from ..verify import Values


@dataclass(frozen=True, slots=True)
class Resize:
    """New height and width: `size` where it is not -1, else `scale` times the old one.

    `computed_scales` or `computed_sizes` is a value with numbers that take their place, -1 for none. `places` are those of height and width
    among them.
    """

    interpolation: Interpolation
    coordinates: Coordinates
    scale: tuple[float, float] = (1.0, 1.0)
    size: tuple[int, int] = (-1, -1)
    computed_scales: int = -1
    computed_sizes: int = -1
    places: tuple[int, int] = (0, 0)


def _verify(step: Step, x: int, r: int | None, values: Values) -> int:
    resize: Resize = step.spec
    require(all(1 / MAX_SCALE <= scale <= MAX_SCALE for scale in resize.scale), f"scales {resize.scale}")
    require(all(-1 <= size <= MAX_SIZE for size in resize.size), f"sizes {resize.size}")
    require(resize.computed_scales == -1 or resize.computed_sizes == -1, "scales and sizes")
    for value, element in ((resize.computed_scales, ElementType.FLOAT32), (resize.computed_sizes, ElementType.INT64)):
        if value != -1:
            numbers = values.list_of(value)
            require(
                values.type_of(value) == element and all(0 <= place < numbers.count for place in resize.places),
                "scales or sizes that do not fit",
            )
    return x


def _separable_by(step: Step, origins: Origins, ranks: Ranks) -> bool:
    resize: Resize = step.spec
    lists = [origins[value] for value in (resize.computed_scales, resize.computed_sizes) if value != -1]
    return all(numbers[place] == Origin.FREE for numbers in lists for place in resize.places)


def _check_types(step: Step, values: Values) -> None:
    all_floats_or_bytes(step, values)
    if values.type_of(step.y) in BYTES:
        resize: Resize = step.spec
        require(resize.interpolation != Interpolation.LINEAR, "bytes are resized by other than the nearest pixels")


def _describe(step: Step) -> str:
    resize: Resize = step.spec
    return resize.interpolation.name.lower()


RESIZE = StepKindRow(
    StepKind.RESIZE, Resize, _verify, ranks=(4, 4), separable_by=_separable_by, describe=_describe, check_types=_check_types
)
