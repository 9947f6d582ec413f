"""Small models in files, and ways to run the command line."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from onnxruntime_ep_sparse.cli import app


@dataclass
class Result:
    """What a command left: exit code, what it printed, and its JSON document if it wrote one to stdout."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The document; nothing else may be on stdout."""
        found = json.loads(self.out)
        assert found["schema"] == 1
        return found


@pytest.fixture
def cli():
    """Run a command in this process; an exception that escapes it fails the test."""

    def run(*arguments, expect=0):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == expect, result.output
        return Result(result.exit_code, result.stdout, result.stderr)

    return run


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
