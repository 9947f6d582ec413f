"""Gradual pruning in any training loop: masks that get sparser while a module of PyTorch is trained.

Magnitude pruning with the cubic schedule of Zhu and Gupta, "To prune, or not to prune" (2017). Between two steps of the schedule, the
weights that are left recover.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.masks import cubic
from .bound import Bound, values_of
from .masks import Masks
from .patterns import Pattern, choices, pattern_of


@dataclass(frozen=True, slots=True)
class Cubic:
    """A schedule: the sparsity grows from `initial` at step `begin` to `final` at step `end`, fast at first."""

    final: float
    begin: int
    end: int
    initial: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.initial <= self.final <= 1:
            raise ValueError(f"a schedule goes from a sparsity to a higher one, from 0 to 1, not from {self.initial} to {self.final}")
        if not 0 <= self.begin < self.end:
            raise ValueError(f"a schedule begins before it ends, not at step {self.begin} and {self.end}")

    def __call__(self, step: int) -> float:
        """Return the sparsity after a step."""
        return self.initial + (self.final - self.initial) * cubic((step - self.begin) / (self.end - self.begin))


class Gradual:
    """A callback that prunes the parameters of a module by their magnitudes while it is trained.

        prune = Gradual(module, Cubic(0.9, begin=100, end=2000), skip="embed|head")
        for step, (x, y) in enumerate(batches):
            ...
            optimizer.step()
            prune(step)

    `masks` are the present ones, by the names of the parameters.
    """

    def __init__(
        self,
        module: Any,
        schedule: Callable[[int], float],
        *,
        pattern: str = "unstructured",
        skip: str | None = None,
        only: str | None = None,
        every: int = 10,
    ) -> None:
        """Prune the parameters of two and more dimensions whose names the regular expressions `skip` and `only` leave.

        These have their outputs first, as in Linear, convolutions and recurrent layers. Masks change every `every` steps. An `N:M` pattern
        goes there by way of (M - 1):M and so on. ValueError if there is no such parameter.
        """
        if every < 1:
            raise ValueError(f"every {every}: expected a number of steps of at least 1")
        self._schedule, self._pattern, self._every = schedule, pattern_of(pattern), every
        parameters = dict(module.named_parameters())
        self._parameters = {
            name: parameter
            for name, parameter in parameters.items()
            if len(parameter.shape) > 1 and not (skip and re.search(skip, name)) and (not only or re.search(only, name))
        }
        if not self._parameters:
            raise ValueError("nothing to prune: the module has no parameter of two or more dimensions that `skip` and `only` leave")
        masks = Masks({name: np.ones(tuple(parameter.shape), np.bool_) for name, parameter in self._parameters.items()})
        self._bound = Bound(parameters, masks, {}, ())

    @property
    def masks(self) -> Masks:
        """Return the present masks. They fit parameters of the same names."""
        return self._bound.masks

    def __call__(self, step: int) -> None:
        """Set to zero what is pruned: call it after each step of the optimizer, with the number of the step."""
        if step % self._every == 0:
            sparsity = self._schedule(step)
            masks = {name: self._mask(values_of(parameter), self.masks[name], sparsity) for name, parameter in self._parameters.items()}
            self._bound.replace(Masks(masks))
        self._bound.apply()

    def _mask(self, weight: NDArray[np.float32], before: NDArray[np.bool_], sparsity: float) -> NDArray[np.bool_]:
        """Return the mask for a sparsity. Weights that were pruned before stay pruned."""
        pattern = _pattern_at(self._pattern, sparsity)
        if pattern is None:
            return before
        score = np.where(before, weight * weight, -1)
        score__mtr = np.moveaxis(score, 1, -1)  # taps before channels: neighbours in a pattern are channels
        matrix = np.ascontiguousarray(score__mtr.reshape(len(weight), -1), np.float32)
        (choice,) = choices(pattern, sparsity, (1, *matrix.shape), weight.shape[1], by_row=False)
        kept__mtr = choice.kept(matrix).reshape(score__mtr.shape)
        return np.ascontiguousarray(np.moveaxis(kept__mtr, -1, 1)) & before


def _pattern_at(pattern: Pattern, sparsity: float) -> Pattern | None:
    """Return the pattern on the way to another one: N:M by more kept weights. None while nothing is pruned."""
    if pattern.kept is None:
        return pattern if sparsity else None
    kept = max(pattern.kept, round(pattern.inputs * (1 - sparsity)))
    return pattern_of(f"{kept}:{pattern.inputs}") if kept < pattern.inputs else None
