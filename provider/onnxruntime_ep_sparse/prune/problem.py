"""The least-squares problem of a layer, which the methods solve.

Find W with zeros in given places that minimises |W X - W_dense D|² + damping |W - W_dense|², where X are the inputs in the pruned stream
and D those in the dense one ("asymmetric"). With H = X Xᵀ + damping that is tr((W - W*) H (W - W*)ᵀ) up to a constant, where
W* = W_dense + W_dense (D Xᵀ - X Xᵀ) H⁻¹ is the solution without zeros.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, lapack

from .workers import Workers, mirror

DAMPING = 0.01
"""Added to the diagonal of X Xᵀ, as a share of its mean."""
TRIES = 5
"""How often ten times the damping is tried where a Cholesky factorisation fails."""


class Problem:
    """The problem of a matrix of weights (M, K), in coordinates where the diagonal of H is 1.

    There, inputs are divided by `scale__k` and weights are multiplied by it.
    """

    def __init__(self, hessian__kk: NDArray[np.float32], difference__kk: NDArray[np.float32], workers: Workers) -> None:
        """Take over X Xᵀ, which is overwritten, and D Xᵀ - X Xᵀ."""
        self.workers = workers
        self._difference__kk = difference__kk
        diagonal__k = np.diagonal(hessian__kk).astype(np.float64)
        diagonal__k += DAMPING * diagonal__k.mean() or 1.0
        self.scale__k = np.sqrt(diagonal__k).astype(np.float32)
        self.hessian__kk = hessian__kk
        self.hessian__kk /= self.scale__k
        self.hessian__kk /= self.scale__k[:, None]
        np.fill_diagonal(self.hessian__kk, 1)

    def scaled(self, weight__mk: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return weights in the coordinates of the problem."""
        return weight__mk * self.scale__k

    def unscaled(self, weight__mk: NDArray[np.float32]) -> NDArray[np.float32]:
        """Undo `scaled`."""
        return weight__mk / self.scale__k

    def target(self, weight__mk: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return W*, scaled, for dense weights that are not."""
        right__mk = self.workers.product(weight__mk, self._difference__kk) / self.scale__k
        solved, info = lapack.spotrs(self.factor__kk, right__mk.T, lower=1)
        assert not info
        return self.scaled(weight__mk) + solved.T

    @cached_property
    def factor__kk(self) -> NDArray[np.float32]:
        """Return the lower triangular L with L Lᵀ = H; what is above its diagonal is undefined."""
        return factor(self.hessian__kk)

    @cached_property
    def inverse_factor__kk(self) -> NDArray[np.float32]:
        """Return the upper triangular U with UᵀU = H⁻¹: the inverse of R, where R Rᵀ = H and R is upper triangular as well."""
        reversed_factor = factor(self.hessian__kk[::-1, ::-1])  # L Lᵀ is H with its order reversed, so R is L reversed
        inverse__kk, info = lapack.strtri(reversed_factor, lower=1, overwrite_c=1)
        assert not info
        return np.triu(np.ascontiguousarray(inverse__kk[::-1, ::-1]))

    def inverse(self, added: float) -> NDArray[np.float32]:
        """Return (H + added)⁻¹, the last one that was asked for without computing it again."""
        if self._inverse is None or self._inverse[0] != added:
            shifted__kk = self.hessian__kk.copy()
            shifted__kk[np.diag_indices_from(shifted__kk)] += np.float32(added)
            inverse__kk, info = lapack.spotri(factor(shifted__kk), lower=1, overwrite_c=1)
            assert not info
            mirror(inverse__kk)
            self._inverse = added, inverse__kk
        return self._inverse[1]

    _inverse: tuple[float, NDArray[np.float32]] | None = None


def factor(matrix__kk: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the lower triangular L with L Lᵀ = a symmetric matrix. Where rounding makes that impossible, the diagonal is raised.

    ValueError if that does not help.
    """
    raised = 0.0
    for attempt in range(TRIES):
        shifted__kk = matrix__kk.T.copy(order="F") if not raised else _raised(matrix__kk, raised)
        factor__kk, info = lapack.spotrf(shifted__kk, lower=1, clean=0, overwrite_a=1)
        if not info:
            return factor__kk
        raised = 10.0 ** (attempt - 6)
    raise LinAlgError("the second moments of a layer's inputs cannot be factorised")


def _raised(matrix__kk: NDArray[np.float32], added: float) -> NDArray[np.float32]:
    copy = matrix__kk.T.copy(order="F")
    copy[np.diag_indices_from(copy)] += np.float32(added)
    return copy
