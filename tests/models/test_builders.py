"""The built-in models are valid, run at any batch, have exactly the zeros they should, and activations of sensible size."""

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnxruntime_ep_sparse import models

SPARSITY = 0.7
SMALL = {
    "resnet50": {"image": 64, "width": 0.25},
    "mobilenet_v1": {"image": 64, "width": 0.5},
    "mobilenet_v2": {"image": 64, "width": 0.5},
    "mobilenet_v3": {"image": 64, "width": 0.5},
    "efficientnet_b0": {"image": 64, "width": 0.5},
    "nasnet_mobile": {"image": 64, "width": 0.5, "cells": 1},
    "convnext_tiny": {"image": 64, "width": 0.5, "blocks": (1, 1, 2, 1)},
    "vgg16": {"image": 64, "width": 0.25},
    "unet": {"channels": 8},
    "deeplab_v3": {"image": 96, "width": 0.5, "channels": 32},
    "r3d18": {"image": 32, "frames": 8, "width": 0.25, "blocks": (1, 1, 1, 1)},
    "bert_base": {"layers": 3, "hidden": 128, "heads": 4},
    "lstm": {"hidden": 64, "steps": 12},
    "gru": {"hidden": 64, "steps": 12},
    "streaming_lstm": {"hidden": 64, "inputs": 32},
    "deep_speech": {"hidden": 64, "frames": 24, "vocabulary": 200},
    "mlp_policy": {},
}
SHAPES = {"unet": {"input": (3, 1, 48, 64)}, "bert_base": {"input_ids": (3, 10), "attention_mask": (3, 10)}}
IMAGES = (
    "resnet50",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3",
    "efficientnet_b0",
    "nasnet_mobile",
    "vgg16",
    "deeplab_v3",
    "r3d18",
)


@pytest.fixture(scope="module", params=sorted(models.BUILDERS))
def name(request):
    """Every builder in turn."""
    return request.param


@pytest.fixture(scope="module")
def model(name):
    """A small model of it."""
    return models.BUILDERS[name](SPARSITY, **SMALL[name])


def cpu(model, **options):
    """A session of the CPU provider."""
    session_options = onnxruntime.SessionOptions()
    for key, value in options.items():
        setattr(session_options, key, value)
    return onnxruntime.InferenceSession(model.SerializeToString(), session_options, providers=["CPUExecutionProvider"])


