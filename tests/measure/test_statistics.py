"""Statistics on numbers whose answer is known."""

import math

import numpy as np
import pytest

from onnxruntime_ep_sparse import measure


@pytest.mark.parametrize(("n", "rank"), [(6, 1), (9, 2), (30, 10), (100, 40)])
def test_interval_has_the_tabulated_ranks(n, rank):
    """The 95 % ranks of the sign-test tables (Conover, Practical Nonparametric Statistics, table A3)."""
    low, high, confidence = measure.median_interval(np.random.default_rng(0).permutation(np.arange(1.0, n + 1)))
    assert (low, high) == (rank, n + 1 - rank)
    assert 0.95 <= confidence < 0.99


def test_interval_of_too_few_values():
    """The extremes, and how much they are worth."""
    assert measure.median_interval(np.array([2.0, 1.0, 3.0])) == (1.0, 3.0, 0.75)
    assert measure.median_interval(np.array([2.0])) == (2.0, 2.0, 0.0)


def test_interval_covers_the_median_as_often_as_it_says():
    """On a skewed distribution, whose median is log 2."""
    samples = np.random.default_rng(0).exponential(size=(2000, 30))
    intervals = [measure.median_interval(sample) for sample in samples]
    covered = np.mean([low <= math.log(2) <= high for low, high, _ in intervals])
    assert covered == pytest.approx(intervals[0][2], abs=0.02)


def test_ratio_and_latency():
    """The median of the pairs' ratios, not the ratio of the medians."""
    first, second = np.array([[2.0, 2.0], [9.0, 9.0], [4.0, 4.0]]), np.array([[1.0, 1.0], [3.0, 3.0], [4.0, 4.0]])
    assert measure.ratio(first, second).median == 2.0
    latency = measure.Latency.of(first, batch=8)
    assert (latency.p50_ms, latency.min_ms, latency.items_per_s) == (4000.0, 2000.0, 2.0)
