"""What cannot be pruned is said in one line that names the culprit, and what is odd but possible works."""

import os
import tempfile

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxruntime_ep_sparse.prune import batches
from onnxruntime_ep_sparse.prune.sequential import BESIDES
from support.making import model_of, noise
from support.pruning import prune

RNG = np.random.default_rng(0)
X = {"x": noise(RNG, 120, 24)}


def two_layers(*between, opset=20, second="w1", **weights):
    """x -> MatMul -> what stands between -> MatMul -> Tanh -> y."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], name="first"),
        *(between or [helper.make_node("Relu", ["a"], ["b"], name="between")]),
        helper.make_node("MatMul", ["b", second], ["c"], name="second"),
        helper.make_node("Tanh", ["c"], ["y"]),
    ]
    arrays = {"w0": noise(rng, 24, 24), "w1": noise(rng, 24, 24), **weights}
    return model_of(nodes, {"x": ["n", 24]}, {"y": ["n", 24]}, {name: a for name, a in arrays.items() if a is not None}, opset=opset)


def refused(model, feeds=(X,), match="", **arguments):
    with pytest.raises(ValueError, match=match) as caught:
        prune(model, feeds, **{"sparsity": 0.5, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"sparsity": None}, "needs a sparsity"),
        ({"sparsity": 0}, "not between 0 and 1"),
        ({"sparsity": 1.0}, "not between 0 and 1$"),
        ({"sparsity": 60}, "not between 0 and 1: for 60 % give 0.6"),
        ({"sparsity": float("nan")}, "not between 0 and 1"),
        ({"pattern": "3x3"}, "unknown pattern '3x3'; there are unstructured, 4x1, 1x4, N:M"),
        ({"pattern": "2:4", "sparsity": 0.6}, "2:4 implies 0.5"),
        ({"method": "best"}, "unknown method 'best'; there are admm"),
        ({"allocation": "best"}, "unknown allocation 'best'"),
        ({"skip": "("}, "skip '\\(' is not a regular expression"),
        ({"skip": "."}, "nothing to prune: 2 x its name matches skip"),
        ({"only": "third"}, "nothing to prune: 2 x its name does not match only"),
        ({"holdout": 1.0}, "holdout 1.0"),
        ({"samples": 0}, "samples 0"),
        ({"threads": -1}, "threads -1"),
        ({"samples": 1}, "1 samples are too few to hold out"),
        ({"samples": 20}, "'first' .16 samples for 24 inputs., 'second' .16 .*; 1.5 times the data would do for all, or use method wanda"),
    ],
)
def test_arguments(arguments, match):
    """Wrong arguments."""
    refused(two_layers(), match=match, **arguments)


@pytest.mark.parametrize(
    ("feeds", "match"),
    [
        ([], "no calibration data"),
        ([{"x": np.zeros((0, 24), np.float32)}], "no calibration data"),
        ([X["x"]], "feed 0 of the data is a ndarray"),
        ([{"z": X["x"]}], "feed 0 of the data has z; the model's inputs are x"),
        ([{}], "has nothing; the model's inputs are x"),
        ([X, {"x": X["x"].astype(np.float64)}], "feed 1 of the data: x is float64, the model wants float32"),
        ([{"x": X["x"][:, :20]}], "120x20, the model wants nx24"),
        ([{"x": X["x"][0]}], "rank 1"),
        ([{"x": np.where(X["x"] > 2, np.nan, X["x"])}], "x has NaN or infinity"),
    ],
)
def test_data(feeds, match):
    """Data that do not fit the model."""
    refused(two_layers(), feeds, match)


def test_different_numbers_of_samples():
    """Inputs whose first axes differ cannot be cut into samples."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Add", ["a", "z"], ["y"])]
    model = model_of(nodes, {"x": ["n", 24], "z": ["m", 24]}, ["y"], {"w": noise(RNG, 24, 24)})
    refused(model, [{"x": X["x"], "z": X["x"][:1]}], "first axes of its arrays differ")


@pytest.mark.parametrize("model", [b"", b"no model", onnx.ModelProto().SerializeToString()])
def test_not_a_model(model, tmp_path):
    """Bytes and files that are no model."""
    refused(model, match="not an ONNX model")
    (tmp_path / "m.onnx").write_bytes(model)
    refused(tmp_path / "m.onnx", match="not an ONNX model")
    refused(tmp_path / "none.onnx", match="cannot read")


