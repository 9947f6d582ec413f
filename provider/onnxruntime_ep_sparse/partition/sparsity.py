"""The sparsity of a constant weight and the pattern of its zeros.

A large weight is sampled first. Reading every weight of a dense model at session creation would cost its users for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..graph.nonzeros import Nonzeros

SAMPLE = 8192
"""Elements looked at first."""
PIECE = 1 << 16
"""Elements compared at once, so that the answers stay in the caches."""
LIKELY = 0.3
"""A sample with fewer zeros than this (share) is taken at its word: its binomial error at 8192 elements is under 2 %."""


BLOCKS = "4x1 blocks"
"""The pattern in which 4 outputs share the places of their zeros."""


@dataclass(frozen=True, slots=True)
class Zeros:
    """Share of zeros (exact if `counted`, else from a sample) and the name of their pattern."""

    sparsity: float
    pattern: str
    counted: bool


def zeros_of(weight: NDArray | Nonzeros, output_axis: int = 0) -> Zeros:
    """Sparsity and pattern of a constant weight; `output_axis` is the axis of its output features."""
    if isinstance(weight, Nonzeros):
        pattern = pattern_of(lambda count: weight.first(count, output_axis)) if weight.sparsity >= LIKELY else "dense"
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
    return Zeros(sparsity, pattern_of(lambda count: outputs_first[:count]), counted=True)


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


def pattern_of(first: Callable[[int], NDArray]) -> str:
    """Name of the zeros' pattern in a weight from its first 512 outputs; `first(n)` has the first n, outputs first, inputs second.

    One of: all zero, channels, 4x1 blocks, N:M (as "2:4"), unstructured.
    """
    # most weights show in a few rows and inputs that they have none
    few = first(8)
    pattern = _pattern(few[:, :64] if few.ndim > 1 else few)
    return pattern if pattern == "unstructured" else _pattern(first(512))


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
    if outputs >= 4:
        blocks = nonzero[: outputs // 4 * 4].reshape(outputs // 4, 4, depth)
        if (blocks.any(axis=1) == blocks.all(axis=1)).all():
            return BLOCKS
    for m in (4, 8, 16):
        if depth % m == 0:
            counts = np.count_nonzero(nonzero.reshape(outputs, depth // m, m), axis=2)
            if counts.min() == counts.max():
                return f"{counts.max()}:{m}"
    return "unstructured"
