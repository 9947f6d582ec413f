"""Statistics of a layer's inputs in both streams: means, second moments of the pruned ones, and of both together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .workers import Workers, mirror

SMALL = 64
"""Inputs up to which the matrices of all groups are multiplied by one call."""

Columns = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Inputs of a layer in the dense and in the pruned stream, (G, rows, K) each; equal rows belong together."""


@dataclass(frozen=True)
class Statistics:
    """Moments of a layer's inputs over all rows.

    `hessian__gkk` is the mean of (x - mean)(x - mean)ᵀ of the pruned stream. `difference__gkk` is the mean of
    (d - mean)(x - mean)ᵀ, with d of the dense stream, minus `hessian__gkk`. Uncentred statistics have means of 0 there. `squares__gk` are
    the means of x², never centred. The matrices are None if they were not asked for.
    """

    rows: int
    dense_mean__gk: NDArray[np.float64]
    mean__gk: NDArray[np.float64]
    squares__gk: NDArray[np.float64]
    hessian__gkk: NDArray[np.float32] | None
    difference__gkk: NDArray[np.float32] | None


def statistics_of(batches: Iterable[Columns], workers: Workers, *, most: int, matrices: bool, centred: bool) -> Statistics:
    """Return the statistics of all rows, at most `most` at once. Without `matrices` only means and squares are computed."""
    sums = _Sums(workers, matrices, centred)
    for dense__grk, pruned__grk in _joined(batches, most):
        for begin in range(0, pruned__grk.shape[1], most):
            rows = slice(begin, begin + most)
            sums.add(dense__grk[:, rows], pruned__grk[:, rows])
    return sums.result()


def _joined(batches: Iterable[Columns], most: int) -> Iterable[Columns]:
    """Yield the same rows in larger arrays: adding a product to a large matrix takes long for few rows."""
    waiting: list[Columns] = []
    for columns in batches:
        waiting.append(columns)
        if sum(pruned.shape[1] for _, pruned in waiting) >= most // 2:
            yield _concatenated(waiting)
            waiting = []
    if waiting:
        yield _concatenated(waiting)


def _concatenated(parts: list[Columns]) -> Columns:
    dense, pruned = zip(*parts, strict=True)
    return (parts[0]) if len(parts) == 1 else (np.concatenate(dense, axis=1), np.concatenate(pruned, axis=1))


class _Sums:
    """Sums over rows. Rows are counted from the mean of the first ones, so that little is cancelled when the true mean is subtracted."""

    def __init__(self, workers: Workers, matrices: bool, centred: bool) -> None:
        self._workers, self._matrices, self._centred = workers, matrices, centred
        self._rows = 0

    def _begin(self, dense__grk: NDArray[np.float32], pruned__grk: NDArray[np.float32]) -> None:
        groups, _, inputs = pruned__grk.shape
        self._dense_origin__gk = dense__grk.mean(axis=1, dtype=np.float64).astype(np.float32)
        self._origin__gk = pruned__grk.mean(axis=1, dtype=np.float64).astype(np.float32)
        self._dense_sum__gk = np.zeros((groups, inputs))
        self._sum__gk = np.zeros((groups, inputs))
        self._squares__gk = np.zeros((groups, inputs))
        if self._matrices:
            self._hessian__gkk = np.zeros((groups, inputs, inputs), np.float32)
            self._cross__gkk = np.zeros((groups, inputs, inputs), np.float32)

    def add(self, dense__grk: NDArray[np.float32], pruned__grk: NDArray[np.float32]) -> None:
        """Add some rows."""
        if not self._rows:
            self._begin(dense__grk, pruned__grk)
        dense__grk = dense__grk - self._dense_origin__gk[:, None]
        pruned__grk = pruned__grk - self._origin__gk[:, None]
        self._rows += pruned__grk.shape[1]
        self._dense_sum__gk += dense__grk.sum(axis=1, dtype=np.float64)
        self._sum__gk += pruned__grk.sum(axis=1, dtype=np.float64)
        self._squares__gk += np.einsum("grk,grk->gk", pruned__grk, pruned__grk, dtype=np.float64)
        if self._matrices and pruned__grk.shape[2] <= SMALL:
            self._hessian__gkk += pruned__grk.transpose(0, 2, 1) @ pruned__grk
            self._cross__gkk += dense__grk.transpose(0, 2, 1) @ pruned__grk
        elif self._matrices:
            for group in range(len(pruned__grk)):
                self._workers.add_product(self._hessian__gkk[group], pruned__grk[group], pruned__grk[group], lower=True)
                self._workers.add_product(self._cross__gkk[group], dense__grk[group], pruned__grk[group], lower=False)

    def result(self) -> Statistics:
        """Return the statistics of all rows so far."""
        shift__gk, dense_shift__gk = self._sum__gk / self._rows, self._dense_sum__gk / self._rows
        mean__gk, dense_mean__gk = self._origin__gk + shift__gk, self._dense_origin__gk + dense_shift__gk
        squares__gk = self._squares__gk / self._rows - shift__gk**2 + mean__gk**2
        if not self._matrices:
            return Statistics(self._rows, dense_mean__gk, mean__gk, squares__gk, None, None)
        for group in range(len(mean__gk)):
            hessian__kk, cross__kk = self._hessian__gkk[group], self._cross__gkk[group]
            mirror(hessian__kk)
            _centre(hessian__kk, self._rows, shift__gk[group], shift__gk[group])
            _centre(cross__kk, self._rows, dense_shift__gk[group], shift__gk[group])
            if not self._centred:
                _centre(hessian__kk, 1, -mean__gk[group], mean__gk[group])
                _centre(cross__kk, 1, -dense_mean__gk[group], mean__gk[group])
            cross__kk -= hessian__kk
        return Statistics(self._rows, dense_mean__gk, mean__gk, squares__gk, self._hessian__gkk, self._cross__gkk)


def _centre(sums__kk: NDArray[np.float32], rows: int, a__k: NDArray[np.float64], b__k: NDArray[np.float64]) -> None:
    """Divide sums by the number of rows, and subtract a bᵀ, in place and row by row: no second matrix is made."""
    for i in range(len(sums__kk)):
        sums__kk[i] /= rows
        sums__kk[i] -= (a__k[i] * b__k).astype(np.float32)
