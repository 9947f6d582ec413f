"""Calibration data as batches: every sample once, as many held out as asked for, in any cut of the data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from onnxruntime_ep_sparse.prune import batches
from onnxruntime_ep_sparse.prune.batches import read
from onnxruntime_ep_sparse.prune.source import Source
from onnxruntime_ep_sparse.prune.store import Store
from support.making import examples, model_of

SOURCE = Source(model_of([helper.make_node("Add", ["x", "z"], ["y"])], {"x": ["n", 2], "z": ["n", 1]}, ["y"], {}))


def feeds_of(sizes):
    """Feeds whose samples are numbered, in both inputs."""
    begin = 0
    for size in sizes:
        numbers = np.arange(begin, begin + size, dtype=np.float32)[:, None]
        yield {"z": numbers, "x": np.repeat(numbers, 2, axis=1)}
        begin += size


def numbers_of(data, chosen):
    found = [data.batches[number] for number in chosen]
    assert all((batch["x"] == batch["z"]).all() for batch in found)
    return [int(number) for batch in found for number in batch["z"][:, 0]]


@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=8),
    st.sampled_from([0, 0.1, 0.2, 0.25, 0.5, 0.9]),
    st.integers(0, 9),
    st.sampled_from([0, 10**9]),
    st.none() | st.integers(1, 300),
)
@examples(60)
def test_every_sample_once(sizes, holdout, seed, limit, samples):
    """In calibration or held out, the share as close as whole samples allow, in batches that are not too large."""
    total = min(sum(sizes), samples or sum(sizes))
    if total < 1 + (holdout > 0):
        with pytest.raises(ValueError, match=r"no calibration data|too few"):
            read(SOURCE, feeds_of(sizes), samples, holdout, seed, Store(limit))
        return
    data = read(SOURCE, feeds_of(sizes), samples, holdout, seed, Store(limit))
    kept, held = numbers_of(data, data.calibration), numbers_of(data, data.held_out)
    assert sorted(kept + held) == list(range(total))
    assert (data.samples, data.held_out_samples) == (total, len(held))
    assert len(held) <= max(total * holdout + 1, holdout > 0)
    assert len(held) >= min(max(total * holdout - 1, holdout > 0), total - 1)
    assert all(0 < len(data.batches[number]["x"]) <= batches.MOST_SAMPLES for number in range(len(data.batches)))


def test_exact_share_and_seed():
    """A share that makes a whole number is met; another seed chooses others."""
    chosen = []
    for seed in (0, 0, 1):
        data = read(SOURCE, feeds_of([35] * 4), None, 0.2, seed, Store(0))
        chosen.append(numbers_of(data, data.held_out))
        assert len(chosen[-1]) == 28
    assert chosen[0] == chosen[1] != chosen[2]


def test_large_samples(monkeypatch):
    """Large samples come in small batches."""
    monkeypatch.setattr(batches, "MOST_BYTES", 50)
    data = read(SOURCE, feeds_of([9]), None, 0, 0, Store(0))
    assert [len(data.batches[number]["x"]) for number in data.calibration] == [4, 4, 1]
    assert data.batches.sizes == [48, 48, 12]


def test_times_are_no_samples():
    """Where the first axis is that of a recurrent node, a feed is one sample."""
    weights = {"w": np.zeros((1, 4, 3), np.float32), "r": np.zeros((1, 4, 4), np.float32)}
    model = model_of([helper.make_node("RNN", ["x", "w", "r"], ["y"], hidden_size=4)], {"x": ["t", "n", 3]}, ["y"], weights)
    feeds = [{"x": np.zeros((times, 2, 3), np.float32)} for times in (5, 6, 7, 8)]
    data = read(Source(model), feeds, 3, 0.3, 0, Store(0))
    assert (data.samples, data.held_out_samples, data.by_sample) == (3, 1, False)
