"""What more zeros would gain: rules, expectations, measured layers."""

import json

import numpy as np
import pytest
from onnx.helper import make_node

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import models
from onnxruntime_ep_sparse.diagnostics.explain import expected
from onnxruntime_ep_sparse.ort.sessions import make_session
from onnxruntime_ep_sparse.prune import what_if as module
from onnxruntime_ep_sparse.prune.layer_times import layers_of_events
from onnxruntime_ep_sparse.prune.selection import layers, source_of
from support.making import model_of


@pytest.fixture(scope="module")
def net():
    """A dense MobileNet on small images."""
    return models.mobilenet_v1(sparsity=0.0, image=64)


def plan_of(model, given):
    """Return the sparsity and the name of the pattern of each layer."""
    return {name: (share, pattern.name) for name, (share, pattern) in module.planned(source_of(model), given).items()}


def test_imposed_zeros_are_expected_to_gain(net):
    """Of the layers that `prune` would choose, the largest gain first; the totals are those of the whole model."""
    found = sparse.what_if(net, 0.9, threads=1)
    gains = [layer.gain_ms for layer in found.layers]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 0
    assert all(layer.sparsity == pytest.approx(0.9, abs=0.01) and layer.taken for layer in found.layers)
    assert found.speedup > 1
    assert sum(each.cpu_ms for each in found.types) == pytest.approx(found.expected.cpu_ms)
    assert sum(each.ms for each in found.types) == pytest.approx(found.expected.ms)
    assert "it is a first convolution" in found.skipped.values()
    assert found.measured is None
    assert found.records()[0]["measured_gain_ms"] is None
    json.dumps(found.to_dict(), allow_nan=False)
    assert f"{found.speedup:.2f} times as fast" in found._repr_html_()


def test_the_expectation_is_that_of_the_pruned_model(net):
    """Imposing is the same as pruning by magnitude: the model with these zeros is judged alike."""
    found = sparse.what_if(net, 0.9, threads=1)
    source = source_of(net)
    chosen = [layer for layer in layers(source) if layer.name in {each.name for each in found.layers}]
    changes = module.impose(source, ((layer, 0.9, module.pattern_of("unstructured")) for layer in chosen))
    with module.saved(changes, {"batch": 1}) as path:
        session = make_session(path, sparse.EP_NAME, None, 1)
        assert expected(sparse.explain(session)) == found.expected


def test_more_zeros_gain_more(net):
    """No zeros gain nothing; the pattern matters."""
    none, some, blocks = (sparse.what_if(net, each, threads=1).speedup for each in (0.0, "0.8", "0.8:4x1"))
    assert none == 1 < some < blocks


def test_rules(net):
    """A share for all, for one operator, by a mapping or by a file; later ones override earlier ones."""
    everything = plan_of(net, 0.5)
    assert set(everything.values()) == {(0.5, "unstructured")}
    assert plan_of(net, ["0.5", "Conv=0.75:1:4"]) == dict.fromkeys(everything, (0.75, "1:4"))
    first = source_of(net).nodes[0].name
    assert first not in everything
    assert plan_of(net, {first: "0.9:4x1"}) == {first: (0.9, "4x1")}


def test_rules_of_a_file(net, tmp_path):
    """A JSON object, which may be combined with others."""
    file = tmp_path / "layers.json"
    first = source_of(net).nodes[0].name
    file.write_text(json.dumps({first: 0.25}))
    plan = plan_of(net, ["0.5", str(file)])
    assert plan[first] == (0.25, "unstructured")
    assert len(plan) == len(plan_of(net, 0.5)) + 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("1.5", "expected a share from 0 to 1"),
        ("much", "expected a share from 0 to 1"),
        ("0.9:stripes", "unknown pattern 'stripes'"),
        ("0.9:2:4", "the pattern 2:4 implies a share of 0.5"),
        ("Gemm=0.9", "there is no layer of type Gemm to prune; there are Conv"),
        ({"nowhere": 0.5}, "there is no layer 'nowhere'"),
        ({"/blocks/1/pointwise/conv/Con": 0.5}, "did you mean"),
        ("none.json", "cannot read none.json: No such file"),
    ],
)
def test_wrong_rules(net, given, words):
    """They are one error each."""
    with pytest.raises(ValueError, match=words):
        module.planned(source_of(net), given)


@pytest.mark.parametrize("text", ["", "[]", "3", '{"a": []}', "[" * 100000])
def test_file_must_be_an_object(net, tmp_path, text):
    """Anything else is an error that shows the form."""
    file = tmp_path / "layers.json"
    file.write_text(text)
    with pytest.raises(ValueError, match="expected a JSON object from names of layers to shares"):
        module.planned(source_of(net), str(file))


def test_measured(net):
    """The model with the zeros runs, and each layer has a time with both providers."""
    found = sparse.what_if(net, 0.9, threads=1, measured=True, pairs=3)
    assert found.measured.speed_up.pairs == 3
    assert found.measured.agrees
    for layer in found.layers:
        assert layer.measured_cpu_ms > 0
        assert layer.measured_ms > 0
        assert layer.measured_gain_ms == layer.measured_cpu_ms - layer.measured_ms
    assert "measured" in found.caption()


def test_events_of_fused_nodes():
    """A rewritten node has the name of its last value, or of its node with a suffix; an Add belongs to the layer that nothing else has."""
    nodes = [
        make_node("Conv", ["x", "u"], ["a"], "first"),
        make_node("Conv", ["x", "v"], ["b"], "second"),
        make_node("Add", ["a", "b"], ["c"], "add"),
        make_node("Relu", ["c"], ["d"], "relu"),
        make_node("MatMul", ["d", "w"], ["e"], "product"),
        make_node("Softmax", ["e"], ["y"], "softmax"),
    ]
    weights = {"u": np.ones((8, 8, 1, 1)), "v": np.ones((8, 8, 1, 1)), "w": np.ones((8, 8))}
    source = source_of(model_of(nodes, {"x": [1, 8, 8, 8]}, ["y"], {name: w.astype(np.float32) for name, w in weights.items()}))
    events = ["d_nchwc_kernel_time", "b_nchwc_token_3_kernel_time", "product/MatMulAddFusion_kernel_time", "softmax_kernel_time", "other"]
    assert layers_of_events(events, source, list(layers(source))) == {
        "d_nchwc_kernel_time": "first",
        "b_nchwc_token_3_kernel_time": "second",
        "product/MatMulAddFusion_kernel_time": "product",
    }


def test_open_sizes(chain):
    """Inputs of a batch fix the open dimension; a batch costs more."""
    one, four = (sparse.what_if(chain(0.0), {"conv": 0.95}, batch=batch, threads=1) for batch in (1, 4))
    assert four.expected.cpu_ms > 2 * one.expected.cpu_ms
    assert four.shapes == {"x": (4, 64, 28, 28)}
