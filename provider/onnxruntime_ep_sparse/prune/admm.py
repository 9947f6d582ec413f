"""Masks by ADMM (Boza 2024, https://arxiv.org/abs/2401.02938; Meng et al. 2024, "ALPS", https://arxiv.org/abs/2406.07831)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..models.masks import cubic
from .patterns import Choice
from .problem import Problem

STEPS, RAMP = 12, 9
"""Steps in all, and how many until all zeros are made."""
PENALTY = 1.0
"""The penalty of ADMM, rho: the mean eigenvalue of H, which has ones on its diagonal."""


def admm(problem: Problem, target__mk: NDArray[np.float32], choice: Choice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return weights near the optimum and their mask. All weights are scaled.

    The number of zeros rises by a cubic curve. N:M has no number in between; there the weights to become zero shrink step by step.
    """
    inverse__kk = problem.inverse(PENALTY)
    pulled__mk = problem.workers.product(target__mk, problem.hessian__kk)
    weight__mk, dual__mk = target__mk, np.zeros_like(target__mk)
    kept__mk = np.ones(target__mk.shape, np.bool_)
    for step in range(1, STEPS + 1):
        share = min(step / RAMP, 1)
        wanted__mk = weight__mk + dual__mk
        if choice.pattern.kept is None:
            kept__mk = choice.kept(wanted__mk * wanted__mk, cubic(share))
            masked__mk = np.where(kept__mk, wanted__mk, np.float32(0))
        else:
            kept__mk = choice.kept(wanted__mk * wanted__mk)
            masked__mk = np.where(kept__mk, wanted__mk, wanted__mk * np.float32(1 - share))
        dual__mk = wanted__mk - masked__mk
        weight__mk = problem.workers.product(pulled__mk + np.float32(PENALTY) * (masked__mk - dual__mk), inverse__kk)
    return np.where(kept__mk, weight__mk, np.float32(0)), kept__mk
