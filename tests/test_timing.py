"""Statistics on numbers whose answer is known; turns of two sessions."""

import math
import time

import numpy as np
import pytest

from onnxruntime_ep_sparse import timing


@pytest.mark.parametrize(("n", "rank"), [(6, 1), (9, 2), (30, 10), (100, 40)])
def test_interval_has_the_tabulated_ranks(n, rank):
    """The 95 % ranks of the sign-test tables (Conover, Practical Nonparametric Statistics, table A3)."""
    low, high, confidence = timing.median_interval(np.random.default_rng(0).permutation(np.arange(1.0, n + 1)))
    assert (low, high) == (rank, n + 1 - rank)
    assert 0.95 <= confidence < 0.99


def test_interval_of_too_few_values():
    """The extremes, and how much they are worth."""
    assert timing.median_interval(np.array([2.0, 1.0, 3.0])) == (1.0, 3.0, 0.75)
    assert timing.median_interval(np.array([2.0])) == (2.0, 2.0, 0.0)


def test_interval_covers_the_median_as_often_as_it_says():
    """On a skewed distribution, whose median is log 2."""
    samples = np.random.default_rng(0).exponential(size=(2000, 30))
    intervals = [timing.median_interval(sample) for sample in samples]
    covered = np.mean([low <= math.log(2) <= high for low, high, _ in intervals])
    assert covered == pytest.approx(intervals[0][2], abs=0.02)


def test_ratio_and_latency():
    """The median of the pairs' ratios, not the ratio of the medians."""
    first, second = np.array([[2.0, 2.0], [9.0, 9.0], [4.0, 4.0]]), np.array([[1.0, 1.0], [3.0, 3.0], [4.0, 4.0]])
    assert timing.ratio(first, second).median == 2.0
    latency = timing.Latency.of(first, batch=8)
    assert (latency.p50_ms, latency.min_ms, latency.items_per_s) == (4000.0, 2000.0, 2.0)


class Counted:
    """A session that only counts its runs and keeps whose turn it was."""

    def __init__(self, log, name):
        self.log, self.name = log, name

    def run(self, outputs, feeds):
        """Take a turn."""
        self.log.append(self.name)


def test_sessions_take_turns():
    """As many pairs as asked for, the same number of runs in each, and progress to the end."""
    log, shares = [], []
    first, second = timing.alternate(Counted(log, "a"), Counted(log, "b"), {}, pairs=10, progress=shares.append)
    assert first.shape == second.shape
    pairs, runs = first.shape
    assert pairs == 10
    assert log[-pairs * 2 * runs :] == (["a"] * runs + ["b"] * runs) * pairs
    assert shares[-1] == 1.0


def test_slow_models_get_fewer_pairs():
    """But enough for an interval, unless fewer were asked for."""
    log = []
    for pairs, got in ((30, timing.LEAST_PAIRS), (3, 3)):
        assert len(timing.alternate(Counted(log, "a"), Counted(log, "b"), {}, pairs=pairs, budget_s=0.0)[0]) == got


def test_turns_end_when_they_are_enough():
    """Asked with at least as many pairs as an interval needs, until the answer is yes."""
    asked = []

    def enough(ratio):
        asked.append(ratio.pairs)
        return ratio.pairs == 9

    for times in timing.alternate(Counted([], "a"), Counted([], "b"), {}, pairs=30, enough=enough):
        assert len(times) == 9
    assert asked == [timing.LEAST_PAIRS, 7, 8, 9]


def test_length_of_turns():
    """A session runs in its turn as often as it takes to fill the shortest time of a turn."""

    class Session:
        def run(self, names, feeds):
            time.sleep(1e-3)

    sides = [(Session(), {}), (Session(), {})]
    assert timing.in_turn(sides, pairs=6, sample_s=1e-5).shape == (2, 6, 1)
    sides_, rounds, runs = timing.in_turn(sides, pairs=6, sample_s=10e-3).shape
    assert (sides_, rounds) == (2, 6)
    assert 2 <= runs <= 10
