"""Refits the kept weights of a mask: conjugate gradients on all rows at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .problem import Problem
from .workers import ROWS

STEPS = 12
"""Steps of the conjugate gradients. H has ones on its diagonal, so they need no preconditioner."""
SMALLEST = np.float32(1e-30)


def refit(
    problem: Problem, weight__mk: NDArray[np.float32], kept__mk: NDArray[np.bool_], target__mk: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return weights of a mask that minimise tr((W - W*) H (W - W*)ᵀ), from `weight__mk` on. All weights are scaled."""
    result__mk = np.empty_like(target__mk)

    def rows(begin: int) -> None:
        part = slice(begin, begin + ROWS)
        result__mk[part] = _solved(problem.hessian__kk, weight__mk[part], kept__mk[part], target__mk[part])

    problem.workers.map(rows, range(0, len(target__mk), ROWS))
    return result__mk


def _solved(
    hessian__kk: NDArray[np.float32], weight__mk: NDArray[np.float32], kept__mk: NDArray[np.bool_], target__mk: NDArray[np.float32]
) -> NDArray[np.float32]:
    weight__mk = np.where(kept__mk, weight__mk, np.float32(0))
    residual__mk = ((target__mk - weight__mk) @ hessian__kk) * kept__mk
    direction__mk = residual__mk.copy()
    square__m1 = (residual__mk * residual__mk).sum(axis=1, keepdims=True)
    for _ in range(STEPS):
        image__mk = (direction__mk @ hessian__kk) * kept__mk
        step__m1 = square__m1 / np.maximum((direction__mk * image__mk).sum(axis=1, keepdims=True), SMALLEST)
        weight__mk += step__m1 * direction__mk
        residual__mk -= step__m1 * image__mk
        before__m1, square__m1 = square__m1, (residual__mk * residual__mk).sum(axis=1, keepdims=True)
        direction__mk = residual__mk + square__m1 / np.maximum(before__m1, SMALLEST) * direction__mk
    return weight__mk
