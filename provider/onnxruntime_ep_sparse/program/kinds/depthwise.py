"""Convolutions whose outputs each read one channel. Their C side is `runtime/_depthwise.pyx`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..enums import StepKind
from ..limits import MAX_SIZE
from ..steps import Step, Window
from ..windows import describe_window, proper_window
from .row import SecondOperand, StepKindRow, expect_rank, expect_shape, require

if TYPE_CHECKING:
    from ..verify import Values


@dataclass(frozen=True, slots=True)
class Depthwise:
    """Weights of a Conv whose outputs each read one channel, output m channel m * channels // M: every tap, zeros too.

    Sums are multiplied by `scale__m` (M,), if it is there, before anything is added to them.
    """

    m: int
    channels: int
    value__mt: NDArray[np.float32]
    bias__m: NDArray[np.float32]
    window: Window
    scale__m: NDArray[np.float32] | None = None


def _verify(step: Step, x: int, r: int | None, values: Values) -> int:
    weights: Depthwise = step.spec
    window = proper_window(weights.window)
    require(0 < weights.channels <= MAX_SIZE and 0 < weights.m <= MAX_SIZE, f"{weights.channels} channels, {weights.m} outputs")
    expect_shape(weights.value__mt, (weights.m, math.prod(window.kernel)), "the weights")
    expect_shape(weights.bias__m, (weights.m,), "the bias")
    if weights.scale__m is not None:
        expect_shape(weights.scale__m, (weights.m,), "the factors of the sums")
    return expect_rank(x, len(window.kernel) + 2)


def _describe(step: Step) -> str:
    weights: Depthwise = step.spec
    return f"{weights.channels}->{weights.m} {describe_window(weights.window)}"


DEPTHWISE = StepKindRow(StepKind.DEPTHWISE, Depthwise, _verify, second=SecondOperand.ADDEND, describe=_describe)
