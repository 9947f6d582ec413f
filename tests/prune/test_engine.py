"""Whole models: pruned layer by layer, to the promised number of zeros, better than by magnitude."""

from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from onnxruntime_ep_sparse.prune.methods import METHODS
from onnxruntime_ep_sparse.prune.sequential import BESIDES
from support.making import model_of, noise
from support.pruning import prune


def outputs(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def weights(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def mlp(rng, sizes=(32, 64, 48, 10)):
    """Gemm and Relu by turns; the last Gemm is the classifier."""
    nodes, arrays, x = [], {}, "x"
    for i, (inputs, count) in enumerate(pairwise(sizes)):
        arrays |= {f"w{i}": noise(rng, inputs, count) / np.float32(inputs) ** 0.5, f"b{i}": noise(rng, count) * np.float32(0.1)}
        last = i == len(sizes) - 2
        nodes.append(helper.make_node("Gemm", [x, f"w{i}", f"b{i}"], ["y" if last else f"h{i}"], name=f"fc{i}"))
        if not last:
            nodes.append(helper.make_node("Relu", [f"h{i}"], [f"r{i}"]))
        x = f"r{i}"
    return model_of(nodes, {"x": ["batch", sizes[0]]}, ["y"], arrays)


def data(rng, count=400, inputs=32):
    """Samples with few degrees of freedom, as real ones have."""
    return noise(rng, count, 12) @ noise(rng, 12, inputs) + 0.1 * noise(rng, count, inputs)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_better_than_magnitude(rng):
    """ADMM keeps more of the results than the other methods; all make the same number of zeros, and leave the input as it was."""
    model, x, unseen = mlp(rng), None, None
    x = data(rng, 600)
    x, unseen = x[:400], x[400:]
    before = model.SerializeToString()
    dense = outputs(model, unseen)[0]
    errors = {}
    for method in METHODS:
        result = prune(model, [{"x": x}], sparsity=0.7, method=method)
        pruned = weights(result.model)
        for name, size in (("w0", 32 * 64), ("w1", 64 * 48)):
            assert np.count_nonzero(pruned[name] == 0) == round(0.7 * size)
        assert np.count_nonzero(pruned["w2"]) == 480
        errors[method] = float(((outputs(result.model, unseen)[0] - dense) ** 2).mean())
        assert result.report.zeros == round(0.7 * 32 * 64) + round(0.7 * 64 * 48)
    assert errors["admm"] < 0.5 * min(errors["wanda"], errors["magnitude"])
    assert errors["admm"] < errors["sparsegpt"]
    assert model.SerializeToString() == before


@pytest.mark.parametrize("pattern", ["4x1", "1x4", "2:4"])
def test_patterns(rng, pattern):
    """The zeros have the pattern, and half of the weights are zero."""
    result = prune(mlp(rng), [{"x": data(rng)}], sparsity=0.5, pattern=pattern)
    for name in ("w0", "w1"):
        kept = weights(result.model)[name].T != 0
        assert kept.mean() == 0.5
        blocks = kept.reshape(-1, 4, kept.shape[1]).sum(axis=1) if pattern == "4x1" else kept.reshape(len(kept), -1, 4).sum(axis=2)
        assert set(np.unique(blocks)) == ({2} if pattern == "2:4" else {0, 4})


def test_convolutions(rng):
    """The first convolution and the depthwise one stay dense, the others get zeros."""
    arrays = {"w0": noise(rng, 8, 3, 3, 3), "w1": noise(rng, 8, 1, 3, 3), "w2": noise(rng, 16, 8, 3, 3), "w3": noise(rng, 16, 8, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], name="first"),
        helper.make_node("Conv", ["a", "w1"], ["b"], name="depthwise", group=8),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c", "w2"], ["d"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("Conv", ["e", "w3"], ["f"], name="grouped", group=2),
        helper.make_node("Tanh", ["f"], ["y"]),
    ]
    model = model_of(nodes, {"x": ["batch", 3, 12, 12]}, ["y"], arrays)
    x = noise(rng, 40, 3, 12, 12)
    result = prune(model, [{"x": x}], sparsity=0.6)
    assert [layer.name for layer in result.report.layers] == ["second", "grouped"]
    assert {layer.name for layer in result.report.skipped} == {"first", "depthwise"}
    pruned = weights(result.model)
    assert np.count_nonzero(pruned["w2"] == 0) == round(0.6 * 16 * 8 * 9)
    assert np.count_nonzero(pruned["w3"] == 0) == round(0.6 * 16 * 8 * 9)
    assert (pruned["w0"] == arrays["w0"]).all()
    by_magnitude = prune(model, [{"x": x}], sparsity=0.6, method="magnitude")
    assert result.report.cosine > by_magnitude.report.cosine


def test_same_bytes(rng, tmp_path):
    """One seed gives the same bytes for any number of threads, another one others."""
    model, feeds = mlp(rng), [{"x": data(rng)}]
    ways = ((1, 0), (3, 0), (1, 1))
    first, second, third = (prune(model, feeds, sparsity=0.6, threads=threads, seed=seed).model for threads, seed in ways)
    assert first.SerializeToString() == second.SerializeToString()
    assert first.SerializeToString() != third.SerializeToString()


def test_memory_limit(rng):
    """Streams that have no memory go to a file, with the same result; too little memory for a layer is said."""
    model, feeds = mlp(rng), [{"x": data(rng)}]
    with pytest.raises(ValueError, match=r"memory is too little: layer 'fc0' needs 34 MB"):
        prune(model, feeds, sparsity=0.6, memory=1000)
    least = BESIDES + 4 * (5 * 64**2 + 14 * 64 * 48)
    assert prune(model, feeds, sparsity=0.6, memory=least).model == prune(model, feeds, sparsity=0.6).model


def test_saved_file(rng, tmp_path):
    """The file is the model."""
    source = tmp_path / "dense.onnx"
    onnx.save(mlp(rng), source)
    before = source.read_bytes()
    result = prune(source, [{"x": data(rng)}], sparsity=0.6)
    result.save(tmp_path / "pruned.onnx")
    assert onnx.load(tmp_path / "pruned.onnx") == result.model
    assert source.read_bytes() == before
    with pytest.raises(ValueError, match="model itself"):
        result.save(source)


@pytest.mark.parametrize(("pattern", "sparsity"), [("unstructured", 0.7), ("4x1", 0.7), ("1x4", 0.5), ("2:4", None)])
@pytest.mark.parametrize("method", METHODS)
def test_pruned_again(rng, method, pattern, sparsity):
    """A layer that has the zeros already keeps exactly these, whatever is refitted, and so does the classifier; a warning says so."""
    model = prune(mlp(rng), [{"x": data(rng)}], sparsity=sparsity, method="magnitude", pattern=pattern, only=".").model
    zeros = {name: array == 0 for name, array in weights(model).items() if name[0] == "w"}
    result = prune(model, [{"x": data(rng)}], sparsity=sparsity and sparsity - 0.1, method=method, pattern=pattern)
    for name, array in weights(result.model).items():
        if name in zeros:
            np.testing.assert_array_equal(array == 0, zeros[name], err_msg=name)
    assert [layer.zeros for layer in result.report.layers] == [int(zeros[name].sum()) for name in ("w0", "w1")]
    assert result.report.warnings == (
        "2 of 2 layers have as many zeros as asked for, or more, already: 'fc0', 'fc1'; they keep exactly their zeros",
    )
    more = prune(model, [{"x": data(rng)}], sparsity=0.9, method=method)
    assert more.report.zeros == round(0.9 * 32 * 64) + round(0.9 * 64 * 48)
    assert not more.report.warnings


def test_stack_of_matrices(rng):
    """A MatMul with a weight of three dimensions is pruned and refitted as so many layers, and gets a bias for each of them."""
    x = np.stack([data(rng, 400, 24) for _ in range(3)], axis=1)[:, :, None]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], name="stack"),
        helper.make_node("Add", ["p", "c"], ["a"]),
        helper.make_node("Tanh", ["a"], ["y"]),
    ]
    arrays = {"w": noise(rng, 3, 24, 16), "c": noise(rng, 16)}
    model = model_of(nodes, {"x": ["n", 3, 1, 24]}, ["y"], arrays)
    errors = {}
    for method in ("admm", "magnitude"):
        result = prune(model, [{"x": x[:300]}], sparsity=0.6, method=method)
        assert np.count_nonzero(weights(result.model)["w"] == 0) == result.report.zeros == round(0.6 * 3 * 24 * 16)
        errors[method] = np.square(outputs(result.model, x[300:])[0] - outputs(model, x[300:])[0]).mean()
        if method == "admm":
            assert weights(result.model)["c"].shape == (3, 1, 16)
    assert errors["admm"] < errors["magnitude"] / 2
