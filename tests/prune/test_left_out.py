"""Nodes with weights that are no layers: each is told why, and functions are expanded instead."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxruntime_ep_sparse.prune.selection import select
from onnxruntime_ep_sparse.prune.source import Source
from support.making import model_of, noise
from support.pruning import prune

RNG = np.random.default_rng(0)
X = {"x": noise(RNG, 120, 24)}
INFO = helper.make_tensor_value_info


def reasons_of(*nodes, opset=20, **weights):
    """The reasons of the nodes, which read `x` and stand before two MatMuls."""
    last = [helper.make_node("MatMul", ["x", "v"], ["a"], name="layer"), helper.make_node("Tanh", ["a"], ["y"])]
    source = Source(model_of([*nodes, *last], {"x": [None, 24]}, ["y"], {"v": noise(RNG, 24, 24), **weights}, opset=opset))
    selected = select(source, None, None)
    assert [layer.name for layer in selected.pruned] == ["layer"]
    assert not selected.dense
    return {each.name: each.reason for each in selected.skipped}


@pytest.mark.parametrize(
    ("op_type", "weight", "reason"),
    [
        ("MatMul", np.zeros((24, 24), np.float16), "its weight is float16: only float32 is pruned"),
        ("MatMul", np.zeros((24, 24)), "its weight is float64: only float32 is pruned"),
        ("Conv", np.zeros((24, 24, 1, 1, 1, 1), np.float32), "this form of Conv is not pruned"),
        ("ConvTranspose", np.zeros((24, 24, 3), np.float32), "weights of ConvTranspose are not pruned"),
        ("QLinearMatMul", np.zeros((24, 24), np.int8), None),
        ("MatMul", np.zeros(24, np.float32), None),
        ("Mul", np.zeros((24, 24), np.float32), None),
    ],
)
def test_forms(op_type, weight, reason):
    """Types, ranks and operators without layers; what is no weight is not listed."""
    inputs = ["x", "w"] if op_type != "QLinearMatMul" else ["x", "", "", "", "", "w"]
    found = reasons_of(helper.make_node(op_type, inputs, ["o"], name="other"), w=weight)
    assert found == ({} if reason is None else {"other": reason})


def test_weights_that_are_not_constant():
    """A convolution whose weight is computed is listed, a product of two activations is none of a layer."""
    nodes = [helper.make_node("Conv", ["x", "x"], ["o"], name="dynamic"), helper.make_node("MatMul", ["x", "x"], ["p"], name="attention")]
    assert reasons_of(*nodes) == {"dynamic": "its weight is not constant"}


def test_recurrent_weights():
    """W and R are told apart: a GRU with other gates has one of them pruned."""
    weights = {"w": np.zeros((1, 72, 24), np.float32), "r": np.zeros((1, 72, 24), np.float32)}
    node = helper.make_node("GRU", ["x", "w", "r"], ["o"], name="gru", hidden_size=24, layout=1)
    assert reasons_of(node, **weights) == dict.fromkeys(("gru.W", "gru.R"), "this form of GRU is not pruned")
    source = Source(model_of([helper.make_node("GRU", ["x", "w", "r"], ["y"], name="gru", clip=1.0)], {"x": [None] * 3}, ["y"], weights))
    selected = select(source, None, ".")
    assert [layer.name for layer in selected.pruned] == ["gru.W"]
    assert [each.name for each in selected.skipped] == ["gru.R"]


def test_bodies():
    """A layer in a body of control flow is listed with the node; its weight may be inside or outside."""
    inner = helper.make_graph(
        [helper.make_node("MatMul", ["x", "i"], ["b"], name="inside"), helper.make_node("MatMul", ["b", "v"], ["r"], name="outside")],
        "then",
        [],
        [INFO("r", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(noise(RNG, 24, 24), "i")],
    )
    other = helper.make_graph([helper.make_node("Abs", ["x"], ["s"])], "else", [], [INFO("s", TensorProto.FLOAT, None)])
    node = helper.make_node("If", ["yes"], ["o"], name="choice", then_branch=inner, else_branch=other)
    reason = "it is in the body of If 'choice': bodies of control flow are not pruned"
    assert reasons_of(node, yes=np.array(True)) == {"inside": reason, "outside": reason}


def test_functions_with_layers():
    """A function with a layer, in another function as well, is written out; one without layers stays."""
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    nodes = [helper.make_node("MatMul", ["v", "w"], ["m"], name="product"), helper.make_node("Add", ["m", "b"], ["r"])]
    linear = helper.make_function("own", "Linear", ["v", "w", "b"], ["r"], nodes, opsets)
    nodes = [helper.make_node("Linear", ["v", "w", "b"], ["l"], domain="own"), helper.make_node("Both", ["l"], ["r"], domain="own")]
    block = helper.make_function("own", "Block", ["v", "w", "b"], ["r"], nodes, opsets)
    nodes = [helper.make_node("Relu", ["v"], ["p"]), helper.make_node("Neg", ["p"], ["r"])]
    both = helper.make_function("own", "Both", ["v"], ["r"], nodes, opsets)
    calls = [helper.make_node("Block", [a, f"w{n}", f"b{n}"], [b], domain="own") for n, (a, b) in enumerate((("x", "h"), ("h", "y")))]
    weights = {f"w{n}": noise(RNG, 24, 24) for n in (0, 1)} | {f"b{n}": noise(RNG, 24) for n in (0, 1)}
    model = model_of(calls, {"x": ["n", 24]}, {"y": ["n", 24]}, weights)
    model.functions.extend([linear, block, both])
    model.opset_import.append(opsets[1])
    before = model.SerializeToString()
    result = prune(model, [X], sparsity=0.5)
    assert model.SerializeToString() == before
    assert [(layer.op_type, layer.zeros, layer.refitted) for layer in result.report.layers] == [("MatMul", 288, True)] * 2
    assert [node.op_type for node in result.model.graph.node] == ["MatMul", "Add", "Both"] * 2
    onnx.checker.check_model(result.model)
    dense, pruned = (onnxruntime.InferenceSession(m.SerializeToString()).run(None, X)[0] for m in (model, result.model))
    assert np.corrcoef(dense.ravel(), pruned.ravel())[0, 1] > 0.8


def test_only_such_weights():
    """Where nothing is left to prune, the message has these reasons too."""
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["n", 24]}, ["y"], {"w": np.zeros((24, 24), np.float16)})
    with pytest.raises(ValueError, match="nothing to prune: 1 x its weight is float16: only float32 is pruned"):
        prune(model, [X], sparsity=0.5)
