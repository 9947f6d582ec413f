"""A weight of 8 bits to a packed product of bytes: weights anywhere or blocks of four channels, what a tile holds, where K is cut."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.isa import APART, MAX_LANES, Isa
from onnxruntime_ep_sparse_kernels.pack import Csr
from onnxruntime_ep_sparse_kernels.pack_bytes import count_blocks, pack_blocks, pack_quads

from ..graph.nonzeros import Nonzeros
from .enums import ShapeRule
from .kinds.byte_product import FOUR, MOST_ZIPPED, ByteProduct
from .kinds.product import GatherGroup, Panel, Product
from .packing import NARROW_DEPTH, conv_product, nonzeros_of, parts_of, pitch_bound, tap_layout
from .steps import Window

BLOCK_COST = 0.8
"""Time of an entry of a block, in that of an entry of weights anywhere (docs/benchmarks.md, "Kernels for bytes")."""
ZIP_COST = 3
"""Entries of a block that take as long as interleaving four columns of a tile."""
TILE_BYTES = 32 * 1024
"""A block of a tile: all of a 32 KB L1, because every block reloads all sums."""
MAX_TILE = 48 * 1024
"""Bytes of a block, which may grow for the sake of longer rows, but stays in L2."""
MAX_OFFSET = 0xFFFF
"""Elements of a block that the offset of an entry can reach."""
WIDEST = FOUR * MAX_LANES
"""Pixels of the widest unit."""
ENTRIES_PER_ROW = 8
"""Entries of four weights that a row should have in a block."""
MOST_UNITS = 4
"""Units of a tile that is one block of K: what it writes of an output row should be whole cache lines."""
WINDOW_PIXELS = 128
"""Pixels of tiles for windows of several rows, of which every tile gathers some beside its own."""


@dataclass(frozen=True)
class Quantised:
    """How a product reads x and makes y: see `ByteProduct`. `bias__m` counts in units of the sums, as int32 does; None: zeros.

    `zero` and `factor` number values that are known at run time only; `zero_x` is not used where there is a `zero`.
    """

    signed: bool
    zero_x: int
    bias__m: NDArray[np.int64] | NDArray[np.int32] | None = None
    scale__m: NDArray[np.float32] | None = None
    zero_y: int = 0
    low: int = -128
    high: int = 255
    divisor: float = 1.0
    zero: int = -1
    factor: int = -1


def bias_and_scale(sums__m: NDArray[np.int64], how: Quantised) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return `bias__m` and `scale__m` of a step on bytes, the weights of whose outputs have these sums. Sums are int32 and wrap."""
    m, zero = len(sums__m), how.zero_x + 128 * how.signed if how.zero == -1 else 0
    bias__m = np.zeros(m, np.int64) if how.bias__m is None else how.bias__m.astype(np.int64)
    scale__m = np.ones(m, np.float32) if how.scale__m is None else np.broadcast_to(how.scale__m, m).astype(np.float32)
    return (bias__m - zero * sums__m).astype(np.int32).view(np.float32), scale__m


def byte_product(product: Product, blocks: bool, sums__m: NDArray[np.int64], how: Quantised, zipped: bool = False) -> ByteProduct:
    """Return the step's data of packed weights, the sums of whose rows are `sums__m`."""
    known = how.zero == -1
    sums = None if known else sums__m.astype(np.int32).view(np.float32)
    bits, scale__m = bias_and_scale(sums__m, how)
    zero_x = how.zero_x if known else 0
    quantised = how.signed, zero_x, bits, scale__m, how.zero_y, how.low, how.high, how.divisor, how.zero, how.factor, sums
    return ByteProduct(product, blocks, *quantised, zipped=zipped)


def pays(matrix: Csr, taps: int) -> bool:
    """Return whether the weights of a matrix are cheaper as blocks of four channels at the same tap."""
    return FOUR * count_blocks(matrix, taps) * BLOCK_COST < len(matrix.k__n)


def zippable(matrix: Csr) -> bool:
    """Return whether tiles of a matrix are small enough to be zipped."""
    return matrix.depth <= MOST_ZIPPED


