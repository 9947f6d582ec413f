"""Steps that take a part of a value, or repeat it: Slice, Split, Gather, Expand. Their C side is `runtime/_parts.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..enums import StepKind
from ..limits import MAX_SIZE
from ..steps import Step
from .row import Constants, Origin, Origins, Ranks, StepKindRow, all_of_one_type, begins_with_batch, require

if TYPE_CHECKING:
    from ..verify import Values

BEYOND = 1 << 41
"""A place after the last element of any dimension; its negative is before the first."""


@dataclass(frozen=True, slots=True)
class Part:
    """Every `steps`-th element from `begins` to before `ends` along the `axes`, as in ONNX's Slice.

    With `inside`, a place that x does not have is an error; else it is cut to x. `computed_begins` and `computed_ends` are values
    with numbers that take the place of `begins` and `ends`, -1 for none.
    """

    axes: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    steps: tuple[int, ...]
    inside: bool = False
    computed_begins: int = -1
    computed_ends: int = -1


@dataclass(frozen=True, slots=True)
class Expand:
    """x repeated along dimensions of 1, so that it broadcasts with `target`, or with the numbers of the value `computed`, -1 for none."""

    target: tuple[int, ...] = ()
    computed: int = -1


def _verify_part(step: Step, x: int, r: int | None, values: Values) -> int:
    part: Part = step.spec
    require(len(part.axes) == len(part.begins) == len(part.ends) == len(part.steps), "a part of several numbers of axes")
    require(len(set(part.axes)) == len(part.axes) and all(0 <= axis < x for axis in part.axes), f"axes {part.axes[:9]} of {x} dimensions")
    require(all(-BEYOND <= place <= BEYOND for place in part.begins + part.ends), "places beyond any dimension")
    require(all(0 < abs(n) <= MAX_SIZE for n in part.steps), f"steps of {part.steps[:9]}")
    for value in (part.computed_begins, part.computed_ends):
        require(value == -1 or values.shape_of(value) == len(part.axes), "places of another number of axes")
    return x


def _separable_part(step: Step, constants: Constants, ranks: Ranks) -> bool:
    part: Part = step.spec
    return 0 not in part.axes


def _part_separable_by(step: Step, origins: Origins, ranks: Ranks) -> bool:
    part: Part = step.spec
    lists = [origins[value] for value in (part.computed_begins, part.computed_ends) if value != -1]
    return all(origin == Origin.FREE for numbers in lists for origin in numbers)


def _describe_part(step: Step) -> str:
    part: Part = step.spec
    return f"axis {' '.join(map(str, part.axes))}"


def _verify_expand(step: Step, x: int, r: int | None, values: Values) -> int:
    expand: Expand = step.spec
    if expand.computed != -1:
        require(not expand.target, "a given shape and a computed one")
        return max(x, values.shape_of(expand.computed))
    require(all(0 <= d <= MAX_SIZE for d in expand.target), f"the shape {expand.target[:9]}")
    return max(x, len(expand.target))


def _separable_expand(step: Step, constants: Constants, ranks: Ranks) -> bool:
    expand: Expand = step.spec
    if expand.computed != -1:
        return step.x not in constants or constants[step.x].shape[:1] in ((), (1,))
    rank = ranks.get(step.x, 0)
    return rank > len(expand.target) or (rank == len(expand.target) and expand.target[:1] == (1,))


def _expand_separable_by(step: Step, origins: Origins, ranks: Ranks) -> bool:
    """Return whether the target begins with the batch, and nothing else depends on it."""
    expand: Expand = step.spec
    if expand.computed == -1:
        return True
    return ranks.get(step.x, 0) <= len(origins[expand.computed]) and begins_with_batch(origins[expand.computed])


PART = StepKindRow(
    StepKind.PART,
    Part,
    _verify_part,
    separable=_separable_part,
    separable_by=_part_separable_by,
    describe=_describe_part,
    check_types=all_of_one_type,
)
EXPAND = StepKindRow(
    StepKind.EXPAND,
    Expand,
    _verify_expand,
    separable=_separable_expand,
    separable_by=_expand_separable_by,
    check_types=all_of_one_type,
)
