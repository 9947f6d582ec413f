"""SparseGPT (Frantar and Alistarh 2023, https://arxiv.org/abs/2301.00774): one pass over the columns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .patterns import Choice
from .problem import Problem

BLOCK = 128
"""Columns whose zeros are chosen together, and whose errors the later columns take over together."""


def sparsegpt(problem: Problem, target__mk: NDArray[np.float32], choice: Choice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return weights and their mask. The loss of a column is spread over the columns after it. All weights are scaled."""
    columns = target__mk.shape[1]
    upper__kk = problem.inverse_factor__kk
    diagonal__k = np.diagonal(upper__kk).copy()
    weight__mk = target__mk.copy()
    kept__mk = np.ones(weight__mk.shape, np.bool_)
    for begin, end in _blocks(choice, columns):
        error__mb = np.zeros((len(weight__mk), end - begin), np.float32)
        groups = dict(_groups(choice, begin, end))
        for column in range(begin, end):
            if column in groups:
                part = slice(column, groups[column])
                kept__mk[:, part] = choice.kept_columns((weight__mk[:, part] / diagonal__k[part]) ** 2, column, columns)
            left__m = np.where(kept__mk[:, column], np.float32(0), weight__mk[:, column]) / diagonal__k[column]
            error__mb[:, column - begin] = left__m
            weight__mk[:, column:end] -= np.outer(left__m, upper__kk[column, column:end])
        weight__mk[:, end:] -= problem.workers.product(error__mb, np.ascontiguousarray(upper__kk[begin:end, end:]))
    return np.where(kept__mk, weight__mk, np.float32(0)), kept__mk


def _blocks(choice: Choice, columns: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of blocks of columns that cut no group of the pattern: parts of a tap, or whole taps."""
    run, inputs = choice.run, choice.pattern.inputs
    if run < BLOCK:
        step = BLOCK // run * run
        yield from ((begin, min(begin + step, columns)) for begin in range(0, columns, step))
        return
    step = max(BLOCK // inputs, 1) * inputs
    for tap in range(0, columns, run):
        yield from ((tap + begin, tap + min(begin + step, run)) for begin in range(0, run, step))


def _groups(choice: Choice, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of the columns of a block whose zeros are chosen together.

    N:M chooses group by group, so that a choice sees what the columns before it have lost.
    """
    if choice.pattern.kept is None:
        yield begin, end
        return
    run, inputs = min(choice.run, end - begin), choice.pattern.inputs
    for tap in range(begin, end, run):
        yield from ((tap + first, tap + min(first + inputs, run)) for first in range(0, run, inputs))
