"""Products by packed weights: Conv, Gemm, MatMul. Their C side is `runtime/_product.pyx`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from itertools import product as cartesian
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.isa import APART, SHARED, STRIP

from ..enums import ShapeRule, StepKind
from ..limits import MAX_RANK, MAX_SIZE, MAX_WINDOW
from ..steps import Step, Window
from ..windows import describe_window, proper_window
from .row import Constants, Ranks, SecondOperand, StepKindRow, expect_rank, expect_shape, require

if TYPE_CHECKING:
    from ..verify import Values


@dataclass(frozen=True, slots=True)
class Panel:
    """`rows` rows from `row_begin`, packed by the kernels' `pack`; columns take 16 bits where they all fit."""

    mr: int
    row_begin: int
    rows: int
    row_start__bg: NDArray[np.int32]
    row__bgr: NDArray[np.int32]
    k__nc: NDArray[np.uint16 | np.uint32]
    value__nr: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class GatherGroup:
    """Input channels that are gathered together, in blocks of units that begin at `bounds`, for the rows of `panel`.

    `nonzeros` of `weights` are to be multiplied with; neither counts the zeros that packing adds.
    """

    channel_begin: int
    channels: int
    bounds: tuple[int, ...]
    panel: Panel
    nonzeros: int
    weights: int


@dataclass(frozen=True, slots=True)
class Product:
    """A packed weight: Conv, which has a window, Gemm or MatMul. See `runtime/_packed.pxd` for the fields.

    Sums are multiplied by `scale__m` (M,), if it is there, before anything is added to them.
    """

    rule: ShapeRule
    x_rows: bool
    y_rows: bool
    m: int
    channels: int
    segments: tuple[tuple[int, int, int, int, int], ...]
    unit_segment: tuple[int, ...]
    taps: tuple[tuple[int, int, int], ...]
    bias__m: NDArray[np.float32]
    max_vectors: int
    groups: tuple[GatherGroup, ...]
    batch: tuple[int, ...] = ()
    vector_operand: bool = False
    window: Window | None = None
    scale__m: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class PendingProduct:
    """A product while steps are still fused: the properties that fusing asks for, and `pack`, which makes the product of its final bias.

    `scale__m` is that of the product.

    `size` counts the elements of the weight.
    """

    rule: ShapeRule
    y_rows: bool
    m: int
    bias__m: NDArray[np.float32]
    size: int
    pack: Callable[[NDArray[np.float32]], Product]
    batch: tuple[int, ...] = ()
    vector_operand: bool = False
    scale__m: NDArray[np.float32] | None = None

    def packed(self) -> Product:
        """Return the product with its bias and scale."""
        return replace(self.pack(self.bias__m), scale__m=self.scale__m)


def check_product(product: Product, columns: int | None = None, channels: int | None = None) -> None:
    """ValueError that names what is wrong with a packed weight.

    Where weights are not float32, their entries have so many `columns`, and a matrix so many `channels`.
    """
    require(0 < product.m <= MAX_SIZE and 0 < product.channels <= MAX_SIZE, f"{product.m} outputs of {product.channels} channels")
    require(0 < product.max_vectors <= MAX_WINDOW, f"tiles of {product.max_vectors} vectors")
    expect_shape(product.bias__m, (product.m,), "the bias")
    if product.scale__m is not None:
        expect_shape(product.scale__m, (product.m,), "the factors of the sums")
    rows = {ShapeRule.MATMUL_RIGHT: (True, True), ShapeRule.GEMM: (product.x_rows, product.y_rows)}.get(product.rule, (False, False))
    require((product.x_rows, product.y_rows) == rows, "operands in another order than their shapes say")
    require(bool(product.groups), "no weights")
    if product.rule == ShapeRule.CONV:
        require(not product.batch and not product.vector_operand, "a convolution with operands of MatMul")
        _check_taps(product)
        begin = 0
        for group in product.groups:
            require(group.panel.row_begin == begin, "rows that do not follow each other")
            begin += group.panel.rows
        require(begin == product.m, f"{begin} rows, {product.m} are expected")
    else:
        require(product.window is None, "a matrix with a window")
        pointwise = (product.segments, product.unit_segment, product.taps) == (((0, 0, 0, 0, 0),), (0, 1), ((0, 0, 0),))
        require(pointwise, "a matrix with taps")
        require(all(0 < d <= MAX_SIZE for d in product.batch) and len(product.batch) <= MAX_RANK - 2, f"matrices by {product.batch[:9]}")
        require(product.rule != ShapeRule.GEMM or not (product.batch or product.vector_operand), "Gemm with operands of MatMul")
        require(not product.vector_operand or (product.m == 1 and not product.batch), "a vector of several rows")
        require(len(product.groups) == math.prod(product.batch), f"{len(product.groups)} matrices, {product.batch} are expected")
        for i, group in enumerate(product.groups):
            whole = (group.panel.row_begin, group.panel.rows, group.channel_begin, group.channels)
            require(whole == (i * product.m, product.m, 0, channels or product.channels), f"matrix {i} is a part of one")
    for group in product.groups:
        _check_group(group, product, columns)