def test_data_elsewhere():
    """A model in memory whose data are in a file."""
    model = two_layers()
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="w.bin")
    refused(model, match="give its path")


def test_nothing_to_prune():
    """A model without constant weights, and one whose only layer is its classifier."""
    refused(model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": ["n", 24]}, ["y"], {}), match="no Conv, Gemm")
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["n", 24]}, ["y"], {"w": noise(RNG, 24, 24)})
    refused(model, match="nothing to prune: 1 x it is a classifier.*; layers that 'only' names are pruned whatever their role")
    assert prune(model, [X], sparsity=0.5, only=".").report.zeros == 288


def test_not_finite():
    """The node that makes NaN or infinity of good data is named, not a later one, and not one that may."""
    log = helper.make_node("Log", ["a"], ["l"], name="logarithm")
    refused(two_layers(log, helper.make_node("Neg", ["l"], ["b"], name="later")), match=r"node 'logarithm' \(Log\) makes NaN")
    big = [helper.make_node("Mul", ["a", "big"], ["l"], name="scale"), helper.make_node("Exp", ["l"], ["b"], name="power")]
    refused(two_layers(*big, big=np.float32([100])), match=r"node 'power' \(Exp\) makes infinity")
    refused(two_layers(*big, big=np.float32([1e38])), match=r"node 'scale' \(Mul\) makes infinity")
    masked = [
        helper.make_node("Greater", ["a", "zero"], ["g"]),
        helper.make_node("Where", ["g", "a", "never"], ["m"], name="mask"),
        helper.make_node("Softmax", ["m"], ["b"]),
    ]
    model = two_layers(*masked, zero=np.float32([0]), never=np.float32([-np.inf]))
    assert prune(model, [X], sparsity=0.5).report.zeros == 576


def test_onnxruntime_fails():
    """What onnxruntime says is passed on, in one line."""
    wrong = helper.make_node("Reshape", ["a", "shape"], ["b"], name="reshape")
    refused(two_layers(wrong, shape=np.int64([-1, 7])), match="onnxruntime cannot")


def test_shared_weight():
    """Layers of one weight want different masks, unless only the weight decides; then they still share it."""
    model = two_layers(second="w0", w1=None)
    refused(model, match="layers 'first', 'second' share the weight 'w0'")
    result = prune(model, [X], sparsity=0.5, method="magnitude")
    assert [t.name for t in result.model.graph.initializer] == ["w0"]
    assert np.count_nonzero(numpy_helper.to_array(result.model.graph.initializer[0]) == 0) == 288
    one = prune(model, [X], sparsity=0.5, skip="second").model
    found = {t.name: np.count_nonzero(numpy_helper.to_array(t) == 0) for t in one.graph.initializer}
    assert found == {"w0": 0, "w0_pruned": 288}
    assert one.graph.node[2].input[1] == "w0"
    onnx.checker.check_model(one)


def test_shared_bias():
    """A bias of several layers is changed for each alone."""
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "c"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "w1", "c"], ["d"], name="second"),
        helper.make_node("Tanh", ["d"], ["y"]),
    ]
    arrays = {"w0": noise(rng, 24, 24), "w1": noise(rng, 24, 24), "c": noise(rng, 24)}
    result = prune(model_of(nodes, {"x": ["n", 24]}, {"y": ["n", 24]}, arrays), [X], sparsity=0.5).model
    assert len({node.input[2] for node in result.graph.node if node.op_type == "Gemm"}) == 2
    assert "c" not in {tensor.name for tensor in result.graph.initializer}
    onnx.checker.check_model(result)


