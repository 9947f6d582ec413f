"""`analyze --impose-sparsity`."""

import json

import numpy as np
import pytest
from onnx.helper import make_node

from support.making import model_of, pruned


@pytest.fixture
def net(saved):
    """A dense perceptron whose last layer is a classifier."""
    rng = np.random.default_rng(0)
    sizes = (256, 512, 256, 16)
    nodes = []
    for i in range(3):
        nodes.append(make_node("Gemm", [f"x{i}", f"w{i}"], [f"y{i}"], f"layer{i}"))
        nodes.append(make_node("Relu", [f"y{i}"], [f"x{i + 1}"], f"relu{i}"))
    weights = {f"w{i}": pruned(rng, sizes[i : i + 2], 0.0) for i in range(3)}
    return saved(model_of(nodes[:-1], {"x0": ["batch", 256]}, ["y2"], weights), "net.onnx")


def test_layers_and_totals(cli, net):
    """A row per layer, totals per operator, and the expected speed-up, in text and in the document."""
    result = cli("analyze", net, "--impose-sparsity", "0.95", "--threads", 1)
    assert "times as fast" in result.out
    assert "all nodes" in result.out
    assert "no zeros in 1 layer: it is a classifier: its result is the model's: layer2" in result.out
    document = cli("analyze", net, "--impose-sparsity", "0.95", "--threads", 1, "--batch", 2, "--json", "-").document
    assert document["shapes"] == {"x0": [2, 256]}
    assert document["impose_sparsity"] == ["0.95"]
    assert document["speedup"] == document["expected"]["speedup"] > 1  # by the table of rates: nothing is timed


def test_by_layer_and_measured(cli, net, tmp_path):
    """Layers that a file names, whatever their role; --measure adds what they take."""
    file = tmp_path / "layers.json"
    file.write_text(json.dumps({"layer0": 0.95, "layer2": "0.9:4x1"}))
    text = cli("analyze", net, "--impose-sparsity", file, "--threads", 1, "--measure").out
    assert "measured CPU ms" in text
    assert "measured: " in text
    assert "4x1" in text


def test_nothing_gained(cli, net, dense_model):
    """It says so; and so where there is no layer that pruning would choose."""
    assert "a file NAME.json may name layers" in cli("analyze", dense_model, "--impose-sparsity", "0.9", expect=2).err
    assert "would take nothing" in cli("analyze", net, "--impose-sparsity", "0.9", "--option", "policy=never").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--impose-sparsity", "2"), "expected a share from 0 to 1"),
        (("--impose-sparsity", "0.9:zigzag"), "unknown pattern"),
        (("--impose-sparsity", "LSTM=0.9"), "there is no layer of type LSTM"),
        (("--impose-sparsity", "missing.json"), "cannot read missing.json"),
        (("--measure",), "--measure goes with --impose-sparsity"),
    ],
)
def test_wrong_use(cli, net, arguments, words):
    """One line, exit code 2."""
    result = cli("analyze", net, *arguments, expect=2)
    (line,) = [line for line in result.err.splitlines() if line.startswith("ort-sparse:")]
    assert words in line
    assert not result.out


def test_compressed_models_are_unpacked_first(cli, sparse_model, tmp_path):
    """Their weights are not in a form that zeros can be imposed on."""
    cli("pack", sparse_model, tmp_path / "packed.onnx")
    assert "ort-sparse unpack it first" in cli("analyze", tmp_path / "packed.onnx", "--impose-sparsity", "0.9", expect=2).err
