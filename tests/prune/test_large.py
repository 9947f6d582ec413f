"""Models with external data, models beyond 2 GB, and the memory that pruning takes."""

import os

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxruntime_ep_sparse.prune.sequential import BESIDES
from support.making import model_of, noise
from support.pruning import prune


def save(path, arrays, nodes, inputs, outputs, sparse_file=None):
    """Write a model with all its weights in a file beside it; `sparse_file` adds a tensor of zeros that takes no room on the disk."""
    onnx.save(model_of(nodes, inputs, outputs, arrays), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    if sparse_file is not None:
        name, shape = sparse_file
        size = 4 * int(np.prod(shape))
        (path.parent / "zeros.bin").touch()
        os.truncate(path.parent / "zeros.bin", size)
        model = onnx.load(path, load_external_data=False)
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in {"location": "zeros.bin", "offset": "0", "length": str(size)}.items():
            tensor.external_data.add(key=key, value=value)
        model.graph.initializer.append(tensor)
        path.write_bytes(model.SerializeToString())


def two_layers(rng):
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], name="first"),
        helper.make_node("Add", ["a", "b0"], ["b"]),
        helper.make_node("Tanh", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "w1"], ["d"], name="second"),
        helper.make_node("Tanh", ["d"], ["y"]),
    ]
    return nodes, {"w0": noise(rng, 24, 32), "b0": noise(rng, 32), "w1": noise(rng, 32, 16)}


def test_external_data(tmp_path):
    """Pruned from a file with external data, and saved with external data, the model is the one in memory; the input stays as it is."""
    rng = np.random.default_rng(0)
    nodes, arrays = two_layers(rng)
    path = tmp_path / "dense.onnx"
    save(path, arrays, nodes, {"x": ["n", 24]}, ["y"])
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    feeds = [{"x": noise(rng, 300, 24)}]
    result = prune(path, feeds, sparsity=0.5)
    folder = tmp_path / "out"
    folder.mkdir()
    result.save(folder / "pruned.onnx")
    assert sorted(file.name for file in folder.iterdir()) == ["pruned.onnx", "pruned.onnx.data"]
    in_memory = prune(model_of(nodes, {"x": ["n", 24]}, ["y"], arrays), feeds, sparsity=0.5).model
    for model in (onnx.load(folder / "pruned.onnx"), result.model):
        found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for tensor in in_memory.graph.initializer:
            assert (found[tensor.name] == numpy_helper.to_array(tensor)).all()
    y = onnxruntime.InferenceSession(folder / "pruned.onnx").run(None, feeds[0])[0]
    assert (y == onnxruntime.InferenceSession(in_memory.SerializeToString()).run(None, feeds[0])[0]).all()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before


@pytest.mark.slow
def test_beyond_two_gigabytes(tmp_path):
    """A table of 2.2 GB is neither read into memory nor a reason to fail."""
    rng = np.random.default_rng(0)
    nodes, arrays = two_layers(rng)
    table = (23_000_000, 24)
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
    nodes = [helper.make_node("Gather", ["table", "ids"], ["rows"]), helper.make_node("Add", ["rows", "x"], ["z"]), *nodes]
    nodes[2].input[0] = "z"
    path = tmp_path / "dense.onnx"
    save(path, arrays, nodes, {"x": ["n", 24]}, ["y"], ("table", table))
    model = onnx.load(path, load_external_data=False)
    model.graph.input.append(ids)
    path.write_bytes(model.SerializeToString())
    feeds = [{"x": noise(rng, 300, 24), "ids": rng.integers(0, table[0], 300)}]
    result = prune(path, feeds, sparsity=0.5)
    assert result.report.zeros == 24 * 32 // 2 + 32 * 16 // 2
    result.save(tmp_path / "pruned.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "pruned.onnx")
    assert np.isfinite(session.run(None, feeds[0])[0]).all()
    os.unlink(tmp_path / "pruned.onnx.data")


PEAK = """
import resource, sys
import numpy as np, onnxruntime, scipy.linalg, threadpoolctl
from onnx import TensorProto, helper, numpy_helper
from onnxruntime_ep_sparse.prune.engine import prune

rng = np.random.default_rng(0)
weight = (rng.standard_normal((64, 512, 3, 3)) / 68).astype(np.float32)
nodes = [
    helper.make_node("Conv", ["x", "first"], ["a"], name="first"),
    helper.make_node("Conv", ["a", "w"], ["b"], name="large", pads=[1, 1, 1, 1]),
    helper.make_node("Tanh", ["b"], ["y"]),
]
infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", c, 16, 16]) for n, c in (("x", 64), ("y", 64))]
first = (rng.standard_normal((512, 64, 1, 1)) / 8).astype(np.float32)
tensors = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(first, "first")]
graph = helper.make_graph(nodes, "large", infos[:1], infos[1:], tensors)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
feeds = [{"x": rng.standard_normal((6, 64, 16, 16)).astype(np.float32)} for _ in range(4)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
result = prune(model, feeds, sparsity=0.5, memory=int(sys.argv[1]), threads=1, timed=False)
peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
(layer,) = result.report.layers
assert layer.inputs == 4608 and layer.refitted, layer
print(peak)
"""


@pytest.mark.slow
def test_peak_memory(fresh):
    """With K = 4608, what the process takes stays within the limit, less than which would be refused."""
    limit = BESIDES + 4 * (5 * 4608**2 + 14 * 64 * 4608)
    peak = int(fresh(PEAK, limit).stdout)
    assert peak < limit, f"{peak / 1e6:.0f} MB, and the limit is {limit / 1e6:.0f} MB"
