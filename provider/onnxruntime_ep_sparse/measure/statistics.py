"""Statistics of measured times: paired ratios with a confidence interval, latencies."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Ratio:
    """Median of paired ratios of times, with its distribution-free confidence interval."""

    median: float
    low: float
    high: float
    confidence: float
    pairs: int

    @classmethod
    def of(cls, values: ArrayLike) -> Ratio:
        """Return the median of `values`, one per pair."""
        ratios = np.asarray(values, np.float64)
        return cls(float(np.median(ratios)), *median_interval(ratios), len(ratios))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields as keys."""
        return asdict(self)


@dataclass(frozen=True)
class Latency:
    """Time of a run in ms: median, 90th percentile and best; and items of the batch per second at the median."""

    p50_ms: float
    p90_ms: float
    min_ms: float
    items_per_s: float

    @classmethod
    def of(cls, seconds: ArrayLike, batch: int) -> Latency:
        """Return the latency of runs that took `seconds`, each of `batch` items."""
        ms = np.asarray(seconds, np.float64) * 1e3
        p50, p90 = np.percentile(ms, (50, 90))
        return cls(float(p50), float(p90), float(ms.min()), batch * 1e3 / float(p50))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields as keys."""
        return asdict(self)


def median_interval(values: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float, float]:
    """Return two of the values that enclose the median with at least this confidence, and the confidence that they have.

    With too few values these are the extremes.
    The number of values below the median is binomial whatever their distribution.
    """
    ordered = np.sort(values)
    n = len(ordered)
    outside, rank = 2 * 0.5**n, 1
    while rank < (n + 1) // 2 and outside + 2 * math.comb(n, rank) * 0.5**n <= 1 - confidence:
        outside += 2 * math.comb(n, rank) * 0.5**n
        rank += 1
    return float(ordered[rank - 1]), float(ordered[n - rank]), max(1 - outside, 0.0)
