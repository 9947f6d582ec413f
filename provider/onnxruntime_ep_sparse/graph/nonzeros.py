"""A weight by its nonzeros, in which form a compressed constant is stored. Code that works on nonzeros need not make the dense weight.

`Graph.nonzeros` has this form of such constants. Its answers equal those of the dense weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.pack import Csr, at_places, transpose

FEW = 4096
"""Nonzeros looked at first for channels that are read: they show most."""


@dataclass(frozen=True, slots=True)
class Nonzeros:
    """A float32 weight of this shape; `rows` has a row for each entry of its first dimension, the others are columns.

    A matrix that was `turned` is transposed when its rows are first read.
    """

    shape: tuple[int, ...]
    kept: Csr
    turned: bool = False

    @classmethod
    def at(cls, places: NDArray[np.int64], values: NDArray[np.float32], shape: tuple[int, ...]) -> Nonzeros:
        """Return a weight with `values` at these ascending places in row-major order. Zeros among the values are left out."""
        return cls(shape, at_places(shape[0], int(np.prod(shape[1:], dtype=np.int64)), places, values))

    @property
    def rows(self) -> Csr:
        """Return the nonzeros in order."""
        return transpose(self.kept) if self.turned else self.kept

    @property
    def size(self) -> int:
        """Elements, zeros too."""
        return self.rows.rows * self.rows.depth

    @property
    def sparsity(self) -> float:
        """Share of zeros."""
        return 1 - len(self.rows.k__n) / max(self.size, 1)

    @property
    def row__n(self) -> NDArray[np.int64]:
        """Return the row of each."""
        return np.repeat(np.arange(self.rows.rows), np.diff(self.rows.start__m))

    @property
    def T(self) -> Nonzeros:
        """Return a matrix with its dimensions exchanged."""
        assert len(self.shape) == 2
        return replace(self, shape=self.shape[::-1], turned=not self.turned)

    def scaled(self, factor: NDArray[np.float32]) -> Nonzeros | None:
        """Times one factor, or one for each row. None where zeros do not stay zeros because a factor is not finite."""
        if not np.isfinite(factor).all():
            return None
        rows = self.rows
        value__n = rows.value__n * (np.repeat(factor, np.diff(rows.start__m)) if factor.ndim else factor)
        if value__n.all():
            return Nonzeros(self.shape, rows._replace(value__n=value__n))
        return Nonzeros.at(self.row__n * rows.depth + rows.k__n, value__n, self.shape)

    def first(self, count: int | None, others: int | None, axis: int) -> NDArray[np.float32]:
        """Return the first `count` entries along an axis, which comes first in the result, None for all. Axis 1 is for matrices.

        Of these, return the first `others` along the other one of the first two axes.
        """
        turned = axis % len(self.shape) == 1
        count, others = (others, count) if turned else (count, others)
        inner = self.shape[1:2] if others is None else tuple(min(n, others) for n in self.shape[1:2])
        depth = math.prod((*inner, *self.shape[2:]))
        start__m = self.rows.start__m[: None if count is None else count + 1]
        k__n = self.rows.k__n[: int(start__m[-1])]
        row__n = np.repeat(np.arange(len(start__m) - 1), np.diff(start__m))
        own__n = np.flatnonzero(k__n < depth) if depth < self.rows.depth else slice(None)
        dense = np.zeros((len(start__m) - 1, depth), np.float32)
        dense[row__n[own__n], k__n[own__n]] = self.rows.value__n[: len(k__n)][own__n]
        return dense.T if turned else dense.reshape(-1, *inner, *self.shape[2:])

    def alive(self, axis: int, among: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Return which entries along axis 0 or 1 hold a nonzero, among all entries along the other axis or among those `among`."""
        rows, channels = self.rows, self.shape[1]
        taps = rows.depth // max(channels, 1)
        some = among is not None and not among.all()
        if axis == 0 and not some:
            return np.diff(rows.start__m) > 0
        alive__i = np.zeros(self.shape[axis], bool)
        begin, count = 0, FEW
        row__n = self.row__n if some else None
        while begin < len(rows.k__n) and not alive__i.all():
            column = rows.k__n[begin : begin + count] // np.uint32(taps)
            if row__n is None:
                alive__i[column] = True
            else:
                assert among is not None
                row = row__n[begin : begin + count]
                mine, other = (row, column) if axis == 0 else (column, row)
                alive__i[mine[among[other]]] = True
            begin, count = begin + count, 2 * count
        return alive__i