def constants(model):
    """Initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def products(model):
    """(node, weight) of every product with a constant weight."""
    values = constants(model)
    for node in model.graph.node:
        weights = {"Conv": node.input[1:2], "Gemm": node.input[1:2], "MatMul": node.input[:2], "LSTM": node.input[1:3]}
        weights["GRU"] = weights["LSTM"]
        for weight in weights.get(node.op_type, ()):
            if weight in values:
                yield node, values[weight]


def every_value(model, feeds):
    """Each node's first output, by name."""
    inferred = onnx.shape_inference.infer_shapes(model)
    names = [node.output[0] for node in model.graph.node]
    inferred.graph.output.extend(v for v in inferred.graph.value_info if v.name in names)
    session = cpu(inferred, graph_optimization_level=onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def test_every_builder_is_tested():
    assert SMALL.keys() == models.BUILDERS.keys()


def test_valid(model):
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10
    assert [opset.version for opset in model.opset_import] == [17]
    assert all("batch" in [d.dim_param for d in v.type.tensor_type.shape.dim][:2] for v in (*model.graph.input, *model.graph.output))


def test_any_batch(name, model):
    session = cpu(model)
    axes = {value.name: value.shape.index("batch") for value in (*session.get_inputs(), *session.get_outputs())}
    three = models.inputs_for(session, shapes=SHAPES.get(name), batch=3)
    one = session.run(None, {key: x.take([1], axes[key]) for key, x in three.items()})
    for output, y, second in zip(session.get_outputs(), session.run(None, three), one, strict=True):
        assert y.shape[axes[output.name]] == 3
        np.testing.assert_allclose(second, y.take([1], axes[output.name]), rtol=1e-3, atol=1e-4)


def test_exact_zeros(model):
    seen = 0
    for index, (node, weight) in enumerate(products(model)):
        grouped = any(a.name == "group" and a.i > 1 for a in node.attribute)
        dense = grouped or "/se/" in node.name or (node.op_type == "Conv" and not index)
        assert np.count_nonzero(weight == 0) == (0 if dense else round(SPARSITY * weight.size)), node.name
        seen += not dense
    assert seen > 2


def test_activations_stay_near_unit_size(name, model):
    values = every_value(model, models.inputs_for(model, shapes=SHAPES.get(name), batch=3, seed=5))
    for value, y in values.items():
        if y.dtype.kind != "f" or value.startswith("/mask/"):
            continue
        assert np.isfinite(y).all(), value
        assert 0.03 < y.std() < 12, value
    y = values[model.graph.output[0].name]
    assert y.std(axis=1 if name == "streaming_lstm" else 0).mean() > 0.1


def test_seeds(name, model):
    again, other = (models.BUILDERS[name](SPARSITY, seed=seed, **SMALL[name]) for seed in (0, 1))
    assert again.SerializeToString() == model.SerializeToString()
    assert other.SerializeToString() != model.SerializeToString()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet50", 25_557_032),
        ("mobilenet_v1", 4_231_976),
        ("mobilenet_v2", 3_504_872),
        ("mobilenet_v3", 5_483_032),
        ("efficientnet_b0", 5_288_548),
        ("convnext_tiny", 28_589_128),
        ("r3d18", 33_371_472),
    ],
)
def test_as_many_parameters_as_the_published_nets(name, parameters):
    model = models.BUILDERS[name](0.9, image=32)
    learnt = [v.size for key, v in constants(model).items() if key.endswith(("weight", "bias", "layer_scale"))]
    assert sum(learnt) == parameters


def test_bert_base_has_the_published_layer():
    one, two = (sum(v.size for v in constants(models.bert_base(0.9, layers=layers)).values()) for layers in (1, 2))
    assert two - one == 7_087_872


def test_bert_takes_embeddings_too():
    model = models.bert_base(vocabulary=0, **SMALL["bert_base"])
    (y,) = cpu(model).run(None, models.inputs_for(model, shapes={"embeddings": (2, 7, 128)}))
    assert y.shape == (2, 7, 128)


def test_bert_takes_given_weights():
    learnt = constants(models.bert_base(token_types=2, **SMALL["bert_base"]))
    given = {name: 2 * weight for name, weight in learnt.items() if name.endswith((".weight", ".bias"))}
    assert len(given) == 5 + 3 * 16
    taken = constants(models.bert_base(0.5, seed=1, token_types=2, weights=given, **SMALL["bert_base"]))
    assert taken.keys() == learnt.keys()
    for name in learnt:
        np.testing.assert_array_equal(taken[name], given.get(name, learnt[name]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder.layer.1.output.dense.bias": None}, "the weights lack encoder.layer.1.output.dense.bias"),
        ({"encoder.layer.0.output.dense.weight": np.zeros((128, 512))}, r"has the shape \(128, 512\), not \(512, 128\)"),
        ({"pooler.dense.bias": np.zeros(128)}, "nothing uses pooler.dense.bias"),
    ],
)
def test_given_weights_that_do_not_fit(change, message):
    learnt = constants(models.bert_base(**SMALL["bert_base"]))
    given = {name: weight for name, weight in learnt.items() if name.endswith((".weight", ".bias"))} | change
    with pytest.raises(ValueError, match=message):
        models.bert_base(weights={name: weight for name, weight in given.items() if weight is not None}, **SMALL["bert_base"])


