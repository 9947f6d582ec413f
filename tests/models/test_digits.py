"""The digits net learns, is pruned as promised, and is the same every time."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from onnxruntime_ep_sparse.models import digits

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shares():
    """Progress reported while `trained` was made."""
    return []


@pytest.fixture(scope="module")
def trained(shares):
    """The net of the demo."""
    return digits.train(0, shares.append)


def logits(result):
    """Of the test images."""
    session = onnxruntime.InferenceSession(result.model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": result.images__nchw})[0]


def test_accuracy(trained):
    y = logits(trained)
    assert y.shape == (len(trained.labels), 10)
    assert trained.accuracy(y) >= 0.97
    assert trained.accuracy(y) == trained.accuracy(y.argmax(axis=1))


def test_sparsity(trained):
    onnx.checker.check_model(trained.model, full_check=True)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in trained.model.graph.initializer}
    for name in digits.PRUNED:
        assert np.count_nonzero(values[name] == 0) == round(0.9 * values[name].size), name
    assert values["conv1.weight"].all()


def test_progress(trained, shares):
    assert shares[0] == 0
    assert shares[-1] == 1
    assert shares == sorted(shares)


def test_schedule():
    steps = [digits.sparsity_at(share, 0.9) for share in np.linspace(0, 1, 50)]
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert steps[-1] == pytest.approx(0.9)
    assert digits.sparsity_at(sum(digits.PRUNING) / 2, 0.8) == pytest.approx(0.8 * 7 / 8)


def test_determinism():
    first, again, other = (digits.train(seed, epochs=1, channels=(4, 8), hidden=16) for seed in (0, 0, 1))
    assert first.model.SerializeToString() == again.model.SerializeToString()
    assert first.model.SerializeToString() != other.model.SerializeToString()
    np.testing.assert_array_equal(first.images__nchw, again.images__nchw)