@pytest.mark.parametrize("way", ["Constant", "Identity", "Transpose", "Mul", "DequantizeLinear"])
def test_weights_behind_nodes(way):
    """Weights that nodes compute of constants are pruned; the nodes go."""
    rng = np.random.default_rng(4)
    weight = noise(rng, 24, 24)
    arrays, inputs = {"v": weight, "w0": None}, ["v"]
    if way == "Constant":
        made = helper.make_node("Constant", [], ["w0"], value=numpy_helper.from_array(weight))
        arrays = {"w0": None}
    elif way == "DequantizeLinear":
        arrays = {"v": np.round(weight * 20).astype(np.int8), "scale": np.float32(0.05), "w0": None}
        made = helper.make_node(way, ["v", "scale"], ["w0"])
    else:
        if way == "Mul":
            arrays["mask"] = (rng.random((24, 24)) < 0.9).astype(np.float32)
            inputs = ["v", "mask"]
        made = helper.make_node(way, inputs, ["w0"])
    model = two_layers(**arrays)
    model.graph.node.insert(0, made)
    result = prune(model, [X], sparsity=0.5).model
    assert [node.op_type for node in result.graph.node] == ["MatMul", "Relu", "MatMul", "Tanh"]
    found = {tensor.name: np.count_nonzero(numpy_helper.to_array(tensor) == 0) for tensor in result.graph.initializer}
    assert found == {"w0": 288, "w1": 288}
    onnx.checker.check_model(result)


def test_nodes_within_nodes():
    """A branch that reads values from outside runs as before, in each piece that it belongs to."""
    then, other = (
        helper.make_graph([helper.make_node(op, ["a"], ["r"])], op, [], [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)])
        for op in ("Relu", "Abs")
    )
    node = helper.make_node("If", ["yes"], ["b"], then_branch=then, else_branch=other)
    model = two_layers(node, yes=np.array(True))
    result = prune(model, [X], sparsity=0.5).model
    plain = prune(two_layers(), [X], sparsity=0.5).model
    y = [onnxruntime.InferenceSession(m.SerializeToString()).run(None, X)[0] for m in (result, plain)]
    np.testing.assert_array_equal(*y)


def test_functions_and_odd_outputs():
    """Functions of the model's own are there in each piece; outputs may be inputs, constants, or what is not compared."""
    body = [helper.make_node("Relu", ["v"], ["r"]), helper.make_node("Neg", ["r"], ["w"])]
    function = helper.make_function("own", "NegativeRelu", ["v"], ["w"], body, [helper.make_opsetid("", 20)])
    model = two_layers(helper.make_node("NegativeRelu", ["a"], ["b"], domain="own"), k=np.float32([1, 2]))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    for name, kind in (("x", TensorProto.FLOAT), ("k", TensorProto.FLOAT), ("n", TensorProto.INT64)):
        model.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    model.graph.node.append(helper.make_node("Shape", ["c"], ["n"]))
    report = prune(model, [X], sparsity=0.5).report
    assert [(output.name, output.cosine == 1) for output in report.outputs] == [("y", False), ("x", True), ("n", True)]


def test_a_sequence_cannot_be_kept():
    """A value that is no tensor stops at a layer, in plain words."""
    between = [helper.make_node("SequenceConstruct", ["a", "a"], ["s"]), helper.make_node("Relu", ["a"], ["b"])]
    model = two_layers(*between)
    model.graph.node.insert(4, helper.make_node("SequenceAt", ["s", "zero"], ["e"]))
    model.graph.node[-1].input[0] = "d"
    model.graph.node.insert(5, helper.make_node("Add", ["c", "e"], ["d"]))
    model.graph.initializer.append(numpy_helper.from_array(np.int64(0), "zero"))
    refused(model, match="'s' is not a tensor, but has to be kept while a layer is pruned")


def test_old_models():
    """Before IR version 4 every initializer is an input as well: new ones become inputs, replaced ones stop being inputs."""
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="first"),
        helper.make_node("Conv", ["a", "v"], ["b"], name="second"),
        helper.make_node("Conv", ["b", "v"], ["c"], name="third"),
        helper.make_node("Tanh", ["c"], ["y"]),
    ]
    arrays = {"w": noise(rng, 16, 3, 1, 1), "v": noise(rng, 16, 16, 1, 1)}
    model = model_of(nodes, {"x": ["n", 3, 9, 9], "w": [16, 3, 1, 1], "v": [16, 16, 1, 1]}, {"y": ["n", 16, 9, 9]}, arrays, opset=8)
    model.ir_version = 3
    images = {"x": noise(rng, 9, 3, 9, 9)}
    result = prune(model, [images], sparsity=0.5, method="magnitude", only="second").model
    assert [info.name for info in result.graph.input] == ["x", "w", "v", "v_pruned"]
    result = prune(model, [images], sparsity=0.5, skip="third").model
    assert [info.name for info in result.graph.input] == ["x", "w", "v", "b_bias_pruned", "v_pruned"]
    onnx.checker.check_model(result)
    assert np.isfinite(onnxruntime.InferenceSession(result.SerializeToString()).run(None, images)[0]).all()


