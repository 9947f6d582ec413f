"""The one table of methods: how the zeros of a layer are chosen, and what the other weights become."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from .admm import admm
from .patterns import Choice
from .problem import Problem
from .refit import refit
from .sparsegpt import sparsegpt
from .workers import ROWS

MOST_NUMBERS = 4 << 20
"""Weights that are fitted at once, where rows do not depend on each other: a method has about ten copies of them."""

Score = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""A function of weights (M, K) and the mean squares of the K inputs that returns a score (M, K): what is lost with a weight."""
Fit = Callable[[Problem, NDArray[np.float32], Choice], tuple[NDArray[np.float32], NDArray[np.bool_]]]
"""A function of a problem and its solution without zeros that returns weights and a mask (M, K). All weights are scaled."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method either scores the dense weights, and keeps the values of those that stay, or fits them; then `refits` says how well.

    `by_row` gives all outputs of a Gemm or MatMul the same number of zeros. `weights_only` needs no data.
    """

    name: str
    score: Score | None = None
    fit: Fit | None = None
    refits: bool = False
    by_row: bool = True
    weights_only: bool = False


def _magnitude(weight__mk: NDArray[np.float32], squares__k: NDArray[np.float32]) -> NDArray[np.float32]:
    return weight__mk * weight__mk


def _wanda(weight__mk: NDArray[np.float32], squares__k: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score after Sun et al. 2023, https://arxiv.org/abs/2306.11695: magnitude times the norm of the input, squared."""
    return weight__mk * weight__mk * squares__k


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        row.name: row
        for row in (
            Method("admm", fit=admm, refits=True),
            Method("sparsegpt", fit=sparsegpt),
            Method("wanda", score=_wanda),
            Method("magnitude", score=_magnitude, by_row=False, weights_only=True),
        )
    }
)
WITHOUT_FIT = METHODS["wanda"]
"""Method for a layer that has too few samples for a fit: its mask needs only K numbers of the data."""


def scored(method: Method, weight__mk: NDArray[np.float32], squares__k: NDArray[np.float32], choice: Choice) -> NDArray[np.bool_]:
    """Return the mask of a method that scores."""
    assert method.score is not None
    return choice.kept(method.score(weight__mk, squares__k))


def fitted(
    method: Method, problem: Problem, weight__mk: NDArray[np.float32], choice: Choice
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the weights, not scaled, and the mask of a method that fits."""
    assert method.fit is not None
    pruned__mk, kept__mk = np.empty_like(weight__mk), np.empty(weight__mk.shape, np.bool_)
    for part in _parts(weight__mk, fitted_at_once(weight__mk.shape, by_row=choice.by_row)):
        target__mk = problem.target(weight__mk[part])
        part__mk, kept__mk[part] = method.fit(problem, target__mk, choice.of_rows(part.start, part.stop, len(weight__mk)))
        if method.refits:
            part__mk = refit(problem, part__mk, kept__mk[part], target__mk)
        pruned__mk[part] = problem.unscaled(part__mk)
    return pruned__mk, kept__mk


def refitted(problem: Problem, weight__mk: NDArray[np.float32], kept__mk: NDArray[np.bool_], rows: int) -> NDArray[np.float32]:
    """Return fitted weights, not scaled, of a mask that is known: the solution itself if all stay. `rows` of them are fitted at once."""
    fitted__mk = np.empty_like(weight__mk)
    all_stay = kept__mk.all()
    for part in _parts(weight__mk, rows):
        target__mk = problem.target(weight__mk[part])
        if not all_stay:
            target__mk = refit(problem, problem.scaled(weight__mk[part]), kept__mk[part], target__mk)
        fitted__mk[part] = problem.unscaled(target__mk)
    return fitted__mk


def _parts(weight__mk: NDArray[np.float32], rows: int) -> list[slice]:
    """Return which rows are fitted together, `rows` at once."""
    return [slice(begin, min(begin + rows, len(weight__mk))) for begin in range(0, len(weight__mk), rows)]


def kept_already(weight__mk: NDArray[np.float32], choice: Choice) -> NDArray[np.bool_] | None:
    """Return which weights are not zero, if the zeros that there are make a choice of its pattern needless; else None."""
    nonzero__mk = weight__mk != 0
    if choice.makes_zeros and nonzero__mk.all():
        return None
    kept__mk = replace(choice, by_row=False).kept(weight__mk * weight__mk)
    return None if np.any(nonzero__mk & ~kept__mk) else nonzero__mk


def fitted_at_once(shape__mk: Sequence[int], *, by_row: bool) -> int:
    """Return how many rows of a matrix are fitted at once: all of them where any row may take the zeros of any other."""
    rows, inputs = shape__mk
    return min(max(MOST_NUMBERS // inputs // ROWS * ROWS, ROWS), rows) if by_row else rows