def test_pooled_bert():
    small = {"token_types": 2, **SMALL["bert_base"]}
    model = models.bert_base(pooled=True, **small)
    onnx.checker.check_model(model, full_check=True)
    session = cpu(model)
    feeds = models.inputs_for(session, batch=2, shapes=dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (2, 9)))
    feeds["attention_mask"][1, 6:] = 0
    (y,) = session.run(None, feeds)
    (tokens,) = cpu(models.bert_base(**small)).run(None, feeds)
    for sentence, count in enumerate((9, 6)):
        mean = tokens[sentence, :count].mean(axis=0)
        np.testing.assert_allclose(y[sentence], mean / np.linalg.norm(mean), atol=1e-5)
    other = {**feeds, "token_type_ids": 1 - feeds["token_type_ids"]}
    assert np.abs(session.run(None, other)[0] - y).max() > 1e-3
    padding = {**feeds, "input_ids": feeds["input_ids"] + np.where(feeds["attention_mask"], 0, 7)}
    np.testing.assert_allclose(session.run(None, padding)[0], y, atol=1e-6)


@pytest.mark.parametrize("extra", [{"pooled": True}, {"token_types": 2}])
def test_embeddings_have_no_mask_or_types(extra):
    with pytest.raises(ValueError, match="need a vocabulary"):
        models.bert_base(vocabulary=0, **extra)


def test_policy_of_relus():
    model = models.mlp_policy(activation="Relu", hidden=(32, 24, 16))
    assert [node.op_type for node in model.graph.node] == ["Gemm", "Relu"] * 3 + ["Gemm"]
    (y,) = cpu(model).run(None, models.inputs_for(model, batch=200))
    assert 0.5 < y.std() < 2


def test_policy_of_unknown_activations():
    with pytest.raises(ValueError, match="unknown activation 'Sin'; there are Tanh, Relu"):
        models.mlp_policy(activation="Sin")


def test_deeplab_dilates_and_vgg_has_no_batchnorm():
    windows = {node.name: node for node in models.deeplab_v3(**SMALL["deeplab_v3"]).graph.node if node.op_type == "Conv"}
    dilations = {name: a.ints[0] for name, node in windows.items() for a in node.attribute if a.name == "dilations" and a.ints[0] > 1}
    backbone = {f"/features/{i}/depthwise/conv/Conv": 2 for i in range(14, 18)}
    assert dilations == {**backbone, "/aspp/1/conv/Conv": 6, "/aspp/2/conv/Conv": 12, "/aspp/3/conv/Conv": 18}
    assert "BatchNormalization" not in {node.op_type for node in models.vgg16(**SMALL["vgg16"]).graph.node}


@pytest.mark.parametrize("name", [*IMAGES, "unet"])
def test_folding_batchnorm_changes_nothing_else(name):
    both = [models.BUILDERS[name](SPARSITY, fold_batchnorm=fold, **SMALL[name]) for fold in (False, True)]
    kinds = [{node.op_type for node in model.graph.node} for model in both]
    assert kinds[0] - kinds[1] == {"BatchNormalization"}
    onnx.checker.check_model(both[1], full_check=True)
    feeds = models.inputs_for(both[0], shapes=SHAPES.get(name), batch=2)
    plain, folded = (cpu(model).run(None, feeds)[0] for model in both)
    np.testing.assert_allclose(folded, plain, atol=1e-3 * np.abs(plain).max())


@pytest.mark.parametrize("pattern", ["block4", "1x4", "channels", "channels/2", "2:4"])
def test_patterns_of_a_net(pattern):
    model = models.mobilenet_v1(0.5, pattern=pattern, image=64, width=0.25)
    (y,) = cpu(model).run(None, models.inputs_for(model, batch=3))
    assert np.isfinite(y).all()
    assert y.std(axis=0).mean() > 0.05
    weight = constants(model)["features.13.pointwise.conv.weight"]
    assert np.count_nonzero(weight) == weight.size // 2


# --- mask

SHAPES_OF_WEIGHTS = st.tuples(st.integers(1, 12), st.integers(1, 12)) | st.tuples(*[st.integers(1, 7)] * 4)