def _check_taps(product: Product) -> None:
    """Segments, units and taps are those of the window, in one of the forms that `packing.tap_layout` makes."""
    window = proper_window(product.window)
    kernel, stride, dilation = ((1,) * (3 - len(window.kernel)) + v for v in (window.kernel, window.stride, window.dilation))
    count, units, segments = math.prod(kernel), len(product.unit_segment) - 1, product.segments
    require(len(product.taps) == count, f"{len(product.taps)} taps of a window of {count}")
    require(0 < units <= count and count % units == 0, f"{count} taps in {units} units")
    require(product.unit_segment[0] == 0 and product.unit_segment[-1] == len(segments) <= count, "units that do not hold all segments")
    require(all(a < b for a, b in pairwise(product.unit_segment)), "units without segments")
    reach = [(0, 0)] * len(segments)
    for i, (place, (segment, dy, dx)) in enumerate(zip(cartesian(*map(range, kernel)), product.taps, strict=True)):
        unit = i // (count // units)
        require(product.unit_segment[unit] <= segment < product.unit_segment[unit + 1], f"tap {i} is in another unit's segment")
        kd, y, x, _, _ = segments[segment]
        found = (kd, y + dy * stride[1], x + dx * stride[2])
        expected = (place[0], place[1] * dilation[1], place[2] * dilation[2])
        require(found == expected and dy >= 0 and dx >= 0 and y >= 0 and x >= 0, f"tap {i} reads {found}, not {expected}")
        reach[segment] = max(reach[segment][0], dy), max(reach[segment][1], dx)
    require(all(tuple(segment[3:]) == far for segment, far in zip(segments, reach, strict=True)), "segments that end elsewhere than taps")


def _check_group(group: GatherGroup, product: Product, columns: int | None) -> None:
    units = len(product.unit_segment) - 1
    require(0 < group.channels <= product.channels, f"{group.channels} of {product.channels} channels")
    require(0 <= group.channel_begin <= product.channels - group.channels, f"channels from {group.channel_begin} on")
    require(len(group.bounds) > 1 and group.bounds[0] == 0 and group.bounds[-1] == group.channels * units, "blocks that are not all of K")
    require(all(a < b for a, b in pairwise(group.bounds)), "blocks that do not ascend")
    require(group.nonzeros >= 0 and group.weights >= 0, "a negative number of weights")
    per_unit = len(product.taps) // units
    _check_panel(group.panel, [bound * per_unit for bound in group.bounds], columns)


