"""Small models and fresh interpreters for the tests of the provider's ONNX Runtime side."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def pruned(rng, shape, zeros=0.9):
    """Weights with this share of zeros."""
    weights = rng.standard_normal(shape).astype(np.float32)
    return np.where(rng.random(shape) < zeros, np.float32(0), weights)


def convolutions(weights_of=numpy_helper.from_array):
    """x -> Conv -> Relu -> Conv -> y, both with 90 % zeros."""
    rng = np.random.default_rng(0)
    weights = [weights_of(pruned(rng, shape), name) for name, shape in (("first", (32, 16, 1, 1)), ("second", (24, 32, 3, 3)))]
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], name="conv_first"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "second"], ["y"], name="conv_second", pads=[1, 1, 1, 1]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16, 12, 12])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 24, 12, 12])
    graph = helper.make_graph(nodes, "convolutions", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def model():
    """A sparse model in which `policy=always` takes every node."""
    return convolutions()


@pytest.fixture
def model_bytes(model):
    """The same, serialised."""
    return model.SerializeToString()


@pytest.fixture
def model_file(model, tmp_path):
    """The same, in a file."""
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def x():
    """An input of that model."""
    return np.random.default_rng(1).standard_normal((2, 16, 12, 12)).astype(np.float32)


@pytest.fixture
def fresh():
    """Run code in a new interpreter; returns the finished process. `expect` is its exit code."""

    def run(code, *arguments, expect=0):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert process.returncode == expect, process.stdout + process.stderr
        return process

    return run
