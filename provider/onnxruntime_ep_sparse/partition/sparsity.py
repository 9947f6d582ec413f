"""The sparsity of a constant weight and the pattern of its zeros.

A large weight is sampled first. Reading every weight of a dense model at session creation would cost its users for nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..graph.nonzeros import Nonzeros

SAMPLE = 8192
"""Elements looked at first."""
PIECE = 1 << 16
"""Elements compared at once, so that the answers stay in the caches."""
LIKELY = 0.15
"""A sample with fewer zeros than this (share) is taken at its word: its binomial error at 8192 elements is under 2 %. Blocks of outputs
gain from 20 % zeros on (ResNet-50 on AVX2, one thread: 1.03 times as fast at 20 %, 1.18 at 30 %)."""


OUTPUT_BLOCKS = {outputs: f"{outputs}x1 blocks" for outputs in (16, 8, 4)}
"""Patterns in which so many outputs share the places of their zeros, the largest first. The outputs may be any: packing groups them."""
INPUT_BLOCKS = "1x4 blocks"
"""The pattern in which 4 neighbouring inputs are zeros together."""
FEW_OUTPUTS, FEW_COLUMNS = 8, 64
"""Columns that show of most weights that they have no pattern."""


@dataclass(frozen=True, slots=True)
class Zeros:
    """Share of zeros (exact if `counted`, else from a sample) and the name of their pattern."""

    sparsity: float
    pattern: str
    counted: bool

    @property
    def in_blocks(self) -> bool:
        """Return whether outputs share the places of their zeros, so that kernels load a vector of pixels once for several."""
        return self.pattern in OUTPUT_BLOCKS.values()


def zeros_of(weight: NDArray | Nonzeros, output_axis: int = 0) -> Zeros:
    """Sparsity and pattern of a constant weight; `output_axis` is the axis of its output features."""
    if isinstance(weight, Nonzeros):
        pattern = pattern_of(lambda m, n: weight.first(m, n, output_axis)) if weight.sparsity >= LIKELY else "dense"
        return Zeros(weight.sparsity, pattern, counted=True)
    flat = weight.reshape(-1)
    if flat.size > 4 * SAMPLE:
        # an odd stride near size/SAMPLE visits every column of the usual power-of-two widths
        sampled = 1 - int(np.count_nonzero(flat[:: flat.size // SAMPLE | 1])) / len(flat[:: flat.size // SAMPLE | 1])
        if sampled < LIKELY:
            return Zeros(sampled, "dense", counted=False)
    sparsity = 1 - count_nonzeros(flat) / max(flat.size, 1)
    if sparsity < LIKELY:
        return Zeros(sparsity, "dense", counted=True)
    outputs_first = np.moveaxis(weight, output_axis, 0) if weight.ndim > 1 else weight
    return Zeros(sparsity, pattern_of(lambda m, n: outputs_first[:m, :n] if weight.ndim > 1 else weight), counted=True)


def zeros_of_all(weights: Iterable[tuple[NDArray | Nonzeros, int]]) -> Zeros:
    """Return `zeros_of` of several weights, each with its output axis, as if they were one; "mixed" where their patterns differ."""
    sizes, found = zip(*((weight.size, zeros_of(weight, axis)) for weight, axis in weights), strict=True)
    sparsity = sum(size * zeros.sparsity for size, zeros in zip(sizes, found, strict=True)) / max(sum(sizes), 1)
    pattern = found[0].pattern if len({zeros.pattern for zeros in found}) == 1 else "mixed"
    return Zeros(sparsity, pattern, all(zeros.counted for zeros in found))


def count_nonzeros(array: NDArray) -> int:
    """Count the elements that are not zero, in pieces: numpy counts booleans six times as fast as floats, if they stay in the caches."""
    flat = array.reshape(-1)
    return sum(int(np.count_nonzero(flat[begin : begin + PIECE] != 0)) for begin in range(0, flat.size, PIECE))


def pattern_of(first: Callable[[int | None, int | None], NDArray]) -> str:
    """Name of the zeros' pattern in a weight; `first(m, n)` has its first m outputs of the first n inputs, None for all, outputs first.

    One of: all zero, channels, 16x1, 8x1, 4x1 and 1x4 blocks, N:M (as "2:4"), unstructured. Where outputs that share their zeros stand
    beside each other, and for N:M, the first 512 outputs are looked at.
    """
    few = first(FEW_OUTPUTS, FEW_COLUMNS)
    pattern = _pattern(few)
    if pattern != "unstructured":
        pattern = _pattern(first(512, None))
    if pattern != "unstructured" or few.ndim == 1:
        return pattern
    return _scattered_blocks(first(None, None)) if _seems_alike(first(None, max(1, FEW_COLUMNS // math.prod(few.shape[2:])))) else pattern


def _seems_alike(weight: NDArray) -> bool:
    """Return whether most outputs share the places of their zeros with others, in at most FEW_COLUMNS columns."""
    bits__ob = np.packbits(weight.reshape(len(weight), -1)[:, :FEW_COLUMNS] != 0, axis=1)
    key__ob = np.zeros((len(bits__ob), FEW_COLUMNS // 8), np.uint8)
    key__ob[:, : bits__ob.shape[1]] = bits__ob
    key__o = np.sort(key__ob.view(np.uint64)[:, 0])
    key__o = key__o[key__o != 0]
    return 2 * int(np.count_nonzero(key__o[1:] == key__o[:-1])) > len(key__o)


def _scattered_blocks(weight: NDArray) -> str:
    """Return the name of the blocks that outputs are in, wherever these stand."""
    nonzero = weight.reshape(len(weight), -1) != 0
    alike = Counter(row.tobytes() for row in np.packbits(nonzero[nonzero.any(axis=1)], axis=1)).values()
    for outputs, pattern in OUTPUT_BLOCKS.items():
        # a block at the end may lack outputs
        if sum(count % outputs for count in alike) == sum(alike) % outputs:
            return pattern
    return "unstructured"


def _pattern(weight: NDArray) -> str:
    # N:M counts neighbouring input channels of one tap
    rows = np.moveaxis(weight, 1, -1).reshape(len(weight), -1) if weight.ndim > 1 else weight[None]
    nonzero = rows != 0
    outputs, depth = nonzero.shape
    alive = nonzero[nonzero.any(axis=1)]
    if not len(alive):
        return "all zero"
    if alive.all():
        return "channels"
    for height, pattern in OUTPUT_BLOCKS.items():
        if outputs >= height:
            blocks = nonzero[: outputs // height * height].reshape(outputs // height, height, depth)
            if (blocks.any(axis=1) == blocks.all(axis=1)).all():
                return pattern
    if depth % 4 == 0:
        blocks = nonzero.reshape(outputs, depth // 4, 4)
        if (blocks.any(axis=2) == blocks.all(axis=2)).all():
            return INPUT_BLOCKS
    for m in (4, 8, 16):
        if depth % m == 0:
            counts = np.count_nonzero(nonzero.reshape(outputs, depth // m, m), axis=2)
            if counts.min() == counts.max():
                return f"{counts.max()}:{m}"
    return "unstructured"