def _check_panel(panel: Panel, bounds: list[int], columns: int | None) -> None:
    """Rows and columns of packed weights: entries block by block within `bounds`, all rows in every block.

    Each row stands in its strip; rows that share columns may also stand anywhere, but at the same place in every block.
    """
    rows, mr, blocks = panel.rows, panel.mr, len(bounds) - 1
    require(mr in ((APART, SHARED) if columns is None else (APART,)) and 0 < rows <= MAX_SIZE, f"{rows} rows by {mr}")
    groups, entries = -(-rows // mr), panel.value__nr.size // mr
    expect_shape(panel.value__nr, (entries, mr), "the values")
    expect_shape(panel.k__nc, (entries, columns or (mr if mr == APART else 1)), "the columns")
    expect_shape(panel.row_start__bg, (blocks, groups + 1), "the beginnings of rows")
    expect_shape(panel.row__bgr, (blocks, groups, mr), "the rows")
    start = panel.row_start__bg
    require(start[0, 0] == 0 and start[-1, -1] == entries and bool((start[1:, 0] == start[:-1, -1]).all()), "entries that belong to no row")
    require(bool((start[:, 1:] >= start[:, :-1]).all()), "rows that do not follow each other")
    require(entries * mr <= MAX_SIZE, f"{entries} entries")
    order = panel.row__bgr.reshape(blocks, -1)
    own, place = order[:, :rows], np.arange(rows)
    require(bool((np.sort(own, axis=1) == place).all()), "rows that are missing")
    require(bool((order[:, rows:] == order[:, rows - 1 : rows]).all()), "groups that end with other rows than the last")
    same = mr == SHARED and bool((own == own[0]).all())
    require(same or not leaves_strips(panel), "rows that are not in their strip")
    for b in range(blocks):
        k = panel.k__nc[start[b, 0] : start[b, -1]]
        require(not k.size or bounds[b] <= int(k.min()) <= int(k.max()) < bounds[b + 1], f"columns outside block {b}")


def leaves_strips(panel: Panel) -> bool:
    """Return whether rows of a panel stand elsewhere than in their strip."""
    own = panel.row__bgr.reshape(len(panel.row__bgr), -1)[:, : panel.rows]
    return bool((own // STRIP != np.arange(panel.rows) // STRIP).any())


def zeros_in(groups: Sequence[GatherGroup]) -> float:
    """Return the share of zeros in packed weights."""
    return 1 - sum(group.nonzeros for group in groups) / sum(group.weights for group in groups)


def narrowed(product: Product, before: int, lanes: int) -> Product:
    """Return the product for vectors of `lanes` instead of `before` elements.

    Tiles then have at most as many pixels as those that it was packed for, on which the cuts of K depend.
    """
    return replace(product, max_vectors=max(1, product.max_vectors * before // lanes))


def _verify(step: Step, x: int, r: int | None, values: Values) -> int:
    check_product(step.spec)
    return rank_of_result(step.spec, step.y, x, values)


def rank_of_result(product: Product, y: int, x: int, values: Values) -> int:
    """Return the rank of value y, which a product makes of an x of this rank; ValueError where the product does not fit it."""
    if product.window is not None:
        return expect_rank(x, len(product.window.kernel) + 2)
    if product.rule == ShapeRule.GEMM:
        return expect_rank(x, 2)
    require(x >= 1, "a matrix times a scalar")
    if product.rule == ShapeRule.MATMUL_RIGHT and not product.vector_operand:
        values.last_sizes[y] = product.m
    return max(x - 2, len(product.batch), 0) + (x > 1) + (not product.vector_operand)


def _separable(step: Step, constants: Constants, ranks: Ranks) -> bool:
    product: Product = step.spec
    if product.rule == ShapeRule.CONV:
        return True
    if product.rule == ShapeRule.GEMM:
        return product.x_rows and product.y_rows
    rank, least = ranks.get(step.x, 0), 2 if product.rule == ShapeRule.MATMUL_RIGHT else 3
    return rank >= least and (not product.batch or len(product.batch) < rank - 2)


def _describe(step: Step) -> str:
    product: Product = step.spec
    matrices = f"{'x'.join(map(str, product.batch))} times " if product.batch and max(product.batch) > 1 else ""
    window = "" if product.window is None else f" {describe_window(product.window)}"
    return f"{matrices}{product.channels}->{product.m}{window}, {100 * zeros_in(product.groups):.0f} % zeros"


PRODUCT = StepKindRow(
    StepKind.PRODUCT,
    Product,
    _verify,
    second=SecondOperand.ADDEND,
    separable=_separable,
    describe=_describe,
    for_lanes=narrowed,
)
