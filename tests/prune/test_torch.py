"""With PyTorch itself, if it is installed: what its exporters write finds its parameters again, and training goes on from there."""

import io
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from onnxruntime_ep_sparse.prune.engine import prune
from onnxruntime_ep_sparse.prune.masks import Masks

torch = pytest.importorskip("torch", reason="NOT TESTED: masks in PyTorch need torch (pip install torch)")
nn, functional = torch.nn, torch.nn.functional

pytestmark = pytest.mark.slow
torch.set_num_threads(1)  # with more, products this small wait for each other


class Mixed(nn.Module):
    """Every kind of weight that exporters change: a folded BatchNormalization, an LSTM, a joined projection, Linear on three axes."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.hidden, self.logits = nn.Linear(1024, 64), nn.Linear(64, 10)
        self.lstm = nn.LSTM(8, 16, bidirectional=True, batch_first=True)
        self.attention, self.out = nn.MultiheadAttention(32, 4, batch_first=True), nn.Linear(32, 24)

    def forward(self, x):
        """Return the outputs of both branches."""
        image = functional.relu(self.norm(self.conv(x))).flatten(1)
        sequence, _ = self.lstm(x[:, 0])
        sequence, _ = self.attention(sequence, sequence, sequence, need_weights=False)
        return self.logits(functional.relu(self.hidden(image))), self.out(sequence)


class Small(nn.Module):
    """A convolutional net for 8 x 8 digits."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.hidden, self.logits = nn.Linear(512, 128), nn.Linear(128, 10)

    def forward(self, x):
        """Return the logits of images (N, 1, 8, 8)."""
        x = functional.max_pool2d(functional.relu(self.conv2(functional.relu(self.conv1(x)))), 2)
        return self.logits(functional.relu(self.hidden(x.flatten(1))))


def exported(net, x, dynamo):
    """The ONNX model of a net."""
    net.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            pytest.importorskip("onnxscript", reason="NOT TESTED: the dynamo exporter needs onnxscript")
            return torch.onnx.export(net, (x,), dynamo=True, verbose=False).model_proto
        file = io.BytesIO()
        torch.onnx.export(net, (x,), file, input_names=["x"], dynamic_axes={"x": {0: "batch"}}, dynamo=False)
        return onnx.load_from_string(file.getvalue())


def outputs_of(model, x):
    """What ONNX Runtime computes."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})


@pytest.mark.parametrize("dynamo", [False, True], ids=["TorchScript", "dynamo"])
def test_copied_weights_compute_the_same(dynamo):
    """Half of each weight of the exported model is zero; then the module computes what that model does, and keeps doing so."""
    torch.manual_seed(0)
    net, x = Mixed(), torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        net.norm.weight.uniform_(-2, 2)
        net.norm.running_var.uniform_(0.5, 2)
        net.norm.running_mean.normal_()
    model, rng, masks = exported(net, x, dynamo), np.random.default_rng(0), Masks()
    for tensor in model.graph.initializer:
        dense = numpy_helper.to_array(tensor)
        if dense.ndim > 1 and dense.size > 256 and dense.dtype == np.float32:  # biases of the LSTM are (2, 128)
            kept = rng.random(dense.shape) > 0.5
            pruned = np.where(kept, dense * 1.5, 0).astype(np.float32)
            masks.add(tensor.name, kept, dense, pruned)
            tensor.CopyFrom(numpy_helper.from_array(pruned, tensor.name))
    bound = masks.attach(net)
    assert bound.unmatched == ()
    bound.copy_weights()
    bound.apply()
    for found, wanted in zip(net(x), outputs_of(model, x), strict=True):
        np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-4, atol=1e-5)
    zeros = sum(int((parameter == 0).sum()) for name, parameter in net.named_parameters() if name in bound.masks)
    assert zeros == sum(int((~mask).sum()) for mask in masks.values())


def images():
    """Handwritten digits: images and labels to train with, and to test."""
    datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn")
    found = datasets.load_digits()
    x, y = torch.tensor(found.images[:, None] / 16, dtype=torch.float32), torch.tensor(found.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    test, train = order[:400], order[400:]
    return (x[train], y[train]), (x[test], y[test])


def trained(net, data, epochs, after_step=lambda: None):
    """Train a net with Adam."""
    x, y = data
    optimizer, generator = torch.optim.Adam(net.parameters(), 1e-3), torch.Generator().manual_seed(1)
    for _ in range(epochs):
        for batch in torch.randperm(len(x), generator=generator).split(32):
            optimizer.zero_grad()
            functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
            after_step()
    return net


def accuracy(net, data):
    """The share of right labels."""
    with torch.no_grad():
        return float((net(data[0]).argmax(1) == data[1]).float().mean())


def test_fine_tuning_from_pruned_weights():
    """At 98 % zeros and after two epochs, better than with the same masks from dense weights."""
    torch.manual_seed(0)
    train, test = images()
    net = trained(Small(), train, 12)
    dense = {name: value.clone() for name, value in net.state_dict().items()}
    pruned = prune(exported(net, train[0][:2], dynamo=False), [{"x": train[0].numpy()}], sparsity=0.98)
    found = {}
    for start in ("dense", "pruned"):
        net.load_state_dict(dense)
        bound = pruned.masks.attach(net)
        assert bound.unmatched == ()
        if start == "pruned":
            bound.copy_weights()
            np.testing.assert_allclose(net(test[0]).detach().numpy(), outputs_of(pruned.model, test[0])[0], rtol=1e-3, atol=1e-3)
        bound.apply()
        found[f"{start} before"] = accuracy(net, test)
        trained(net, train, 2, bound.apply)
        found[start] = accuracy(net, test)
        for name, mask in bound.masks.items():
            assert int((dict(net.named_parameters())[name] != 0).sum()) <= int(mask.sum()) == round(0.02 * mask.size)
    print(found)
    assert found["pruned before"] > found["dense before"]
    assert found["pruned"] > found["dense"]
