"""Products of integers that DynamicQuantizeLinear makes in each run: equal to exact sums, as bytes from end to end."""

import numpy as np
import pytest

from onnxruntime_ep_sparse import pipeline
from onnxruntime_ep_sparse.graph.ir import Graph, Node, Value
from onnxruntime_ep_sparse.program.enums import StepKind
from onnxruntime_ep_sparse.runtime._program import Program
from support.byte_programs import pruned_bytes
from support.kernel_sets import BYTE_SETS, EVERY_BYTE_SET, byte_table_of, table_of
from support.making import noise
from support.quantized import conv_sums

F32 = np.float32
FLOAT, UINT8, INT8, INT32 = 1, 2, 3, 6


def graph_of(nodes, x_shape, constants, types, shapes):
    """A graph of (operator, inputs, outputs, attributes); values are float32 unless `types` has another number of ONNX."""
    values = {name: Value(name, types.get(name, FLOAT), array.shape) for name, array in constants.items()}
    values |= {name: Value(name, types.get(name, FLOAT), shape) for name, shape in (shapes | {"x": x_shape}).items()}
    made = tuple(Node(i, f"n{i}", op, "", 17, inputs, outputs, attributes) for i, (op, inputs, outputs, attributes) in enumerate(nodes))
    return Graph(made, values, frozenset(constants), constants.__getitem__, ("x",), ("y",))


def quantised(x):
    """What DynamicQuantizeLinear makes of x, as ONNX defines it: bytes, scale, zero point."""
    low, high = min(x.min(), F32(0)), max(x.max(), F32(0))
    scale = F32(high - low) / F32(255)
    zero = np.rint(np.clip(-low / scale, 0, 255)).astype(np.int64)
    return np.clip(np.rint(x / scale).astype(np.int64) + zero, 0, 255), scale, zero


def chain(x_shape, weight, attributes, scale, bias, *, relu, adds=True):
    """What quantize_dynamic writes for a product with a bias: the scale of x times those of the weight multiplies the sums."""
    product = "ConvInteger" if attributes is not None else "MatMulInteger"
    y_shape = (None,) * len(x_shape)
    nodes = [
        ("DynamicQuantizeLinear", ("x",), ("q", "s", "z"), {}),
        (product, ("q", "w", "z"), ("i",), attributes or {}),
        ("Cast", ("i",), ("c",), {"to": FLOAT}),
        ("Mul", ("s", "ws"), ("f",), {}),
        ("Mul", ("c", "f"), ("m",), {}),
        *([("Add", ("m", "b"), ("a",), {})] if adds else []),
        *([("Relu", ("a" if adds else "m",), ("y",), {})] if relu else []),
    ]
    op, inputs, _, given = nodes[-1]
    nodes[-1] = (op, inputs, ("y",), given)
    constants = {"w": weight.astype(np.int8), "ws": scale, "b": bias}
    shapes = {"q": x_shape, "s": (), "z": (), "f": scale.shape, **dict.fromkeys(("i", "c", "m", "a", "y"), y_shape)}
    return graph_of(nodes, x_shape, constants, {"w": INT8, "q": UINT8, "z": UINT8, "i": INT32}, shapes)


def ran(graph, row, x, workers):
    """The kinds of a region's steps, and its result."""
    spec = pipeline.lower_to_spec(graph, row.isa)
    return [step.kind for step in spec.steps], Program(spec, table_of(row.isa), workers, byte_table=byte_table_of(row)).run(x)[0]


@EVERY_BYTE_SET
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("scales", [(), (45,)], ids=["tensor", "channel"])
def test_matrix(row, relu, scales):
    """Bytes, one product with scale, bias and activation; equal to the formula."""
    rng = np.random.default_rng(0)
    weight = pruned_bytes(rng, (45, 60), 0.8).T
    scale, bias = rng.uniform(0.001, 0.01, scales).astype(F32), noise(rng, 45)
    for rows in (17, 300):
        x = noise(rng, rows, 60)
        q, s, z = quantised(x)
        expected = ((q - z) @ weight.astype(np.int64)).astype(F32) * (s * scale) + bias
        for workers in (1, 3):
            kinds, y = ran(chain((rows, 60), weight, None, scale, bias, relu=relu), row, x, workers)
            assert kinds == [StepKind.DYNAMIC_QUANTIZE, StepKind.BINARY, StepKind.BYTE_PRODUCT]
            np.testing.assert_array_equal(y, np.maximum(expected, 0) if relu else expected)


@EVERY_BYTE_SET
def test_convolution(row):
    """A convolution pads with the zero point that the run has found."""
    rng = np.random.default_rng(1)
    weight, x = pruned_bytes(rng, (20, 7, 3, 3), 0.8), noise(rng, 2, 7, 9, 12) + F32(0.7)
    q, s, z = quantised(x)
    attributes = {"pads": (1, 1, 1, 1), "kernel_shape": (3, 3)}
    scale, bias = np.array(0.02, F32), noise(rng, 20, 1, 1)
    sums = conv_sums(q - z, weight, pads=(1, 1, 1, 1)).astype(F32) * (s * scale)
    for adds, relu in ((True, True), (False, True), (True, False)):
        expected = sums + bias if adds else sums
        kinds, y = ran(chain(x.shape, weight, attributes, scale, bias, relu=relu, adds=adds), row, x, 2)
        assert kinds == [StepKind.DYNAMIC_QUANTIZE, StepKind.BINARY, StepKind.BYTE_PRODUCT]
        np.testing.assert_array_equal(y, np.maximum(expected, 0) if relu else expected)


def test_few_rows():
    """Few rows are carried as floats, with the same results."""
    rng = np.random.default_rng(2)
    weight, scale, bias, x = pruned_bytes(rng, (45, 60), 0.8).T, np.array(0.01, F32), noise(rng, 45), noise(rng, 3, 60)
    kinds, y = ran(chain((3, 60), weight, None, scale, bias, relu=False), BYTE_SETS[-2], x, 1)
    assert StepKind.BYTE_PRODUCT not in kinds
    q, s, z = quantised(x)
    np.testing.assert_allclose(y, ((q - z) @ weight.astype(np.int64)).astype(F32) * (s * scale) + bias, rtol=1e-6)
