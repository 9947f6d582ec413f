"""The one table of allocations: how sparse each layer becomes, for a sparsity of all of them together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from .sensitivity import errors_alone
from .sequential import Plan, Setting

LEVELS = (1.4, 1.0, 0.6)
"""Shares of its weights that a layer keeps while its error is measured, relative to the share that all layers keep together."""
LEAST, MOST = 0.5, 2.0
"""Between these relative shares each layer keeps its weights."""
MOST_KEPT = 0.95
GRID = 128
"""Shares between the least and the most that are compared."""


@dataclass(frozen=True)
class Cost:
    """The cost of a layer by the share of weights that it keeps: lines between points, the shares ascending."""

    kept: tuple[float, ...]
    cost: tuple[float, ...]

    def at(self, kept: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the cost of some shares. Beyond the points the outer lines go on."""
        x, y = np.array(self.kept), np.array(self.cost)
        inside = np.interp(kept, x, y)
        below = (np.minimum(kept, x[0]) - x[0]) * (y[1] - y[0]) / (x[1] - x[0])
        above = (np.maximum(kept, x[-1]) - x[-1]) * (y[-1] - y[-2]) / (x[-1] - x[-2])
        return np.asarray(inside + below + above)


Costs = Mapping[str, Cost]
"""The cost of each layer by its name."""
Allocation = Callable[[Setting, float, Costs], list[Plan]]
"""A function of the model and the sparsity wanted. It returns one or more plans that cost as much as this sparsity in all layers.

If there are several, the one that leaves most of the model on held-out data is taken.
"""


def weights(setting: Setting) -> Costs:
    """Return costs that count the weights that are left."""
    return {layer.name: Cost((0.0, 1.0), (0.0, float(layer.size))) for layer in setting.selected.pruned}


def is_uniform(plan: Plan) -> bool:
    """Return whether a plan gives all layers the same sparsity."""
    return len(set(plan.values())) == 1


def uniform(setting: Setting, sparsity: float, costs: Costs) -> list[Plan]:
    """Give all layers the same sparsity."""
    return [{layer.name: sparsity for layer in setting.selected.pruned}]


def measured(setting: Setting, sparsity: float, costs: Costs) -> list[Plan]:
    """Spread zeros by the error that each layer causes when it alone is pruned; the uniform plan is the other candidate.

    ValueError if nothing is held out, or if the pattern leaves no choice.
    """
    if not setting.data.held_out:
        raise ValueError("allocation measured judges by held-out data: give a holdout above 0")
    if setting.pattern.sparsity is not None:
        raise ValueError(f"allocation measured has no choice: the pattern {setting.pattern.name} implies one sparsity")
    kept = 1 - sparsity
    levels = [min(level * kept, MOST_KEPT) for level in LEVELS]
    errors = errors_alone(setting, [1 - level for level in levels])
    names = [layer.name for layer in setting.selected.pruned]
    curves = [_curve(levels, errors[name], kept) for name in names]
    budget = float(sum(costs[name].at(kept) for name in names))
    shares = spread(curves, [costs[name] for name in names], budget)
    return [{name: 1 - share for name, share in zip(names, shares, strict=True)}, *uniform(setting, sparsity, costs)]


ALLOCATIONS: Mapping[str, Allocation] = MappingProxyType({"uniform": uniform, "measured": measured})


@dataclass(frozen=True)
class Curve:
    """The error that a layer causes, for ascending shares of its weights that it keeps."""

    kept: NDArray[np.float64]
    error: NDArray[np.float64]


def _curve(levels: Sequence[float], errors: Sequence[float], kept: float) -> Curve:
    """Return a curve through measured errors: lines between their logarithms over those of the shares; it does not ascend."""
    order = np.argsort(levels)
    x, y = np.log(np.array(levels)[order]), np.log(np.maximum(np.array(errors)[order], 1e-12))
    y = np.maximum.accumulate(y[::-1])[::-1]
    grid = np.geomspace(LEAST * kept, min(MOST * kept, MOST_KEPT), GRID)
    cost = Cost(tuple(x), tuple(y)) if x[0] < x[-1] else Cost((x[0] - 1, x[0]), (y[0], y[0]))
    return Curve(grid, np.exp(cost.at(np.log(grid))))


def spread(curves: Sequence[Curve], costs: Sequence[Cost], budget: float) -> list[float]:
    """Return the share of weights that each layer keeps, so that the errors have the least sum for costs of at most `budget`.

    Each layer takes the share at which its error plus a price times its cost is least; the price is the one that meets the budget, and
    between two neighbouring prices all shares move together. Where no price is high enough, all layers keep the least.
    """
    prices = [cost.at(curve.kept) for curve, cost in zip(curves, costs, strict=True)]

    def shares(price: float) -> NDArray[np.float64]:
        return np.array([curve.kept[np.argmin(curve.error + price * cost)] for curve, cost in zip(curves, prices, strict=True)])

    def total(kept: NDArray[np.float64]) -> float:
        return float(sum(cost.at(share) for cost, share in zip(costs, kept, strict=True)))

    low, high = 1e-18, 1e18  # too cheap, too dear
    if total(shares(low)) <= budget:
        return list(shares(low))
    for _ in range(120):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if total(shares(middle)) <= budget else (middle, high)
    more, less = shares(low), shares(high)
    begin, end = 0.0, 1.0
    for _ in range(50):
        part = (begin + end) / 2
        begin, end = (part, end) if total(less + part * (more - less)) <= budget else (begin, part)
    return list(less + begin * (more - less))
