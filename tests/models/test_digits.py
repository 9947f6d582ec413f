"""The digits net learns, is pruned as promised, and is the same every time."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from onnxruntime_ep_sparse.models import digits
from support.promises import cpu_session, owned_session

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


class Images(CalibrationDataReader):
    """Images of the training, one batch."""

    def __init__(self, images__nchw):
        self.batches = iter([{"image": images__nchw}])

    def get_next(self):
        """Return the next batch, None after the last."""
        return next(self.batches, None)


@pytest.mark.parametrize(("form", "activations"), [("QDQ", "QUInt8"), ("QDQ", "QInt8"), ("QOperator", "QUInt8")])
def test_a_quantised_net_keeps_its_predictions(trained, tmp_path, form, activations):
    """As `onnxruntime.quantization` writes it: at most one image of the test set gets another label than in ONNX Runtime's exact mode.

    ONNX Runtime has no QGemm with int8 activations.
    """
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    onnx.save(trained.model, source)
    quantize_static(
        source,
        target,
        Images(trained.training__nchw[:256]),
        quant_format=QuantFormat[form],
        per_channel=True,
        activation_type=QuantType[activations],
        weight_type=QuantType.QInt8,
    )
    quantised = onnx.load(target)
    weights = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in quantised.graph.initializer if tensor.data_type == onnx.TensorProto.INT8
    }
    pruned = [weight for name, weight in weights.items() if name.removesuffix("_quantized") in digits.PRUNED]
    assert len(pruned) == len(digits.PRUNED)
    assert all(np.mean(weight == 0) >= 0.9 for weight in pruned)
    exact = cpu_session(quantised, entries={"session.x64quantprecision": "1"})
    ours, theirs = (session.run(None, {"image": trained.images__nchw})[0] for session in (owned_session(quantised, regions=1), exact))
    assert np.count_nonzero(ours.argmax(axis=1) != theirs.argmax(axis=1)) <= 1
    assert trained.accuracy(ours) >= 0.965
