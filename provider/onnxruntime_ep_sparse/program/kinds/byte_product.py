"""Products of bytes by packed weights of 8 bits: quantised Conv, Gemm, MatMul. Their C side is `runtime/_byte_product.pyx`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..enums import ElementType, ShapeRule, StepKind
from ..steps import Activation, Step
from .product import PRODUCT, Product, check_product, narrowed, rank_of_result
from .row import Constants, Ranks, StepKindRow, expect_shape, require

if TYPE_CHECKING:
    from ..verify import Values
    from .byte_depthwise import ByteDepthwise

FOUR = 4
"""Weights that one value of an entry holds, and channels of a block."""
MOST_ZIPPED = 1024
"""Columns of K that may be zipped: a unit of 32 pixels takes 32 KB."""


@dataclass(frozen=True, slots=True)
class ByteProduct:
    """y = quantise(W (x - zero_x)), with sums in int32: what the step does follows from the element types of x and y.

    x is uint8 or int8. y is int32: the sums. Float32: float(sum) * scale. uint8 or int8: that divided by `divisor`, rounded half to even,
    plus `zero_y`, clamped to [low, high]. Rounding is monotonic, so that is what it would be if the bounds were applied before it.

    `product` has the geometry and the packed weights; its values are four weights of 8 bits each, whose bits take the place of those of
    float32. Its bias is not used. `blocks`: an entry has four channels at the same tap, and the channels of `product.groups` are blocks of
    four. `zipped`: it has four columns of K that follow each other. A tile is interleaved once for all rows. Else it has four weights
    anywhere. `bias__m` has the bits of int32 in the place of those of float32, with -zero_x * sum(w) in it.
    There x is unsigned: a signed x counts as x + 128, and its zero point as well.

    Two values may be known at run time only; -1 stands for none. `zero` numbers the value that has the zero point of x, one float. Then
    `bias__m` has no zero point in it, and `sums__m` has the sum of the weights of each row, likewise as bits of int32. `factor` numbers the
    value by which the scales are multiplied first: one float, or one for each row.

    Results of float32 may end with more: `addend__m` (M,) is added to them, then the step's activation follows.
    """

    product: Product
    blocks: bool
    signed: bool
    zero_x: int
    bias__m: NDArray[np.float32]
    scale__m: NDArray[np.float32]
    zero_y: int = 0
    low: int = -128
    high: int = 255
    divisor: float = 1.0
    zero: int = -1
    factor: int = -1
    sums__m: NDArray[np.float32] | None = None
    addend__m: NDArray[np.float32] | None = None
    zipped: bool = False


@dataclass(frozen=True, slots=True)
class PendingBytes:
    """A product of bytes, with `m` outputs, before its weight of `size` elements is packed: `weights` does that.

    `rule` and `y_rows` say where outputs stand in y, `factor` and `addend__m` how y ends: see `ByteProduct`.
    """

    size: int
    weights: Callable[[], ByteProduct]
    rule: ShapeRule
    y_rows: bool
    m: int
    factor: int = -1
    addend__m: NDArray[np.float32] | None = None

    def packed(self) -> ByteProduct:
        """Return the packed product."""
        return replace(self.weights(), factor=self.factor, addend__m=self.addend__m)


def check_quantisation(data: ByteProduct | ByteDepthwise, m: int) -> None:
    """ValueError that names what is wrong with how `m` outputs quantise: bias, scales, zero points, bounds, divisor."""
    expect_shape(data.bias__m, (m,), "the bias of bytes")
    expect_shape(data.scale__m, (m,), "the scales")
    require(-128 <= data.low <= data.high <= 255, f"bounds {data.low} and {data.high}")
    require(-128 * data.signed <= data.zero_x <= 255 - 128 * data.signed, f"the zero point {data.zero_x} of x")
    require(0 < data.divisor < math.inf, f"the divisor {data.divisor}")
    require(-128 <= data.zero_y <= 255, f"the zero point {data.zero_y} of y")


def check_byte_product(step: Step) -> None:
    """ValueError that names what is wrong with a packed weight of 8 bits."""
    data: ByteProduct = step.spec
    product = data.product
    channels = -(-product.channels // FOUR) if data.blocks else product.channels
    check_product(product, 2 if data.blocks or data.zipped else 2 * FOUR, channels)
    check_quantisation(data, product.m)
    require((data.zero != -1) == (data.sums__m is not None), "a zero point at run time without the sums of weights, or the reverse")
    if data.sums__m is not None:
        expect_shape(data.sums__m, (product.m,), "the sums of weights")
    if data.addend__m is not None:
        expect_shape(data.addend__m, (product.m,), "the addends of floats")
    if data.zipped:
        depth, whole = product.channels * len(product.taps), [(group.channels, len(group.bounds)) for group in product.groups]
        require(not data.blocks and product.rule == ShapeRule.CONV and whole == [(channels, 2)], "columns of a part of K that are zipped")
        require(depth <= MOST_ZIPPED, f"{depth} columns that are zipped")
        require(not (k := product.groups[0].panel.k__nc).size or FOUR * int(k.max()) < depth, "zipped columns beyond K")
    if data.blocks:
        require(all((group.channel_begin, group.channels) == (0, channels) for group in product.groups), "blocks of other channels")
        require(not product.x_rows or product.channels % FOUR == 0, "blocks that rows of x do not hold whole")


def at_run_time(data: ByteProduct) -> tuple[int, ...]:
    """Return the numbers of the values besides x and y that the step reads."""
    return tuple(value for value in (data.zero, data.factor) if value != -1)


def _verify(step: Step, x: int, r: int | None, values: Values) -> int:
    check_byte_product(step)
    for value in at_run_time(step.spec):
        require(values.rank(value) <= 1, f"value {value} has more than one dimension")
    return rank_of_result(step.spec.product, step.y, x, values)


def _check_types(step: Step, values: Values) -> None:
    data: ByteProduct = step.spec
    values.expect_type(step.x, ElementType.INT8 if data.signed else ElementType.UINT8)
    types = (ElementType.UINT8, ElementType.INT8, ElementType.INT32, ElementType.FLOAT32)
    require(values.type_of(step.y) in types, "a product of bytes with results of another type")
    ends = data.addend__m is not None or step.activation != Activation()
    require(not ends or values.type_of(step.y) == ElementType.FLOAT32, "a product of bytes that ends as floats do")
    for value in at_run_time(data):
        values.expect_type(value, ElementType.FLOAT32)


def _separable(step: Step, constants: Constants, ranks: Ranks) -> bool:
    return not at_run_time(step.spec) and PRODUCT.separable(replace(step, spec=step.spec.product), constants, ranks)


def _describe(step: Step) -> str:
    form = "blocks of four channels" if step.spec.blocks else "zipped bytes" if step.spec.zipped else "bytes"
    return f"{PRODUCT.describe(replace(step, spec=step.spec.product))}, {form}"


def _for_lanes(data: ByteProduct, before: int, lanes: int) -> ByteProduct:
    return replace(data, product=narrowed(data.product, before, lanes))


BYTE_PRODUCT = StepKindRow(
    StepKind.BYTE_PRODUCT,
    ByteProduct,
    _verify,
    separable=_separable,
    describe=_describe,
    for_lanes=_for_lanes,
    check_types=_check_types,
)
