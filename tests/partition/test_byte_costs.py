"""Expected times of products of 8-bit integers: which of its ways ONNX Runtime goes, and which instructions both sides have."""

import numpy as np
import pytest
from onnx import helper

from onnxruntime_ep_sparse.partition.cost import Prices, ort_rates, our_rates
from onnxruntime_ep_sparse.passes.quantized import read_quantized
from onnxruntime_ep_sparse_kernels.isa import ISAS, byte_sets_for
from support import quantized

F32 = np.float32


def convolutions(dtype, readers):
    """A graph of QDQ convolutions that read the same 8-bit value, and the first of them."""
    rng = np.random.default_rng(0)
    constants = {"s": F32(0.1), "z": dtype(0), "w": quantized.integers(rng, np.int8, (64, 64, 3, 3)), "ws": F32(0.1), "wz": np.int8(0)}
    nodes = [helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["f"])]
    for i in range(readers):
        nodes += [
            helper.make_node("DequantizeLinear", ["x", "s", "z"], [f"d{i}"]),
            helper.make_node("Conv", [f"d{i}", "f"], [f"c{i}"], pads=[1] * 4),
            helper.make_node("QuantizeLinear", [f"c{i}", "s", "z"], [f"y{i}"]),
        ]
    expected = np.zeros((1, 64, 28, 28), dtype)
    outputs = {f"y{i}": dtype for i in range(readers)}
    graph = read_quantized(quantized.graph_of((nodes, {"x": (dtype, expected.shape)}, outputs, constants, {}, expected)))
    return graph, next(node for node in graph.nodes if node.op_type == "QLinearConv")


def ort_seconds(dtype, readers):
    """ONNX Runtime's expected time of one of the convolutions."""
    graph, node = convolutions(dtype, readers)
    return Prices(graph, ISAS[0], 1).seconds(node).ort


def test_int8_activations_in_qdq_groups():
    """ONNX Runtime makes them uint8 where one group reads them, and computes in float32 where several do; both are faster than int8."""
    one, several = ort_seconds(np.int8, 1), ort_seconds(np.int8, 2)
    assert one == ort_seconds(np.uint8, 1) == ort_seconds(np.uint8, 2)
    assert 1.5 * one < several < 10 * one
    graph, _ = convolutions(np.int8, 1)
    node = helper.make_node("QLinearConv", ["x", "s", "z", "w", "ws", "wz", "s", "z"], ["y"], pads=[1] * 4)
    constants = {name: graph.constant(name) for name in ("s", "z", "w", "ws", "wz")}
    x = np.zeros((1, 64, 28, 28), np.int8)
    native = quantized.graph_of(([node], {"x": (np.int8, x.shape)}, {"y": np.int8}, constants, {}, x))
    assert Prices(native, ISAS[0], 1).seconds(native.nodes[0]).ort > 2 * several


@pytest.mark.parametrize("row", byte_sets_for(ISAS), ids=lambda row: row.name)
def test_rates_of_every_set(row):
    """Each set of kernels has rates, the best one of an instruction set those without a name; without VNNI both sides take longer."""
    ort, ours = ort_rates(row.isa, row.name), our_rates(row.isa, row.name)
    best = byte_sets_for((row.isa,))[0]
    assert (ort == ort_rates(row.isa), ours == our_rates(row.isa)) == (row == best,) * 2
    if row != best:
        assert ort["int8_mac"][0] > 1.5 * ort_rates(row.isa)["int8_mac"][0]
    assert all(name in ours for name in ("byte_nonzero", "byte_rows_nonzero", "byte_depthwise_entry", "step"))
