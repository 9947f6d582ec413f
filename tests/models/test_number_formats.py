"""Built-in nets in other formats: valid, with the same zeros, and near the net in float32."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from onnxruntime_ep_sparse import models
from support.promises import cpu_session

SIZES = {
    "resnet50": {"image": 32, "width": 0.25, "blocks": (1, 1), "classes": 10},
    "bert_base": {"layers": 1, "hidden": 64, "heads": 2},
    "mlp_policy": {},
}
TINY = SIZES | {
    "mobilenet_v1": {"image": 32, "width": 0.25},
    "mobilenet_v2": {"image": 32, "width": 0.25},
    "mobilenet_v3": {"image": 32, "width": 0.25},
    "efficientnet_b0": {"image": 32, "width": 0.25},
    "nasnet_mobile": {"image": 64, "width": 0.5, "cells": 1},
    "convnext_tiny": {"image": 32, "width": 0.25, "blocks": (1, 1, 1, 1)},
    "vgg16": {"image": 32, "width": 0.125},
    "unet": {"channels": 8},
    "deeplab_v3": {"image": 64, "width": 0.25, "channels": 16},
    "r3d18": {"image": 16, "frames": 8, "width": 0.125, "blocks": (1, 1, 1, 1)},
    "streaming_lstm": {"hidden": 32, "inputs": 32},
    "lstm": {"hidden": 32, "steps": 4},
    "gru": {"hidden": 32, "steps": 4},
    "deep_speech": {"hidden": 32, "frames": 24, "vocabulary": 50},
}
QUANTISED = [name for name in models.FORMATS if name.startswith("int8")]
COSINE = 0.99
"""Least cosine of an INT8 net's output and that of the net in float32: 7 bits and 8 bits, over up to ten layers."""
SPARSITY = 0.8


def built(name):
    """A small net in float32."""
    return models.BUILDERS[name](SPARSITY, **TINY[name])


def exact_session(model):
    """A session of the CPU provider that multiplies uint8 by int8 without saturation."""
    return cpu_session(model, entries={"session.x64quantprecision": "1"}, level=onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC)


def output(model, feeds):
    """The first output in float32, for inputs in the model's types."""
    session = exact_session(model)
    given = {
        value.name: feeds[value.name].astype(np.float16) if "16" in value.type else feeds[value.name] for value in session.get_inputs()
    }
    return session.run(None, given)[0].astype(np.float32)


def weights(model):
    """(shape without order, zeros) of every weight of two dimensions or more, sorted; uint8 weights have their zeros at 128."""
    found = []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.ndim > 1 and array.size > 200:
            zero = 128 if array.dtype == np.uint8 else 0
            found.append((array.size, int((array == zero).sum())))
    return sorted(found)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("number_format", QUANTISED)
def test_int8(name, number_format):
    """The net is valid and quantised, near the one in float32, and every 0 of its weights is one still."""
    model = built(name)
    made = models.FORMATS[number_format](model)
    onnx.checker.check_model(made)
    feeds = models.inputs_for(model, seed=7)
    y, expected = output(made, feeds), output(model, feeds)
    assert float((y * expected).sum()) >= COSINE * float(np.linalg.norm(y) * np.linalg.norm(expected))
    before, after = weights(model), weights(made)
    assert [size for size, _ in before] == [size for size, _ in after]
    # a weight that is small beside its channel's largest becomes 0 too
    assert all(zeros <= left <= zeros + 0.05 * size for (size, zeros), (_, left) in zip(before, after, strict=True))


def test_sparseml_form():
    """Integer operators with uint8 weights, int32 biases, Relu, and a residual between DequantizeLinear."""
    made = models.FORMATS["int8-sparseml"](built("resnet50"))
    readers = {name: node for node in made.graph.node for name in node.input}
    producer = {name: node for node in made.graph.node for name in node.output}
    types = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    products = [node for node in made.graph.node if node.op_type in ("ConvInteger", "MatMulInteger")]
    assert len(products) == 10
    for node in products:
        chain = [node]
        while chain[-1].op_type != "Mul":
            chain.append(readers[chain[-1].output[0]])
        assert [step.op_type for step in chain[1:]] == ["Add", "Cast", "Mul"]
        assert types[node.input[1]] == types[node.input[3]] == TensorProto.UINT8
        assert types[chain[1].input[1]] == TensorProto.INT32
        assert readers[chain[-1].output[0]].op_type in ("Relu", "QuantizeLinear")
    sums = [node for node in made.graph.node if node.op_type == "Add" and types.get(node.input[1]) is None]
    assert len(sums) == 2
    assert all(producer[name].op_type == "DequantizeLinear" for node in sums for name in node.input)
    # a Relu comes before its result is quantised
    relus = [node for node in made.graph.node if node.op_type == "Relu"]
    assert {producer[node.input[0]].op_type for node in relus} == {"Mul", "Add"}
    assert not {"Conv", "Gemm", "BatchNormalization"} & {node.op_type for node in made.graph.node}


@pytest.mark.parametrize("name", ["resnet50", "bert_base", "mobilenet_v1", "convnext_tiny", "lstm", "gru", "deep_speech"])
def test_float16(name):
    """The CPU provider runs it, with results near those of float32; no weight becomes 0."""
    model = built(name)
    made = models.FORMATS["fp16"](model)
    onnx.checker.check_model(made, full_check=True)
    feeds = models.inputs_for(model, seed=7)
    y, expected = output(made, feeds), output(model, feeds)
    assert np.abs(y - expected).max() <= 0.05 * np.abs(expected).max()
    assert weights(made) == weights(model)


@pytest.mark.parametrize("name", ["resnet50", "bert_base", "lstm"])
def test_bfloat16(name):
    """It is valid, its inputs and outputs stay float32, and no weight becomes 0."""
    model = built(name)
    made = models.FORMATS["bf16"](model)
    onnx.checker.check_model(made, full_check=True)
    assert models.signature(made) == models.signature(model)
    assert {tensor.data_type for tensor in made.graph.initializer} & {TensorProto.FLOAT, TensorProto.BFLOAT16} == {TensorProto.BFLOAT16}


QUANTISABLE = sorted(TINY.keys() - {"gru"})


@pytest.mark.parametrize(("i", "name"), list(enumerate(QUANTISABLE)), ids=QUANTISABLE)
def test_every_net(i, name):
    """Each net can be quantised, here in one of the ways, and the CPU provider runs it."""
    assert TINY.keys() == models.BUILDERS.keys()
    model = built(name)
    number_format = "int8-dynamic" if "lstm" in name else QUANTISED[i % len(QUANTISED)]
    feeds = models.inputs_for(model, shapes={"input": (1, 1, 48, 64)} if name == "unet" else None)
    assert np.isfinite(output(models.FORMATS[number_format](model), feeds)).all()


@pytest.mark.parametrize(("name", "number_format"), [("lstm", "int8"), ("gru", "int8-dynamic"), ("gru", "int8-sparseml")])
def test_nets_without_a_layer_for_a_format(name, number_format):
    """The error says so."""
    with pytest.raises(ValueError, match="no layer of it has a weight that this format quantises"):
        models.FORMATS[number_format](built(name))


def test_dynamic_lstm():
    """Recurrent layers can be quantised so."""
    made = models.FORMATS["int8-dynamic"](built("lstm"))
    assert [node.op_type for node in made.graph.node].count("DynamicQuantizeLSTM") == 2
