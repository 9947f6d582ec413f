"""Times of two sessions that run in turn, and their statistics: paired ratios with a confidence interval, latencies."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST_PAIRS = 6
"""With so many pairs, the extremes enclose the median with more than 95 % confidence: 1 - 2 * 0.5**6 = 0.97."""
SAMPLE_S = 2e-3
"""Shortest time of a sample. Faster models run several times per sample, so that the clock and the switch of sessions do not matter."""


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


def alternate(
    first: Any,
    second: Any,
    feeds: Mapping[str, NDArray],
    *,
    pairs: int = 30,
    budget_s: float = 60.0,
    progress: Callable[[float], None] = lambda share: None,
    enough: Callable[[Ratio], bool] = lambda ratio: False,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Run two sessions in turn, and return the times of both in seconds, with one row per pair and one column per run.

    After a warm-up there are `pairs` pairs, or as many as `budget_s` seconds allow, but at least `LEAST_PAIRS`. With so many there are no
    more once the ratio of all pairs is `enough`.
    """
    for session in (first, second):
        session.run(None, feeds)
    for _ in range(2):
        warm = [timed(session, feeds) for session in (first, second)]
    runs = min(math.ceil(SAMPLE_S / min(warm)), 1000)
    count = max(min(pairs, int(budget_s / (runs * sum(warm)))), min(LEAST_PAIRS, pairs))
    times = np.empty((2, count, runs))
    for pair in range(count):
        for side, session in enumerate((first, second)):
            for run in range(runs):
                times[side, pair, run] = timed(session, feeds)
        progress((pair + 1) / count)
        if LEAST_PAIRS <= pair + 1 < count and enough(ratio(times[0, : pair + 1], times[1, : pair + 1])):
            return times[0, : pair + 1], times[1, : pair + 1]
    return times[0], times[1]


def timed(session: Any, feeds: Mapping[str, NDArray]) -> float:
    """Return the seconds that one run of a session takes."""
    began = time.perf_counter()
    session.run(None, feeds)
    return time.perf_counter() - began


def ratio(first: NDArray[np.float64], second: NDArray[np.float64]) -> Ratio:
    """Return how many times longer the first session took: the median of the ratios of all pairs."""
    return Ratio.of(first.sum(axis=1) / second.sum(axis=1))
