"""The first node that differs: a corrupted weight, faults of fused steps, bounded memory."""

import json

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import models
from onnxruntime_ep_sparse.measure import nodes
from support.making import corrupted, model_of, pruned


@pytest.fixture(scope="module")
def net():
    """A MobileNet on small images: depthwise and pointwise convolutions, BatchNormalization between them."""
    return models.mobilenet_v1(sparsity=0.9, image=64)


def test_corrupted_weight_is_found_by_name(net):
    """Among 13 blocks, with the convolution that reads it, the error of its inputs, and where the values differ."""
    weights = [each.name for each in net.graph.initializer if len(each.dims) == 4]
    name = weights[len(weights) // 2]
    node = next(each for each in net.graph.node if name in each.input)
    found = sparse.compare_nodes(net, other=corrupted(net, name, lambda x: 10 * x + 1))
    first = found.first
    assert (first.node, first.value, first.fused) == (node.name, node.output[0], False)
    assert [(weight.name, weight.different) for weight in first.weights] == [(name, 1)]
    assert first.agreement.max_relative > found.tolerance >= max(first.inputs.values())
    assert sum(count for _, count in first.histogram) == np.prod(first.agreement.shape)
    worst = first.worst[0]
    assert abs(worst.ours - worst.reference) == pytest.approx(first.agreement.max_abs)
    assert len(found.values) < found.nodes
    assert not found.agrees
    assert node.output[0] in found.caption()
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["first"]["weights"][0]["name"] == name
    assert found._repr_html_().count("<tr>") == len(found.values) + 1


def test_equal_models_agree(net):
    """Every value is compared, inside of regions too, in groups that fit the memory."""
    found = sparse.compare_nodes(net, memory=1 << 20, threads=1)
    assert found.agrees
    assert found.first is None
    assert [each.value for each in found.values] == [node.output[0] for node in net.graph.node]
    assert found.ownership.owned


def test_memory_bounds_the_groups():
    """No more values are asked for at once than fit, whatever came before; one alone may be larger."""
    asked = []

    class Session:
        def run(self, names, feeds):
            asked.append(names)
            return [np.zeros({"big": 1000}.get(name[:3], 10), np.uint8) for name in names]

    names = [f"a{i}" for i in range(12)] + ["big", *(f"b{i}" for i in range(9))]
    groups = nodes._groups(Session(), Session(), names, {}, 160, lambda share: None)
    assert [name for group in groups for name, *_ in group] == names
    assert asked[0] == asked[1] == names[:4]
    assert all(len(group) * 20 <= 160 or "big" in group for group in asked)
    assert max(map(len, asked[-2:])) == 1


def test_fault_of_a_fused_step(monkeypatch):
    """Cut at every value all values agree; the search in beginnings finds the node from which on they do not."""
    rng = np.random.default_rng(0)
    chain = [make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"], f"layer{i}") for i in range(9)]
    model = model_of(chain, {"x0": ["n", 32]}, ["x9"], {f"w{i}": pruned(rng, (32, 32), 0.8) for i in range(9)})
    make = nodes.make_session

    class Wrong:
        """A session of ours that is wrong from the sixth node on, unless it is cut everywhere."""

        def __init__(self, session, source):
            self.session, self.nodes = session, len(onnx.load_from_string(source).graph.node)

        def __getattr__(self, name):
            return getattr(self.session, name)

        def run(self, names, feeds):
            return [y + np.abs(y).max() * (self.nodes >= 6) for y in self.session.run(names, feeds)]

    def made(source, provider, *arguments, **rest):
        session = make(source, provider, *arguments, **rest)
        cut = len(session.get_outputs()) > 1
        return session if cut or provider != sparse.EP_NAME else Wrong(session, source)

    monkeypatch.setattr(nodes, "make_session", made)
    first = sparse.compare_nodes(model).first
    assert (first.node, first.number, first.fused) == ("layer5", 6, True)


def test_shapes_and_numbers_that_are_not_finite():
    """They count as differences without a number, which JSON does not have."""
    graph = [make_node("Mul", ["x", "w"], ["a"], "product"), make_node("Relu", ["a"], ["y"], "relu")]
    one, other = (model_of(graph, {"x": [1, 4]}, ["y"], {"w": np.array([scale, 1, 1, 1], np.float32)}) for scale in (1, np.inf))
    found = sparse.compare_nodes(one, other=other)
    assert found.first.node == "product"
    assert found.first.ours.not_finite == 1
    json.dumps(found.to_dict(), allow_nan=False)
    wide = model_of(graph, {"x": [1, 4]}, ["y"], {"w": np.ones((3, 1), np.float32)})
    first = sparse.compare_nodes(one, other=wide).first
    assert (first.beyond, first.histogram, first.weights[0].different) == (1.0, (), None)


def test_external_data(net, tmp_path):
    """The weights of a model in a file may be in another one."""
    path = tmp_path / "model.onnx"
    copy = onnx.ModelProto()
    copy.CopyFrom(net)
    onnx.save(copy, path, save_as_external_data=True, location="weights.bin")
    assert sparse.compare_nodes(path).agrees


def test_nothing_in_common():
    """Two models without a value of the same name are an error."""
    one, other = (model_of([make_node("Relu", ["x"], [y], "r")], {"x": [1, 4]}, [y], {}) for y in "pq")
    with pytest.raises(ValueError, match="no value of the same name"):
        sparse.compare_nodes(one, other=other)


def test_compiled_models_cannot_be_cut():
    """Their nodes are not in them."""
    node = make_node("EPContext", ["x"], ["y"], "region", domain="com.microsoft")
    with pytest.raises(ValueError, match="regions cannot be cut: give the original model"):
        sparse.compare_nodes(model_of([node], {"x": [1, 4]}, ["y"], {}))


@pytest.fixture(scope="module")
def convolutions():
    """Three convolutions of 32 channels with Relu between them."""
    rng = np.random.default_rng(0)
    nodes = [make_node("Conv", [f"x{i}", f"w{i}"], [f"c{i}"], f"conv{i}", pads=[1] * 4) for i in range(3)]
    nodes += [make_node("Relu", [f"c{i}"], [f"x{i + 1}"], f"relu{i}") for i in range(3)]
    nodes.sort(key=lambda node: node.name[-1])
    return model_of(nodes, {"x0": [1, 32, 16, 16]}, ["x3"], {f"w{i}": pruned(rng, (32, 32, 3, 3), 0.8) for i in range(3)}, 17)


@pytest.mark.parametrize("form", ["int8", "int8-qoperator", "int8-dynamic"])
def test_corrupted_8_bit_weight_is_found_by_name(convolutions, form):
    """The first node that reads it, and the weight; the quantised model agrees with itself."""
    model = models.FORMATS[form](convolutions)
    assert sparse.compare_nodes(model, threads=1).agrees
    weights = [each.name for each in model.graph.initializer if each.data_type == onnx.TensorProto.INT8 and len(each.dims) == 4]
    node = next(each for each in model.graph.node if weights[1] in each.input)
    first = sparse.compare_nodes(model, other=corrupted(model, weights[1], np.negative), threads=1).first
    assert (first.node, first.op_type) == (node.name, node.op_type)
    assert [(weight.name, weight.different) for weight in first.weights] == [(weights[1], 1)]


def rounding(shift=0.0, weight=1.0):
    """A model that rounds x + shift to integers and multiplies them by two matrices; `weight` is an element of the second one."""
    rng = np.random.default_rng(0)
    matrices = [pruned(rng, (64, 64), 0.8) for _ in range(2)]
    matrices[1][3, 5] = weight
    nodes = [
        make_node("Add", ["x", "shift"], ["a"], "add"),
        make_node("QuantizeLinear", ["a", "one", "zero"], ["q"], "round"),
        make_node("DequantizeLinear", ["q", "one", "zero"], ["b"], "integers"),
        make_node("MatMul", ["b", "first"], ["c"], "first product"),
        make_node("MatMul", ["c", "second"], ["y"], "second product"),
    ]
    weights = {"shift": np.float32(shift), "one": np.float32(1), "zero": np.int8(0), "first": matrices[0], "second": matrices[1]}
    return model_of(nodes, {"x": [8, 64]}, ["y"], weights)


def test_rounding_the_other_way_is_no_fault():
    """One 8-bit integer at a tie differs by a step; the values after it differ by more than the tolerance, and no node is to blame."""
    x = np.random.default_rng(1).integers(-50, 50, (8, 64)).astype(np.float32)
    x[2, 7] = 12.5
    found = sparse.compare_nodes(rounding(), {"x": x}, other=rounding(shift=1e-6))
    assert found.agrees
    assert [each.value for each in found.values if each.inherited] == ["b", "c", "y"]
    (integers,) = [each.agreement for each in found.values if each.agreement.dtype == "int8"]
    assert (integers.different, integers.max_abs) == (1, 1.0)
    assert found.values[-1].agreement.max_relative > found.tolerance
    assert [row["ok"] for row in found.records()] == [True] * 5
    strict = sparse.compare_nodes(rounding(), {"x": x}, other=rounding(shift=1e-6), tolerance=1e-4)
    assert strict.first.node == "round"
    assert strict.first.histogram[:2] == ((0.0, 511), (1.0, 1))


def test_fault_behind_rounding_is_found():
    """A node that is wrong on the inputs of the CPU provider is named, whatever differs before it."""
    x = np.random.default_rng(1).integers(-50, 50, (8, 64)).astype(np.float32)
    x[2, 7] = 12.5
    found = sparse.compare_nodes(rounding(), {"x": x}, other=rounding(shift=1e-6, weight=1.5))
    assert (found.first.node, found.first.weights[0].name, found.first.weights[0].different) == ("second product", "second", 1)
    assert [each.inherited for each in found.values] == [False, False, True, True, False]
