"""One measurement from end to end."""

import json

import numpy as np

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import measure


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
