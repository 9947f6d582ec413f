"""Layers of recurrent nodes: their columns and matrices give the gates, and so the states, that onnxruntime computes."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxruntime_ep_sparse.prune.batches import Batches
from onnxruntime_ep_sparse.prune.selection import layers
from onnxruntime_ep_sparse.prune.source import Changes, Source
from onnxruntime_ep_sparse.prune.store import Store
from onnxruntime_ep_sparse.prune.streams import Stream
from onnxruntime_ep_sparse.prune.workers import Workers
from support.making import noise
from support.pruning import prune

TIMES, SEQUENCES, INPUTS, HIDDEN = 7, 3, 5, 4

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(rng, op_type, direction, *, lengths=False, initial=False, inputs=INPUTS, hidden=HIDDEN, **attributes):
    """A model of one node, and a batch for it."""
    directions, gates = 2 if direction == "bidirectional" else 1, GATES[op_type]
    arrays = {
        "w": noise(rng, directions, gates * hidden, inputs) / np.float32(inputs**0.5),
        "r": noise(rng, directions, gates * hidden, hidden) / np.float32(hidden**0.5),
        "b": noise(rng, directions, 2 * gates * hidden),
    }
    feeds = {"x": noise(rng, TIMES, SEQUENCES, inputs)}
    if lengths:
        feeds["lengths"] = np.array([TIMES, 1, 4], np.int32)
    if initial:
        feeds["h"] = noise(rng, directions, SEQUENCES, hidden)
    names = ["x", "w", "r", "b", "lengths" if lengths else "", "h" if initial else ""]
    node = helper.make_node(op_type, names, ["y"], name="cell", hidden_size=hidden, direction=direction, **attributes)
    kinds = {"lengths": TensorProto.INT32}
    infos = [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), [None] * a.ndim) for n, a in feeds.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph([node], "recurrent", infos, [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), feeds


def products(model, feeds):
    """What the two layers add to the gates, (directions, rows, gates * H) each, and the states before."""
    source = Source(model)
    both = list(layers(source))
    assert [layer.name for layer in both] == ["cell.W", "cell.R"]
    batches = Batches(feeds, Store(1 << 20))
    batches.append(feeds)
    with Workers(1) as workers:
        stream = Stream(Changes(source), batches, (), workers, Store(1 << 20))
        columns = [next(layer.columns(stream.site(0, 0), np.random.default_rng(0), 9)) for layer in both]
        assert all(found.shape[1] == layer.rows(stream.site(0, 0), 9) for found, layer in zip(columns, both, strict=True))
    of_w, of_r = (np.einsum("grk,gmk->rgm", c, layer.matrices(source.array(layer.weight))) for c, layer in zip(columns, both, strict=True))
    directions = source.shape("w")[0]
    return [each.reshape(len(each), directions, -1).transpose(1, 0, 2) for each in (of_w, of_r)], columns[1]


def expected(model, feeds):
    """The states after each time within the lengths, (directions, rows, H)."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y = session.run(["y"], feeds)[0].transpose(1, 0, 2, 3)
    inside = np.arange(TIMES)[:, None] < feeds.get("lengths", np.full(SEQUENCES, TIMES))
    return y[:, inside]


CASES = [(direction, lengths, initial) for direction in ("forward", "reverse", "bidirectional") for lengths in (0, 1) for initial in (0, 1)]


@pytest.mark.parametrize(("direction", "lengths", "initial"), CASES)
def test_rnn(direction, lengths, initial):
    """A state is the hyperbolic tangent of both products and the biases."""
    model, feeds = recurrent(np.random.default_rng(0), "RNN", direction, lengths=lengths, initial=initial)
    (of_w, of_r), _ = products(model, feeds)
    bias = numpy_helper.to_array(model.graph.initializer[2])[:, None]
    np.testing.assert_allclose(np.tanh(of_w + of_r + bias[..., :HIDDEN] + bias[..., HIDDEN:]), expected(model, feeds), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reset_after", [0, 1])
@pytest.mark.parametrize(("direction", "lengths", "initial"), CASES[::3])
def test_gru(direction, lengths, initial, reset_after):
    """The candidate's columns are the states times the reset gate, where that comes first."""
    model, feeds = recurrent(np.random.default_rng(0), "GRU", direction, lengths=lengths, initial=initial, linear_before_reset=reset_after)
    (of_w, of_r), columns = products(model, feeds)
    bias = numpy_helper.to_array(model.graph.initializer[2])[:, None]
    before = columns if reset_after else columns.reshape(len(of_w), 3, -1, HIDDEN)[:, 0]
    part = [slice(i * HIDDEN, (i + 1) * HIDDEN) for i in range(6)]
    z, r = (1 / (1 + np.exp(-(of_w + of_r)[..., part[i]] - bias[..., part[i]] - bias[..., part[i + 3]])) for i in (0, 1))
    recurrent_part = of_r[..., part[2]] + bias[..., part[5]]
    candidate = np.tanh(of_w[..., part[2]] + bias[..., part[2]] + (r * recurrent_part if reset_after else recurrent_part))
    np.testing.assert_allclose((1 - z) * candidate + z * before, expected(model, feeds), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op_type", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_pruned(op_type, direction):
    """Both weights get their zeros; refitted, the states stay closer to the dense ones than by magnitude."""
    rng = np.random.default_rng(1)
    model, _ = recurrent(rng, op_type, direction, inputs=24, hidden=16)
    mix = noise(rng, 6, 24)
    feeds = [{"x": noise(rng, TIMES, 50, 6) @ mix + 0.1 * noise(rng, TIMES, 50, 24)} for _ in range(8)]
    results = {method: prune(model, feeds, sparsity=0.6, method=method, only=".") for method in ("admm", "magnitude")}
    layers_of = results["admm"].report.layers
    assert [layer.name for layer in layers_of] == ["cell.W", "cell.R"]
    assert all(layer.refitted and layer.zeros == round(0.6 * layer.size) for layer in layers_of)
    assert results["admm"].report.cosine > results["magnitude"].report.cosine
    pruned = {t.name: numpy_helper.to_array(t) for t in results["admm"].model.graph.initializer}
    assert all(np.count_nonzero(pruned[layer.weight] == 0) == layer.zeros for layer in layers_of)


def test_not_pruned():
    """The recurrent weight of a GRU with other gates, or clipped ones, is left out where the reset gate comes first."""
    rng = np.random.default_rng(2)
    only_w, both = ["cell.W"], ["cell.W", "cell.R"]
    for attributes, left in (({"activations": ["HardSigmoid", "Tanh"]}, only_w), ({"clip": 1.0}, only_w), ({}, both)):
        model, _ = recurrent(rng, "GRU", "forward", **attributes)
        assert [layer.name for layer in layers(Source(model))] == left
