"""What every test may use: a registered provider, small models, fresh interpreters."""

import gc
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxruntime_ep_sparse as sparse
import onnxruntime_ep_sparse_kernels as kernels
from support.kernel_sets import EMULATED
from support.making import pruned


@pytest.fixture(scope="session", autouse=True)
def registered():
    """The provider is registered, as a program that uses it would do once."""
    sparse.register()


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Tables have the width of files and pipes, whatever COLUMNS the shell exports."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def session():
    """Make a session that has the provider and fails rather than falling back."""

    def make(model, options=None, **arguments):
        providers = [(sparse.EP_NAME, options or {}), "CPUExecutionProvider"]
        return onnxruntime.InferenceSession(model, providers=providers, enable_fallback=0, **arguments)

    return make


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


@pytest.fixture
def anywhere():
    """The environment of a program that runs in another folder: relative paths in PYTHONPATH lead to the same folders."""
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def make_chain(sparsity, batch="batch", names=("conv", "relu", "product")):
    """x -> Conv -> Relu -> GlobalAveragePool -> Flatten -> MatMul -> y, large enough to be worth it if `sparsity` is."""
    rng = np.random.default_rng(0)

    def weights(name, shape):
        keep = rng.permuted(np.arange(np.prod(shape)) >= round(sparsity * np.prod(shape))).reshape(shape)
        return numpy_helper.from_array((rng.standard_normal(shape) * keep / 8).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name=names[0], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name=names[1]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], name="pool"),
        helper.make_node("Flatten", ["c"], ["d"], name="flatten"),
        helper.make_node("MatMul", ["d", "v"], ["y"], name=names[2]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 64, 28, 28])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 100])
    initializers = [weights("w", (128, 64, 3, 3)), weights("v", (128, 100))]
    graph = helper.make_graph(nodes, "chain", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def chain():
    """Make that model with this share of zeros."""
    return make_chain


@pytest.fixture
def saved(tmp_path):
    """Write a model to a file."""

    def save(model, name="model.onnx"):
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def sparse_model(saved):
    """Of 95 % zeros."""
    return saved(make_chain(0.95), "sparse.onnx")


@pytest.fixture
def dense_model(saved):
    """Without zeros: nothing in it is worth taking."""
    return saved(make_chain(0.0), "dense.onnx")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Call the tests of emulated kernels slow: each process compiles these for 20 s or more."""
    for item in items:
        if EMULATED.name in item.nodeid:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    """Leave out what collection has made when garbage is collected: thousands of tests made each collection take 0.3 s."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """Kernels that were built but cannot run here must not look tested."""
    for isa in kernels.compiled_isas():
        if isa not in kernels.available_isas():
            terminalreporter.section(f"NOT RUN: {isa} kernels", sep="!", red=True, bold=True)
            terminalreporter.line(f"This CPU lacks {isa}: its kernels were compiled, their machine code was not executed.")
