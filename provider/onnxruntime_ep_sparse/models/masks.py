"""Zeros in weights: which ones a pruning pattern leaves out at random, or which are smallest."""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

PATTERNS = ("unstructured", "block4", "1x4", "channels", "channels/2", "N:M")


def mask(weight: NDArray, sparsity: float, pattern: str = "unstructured", rng: np.random.Generator | int = 0, *, axis: int = 0) -> NDArray:
    """Return a copy of `weight` with zeros at uniformly random places; same shape and dtype.

    `axis` is the output axis: 0 for (O, I, kH, kW) of a Conv and (O, I) of a Gemm with transB, 1 for (I, O) of a MatMul. Patterns:
    `unstructured` exactly round(sparsity * size) zeros; `block4` round(sparsity * blocks) zero blocks of 4 outputs by 1 element; `1x4`
    as many of 1 output by 4 inputs at the same tap; `channels` round(sparsity * O) zero outputs; `channels/2` int(min(1/2, sparsity) * O)
    zero outputs and single zeros in the others, round(sparsity * size) in all; `N:M` N kept of every M consecutive inputs (a last group of
    R < M keeps min(N, R)), which implies the sparsity.
    """
    _check(sparsity)
    rng = np.random.default_rng(rng)
    weight__o = np.moveaxis(weight, axis, 0)
    outputs = len(weight__o)
    columns = weight__o[0].size if outputs else 0
    if pattern == "unstructured":
        zero = _some(rng, weight.size, sparsity)
    elif pattern == "block4":
        blocks__ok = _some(rng, -(-outputs // 4) * columns, sparsity).reshape(-1, columns)
        zero = np.repeat(blocks__ok, 4, axis=0)[:outputs]
    elif pattern == "1x4":
        inputs, *taps = weight__o.shape[1:]
        blocks__oi = _some(rng, outputs * -(-inputs // 4) * math.prod(taps), sparsity).reshape(outputs, -(-inputs // 4), *taps)
        zero = np.repeat(blocks__oi, 4, axis=1)[:, :inputs]
    elif pattern == "channels":
        zero = np.repeat(_some(rng, outputs, sparsity), columns)
    elif pattern == "channels/2":
        zero = np.repeat(_some(rng, outputs, int(min(0.5, sparsity) * outputs) / max(outputs, 1)), columns)
        alive = int(np.count_nonzero(~zero))
        zero[~zero] = _some(rng, alive, 1 - (weight.size - round(sparsity * weight.size)) / max(alive, 1))
    elif match := re.fullmatch(r"(\d+):(\d+)", pattern):
        n, m = map(int, match.groups())
        if not 0 < n <= m:
            raise ValueError(f"pattern {pattern}: expected N:M with 0 < N <= M")
        zero = _n_of_m(rng, weight__o.shape, n, m)
    else:
        raise ValueError(f"unknown pattern {pattern!r}; there are {', '.join(PATTERNS)}")
    return np.where(np.moveaxis(zero.reshape(weight__o.shape), 0, axis), weight.dtype.type(0), weight)


def smallest(weight: NDArray, sparsity: float) -> NDArray[np.bool_]:
    """Return True at the round(sparsity * size) smallest magnitudes of `weight`, in its shape: magnitude pruning makes these zero."""
    _check(sparsity)
    zero = np.zeros(weight.size, bool)
    if count := round(sparsity * weight.size):
        zero[np.argpartition(np.abs(weight), count - 1, axis=None)[:count]] = True
    return zero.reshape(weight.shape)


def cubic(share: float) -> float:
    """Return how much of the final sparsity is reached after a share of the steps, 0 to 1: Zhu and Gupta 2017."""
    return 1 - (1 - min(max(share, 0.0), 1.0)) ** 3


def _check(sparsity: float) -> None:
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity {sparsity} is not between 0 and 1")


def _some(rng: np.random.Generator, size: int, share: float) -> NDArray[np.bool_]:
    """Exactly round(share * size) of `size` are True."""
    count = round(share * size)
    few = min(count, size - count)  # drawn are the fewer
    chosen = np.full(size, few < count)
    chosen[rng.choice(size, few, replace=False, shuffle=False)] = few == count
    return chosen


def _n_of_m(rng: np.random.Generator, shape: tuple[int, ...], n: int, m: int) -> NDArray[np.bool_]:
    """Return True but for N of every M neighbours along axis 1 of `shape`."""
    inputs = shape[1]
    groups = -(-inputs // m)
    rank__ogmt = rng.random((shape[0], groups, m, *shape[2:]), np.float32)
    rank__ogmt.reshape(shape[0], groups * m, *shape[2:])[:, inputs:] = np.inf  # what the last group lacks is never kept
    zero = rank__ogmt.argsort(axis=2).argsort(axis=2) >= n
    return zero.reshape(shape[0], groups * m, *shape[2:])[:, :inputs]