@settings(deadline=None)
@given(SHAPES_OF_WEIGHTS, st.floats(0, 1), st.integers(0, 1), st.integers(0, 9))
def test_mask_unstructured(shape, sparsity, axis, seed):
    weight = np.ones(shape, np.float32)
    masked = models.mask(weight, sparsity, "unstructured", seed, axis=axis)
    assert np.count_nonzero(masked == 0) == round(sparsity * weight.size)
    assert masked.dtype == weight.dtype
    assert weight.all()
    np.testing.assert_array_equal(masked, models.mask(weight, sparsity, "unstructured", seed, axis=axis))


@settings(deadline=None)
@given(SHAPES_OF_WEIGHTS, st.floats(0, 1), st.integers(0, 1))
def test_mask_block4(shape, sparsity, axis):
    masked = np.moveaxis(models.mask(np.ones(shape), sparsity, "block4", axis=axis), axis, 0)
    rows = masked.reshape(len(masked), -1)
    blocks = [rows[i : i + 4] for i in range(0, len(rows), 4)]
    assert all((block == block[0]).all() for block in blocks)
    assert sum(np.count_nonzero(block[0] == 0) for block in blocks) == round(sparsity * len(blocks) * rows.shape[1])


@settings(deadline=None)
@given(SHAPES_OF_WEIGHTS, st.floats(0, 1), st.integers(0, 1))
def test_mask_1x4(shape, sparsity, axis):
    masked = np.moveaxis(models.mask(np.ones(shape), sparsity, "1x4", axis=axis), axis, 0)
    blocks = [masked[:, i : i + 4] for i in range(0, masked.shape[1], 4)]
    assert all((block == block[:, :1]).all() for block in blocks)
    assert sum(np.count_nonzero(block[:, 0] == 0) for block in blocks) == round(sparsity * sum(block[:, 0].size for block in blocks))


@settings(deadline=None)
@given(SHAPES_OF_WEIGHTS, st.floats(0, 1), st.integers(0, 1))
def test_mask_channels(shape, sparsity, axis):
    masked = np.moveaxis(models.mask(np.ones(shape), sparsity, "channels", axis=axis), axis, 0)
    alive = [row.all() for row in masked]
    assert all(row.any() == row.all() for row in masked)
    assert alive.count(False) == round(sparsity * len(masked))


@settings(deadline=None)
@given(SHAPES_OF_WEIGHTS, st.floats(0, 1), st.integers(0, 1))
def test_mask_half_channels(shape, sparsity, axis):
    masked = np.moveaxis(models.mask(np.ones(shape), sparsity, "channels/2", axis=axis), axis, 0)
    assert np.count_nonzero(masked == 0) == round(sparsity * masked.size)
    assert sum(not row.any() for row in masked) >= int(min(0.5, sparsity) * len(masked))


@settings(deadline=None)
@given(SHAPES_OF_WEIGHTS, st.integers(1, 4), st.integers(4, 8), st.integers(0, 1))
def test_mask_n_of_m(shape, n, m, axis):
    masked = np.moveaxis(models.mask(np.ones(shape), 0.0, f"{n}:{m}", axis=axis), axis, 0)
    for first in range(0, masked.shape[1], m):
        group = masked[:, first : first + m]
        assert (np.count_nonzero(group, axis=1) == min(n, group.shape[1])).all()


@pytest.mark.parametrize(
    ("sparsity", "pattern", "message"),
    [(1.5, "unstructured", "between 0 and 1"), (0.5, "circles", "unknown pattern"), (0.5, "5:4", "N <= M")],
)
def test_mask_refuses(sparsity, pattern, message):
    with pytest.raises(ValueError, match=message):
        models.mask(np.ones((4, 4)), sparsity, pattern)


@settings(deadline=None)
@given(SHAPES_OF_WEIGHTS, st.floats(0, 1), st.integers(0, 9))
def test_smallest(shape, sparsity, seed):
    weight = np.random.default_rng(seed).standard_normal(shape)
    zero = models.smallest(weight, sparsity)
    assert zero.shape == shape
    assert np.count_nonzero(zero) == round(sparsity * weight.size)
    assert np.abs(weight[zero]).max(initial=0) <= np.abs(weight[~zero]).min(initial=np.inf)


