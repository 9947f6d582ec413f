"""Steps that move elements or only change shapes. Their C side is `runtime/_copies.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..enums import ElementType, PadMode, StepKind
from ..limits import MAX_RANK, MAX_SIZE
from ..steps import BYTES, Step
from .row import Constants, Origin, Origins, Ranks, StepKindRow, all_floats_or_bytes, all_of_one_type, begins_with_batch, require

if TYPE_CHECKING:
    from ..verify import Values


@dataclass(frozen=True, slots=True)
class Reshape:
    """A new shape: one of four forms.

    `target` with ONNX's 0 and -1; two dimensions that meet at `flatten_axis`; without the `removed` axes, which are 1; or with `inserted`
    axes. `computed` is a value with numbers that take the place of `target`, -1 for none.
    """

    target: tuple[int, ...] = ()
    allow_zero: bool = False
    flatten_axis: int = -1
    removed: tuple[int, ...] = ()
    inserted: tuple[int, ...] = ()
    computed: int = -1


@dataclass(frozen=True, slots=True)
class Concat:
    """One operand of a Concat, which follows those of the steps before it; the first of them `begins` the result."""

    axis: int
    begins: bool = False


@dataclass(frozen=True, slots=True)
class Pad:
    """So many elements `before` and `after` x in every dimension: the number `fill`, or elements of x as another `mode` says.

    Of bytes `fill` is an integer of their type. Numbers of the value `computed`, -1 for none, may say it instead, for the dimensions from
    `axis` on. These may be negative, for elements that are taken away.
    """

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    fill: float = 0.0
    mode: PadMode = PadMode.CONSTANT
    computed: int = -1
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Transpose:
    """The dimensions of x in the order `target`."""

    target: tuple[int, ...]


def _verify_reshape(step: Step, x: int, r: int | None, values: Values) -> int:
    shape: Reshape = step.spec
    if shape.removed or shape.inserted:
        axes, rank = shape.removed or shape.inserted, x + len(shape.inserted)
        require(not (shape.removed and shape.inserted) and len(set(axes)) == len(axes), "axes that are there twice")
        require(all(0 <= axis < min(rank, MAX_RANK) for axis in axes), f"axes {axes} of {rank} dimensions")
        return rank - len(shape.removed)
    if shape.flatten_axis != -1:
        require(0 <= shape.flatten_axis <= x, f"axis {shape.flatten_axis} of {x} dimensions")
        return 2
    if shape.computed != -1:
        require(not shape.target, "a given shape and a computed one")
        return values.shape_of(shape.computed)
    require(all(-1 <= d <= MAX_SIZE for d in shape.target) and shape.target.count(-1) <= 1, f"the shape {shape.target[:9]}")
    return len(shape.target)


def _verify_concat(step: Step, x: int, r: int | None, values: Values) -> int | None:
    """Check that the first operand begins the result, and that no step reads the result before the last operand is there."""
    concat: Concat = step.spec
    require(0 <= concat.axis < x, f"axis {concat.axis} of {x} dimensions")
    if concat.begins:
        values.begin(step.y, (x, concat.axis))
    require(values.incomplete.get(step.y) == (x, concat.axis), "operands of a Concat that do not fit")
    return x if values.completes(step) else None


def _verify_pad(step: Step, x: int, r: int | None, values: Values) -> int:
    pad: Pad = step.spec
    if pad.computed != -1:
        require(values.list_of(pad.computed).count == 2 * (x - pad.axis) and 0 <= pad.axis < x, f"pads of {x} dimensions")
        values.expect_type(pad.computed, ElementType.INT64)
        require(not pad.before + pad.after and pad.mode == PadMode.CONSTANT, "given pads and computed ones")
        return x
    require(len(pad.before) == len(pad.after) == x > 0 and pad.axis == 0, f"pads of {x} dimensions")
    require(all(0 <= n <= MAX_SIZE for n in pad.before + pad.after), "pads that are negative or too large")
    return x


def _check_pad(step: Step, values: Values) -> None:
    all_floats_or_bytes(step, values)
    if values.type_of(step.y) in BYTES:
        pad: Pad = step.spec
        info = np.iinfo(values.type_of(step.y).bits)
        require(info.min <= pad.fill <= info.max and pad.fill == int(pad.fill), f"bytes are padded by {pad.fill}")


def _verify_transpose(step: Step, x: int, r: int | None, values: Values) -> int:
    transpose: Transpose = step.spec
    require(sorted(transpose.target) == list(range(x)), f"{transpose.target[:9]} is not an order of {x} dimensions")
    return x


def _separable_reshape(step: Step, constants: Constants, ranks: Ranks) -> bool:
    shape: Reshape = step.spec
    if shape.removed or shape.inserted:
        return 0 not in shape.removed + shape.inserted
    first = shape.target[:1]
    if shape.computed != -1:
        return True
    return shape.flatten_axis >= 1 or first == (-1,) or (first == (0,) and not shape.allow_zero)


def _reshape_separable_by(step: Step, origins: Origins, ranks: Ranks) -> bool:
    """Return whether the target begins with the batch, and nothing else depends on it."""
    shape: Reshape = step.spec
    return shape.computed == -1 or begins_with_batch(origins[shape.computed])


def _separable_concat(step: Step, constants: Constants, ranks: Ranks) -> bool:
    concat: Concat = step.spec
    return concat.axis >= 1 and step.x not in constants


def _separable_pad(step: Step, constants: Constants, ranks: Ranks) -> bool:
    pad: Pad = step.spec
    return pad.axis > 0 if pad.computed != -1 else pad.before[0] == pad.after[0] == 0


def _pad_separable_by(step: Step, origins: Origins, ranks: Ranks) -> bool:
    pad: Pad = step.spec
    return pad.computed == -1 or all(origin == Origin.FREE for origin in origins[pad.computed])


def _separable_transpose(step: Step, constants: Constants, ranks: Ranks) -> bool:
    transpose: Transpose = step.spec
    return transpose.target[:1] == (0,)


def _describe_concat(step: Step) -> str:
    concat: Concat = step.spec
    return f"axis {concat.axis}"


def _describe_transpose(step: Step) -> str:
    transpose: Transpose = step.spec
    return " ".join(map(str, transpose.target))


RESHAPE = StepKindRow(
    StepKind.RESHAPE,
    Reshape,
    _verify_reshape,
    separable=_separable_reshape,
    separable_by=_reshape_separable_by,
    check_types=all_of_one_type,
)
CONCAT = StepKindRow(
    StepKind.CONCAT, Concat, _verify_concat, separable=_separable_concat, describe=_describe_concat, check_types=all_of_one_type
)
PAD = StepKindRow(StepKind.PAD, Pad, _verify_pad, separable=_separable_pad, separable_by=_pad_separable_by, check_types=_check_pad)
TRANSPOSE = StepKindRow(
    StepKind.TRANSPOSE,
    Transpose,
    _verify_transpose,
    separable=_separable_transpose,
    describe=_describe_transpose,
    check_types=all_of_one_type,
)
