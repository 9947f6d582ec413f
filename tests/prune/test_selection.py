"""Which layers are pruned by default, and by name."""

import numpy as np
import pytest
from onnx import helper

from onnxruntime_ep_sparse.prune.selection import select
from onnxruntime_ep_sparse.prune.source import Source
from support.making import model_of


def zeros(*shape):
    return np.zeros(shape, np.float32)


def net(tail=(), outputs=("y",)):
    """Two first convolutions, a depthwise one, a pointwise one, a small Gemm, a Gemm, and the tail."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a0"], name="stem"),
        helper.make_node("Conv", ["x", "w1"], ["a1"], name="second_stem"),
        helper.make_node("Add", ["a0", "a1"], ["a"]),
        helper.make_node("Conv", ["a", "w2"], ["b"], name="depthwise", group=16),
        helper.make_node("Conv", ["b", "w3"], ["c"], name="pointwise"),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "w4"], ["f"], name="small"),
        helper.make_node("Relu", ["f"], ["g"]),
        helper.make_node("Gemm", ["g", "w5"], ["h"], name="large"),
        *tail,
    ]
    shapes = {"w0": (16, 3, 3, 3), "w1": (16, 3, 3, 3), "w2": (16, 1, 3, 3), "w3": (32, 16, 1, 1), "w4": (32, 4), "w5": (4, 20)}
    weights = {name: zeros(*shape) for name, shape in shapes.items()} | {"w6": zeros(20, 10), "k": np.float32([1])}
    return Source(model_of(nodes, {"x": ["n", 3, 9, 9]}, list(outputs), weights))


CLASSIFIER = [helper.make_node("Gemm", ["h", "w6"], ["i"], name="head"), helper.make_node("Softmax", ["i"], ["y"])]


def test_roles():
    """First convolutions, depthwise, small and classifying layers stay dense; each is told why."""
    selected = select(net(CLASSIFIER), None, None)
    assert [layer.name for layer in selected.pruned] == ["pointwise"]
    reasons = {each.name: each.reason for each in selected.skipped}
    assert reasons == {
        "stem": "it is a first convolution",
        "second_stem": "it is a first convolution",
        "depthwise": "it is a depthwise convolution",
        "small": "it has fewer than 8 outputs or 16 inputs",
        "large": "it has fewer than 8 outputs or 16 inputs",
        "head": "it is a classifier: its result is the model's",
    }
    assert [layer.name for layer in selected.dense] == list(reasons)
    assert selected.classes == {"y"}


def test_names():
    """`only` takes whatever it names, `skip` leaves out what it names; neither is refitted."""
    selected = select(net(CLASSIFIER), "small", "stem|small")
    assert [layer.name for layer in selected.pruned] == ["stem", "second_stem"]
    assert not selected.dense
    assert {each.reason for each in selected.skipped} == {"its name matches skip", "its name does not match only"}
    selected = select(net(CLASSIFIER), "head", None)
    assert "head" not in {layer.name for layer in selected.dense}


@pytest.mark.parametrize(
    ("tail", "classifies"),
    [
        ([helper.make_node("Identity", ["h"], ["y"])], True),
        ([helper.make_node("Add", ["h", "k"], ["z"]), helper.make_node("LogSoftmax", ["z"], ["y"])], True),
        ([helper.make_node("Add", ["h", "h"], ["y"])], True),
        ([helper.make_node("Tanh", ["h"], ["y"])], False),
        ([helper.make_node("MatMul", ["h", "e"], ["y"])], False),
    ],
)
def test_what_a_classifier_is(tail, classifies):
    """A layer of whose result a bias, the form and monotonous functions make an output of the model."""
    assert select(net(tail), None, None).classes == ({"y"} if classifies else set())


def test_what_is_no_classifier():
    """A layer with another one behind it, as where a decoder returns keys and values; a recurrent one, whose result is a state."""
    keys = [helper.make_node("Identity", ["c"], ["keys"])]
    assert select(net([*keys, *CLASSIFIER], ("y", "keys")), None, None).classes == {"y"}
    assert [layer.name for layer in select(net([*keys, *CLASSIFIER], ("y", "keys")), None, None).pruned] == ["pointwise"]
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], name="lstm")
    weights = {"w": zeros(1, 64, 16), "r": zeros(1, 64, 16)}
    selected = select(Source(model_of([node], {"x": [None] * 3}, ["y"], weights)), None, None)
    assert [layer.name for layer in selected.pruned] == ["lstm.W", "lstm.R"]
    assert not selected.classes


def test_names_of_nodes_without_one():
    """A node without a name, or with one that another node has, goes by its output."""
    source = net(CLASSIFIER)
    for node in source.nodes[:2]:
        node.name = "twice"
    source.nodes[3].name = ""
    assert {each.name for each in select(source, None, None).skipped} >= {"a0", "a1", "b"}