def test_smallest_refuses():
    with pytest.raises(ValueError, match="between 0 and 1"):
        models.smallest(np.ones(4), -0.1)


# --- single products


@pytest.mark.parametrize(
    ("model", "feeds", "shape"),
    [
        (models.single_conv(activation="Relu"), {"x": (2, 16, 14, 14)}, (2, 32, 12, 12)),
        (models.single_conv(24, 12, (5,), group=3, pads=(2, 2), image=("w",)), {"x": (2, 12, 9)}, (2, 24, 9)),
        (models.single_conv(auto_pad="SAME_UPPER", strides=(2, 2), bias=False), {"x": (1, 16, 14, 14)}, (1, 32, 7, 7)),
        (models.single_conv(8, 4, (3, 3, 3), dilations=(1, 2, 1), image=(5, 6, 7)), {"x": (1, 4, 5, 6, 7)}, (1, 8, 3, 2, 5)),
        (models.single_gemm(alpha=0.5, beta=2.0), {"x": (3, 64)}, (3, 32)),
        (models.single_gemm(transA=1, transB=0, bias=(1, -1)), {"x": (64, 3)}, (3, 32)),
        (models.single_gemm(weight=np.eye(5, 7, dtype=np.float32), bias=None), {"x": (3, 7)}, (3, 5)),
        (models.single_matmul(bias=True, activation="Relu"), {"x": (2, 9, 64)}, (2, 9, 32)),
        (models.single_matmul(left=True), {"x": (2, 64, 9)}, (2, 32, 9)),
    ],
)
def test_single_products(model, feeds, shape):
    onnx.checker.check_model(model, full_check=True)
    (y,) = cpu(model).run(["y"], models.inputs_for(model, shapes=feeds))
    assert y.shape == shape
    assert y.std() > 0


# --- inputs


def test_inputs_of_models_and_sessions():
    model = models.bert_base(**SMALL["bert_base"])
    of_model, of_session = (models.inputs_for(m, batch=2) for m in (model, cpu(model)))
    assert of_model.keys() == of_session.keys() == {"input_ids", "attention_mask"}
    assert all(np.array_equal(of_model[key], of_session[key]) for key in of_model)
    assert of_model["input_ids"].shape == (2, 128)
    assert of_model["input_ids"].dtype == np.int64
    assert len(np.unique(of_model["input_ids"])) > 50
    assert of_model["attention_mask"].all()
    assert models.inputs_for(models.unet(channels=8))["input"].shape == (1, 1, 224, 224)


def test_inputs_of_any_signature():
    described = [
        helper.make_tensor_value_info("half", TensorProto.FLOAT16, [None, 3]),
        helper.make_tensor_value_info("flags", TensorProto.BOOL, ["rows", "columns"]),
        helper.make_tensor_value_info("scalar", TensorProto.DOUBLE, []),
        helper.make_tensor_value_info("weight", TensorProto.FLOAT, [2]),
    ]
    weight = numpy_helper.from_array(np.ones(2, np.float32), "weight")
    model = helper.make_model(helper.make_graph([], "signature", described, [], [weight]))
    feeds = models.inputs_for(model, batch=4, shapes={"flags": (5, 6)})
    assert {key: (x.dtype, x.shape) for key, x in feeds.items()} == {
        "half": (np.float16, (4, 3)),
        "flags": (np.bool_, (5, 6)),
        "scalar": (np.float64, ()),
    }
    with pytest.raises(ValueError, match="no input missing; the model has half, flags, scalar"):
        models.inputs_for(model, shapes={"missing": (1,)})
    with pytest.raises(ValueError, match="cannot be made"):
        models.inputs_for([models.Input("text", "tensor(string)", [1])])


def test_importing_imports_neither_onnx_nor_onnxruntime():
    code = "import sys, onnxruntime_ep_sparse.models; sys.exit(bool({'onnx', 'onnxruntime'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
