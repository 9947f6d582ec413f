"""The measuring protocol: statistics on numbers whose answer is known, and one measurement from end to end."""

import json
import math

import numpy as np
import pytest

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.measure import protocol as measure


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
    first, second = measure.alternate(Counted(log, "a"), Counted(log, "b"), {}, pairs=10, progress=shares.append)
    assert first.shape == second.shape
    pairs, runs = first.shape
    assert pairs == 10
    assert log[-pairs * 2 * runs :] == (["a"] * runs + ["b"] * runs) * pairs
    assert shares[-1] == 1.0


def test_slow_models_get_fewer_pairs():
    """But enough for an interval, unless fewer were asked for."""
    log = []
    for pairs, got in ((30, measure.LEAST_PAIRS), (3, 3)):
        assert len(measure.alternate(Counted(log, "a"), Counted(log, "b"), {}, pairs=pairs, budget_s=0.0)[0]) == got


def test_agreement():
    """Errors relative to the scale of the output, and the share of equal decisions."""
    theirs = np.array([[1.0, 2.0, -4.0], [0.0, 3.0, 1.0]], np.float32)
    ours = theirs + np.array([[0, 0, 0.5], [0, 0, 3]], np.float32)
    (a,) = measure.agree(["y"], [ours], [theirs])
    assert (a.output, a.shape, a.scale, a.max_abs, a.max_relative, a.argmax) == ("y", (2, 3), 4.0, 3.0, 0.75, 0.5)
    assert a.mean_abs == pytest.approx(3.5 / 6)
    assert a.within(0.75)
    assert not a.within(0.74)


def test_agreement_of_what_is_not_finite():
    """Equal where both have it, infinitely wrong where one has; the document stays valid JSON."""
    theirs = np.array([1.0, np.nan, np.inf, 2.0], np.float32)
    (a,) = measure.agree(["y"], [theirs.copy()], [theirs])
    assert (a.max_abs, a.scale) == (0.0, 2.0)
    (a,) = measure.agree(["y"], [np.array([1.0, np.nan, -np.inf, 2.0], np.float32)], [theirs])
    assert a.max_abs == math.inf
    assert not a.within(1.0)
    assert json.loads(json.dumps(a.to_dict(), allow_nan=False))["max_abs"] is None


def test_agreement_of_nothing_and_of_zeros():
    """Empty outputs and all-zero ones agree with themselves; what is no number is not compared."""
    for y in (np.zeros((0, 3), np.float32), np.zeros((2, 3), np.float32), np.array([True, False]), np.float32(2)):
        (a,) = measure.agree(["y"], [np.asarray(y)], [np.asarray(y)])
        assert a.within(0.0)
        assert a.cosine == 1.0
    assert measure.agree(["text", "list"], [np.array(["a"]), [1]], [np.array(["a"]), [1]]) == ()


def test_measurement(sparse_model):
    """Everything is there, and the memory comes from fresh processes."""
    steps = []
    x = {"x": np.random.default_rng(0).standard_normal((2, 64, 28, 28), np.float32)}
    options = {"policy": "always"}
    result = measure.measure(sparse_model, x, options, 1, pairs=6, progress=lambda step, share: steps.append((step, share)))
    assert result.ownership.owned == result.ownership.nodes == 5
    assert result.ownership.operators["Conv"] == 1
    assert result.batch == 2
    assert result.speed_up.pairs == result.control.pairs == 6
    assert result.speed_up.low <= result.speed_up.median <= result.speed_up.high
    assert all(a.within(1e-4) for a in result.agreement)
    for side, provider in ((result.cpu, measure.CPU), (result.sparse, sparse.EP_NAME)):
        assert side.provider == provider
        assert 0 < side.latency.min_ms <= side.latency.p50_ms <= side.latency.p90_ms
        assert side.creation_ms > 0
        assert side.memory_mb > 0
    assert [share for step, share in steps if step == "both providers in turn"][:: len(steps)] == [0]
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document["valid"] == result.valid
    assert document["sparse"]["latency"]["p50_ms"] == result.sparse.latency.p50_ms


def test_nothing_is_measured_of_a_model_that_is_left_alone(sparse_model):
    """Without a node of ours there is no speed-up."""
    x = {"x": np.zeros((1, 64, 28, 28), np.float32)}
    result = measure.measure(sparse_model, x, {"policy": "never"}, memory=False)
    assert result.ownership.owned == 0
    assert result.speed_up is result.control is result.cpu is result.sparse is None
    assert not result.valid


def test_a_failed_memory_process_says_why():
    """Its last line is in the error."""
    with pytest.raises(RuntimeError, match=r"CPUExecutionProvider failed: .*INVALID_PROTOBUF"):
        measure.memory_of(b"no model", measure.CPU, {})
