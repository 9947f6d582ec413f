"""From a dense constant weight to a `Product`: which pixels a tile holds, where K is cut, which rows share a column.

The numbers are measurements on AVX2 (docs/benchmarks.md, "Kernels"): a tile kernel runs fastest while its block of the tile stays in L1,
and a block should give every row several nonzeros (`Isa.entries`), because each block reloads the row's partial sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product as cartesian

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.isa import APART, SHARED, Isa
from onnxruntime_ep_sparse_kernels.pack import Csr, alike_rows, common_columns, compress, pack

from ..graph.nonzeros import Nonzeros
from .enums import ShapeRule
from .kinds.depthwise import Depthwise
from .kinds.product import GatherGroup, Panel, Product
from .limits import MOST_TILE_ROWS, ROWS_FLOATS
from .steps import Window

L1_FLOATS = 6 * 1024
"""A whole tile that leaves room in a 32 KB L1 for weights and results."""
BLOCK_FLOATS = 8 * 1024
"""A block of a deep tile: all of L1, because every block reloads all partial sums (ResNet-50's layers 19.4 ms; 12 K 20.1, 16 K 22.2)."""
TALL_BLOCK_FLOATS = 14 * 1024
"""A block of a tile some rows high, which kernels pass over a few vectors at a time (64 -> 64 3x3 @56 at 90 %: AVX2 378 us with 8 K, 364
so, 375 with 18 K; AVX-512 285, 276 and 273)."""
MAX_BLOCK_FLOATS = 40 * 1024
"""A block may grow for the sake of longer rows, but stays in L2 and below the 65,535 floats that an entry's offset can reach."""
SHARED_BLOCK_FLOATS, SHARED_ENTRIES = 32 * 1024, 32
"""The same of rows that share columns. Their kernels pass over a tile a few vectors at a time, so that what they read stays in L1 although
the block does not, and rows end less often (ResNet-50 in 4x1 blocks at 90 %, 13.4 ms with the numbers above, 12.5 ms with these)."""
SHARED_PIXELS = 96
"""Pixels of their tiles, with at least one pass: in wider ones a row of the tile has more lines than a pass uses, and blocks of K are
shorter (the same net on AVX-512, 9.3 ms with 384 pixels, 8.3 ms with 96)."""
NARROW, NARROW_ENTRIES = 4, 32
"""Vectors of the tiles of matrices whose rows would have fewer nonzeros than that in such a block of a full tile: their blocks have more of
K, so that rows end less often (768 -> 768 at 90 % over 128 rows, one thread: AVX2 202 us, 193 so; AVX-512 168 and 135; at 50 % no gain;
BERT-base at 80 %, AVX2: 61.0 ms, 58.4 so)."""
WIDE = 4
"""Where few outputs share a pixel (grouped or narrow convolutions) tiles are this much wider: fewer pixels are gathered twice. Rows that
share columns have tiles of at most so many passes."""
FEW_ROWS, FEW_COLUMNS = 64, 64
"""Outputs and width of images up to which that pays for windows of several rows, of which a tile then is some high (64 -> 64 3x3 @56:
0.62 ms, 0.57 so)."""
NOMINAL_WIDTH = 28
"""Width of images to judge by where it is not known."""
COPIED = 6
"""Multiply-adds that take as long as copying a pixel into a tile."""
PADDED = 0.15
"""Share of padding in the rows of a tile up to which taps share them (320 -> 256 3x3 @65 at 80 %, dilation 12: 15.7 ms, 11.9 with a copy
a tap)."""
NARROW_DEPTH = 1 << 16
"""K up to which 16 bits hold a column."""
SHARED_ROW_COST = 0.6
"""Time per multiply-add of the kernels whose rows share columns, relative to those whose rows do not: 84 against 50 GFLOP/s on AVX2."""


TapLayout = tuple[tuple[tuple[int, int, int, int, int], ...], tuple[int, ...], tuple[tuple[int, int, int], ...]]
"""Segments, units and taps of a convolution window."""


def tap_layout(window: Window, width: int | None, floats: int, entries: float) -> TapLayout:
    """Return segments, units and taps of a convolution window (see `runtime/_packed.pxd`), for tiles of `floats` pixels per tap.

    Three forms, by what a tile holds per input channel, and the smaller of the first two wins: whole rows as they follow each other in the
    image (small images of known `width`), the row under each row of taps (large or unknown ones), or one copy a tap. Copies are for far
    dilation: rows of the other forms hold padding then, for which products are computed as well, one for each of the `entries`, the
    nonzeros of an input channel.
    """
    rank = len(window.kernel)
    kernel, stride, dilation = ((1,) * (3 - rank) + v for v in (window.kernel, window.stride, window.dilation))
    taps = [(kd, ky * dilation[1], kx * dilation[2]) for kd, ky, kx in cartesian(*map(range, kernel))]
    forms = []
    if width is not None:
        forms.append(_segments(taps, stride, lambda kd, y, x: (kd, y % stride[1], x % stride[2]), lambda kd, y, x: 0))
    forms.append(_segments(taps, stride, lambda kd, y, x: (kd, y, x % stride[2]), lambda kd, y, x: (kd, y)))
    pitch = pitch_bound(window, width)

    def size(form) -> int:
        return sum(floats + reach_y * pitch + reach_x for _, _, _, reach_y, reach_x in form[0])

    best = min(forms, key=size)
    segments = best[0]
    row = max((width or NOMINAL_WIDTH) // stride[2], 1)
    padding = max(reach_x - (window.pad_begin[-1] - first_x) // stride[2] for _, _, first_x, _, reach_x in segments)
    together = (1 + padding / row) * (len(segments) * COPIED + entries)
    if size(best) > MAX_BLOCK_FLOATS // 2 or (padding > row * PADDED and len(taps) * COPIED + entries < together):
        best = _segments(taps, stride, lambda *tap: tap, lambda *tap: tap)
    return best


def row_layout(window: Window, width: int | None, channels: int, entries: float) -> TapLayout | None:
    """Return `tap_layout` for tiles of some whole rows of the output, or None where two rows are too large, or their width is unknown."""
    pitch = pitch_bound(window, width)
    for rows in range(MOST_TILE_ROWS if pitch else 1, 1, -1):
        layout = tap_layout(window, width, rows * pitch, entries)
        if channels * sum((rows + reach_y) * pitch + reach_x for _, _, _, reach_y, reach_x in layout[0]) <= ROWS_FLOATS:
            return layout
    return None


def pitch_bound(window: Window, width: int | None) -> int:
    """Return at least as many positions as a row of output pixels and its neighbours take in a tile; 0 where no form depends on it."""
    if width is None:
        return 0
    padded = width + window.pad_begin[-1] + window.pad_end[-1] + (window.kernel[-1] - 1) * window.dilation[-1]
    return padded // window.stride[-1] + 2


def _segments(taps, stride, segment_of, unit_of):
    """Taps that share `segment_of` read one segment; segments of equal `unit_of` cannot be separated by a block."""
    members: dict = {}
    for index, tap in enumerate(taps):
        members.setdefault((unit_of(*tap), segment_of(*tap)), []).append(index)
    segments, unit_segment, units = [], [], []
    tap_at: dict[int, tuple[int, int, int]] = {}
    for (unit, _), indices in members.items():
        if not units or units[-1] != unit:
            units.append(unit)
            unit_segment.append(len(segments))
        kd = taps[indices[0]][0]
        first_y = min(taps[i][1] for i in indices)
        first_x = min(taps[i][2] for i in indices)
        dy = [(taps[i][1] - first_y) // stride[1] for i in indices]
        dx = [(taps[i][2] - first_x) // stride[2] for i in indices]
        for i, y, x in zip(indices, dy, dx, strict=True):
            tap_at[i] = (len(segments), y, x)
        segments.append((kd, first_y, first_x, max(dy), max(dx)))
    unit_segment.append(len(segments))
    return tuple(segments), tuple(unit_segment), tuple(tap_at[i] for i in range(len(taps)))


def _bounds(units: int, unit_floats: float, density: float, taps_per_unit: int, mr: int, apart: tuple[int, int]) -> tuple[int, ...]:
    """Cut `units` into equal blocks: as many as keep one near its cache while rows keep several nonzeros; see the numbers above.

    `apart`: floats of a block, and nonzeros of a row in it, where rows do not share columns.
    """
    floats, entries = apart if mr == APART else (SHARED_BLOCK_FLOATS, SHARED_ENTRIES)
    wanted = max(floats, entries / max(density * taps_per_unit, 1e-9) * unit_floats)
    per_block = max(1, int(min(wanted, MAX_BLOCK_FLOATS) / unit_floats))
    blocks = -(-units // per_block)
    return tuple(units * b // blocks for b in range(blocks + 1))


@dataclass(frozen=True)
class Rows:
    """Rows that go together: MR, and their order if rows that share columns are not neighbours, int32 (M,)."""

    mr: int
    order__m: NDArray[np.int32] | None = None


def choose_rows(matrix: Csr, *, any_order: bool = True) -> Rows:
    """Return SHARED where enough nonzeros stand under each other (dense and block-pruned weights), else APART; from at most 64 groups.

    Rows are reordered only if `any_order`, and if that is what makes them share columns.
    """

    def pays(order__m: NDArray[np.int32] | None) -> bool:
        columns, nonzeros = common_columns(matrix, matrix.rows // SHARED // 64 + 1, order__m)
        return SHARED * columns * SHARED_ROW_COST < nonzeros

    if pays(None):
        return Rows(SHARED)
    order__m = alike_rows(matrix) if any_order else None
    return Rows(SHARED, order__m) if order__m is not None and pays(order__m) else Rows(APART)


def tile_vectors(rows: Rows, isa: Isa) -> int:
    """Vectors of a full tile: what a kernel keeps in registers where rows do not share columns, or some passes of one where they do."""
    if rows.mr == APART:
        return isa.widest(APART)
    widest = isa.widest(SHARED)
    return max(1, min(WIDE, SHARED_PIXELS // (widest * isa.lanes))) * widest


def _group(
    matrix: Csr,
    together: Rows,
    row_begin: int,
    channel_begin: int,
    taps: int,
    unit_floats: float,
    taps_per_unit: int,
    weights: int,
    apart: tuple[int, int],
) -> GatherGroup:
    rows, depth, nonzeros, mr = matrix.rows, matrix.depth, len(matrix.k__n), together.mr
    bounds = _bounds(depth // taps_per_unit, unit_floats, nonzeros / max(rows * depth, 1), taps_per_unit, mr, apart)
    row_start__bg, row__bgr, k__nc, value__nr = pack(matrix, np.array(bounds, np.int64) * taps_per_unit, mr, together.order__m)
    narrow__nc = k__nc.astype(np.uint16) if depth <= NARROW_DEPTH else k__nc
    panel = Panel(mr, row_begin, rows, row_start__bg, row__bgr, narrow__nc, value__nr)
    return GatherGroup(channel_begin, depth // taps, bounds, panel, nonzeros, weights)


def nonzeros_of(weight: NDArray[np.float32] | Nonzeros) -> Csr:
    """Return the nonzeros of a weight, a row for each entry of its first dimension."""
    if isinstance(weight, Nonzeros):
        return weight.rows
    return compress(weight if weight.ndim == 2 else weight.reshape(len(weight), -1))


def depthwise(weight: NDArray[np.float32], bias__m: NDArray[np.float32] | None, channels: int, window: Window) -> Depthwise:
    """Return a Conv weight of shape (M, 1, *kernel), each of whose outputs reads one of so many channels."""
    m = len(weight)
    return Depthwise(m, channels, weight.reshape(m, -1), np.zeros(m, np.float32) if bias__m is None else bias__m, window)


def diagonal_of(weight: NDArray[np.float32], groups: int, first: int, count: int) -> Csr:
    """Groups of a grouped convolution as one block-diagonal matrix."""
    weight__gmk = weight.reshape(groups, len(weight) // groups, -1)[first : first + count]
    diagonal = np.zeros((count, *weight__gmk.shape[1:2], count, *weight__gmk.shape[2:]), np.float32)
    for g, own in enumerate(weight__gmk):
        diagonal[g, :, g] = own
    return compress(diagonal.reshape(count * weight__gmk.shape[1], -1))


def convolution(
    weight: NDArray[np.float32] | Nonzeros,
    bias__m: NDArray[np.float32] | None,
    window: Window,
    groups: int,
    image: tuple[int | None, ...],
    isa: Isa,
) -> Product:
    """Pack a Conv weight of shape (M, C / groups, *kernel), which is dense if there are groups. `image` holds the spatial sizes of the
    input, None where they vary."""
    m, c = weight.shape[:2]
    bias__m = np.zeros(m, np.float32) if bias__m is None else bias__m
    whole, width, lanes = nonzeros_of(weight), image[-1], isa.lanes
    rows = choose_rows(whole)
    widest = tile_vectors(rows, isa)
    small = m <= FEW_ROWS and width is not None and width <= FEW_COLUMNS
    tall = small and max(window.kernel[:-1], default=1) > 1 and rows.mr == APART
    if groups > 1 or tall or whole.depth * WIDE * widest * lanes <= L1_FLOATS:
        widest *= WIDE
    block = TALL_BLOCK_FLOATS if tall else BLOCK_FLOATS, isa.entries[0]
    entries = len(whole.k__n) / (c * groups)
    layout = row_layout(window, width, c, entries) if rows.mr == SHARED and groups == 1 and len(window.kernel) > 1 else None
    segments, unit_segment, taps = layout or tap_layout(window, width, widest * lanes, entries)
    units = len(unit_segment) - 1
    pitch = pitch_bound(window, width)
    channel_floats = sum(widest * lanes + reach_y * pitch + reach_x for _, _, _, reach_y, reach_x in segments)
    # Small ONNX groups are packed together, up to one tile, as a block-diagonal matrix.
    together = max(1, min(groups, L1_FLOATS // max(1, c * channel_floats)))
    packed = []
    for first, part, weights in parts_of(weight, whole, groups, together):
        if groups > 1:
            rows = choose_rows(part)
        shape = (len(taps), channel_floats / units, len(taps) // units)
        packed.append(_group(part, rows, first * m // groups, first * c, *shape, weights, block))
    return conv_product(m, c * groups, (segments, unit_segment, taps), bias__m, widest, packed, window)


def parts_of(weight: NDArray[np.float32] | Nonzeros, whole: Csr, groups: int, together: int) -> Iterator[tuple[int, Csr, int]]:
    """Yield the first ONNX group of each packed matrix, the matrix, and how many weights it has.

    So many small groups are packed together, as a block-diagonal matrix; `whole` is the matrix where there are no groups.
    """
    for first in range(0, groups, together):
        count = min(together, groups - first)
        part = diagonal_of(weight, groups, first, count) if isinstance(weight, np.ndarray) and groups > 1 else whole
        yield first, part, count * weight.shape[0] // groups * whole.depth


def conv_product(
    m: int,
    channels: int,
    layout: TapLayout,
    bias__m: NDArray[np.float32],
    vectors: int,
    packed: list[GatherGroup],
    window: Window,
) -> Product:
    """Return the product of a convolution; `layout` is what `tap_layout` returns."""
    segments, unit_segment, taps = layout
    return Product(
        rule=ShapeRule.CONV,
        x_rows=False,
        y_rows=False,
        m=m,
        channels=channels,
        segments=segments,
        unit_segment=unit_segment,
        taps=taps,
        bias__m=bias__m,
        max_vectors=vectors,
        groups=tuple(packed),
        window=window,
    )


def matrices(
    weight__bmk: Sequence[NDArray[np.float32] | Nonzeros],
    bias__m: NDArray[np.float32] | None,
    rule: ShapeRule,
    *,
    x_rows: bool,
    y_rows: bool,
    isa: Isa,
    batch: tuple[int, ...] = (),
    vector_operand: bool = False,
    usual: int | None = None,
    any_order: bool = True,
) -> Product:
    """Pack the constant operand of Gemm or MatMul: one (M, K) matrix an entry of `batch`. `x_rows`, `y_rows`: pixels-major operands.

    K is cut for full tiles, or for `usual` vectors of pixels where there are fewer as a rule. `any_order` as in `choose_rows`.
    """
    m, k = weight__bmk[0].shape
    packed = [nonzeros_of(matrix) for matrix in weight__bmk]
    together = [choose_rows(matrix, any_order=any_order) for matrix in packed]
    widest = tile_vectors(together[0], isa)
    entries = len(packed[0].k__n) / max(m * k, 1) * BLOCK_FLOATS / (widest * isa.lanes)
    if together[0].mr == APART and usual is None and entries < NARROW_ENTRIES:
        widest = min(widest, NARROW)
    floats = isa.lanes * min(widest, usual or widest)
    return Product(
        rule=rule,
        x_rows=x_rows,
        y_rows=y_rows,
        m=m,
        channels=k,
        segments=((0, 0, 0, 0, 0),),
        unit_segment=(0, 1),
        taps=((0, 0, 0),),
        bias__m=np.zeros(m, np.float32) if bias__m is None else bias__m,
        max_vectors=widest,
        groups=tuple(
            _group(packed[i], together[i], i * m, 0, 1, floats, 1, m * k, (BLOCK_FLOATS, isa.entries[1])) for i in range(len(packed))
        ),
        batch=batch,
        vector_operand=vector_operand,
    )
