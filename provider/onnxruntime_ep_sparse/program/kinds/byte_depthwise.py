"""Convolutions of bytes whose outputs each read one channel. Their C side is `runtime/_byte_depthwise.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..enums import ElementType, StepKind
from ..limits import MAX_SIZE
from ..steps import Step, Window
from ..windows import describe_window, proper_window
from .byte_product import FOUR, check_quantisation
from .row import StepKindRow, expect_rank, expect_shape, require

if TYPE_CHECKING:
    from ..verify import Values


@dataclass(frozen=True, slots=True)
class ByteDepthwise:
    """Weights of a Conv whose outputs each read one channel, output m channel m * channels // M. M is a multiple of `channels`.

    How the types of x and y decide what the results are, and what the other fields say of these: see `ByteProduct`.
    A row of taps is cut into groups of four. An entry has weights of a group: four of 8 bits, one for each tap of a window of x. Entries of
    output m are those from start__m[m] to start__m[m + 1]. `group__n` numbers the groups of an entry's window, row after row, twice: with
    an odd number, the window begins one tap before the group. `value__n` has the bits of the four weights in the place of those of a float.
    """

    m: int
    channels: int
    window: Window
    start__m: NDArray[np.int32]
    group__n: NDArray[np.int32]
    value__n: NDArray[np.float32]
    signed: bool
    zero_x: int
    bias__m: NDArray[np.float32]
    scale__m: NDArray[np.float32]
    zero_y: int = 0
    low: int = -128
    high: int = 255
    divisor: float = 1.0


def groups_of(window: Window) -> int:
    """Return how many groups a row of taps has."""
    return -(-window.kernel[-1] // FOUR)


def runs_on_windows(window: Window) -> bool:
    """Return whether the kernels can run a window: groups of four taps begin where windows of x do."""
    return len(window.kernel) <= 2 and (groups_of(window) == 1 or FOUR * window.dilation[-1] % window.stride[-1] == 0)


def _verify(step: Step, x: int, r: int | None, values: Values) -> int:
    data: ByteDepthwise = step.spec
    window = proper_window(data.window)
    counts = 0 < data.channels <= MAX_SIZE and 0 < data.m <= MAX_SIZE and data.m % data.channels == 0
    require(counts, f"{data.channels} channels, {data.m} outputs")
    require(runs_on_windows(window), "a window that kernels for bytes do not run")
    n = len(data.value__n)
    expect_shape(data.start__m, (data.m + 1,), "the beginnings of outputs")
    expect_shape(data.value__n, (n,), "the entries")
    expect_shape(data.group__n, (n,), "the groups")
    start, group = data.start__m, data.group__n
    require(start[0] == 0 and start[-1] == n and bool((start[1:] >= start[:-1]).all()), "outputs without entries of their own")
    rows = window.kernel[0] if len(window.kernel) == 2 else 1
    require(n == 0 or (group.min() >= 0 and group.max() < 2 * rows * groups_of(window)), "a group outside of the window")
    require(window.stride[-1] == 1 or not bool((group % 2).any()), "a window before its group, with a stride")
    check_quantisation(data, data.m)
    return expect_rank(x, len(window.kernel) + 2)


def _check_types(step: Step, values: Values) -> None:
    values.expect_type(step.x, ElementType.INT8 if step.spec.signed else ElementType.UINT8)
    types = (ElementType.UINT8, ElementType.INT8, ElementType.INT32, ElementType.FLOAT32)
    require(values.type_of(step.y) in types, "a convolution of bytes with results of another type")


def _describe(step: Step) -> str:
    data: ByteDepthwise = step.spec
    return f"{data.channels}->{data.m} {describe_window(data.window)}, bytes"


BYTE_DEPTHWISE = StepKindRow(StepKind.BYTE_DEPTHWISE, ByteDepthwise, _verify, describe=_describe, check_types=_check_types)
