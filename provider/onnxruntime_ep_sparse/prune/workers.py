"""Threads whose number does not change the results: work is cut in the same pieces for any number of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from .. import cpus

ROWS = 256
"""Rows of a matrix product that one thread computes at a time."""

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """A pool of threads, by default one for each CPU that the process may use. It is a context manager.

    Within it, BLAS uses one thread in the whole process: the last bits of its results depend on the number.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or cpus.usable()

    def __enter__(self) -> Workers:
        self._limits = threadpool_limits(1, user_api="blas")
        self._pool = ThreadPoolExecutor(self.threads, "ort-sparse-prune")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._limits.restore_original_limits()

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Return the results of `work` for all items, in their order. Raise what the first item that failed raised."""
        items = list(items)
        if self.threads == 1 or len(items) == 1:
            return [work(item) for item in items]
        return list(self._pool.map(work, items))

    def product(self, a__mk: NDArray[np.float32], b__kn: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a @ b."""
        result__mn = np.empty((len(a__mk), b__kn.shape[1]), np.float32)

        def rows(begin: int) -> None:
            np.matmul(a__mk[begin : begin + ROWS], b__kn, out=result__mn[begin : begin + ROWS])

        self.map(rows, range(0, len(a__mk), ROWS))
        return result__mn

    def add_product(self, sum__kn: NDArray[np.float32], a__pk: NDArray[np.float32], b__pn: NDArray[np.float32], *, lower: bool) -> None:
        """Add a.T @ b to a matrix; with `lower`, only to its blocks on the diagonal and below it."""

        def columns(begin: int) -> None:
            first = begin if lower else 0
            sum__kn[first:, begin : begin + ROWS] += a__pk[:, first:].T @ b__pn[:, begin : begin + ROWS]

        self.map(columns, range(0, sum__kn.shape[1], ROWS))


def mirror(matrix__kk: NDArray) -> None:
    """Copy what is below the diagonal of a matrix to the other side, in place."""
    size = len(matrix__kk)
    for begin in range(0, size, ROWS):
        end = min(begin + ROWS, size)
        corner = matrix__kk[begin:end, begin:end]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T
        matrix__kk[begin:end, end:] = matrix__kk[end:, begin:end].T
