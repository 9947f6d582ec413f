"""The one table of step kinds in Python; `runtime/_step_kinds.pyx` is the one in C."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ..enums import StepKind
from ..steps import Step
from .byte_depthwise import BYTE_DEPTHWISE
from .byte_product import BYTE_PRODUCT
from .convert import CONVERT
from .depthwise import DEPTHWISE
from .elementwise import ACTIVATE, BINARY
from .integers import ACCUMULATE, CHOOSE, INTEGERS, RANGE, SCATTER, TAKE
from .layout import CONCAT, PAD, RESHAPE, TRANSPOSE
from .near_channels import NORMALIZE_NEAR
from .normalize import NORMALIZE, NORMALIZE_GROUPS, SCALE_CHANNELS
from .pair_product import PAIR_PRODUCT
from .parts import EXPAND, PART
from .positions import EXTEND, ROTATE
from .product import PRODUCT
from .quantized import CARRY, COMBINE, DYNAMIC_QUANTIZE, LOOK_UP
from .recurrent import RECURRENT
from .reduce import REDUCE, SOFTMAX
from .resample import RESAMPLE
from .resize import RESIZE
from .row import Constants, Origins, Ranks, StepKindRow
from .shuffle import SHUFFLE
from .windows import POOL

ROWS: dict[StepKind, StepKindRow] = {
    row.kind: row
    for row in (
        PRODUCT,
        DEPTHWISE,
        POOL,
        REDUCE,
        ACTIVATE,
        BINARY,
        RESHAPE,
        CONCAT,
        PAD,
        SHUFFLE,
        TRANSPOSE,
        RESIZE,
        RESAMPLE,
        NORMALIZE,
        NORMALIZE_GROUPS,
        NORMALIZE_NEAR,
        SCALE_CHANNELS,
        PART,
        EXPAND,
        SOFTMAX,
        RECURRENT,
        CONVERT,
        LOOK_UP,
        COMBINE,
        DYNAMIC_QUANTIZE,
        CARRY,
        BYTE_PRODUCT,
        PAIR_PRODUCT,
        BYTE_DEPTHWISE,
        INTEGERS,
        RANGE,
        CHOOSE,
        TAKE,
        ROTATE,
        EXTEND,
        ACCUMULATE,
        SCATTER,
    )
}


def is_separable(step: Step, constants: Constants, ranks: Ranks, origins: Origins) -> bool:
    """Return whether a step treats the slices along the first dimension of its operands independently; with numbers it does not."""
    if step.x in origins or step.r in origins:
        return False
    return ROWS[step.kind].separable(step, constants, ranks) and ROWS[step.kind].separable_by(step, origins, ranks)


def made_of_constants(steps: Iterable[Step], constants: Collection[int]) -> set[int]:
    """Return the values that no input of the program changes: constants, and what steps make of them."""
    found = set(constants)
    seen: set[int] = set()
    for step in steps:
        fixed = step.x in found and (step.r == -1 or step.r in found)
        if fixed and step.y not in seen:
            found.add(step.y)
        elif not fixed:
            found.discard(step.y)
        seen.add(step.y)
    return found


def describe(step: Step) -> str:
    """Return in a few words what a step computes: `64->256 3x3/1, 90 % zeros`, `max 3x3/2`, `axis 1`."""
    return ROWS[step.kind].describe(step)