def test_compressed():
    """A model whose weights are compressed has to be unpacked."""
    model = two_layers()
    model.opset_import.append(helper.make_opsetid("ep.sparse", 1))
    refused(model, match="ort-sparse unpack it first")


def test_fixed_batch():
    """Where the model fixes the first axis, a feed is one sample."""
    model = two_layers()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 40
    result = prune(model, [{"x": noise(RNG, 40, 24)} for _ in range(5)], sparsity=0.5)
    assert (result.report.samples, result.report.held_out) == (5, 1)


def test_samples_are_no_more_than_asked_for():
    """Of an endless iterable, no more is taken than `samples` need."""
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield {"x": noise(RNG, 50, 24)}

    result = prune(two_layers(), endless(), sparsity=0.5, samples=120)
    assert (result.report.samples, len(taken)) == (120, 3)


def test_pieces_of_batches_do_not_matter(monkeypatch):
    """Large batches are cut into small ones: samples are the same, and so is nearly every bit."""
    whole = prune(two_layers(), [X], sparsity=0.5, holdout=0)
    monkeypatch.setattr(batches, "MOST_SAMPLES", 7)
    cut = prune(two_layers(), [X], sparsity=0.5, holdout=0)
    for name, mask in whole.masks.items():
        assert (mask == cut.masks[name]).mean() > 0.98


def test_interrupted(tmp_path, monkeypatch):
    """Ctrl-C in the middle leaves no file behind, and BLAS as it was."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def stop(done, total, what):
        assert not os.listdir(tmp_path)
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune(two_layers(), [X], sparsity=0.5, memory=BESIDES + 4 * (5 * 24**2 + 14 * 24**2), progress=stop)
    assert not os.listdir(tmp_path)


def test_progress():
    """Progress ends with everything done."""
    seen = []
    prune(two_layers(), [X], sparsity=0.5, progress=lambda done, total, what: seen.append((done, total, what)))
    assert seen == [(0, 3, "first"), (1, 3, "second"), (2, 3, "held-out samples"), (3, 3, "")]


def test_too_few_samples_for_one_layer():
    """A layer with more inputs than samples gets its zeros but keeps its values, with a warning."""
    rng = np.random.default_rng(5)
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], name="narrow"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w1"], ["c"], name="wide"),
        helper.make_node("Tanh", ["c"], ["y"]),
    ]
    arrays = {"w0": noise(rng, 24, 200), "w1": noise(rng, 200, 24)}
    result = prune(model_of(nodes, {"x": ["n", 24]}, ["y"], arrays), [X], sparsity=0.5)
    narrow, wide = result.report.layers
    assert (narrow.refitted, wide.refitted) == (True, False)
    assert result.report.warnings == (
        "1 of 2 layers have too few samples to be refitted: 'wide' (96 samples for 200 inputs); 2.1 times the data would do for all",
    )
    pruned = {t.name: numpy_helper.to_array(t) for t in result.model.graph.initializer}["w1"]
    assert np.count_nonzero(pruned == 0) == wide.zeros == 2400
    assert (pruned[pruned != 0] == arrays["w1"][pruned != 0]).all()


def test_no_memory_for_what_is_not_fitted():
    """Matrices of inputs are made only for a layer that is fitted: with enough samples, by a method that fits."""
    rng = np.random.default_rng(6)
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], name="narrow"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w1"], ["c"], name="wide"),
        helper.make_node("Tanh", ["c"], ["y"]),
    ]
    model = model_of(nodes, {"x": ["n", 24]}, ["y"], {"w0": noise(rng, 24, 3000), "w1": noise(rng, 3000, 240)})
    limit = BESIDES + 4 * 4 * 3000 * 240  # copies of the wide weight, and no byte more
    assert [layer.refitted for layer in prune(model, [X], sparsity=0.5, memory=limit).report.layers] == [True, False]
    many = {"x": noise(rng, 4000, 24)}
    assert prune(model, [many], sparsity=0.5, memory=limit, method="wanda").report.zeros == 396000
    refused(model, [many], match=r"memory is too little: layer 'wide' needs \d+ MB; give more, or skip the layer", memory=limit)
