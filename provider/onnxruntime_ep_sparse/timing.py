"""Times of sessions that run in turn, and their statistics: paired ratios and percentiles with confidence intervals."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
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


CONFIDENCE = 0.95
"""Of intervals, at least, where there are enough values."""
Interval = tuple[float, float, float]
"""The lower and the upper end, and the confidence that they enclose the true value."""


@dataclass(frozen=True)
class Latency:
    """Time of a run in ms: median, 90th and 99th percentile and best; and items of the batch per second.

    `intervals` has an interval for each of p50_ms, p90_ms, p99_ms and items_per_s, with at least 95 % confidence where `runs` suffice.
    """

    p50_ms: float
    p90_ms: float
    min_ms: float
    items_per_s: float
    p99_ms: float
    runs: int
    intervals: dict[str, Interval]

    @classmethod
    def of(cls, seconds: ArrayLike, batch: int, rates: ArrayLike | None = None) -> Latency:
        """Return the latency of runs that took `seconds`, each of `batch` items.

        Without `rates`, items per second follow from the median. With several callers at once, `rates` are runs per second, one per block.
        """
        ms = np.sort(np.asarray(seconds, np.float64).ravel() * 1e3)
        percentiles = {50: "p50_ms", 90: "p90_ms", 99: "p99_ms"}
        p50, p90, p99 = np.percentile(ms, list(percentiles))
        intervals = {name: quantile_interval(ms, percent / 100) for percent, name in percentiles.items()}
        if rates is None:
            low, high, confidence = intervals["p50_ms"]
            items, intervals["items_per_s"] = batch * 1e3 / p50, (batch * 1e3 / high, batch * 1e3 / low, confidence)
        else:
            per_s = batch * np.asarray(rates, np.float64)
            items, intervals["items_per_s"] = np.median(per_s), median_interval(per_s)
        return cls(float(p50), float(p90), float(ms[0]), float(items), float(p99), len(ms), intervals)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields as keys."""
        return asdict(self)


def median_interval(values: NDArray[np.float64], confidence: float = CONFIDENCE) -> Interval:
    """Return two of the values that enclose the median with at least this confidence, and the confidence that they have."""
    return quantile_interval(np.sort(values), 0.5, confidence)


def quantile_interval(ordered: NDArray[np.float64], share: float, confidence: float = CONFIDENCE) -> Interval:
    """Return two of the ascending values that enclose a quantile with at least this confidence, and the confidence that they have.

    Below the quantile are a `share` of all values, 0 < share < 1. With too few values, one or both of the two are the extremes.
    The number of values below a quantile is binomial whatever their distribution.
    """
    n = len(ordered)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    below = np.arange(n + 1)
    logs = log_factorial[n] - log_factorial - log_factorial[::-1] + below * math.log(share) + (n - below) * math.log1p(-share)
    fewer = np.cumsum(np.exp(logs))  # fewer[k]: chance of at most k values below
    more = np.cumsum(np.exp(logs)[::-1])[::-1]  # more[k]: chance of at least k
    outside = (1 - confidence) / 2 * (1 + 1e-9)
    low = max(int(np.searchsorted(fewer, outside, side="right")), 1)
    high = min(n + 1 - int(np.searchsorted(more[::-1], outside, side="right")), n)
    low, high = min(low, n), max(high, 1)
    covered = 1 - float(fewer[low - 1]) - float(more[high])
    return float(ordered[low - 1]), float(ordered[high - 1]), max(covered, 0.0)


def in_turn(
    sides: Sequence[tuple[Any, Mapping[str, NDArray]]],
    *,
    pairs: int = 30,
    budget_s: float = 60.0,
    sample_s: float = SAMPLE_S,
    progress: Callable[[float], None] = lambda share: None,
    enough: Callable[[Ratio], bool] = lambda ratio: False,
) -> NDArray[np.float64]:
    """Run sessions in turn, each on its inputs, and return the times of all in seconds: (sides, rounds, runs).

    After a warm-up there are `pairs` rounds, or as many as `budget_s` seconds allow, but at least `LEAST_PAIRS`. With so many there are no
    more once the ratio of the first two sides is `enough`. In a round, each session runs for at least `sample_s` seconds.
    """
    for session, feeds in sides:
        session.run(None, feeds)
    for _ in range(2):
        warm = [timed(session, feeds) for session, feeds in sides]
    runs = min(math.ceil(sample_s / min(warm)), 1000)
    count = max(int(min(pairs, budget_s / (runs * sum(warm)))), min(LEAST_PAIRS, pairs))
    times = np.empty((len(sides), count, runs))
    for pair in range(count):
        for side, (session, feeds) in enumerate(sides):
            for run in range(runs):
                times[side, pair, run] = timed(session, feeds)
        progress((pair + 1) / count)
        if LEAST_PAIRS <= pair + 1 < count and enough(ratio(times[0, : pair + 1], times[1, : pair + 1])):
            return times[:, : pair + 1]
    return times


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
    """Run two sessions in turn on the same inputs by `in_turn`; return the times of each in seconds, with one row per pair."""
    sides = [(first, feeds), (second, feeds)]
    times = in_turn(sides, pairs=pairs, budget_s=budget_s, progress=progress, enough=enough)
    return times[0], times[1]


def timed(session: Any, feeds: Mapping[str, NDArray]) -> float:
    """Return the seconds that one run of a session takes."""
    began = time.perf_counter()
    session.run(None, feeds)
    return time.perf_counter() - began


def ratio(first: NDArray[np.float64], second: NDArray[np.float64]) -> Ratio:
    """Return how many times longer the first session took: the median of the ratios of all pairs."""
    return Ratio.of(first.sum(axis=1) / second.sum(axis=1))
