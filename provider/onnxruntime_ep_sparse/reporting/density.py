"""Where the nonzeros of a matrix are: shares of nonzeros in a grid of cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_ROWS, MOST_COLUMNS = 32, 48
"""Cells of the grid, at most: as many as a table of numbers on a page can have."""


def density_of(matrix__mk: NDArray) -> list[list[float]]:
    """Return the share of nonzeros in each cell of a grid over a matrix (M, K), row by row; the cells differ in size by one at most."""
    shares__mk = (matrix__mk != 0).astype(np.float64)
    for axis, most in ((0, MOST_ROWS), (1, MOST_COLUMNS)):
        length = shares__mk.shape[axis]
        count = min(most, length)
        begins = np.arange(count) * length // max(count, 1)
        sizes = np.diff(np.append(begins, length))
        sums = np.add.reduceat(shares__mk, begins, axis=axis) if count else shares__mk
        shares__mk = sums / (sizes[:, None] if axis == 0 else sizes)
    return [[round(float(share), 4) for share in row] for row in shares__mk]