def zips(matrix: Csr) -> bool:
    """Return whether the weights are cheaper by four columns that follow each other, as those of a first convolution without zeros are."""
    zipped = ZIP_COST * -(-matrix.depth // FOUR)
    return zippable(matrix) and FOUR * BLOCK_COST * (count_blocks(matrix, 1) + zipped) < len(matrix.k__n)


def sums_of(matrix: Csr) -> NDArray[np.int64]:
    """Return the sum of each row."""
    total = np.concatenate([[0], np.cumsum(matrix.value__n, dtype=np.int64)])
    return total[matrix.start__m[1:]] - total[matrix.start__m[:-1]]


def conv_vectors(window: Window, depth: int, isa: Isa) -> int:
    """Return the units of a full tile of a convolution with so many weights in a row."""
    unit = FOUR * isa.lanes
    return max(1, WINDOW_PIXELS // unit) if max(window.kernel[:-1], default=1) > 1 else matrix_vectors(depth, isa)


def matrix_vectors(depth: int, isa: Isa) -> int:
    """Return the same of a matrix with so many columns."""
    return max(1, min(MOST_UNITS, TILE_BYTES // (depth * FOUR * isa.lanes)))


def _cuts(units: int, unit_size: float, widest_size: float, element: int, entries_per_unit: float) -> tuple[int, ...]:
    """Cut `units` into equal blocks: as many as keep one near L1 while rows keep several entries.

    A unit has `unit_size` elements, and `widest_size` with the widest vectors, for which compiled models run too.
    """
    wanted = max(TILE_BYTES / element, ENTRIES_PER_ROW / max(entries_per_unit, 1e-9) * unit_size)
    per_block = max(1, int(min(wanted / unit_size, MAX_TILE / element / unit_size, MAX_OFFSET / widest_size)))
    blocks = -(-units // per_block)
    return tuple(units * b // blocks for b in range(blocks + 1))


def _group(
    matrix: Csr, blocks: bool, row_begin: int, channel_begin: int, taps: int, sizes: tuple[float, float], taps_per_unit: int, weights: int
) -> GatherGroup:
    """Pack one matrix. `sizes` are the elements of a unit in its tiles, and in those of the widest vectors."""
    channels = matrix.depth // taps
    held = -(-channels // FOUR) if blocks else channels
    entries = count_blocks(matrix, taps) if blocks else len(matrix.k__n) / FOUR
    units = held * taps // taps_per_unit
    cuts = _cuts(units, *sizes, FOUR if blocks else 1, entries / max(matrix.rows * units, 1))
    bounds = np.array(cuts, np.int64) * taps_per_unit
    row_start__bg, row__bgr, k__nc, value__nr = pack_blocks(matrix, taps, bounds) if blocks else pack_quads(matrix, bounds)
    narrow__nc = k__nc.astype(np.uint16) if matrix.depth <= NARROW_DEPTH else k__nc
    panel = Panel(APART, row_begin, matrix.rows, row_start__bg, row__bgr, narrow__nc, value__nr.view(np.float32))
    return GatherGroup(channel_begin, held, cuts, panel, len(matrix.k__n), weights)


def _zipped(group: GatherGroup, matrix: Csr) -> GatherGroup:
    """Return a group of all channels with its weights by four columns that follow each other."""
    row_start__bg, row__bgr, k__nc, value__nr = pack_blocks(matrix, 1, np.array([0, -(-matrix.depth // FOUR)], np.int64))
    columns = k__nc.astype(np.uint16)
    panel = replace(group.panel, row_start__bg=row_start__bg, row__bgr=row__bgr, k__nc=columns, value__nr=value__nr.view(np.float32))
    return replace(group, panel=panel)


def convolution(
    weight: NDArray[np.float32] | Nonzeros, window: Window, groups: int, image: tuple[int | None, ...], isa: Isa, how: Quantised
) -> ByteProduct:
    """Pack a Conv weight of shape (M, C / groups, *kernel), whole numbers of 8 bits minus their zero point; dense if there are groups.

    `image` holds the spatial sizes of the input, None where they vary. ValueError for a weight that is not an integer of 8 bits.
    """
    m, c = weight.shape[:2]
    whole, width, unit = nonzeros_of(weight), image[-1], FOUR * isa.lanes
    vectors = conv_vectors(window, whole.depth, isa)
    segments, unit_segment, taps = tap_layout(window, width, vectors * unit, 0)
    units = len(unit_segment) - 1
    blocks = groups == 1 and pays(whole, len(taps))
    pitch = pitch_bound(window, width)
    beyond = sum(reach_y * pitch + reach_x for _, _, _, reach_y, reach_x in segments)
    channel_size, widest_size = (len(segments) * pixels + beyond for pixels in (vectors * unit, max(vectors * unit, WIDEST)))
    # small ONNX groups are packed together, up to one tile, as a block-diagonal matrix
    together = max(1, min(groups, TILE_BYTES // max(1, c * channel_size)))
    packed = []
    for first, part, weights in parts_of(weight, whole, groups, together):
        packed.append(
            _group(
                part,
                blocks,
                first * m // groups,
                first * c,
                len(taps),
                (channel_size / units, widest_size / units),
                len(taps) // units,
                weights,
            )
        )
    zipped = groups == 1 and not blocks and len(packed[0].bounds) == 2 and zips(whole)
    if zipped:
        packed = [_zipped(packed[0], whole)]
    product = conv_product(m, c * groups, (segments, unit_segment, taps), np.zeros(m, np.float32), vectors, packed, window)
    return byte_product(product, blocks, sums_of(whole), how, zipped)


def matrix(
    weight__mk: NDArray[np.float32] | Nonzeros,
    rule: ShapeRule,
    how: Quantised,
    *,
    x_rows: bool,
    y_rows: bool,
    isa: Isa,
    vector_operand: bool = False,
) -> ByteProduct:
    """Pack the constant operand of Gemm or MatMul: an (M, K) matrix of whole numbers of 8 bits. `x_rows`, `y_rows`: pixels-major."""
    (m, k), unit = weight__mk.shape, FOUR * isa.lanes
    vectors = matrix_vectors(k, isa)
    whole = nonzeros_of(weight__mk)
    blocks = pays(whole, 1) and (not x_rows or k % FOUR == 0)
    product = Product(
        rule=rule,
        x_rows=x_rows,
        y_rows=y_rows,
        m=m,
        channels=k,
        segments=((0, 0, 0, 0, 0),),
        unit_segment=(0, 1),
        taps=((0, 0, 0),),
        bias__m=np.zeros(m, np.float32),
        max_vectors=vectors,
        groups=(_group(whole, blocks, 0, 0, 1, (vectors * unit, max(vectors * unit, WIDEST)), 1, m * k),),
        vector_operand=vector_operand,
    )
    return byte_product(product, blocks, sums_of(whole), how)
