"""Small models and pruned weights for tests."""

import os

import numpy as np
import onnx
from hypothesis import HealthCheck, settings
from onnx import TensorProto, helper, numpy_helper

PATTERNS = ("unstructured", "blocks", "2:4", "rows", "columns", "all zero", "dense")
MORE = int(os.environ.get("ORT_SPARSE_TEST_EXAMPLES", "1"))
"""How many times the usual number of random examples to try; above 1 they also differ from run to run."""


def examples(count):
    """Settings of a property test: the same `count` examples in every ordinary run."""
    return settings(max_examples=count * MORE, derandomize=MORE == 1, deadline=None, suppress_health_check=list(HealthCheck))


def pruned(rng, shape, zeros=0.9, pattern="unstructured"):
    """Weights whose first axis is the output, with about this share of zeros in a pattern."""
    weight = rng.standard_normal(shape).astype(np.float32)
    # columns in the order of N:M groups: neighbouring inputs of one tap
    taps_first = np.moveaxis(weight, 1, -1) if weight.ndim > 1 else weight[None]
    matrix = taps_first.reshape(len(taps_first), -1)
    rows, depth = matrix.shape
    if pattern == "unstructured":
        keep = rng.random(matrix.shape) >= zeros
    elif pattern == "blocks":
        keep = np.repeat(rng.random((-(-rows // 4), depth)) >= zeros, 4, axis=0)[:rows]
    elif pattern == "shuffled blocks":
        keep = rng.permutation(np.repeat(rng.random((-(-rows // 4), depth)) >= zeros, 4, axis=0)[:rows])
    elif pattern == "2:4":
        keep = np.argsort(rng.random((rows, -(-depth // 4), 4))).reshape(rows, -1)[:, :depth] < 2
    elif pattern == "rows":
        keep = np.broadcast_to(rng.random((rows, 1)) >= zeros, matrix.shape)
    elif pattern == "columns":
        keep = np.broadcast_to(rng.random((1, depth)) >= zeros, matrix.shape)
    else:
        keep = np.full(matrix.shape, pattern == "dense")
    kept = np.where(keep, matrix, np.float32(0)).reshape(taps_first.shape)
    return np.ascontiguousarray(np.moveaxis(kept, -1, 1) if weight.ndim > 1 else kept[0])


def noise(rng, *shape):
    """Activations."""
    return rng.standard_normal(shape).astype(np.float32)


def graph_of(nodes, inputs, outputs, weights):
    """A graph. `inputs` and `outputs` map names to shapes (a sequence of outputs has no shapes); `weights` map names to arrays."""
    if not isinstance(outputs, dict):
        outputs = dict.fromkeys(outputs)
    infos = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in values.items()] for values in (inputs, outputs)]
    return helper.make_graph(nodes, "test", *infos, [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()])


def model_of(nodes, inputs, outputs, weights, opset=20, domains=()):
    """A model of that graph; `domains` are those of its operators besides ONNX's own."""
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph_of(nodes, inputs, outputs, weights), opset_imports=opsets, ir_version=9)


def carried(nodes, shape, weights=None, declared=None, opset=20):
    """x -> MatMul by the identity -> p, then the nodes, to y."""
    nodes = [helper.make_node("MatMul", ["x", "identity"], ["p"]), *nodes]
    weights = {"identity": np.eye(shape[-1], dtype=np.float32), **(weights or {})}
    return model_of(nodes, {"x": declared or shape}, ["y"], weights, opset=opset)


def dynamic(shape):
    """Names for all dimensions but the last, which the identity fixes."""
    return [f"d{i}" for i in range(len(shape) - 1)] + [shape[-1]]


def bits_of(path):
    """The whole model of a file with its external data."""
    return onnx.load(path).SerializeToString(deterministic=True)


def corrupted(model, name, change):
    """Return a copy of a model in which one element of a weight, the largest, is changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (tensor,) = (each for each in copy.graph.initializer if each.name == name)
    array = numpy_helper.to_array(tensor).copy()
    place = np.abs(array).argmax()
    array.flat[place] = change(array.flat[place])
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return copy
