"""Weights that a node Weight makes: those of quantised products and of recurrent nodes."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import models
from onnxruntime_ep_sparse.formats.compressed_model import outline, pack
from onnxruntime_ep_sparse.formats.schema import DOMAIN
from onnxruntime_ep_sparse.models import quantised
from support.making import model_of, noise, pruned
from support.promises import ALWAYS, assert_close, assignment, session_options

EXACT = {"session.x64quantprecision": "1"}


def integers(rng, shape, dtype=np.int8, zero=0, zeros=0.9):
    """A weight of 8-bit integers, most of which are its zero point."""
    weight = np.clip(np.rint(30 * pruned(rng, shape, zeros)), -90, 90) + zero
    return weight.astype(dtype)


def scalars(**given):
    """Scales and zero points."""
    return {name: np.asarray(value) for name, value in given.items()}


def net(kind):
    """One product of each kind, with the name of its weight."""
    rng = np.random.default_rng(0)
    common = scalars(xs=np.float32(0.02), xz=np.uint8(128), ws=np.float32(0.01), wz=np.int8(0), ys=np.float32(0.05), yz=np.uint8(100))
    x = {"x": ("n", 40)}
    inputs, domain, op_type, weight = x, "", kind, integers(rng, (40, 30))
    if kind == "DequantizeLinear":
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "xs", "xz"], ["d"]),
            helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["dw"]),
            helper.make_node("MatMul", ["d", "dw"], ["p"], "product"),
            helper.make_node("QuantizeLinear", ["p", "ys", "yz"], ["r"]),
            helper.make_node("DequantizeLinear", ["r", "ys", "yz"], ["y"]),
        ]
        return model_of(nodes, inputs, ["y"], {"w": weight, **common})
    q = helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"])
    back = helper.make_node("DequantizeLinear", ["r", "ys", "yz"], ["y"])
    if kind in ("QLinearMatMul", "QGemm"):
        domain = "com.microsoft" if kind == "QGemm" else ""
        names = ["q", "xs", "xz", "w", "ws", "wz", *([""] if kind == "QGemm" else []), "ys", "yz"]
        nodes = [q, helper.make_node(op_type, names, ["r"], "product", domain=domain), back]
    elif kind == "QLinearConv":
        inputs, weight = {"x": ("n", 16, 8, 8)}, integers(rng, (24, 16, 3, 3))
        nodes = [q, helper.make_node(op_type, ["q", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["r"], "product"), back]
    else:
        if kind == "ConvInteger":
            inputs, weight = {"x": ("n", 16, 8, 8)}, integers(rng, (24, 16, 3, 3), np.uint8, 128)
        else:
            weight = integers(rng, (40, 30), np.uint8, 128)
        common["wz"] = np.uint8(128)
        nodes = [
            q,
            helper.make_node(op_type, ["q", "w", "xz", "wz"], ["p"], "product"),
            helper.make_node("Cast", ["p"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["f", "ws"], ["y"]),
        ]
    return model_of(nodes, inputs, ["y"], {"w": weight, **common}, domains=[domain] if domain else [])


def session_of(model, provider=None):
    """A session of a packed or a plain model."""
    options = session_options(entries=EXACT)
    options.register_custom_ops_library(sparse.get_library_path())
    ours = [] if provider is None else [(sparse.EP_NAME, provider)]
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[*ours, "CPUExecutionProvider"], enable_fallback=0)


KINDS = ("DequantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger")


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_products_of_integers(there_and_back, kind, external):
    """The same bits as the plain file, with the provider, which takes all nodes, and without."""
    model = net(kind)
    packed, weights = there_and_back(model, external=external)
    assert [(w.name, w.op_type, w.reason) for w in weights] == [("w", kind, "")]
    (made,) = [node for node in packed.graph.node if node.domain == DOMAIN]
    assert (made.op_type, list(made.input), list(made.output)) == ("Weight", ["w.values", "w.index"], ["w"])
    if external:
        return
    plain = session_of(model, ALWAYS)
    feeds = {"x": noise(np.random.default_rng(1), 3, *plain.get_inputs()[0].shape[1:])}
    taken, alone = session_of(packed, ALWAYS), session_of(packed)
    assert {provider for provider, _ in assignment(taken)} == {sparse.EP_NAME}
    expected = plain.run(None, feeds)[0]
    np.testing.assert_array_equal(taken.run(None, feeds)[0], expected)
    np.testing.assert_array_equal(alone.run(None, feeds)[0], session_of(model).run(None, feeds)[0])


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_weights(there_and_back, kind):
    """Both weights; the provider's results are those of the plain file."""
    rng, gates = np.random.default_rng(0), {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    weights = {"w": pruned(rng, (1, gates * 48, 40), 0.9), "r": pruned(rng, (1, gates * 48, 48), 0.9)}
    model = model_of([helper.make_node(kind, ["x", "w", "r"], ["y"], "cell", hidden_size=48)], {"x": (5, 2, 40)}, ["y"], weights)
    packed, found = there_and_back(model)
    assert [(w.name, w.op_type, w.reason) for w in found] == [("w", kind, ""), ("r", kind, "")]
    plain, taken, alone = session_of(model, ALWAYS), session_of(packed, ALWAYS), session_of(packed)
    assert {provider for provider, _ in assignment(taken)} == {sparse.EP_NAME}
    feeds = {"x": noise(rng, 5, 2, 40)}
    np.testing.assert_array_equal(taken.run(None, feeds)[0], plain.run(None, feeds)[0])
    # ONNX Runtime multiplies by constant weights in another order
    assert_close(alone.run(None, feeds)[0], session_of(model).run(None, feeds)[0])
    there_and_back(model, standard=True)


def test_each_decision_is_explained(there_and_back):
    """A node Weight says of which node it is a part."""
    packed, _ = there_and_back(net("DequantizeLinear"))
    found = {d.op_type: (d.taken, d.code) for d in sparse.explain(session_of(packed, ALWAYS)) if d.domain == DOMAIN}
    assert found == {"Weight": (True, "part-of-other")}


def shared(model):
    """Two products that read one weight."""
    model.graph.node.append(helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["e"]))
    model.graph.node.append(helper.make_node("MatMul", ["d", "e"], ["z"]))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))


def shared_later(model):
    """Two products that read the floats of one weight."""
    model.graph.node.append(helper.make_node("MatMul", ["d", "dw"], ["z"]))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))


def an_input(model):
    """A caller may give another weight."""
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.INT8, [40, 30]))


def dense(model):
    """No zeros."""
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == "w")
    tensor.CopyFrom(numpy_helper.from_array(np.arange(1200).reshape(40, 30).astype(np.int8), "w"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (shared, "another node reads it too"),
        (shared_later, "another node reads it too"),
        (an_input, "an input of the graph has its name"),
        (dense, "fewer zeros than 0.5"),
    ],
)
def test_what_stays(there_and_back, change, reason):
    """The reason is told, and the model is the same."""
    model = net("DequantizeLinear")
    change(model)
    packed, weights = there_and_back(model)
    assert [w.reason for w in weights] == [reason]
    assert packed == model


def test_integers_have_no_standard_form(there_and_back):
    """ONNX's own indices have 8 bytes."""
    _, weights = there_and_back(net("QLinearConv"), standard=True)
    assert [w.reason for w in weights] == ["not float32"]


def test_outline(there_and_back):
    """Shape inference sees the weight as an initializer without data."""
    packed, _ = there_and_back(net("QLinearConv"))
    outline(packed)
    assert "Weight" not in [node.op_type for node in packed.graph.node]
    found = {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in packed.graph.initializer}
    assert found["w"] == (TensorProto.INT8, [24, 16, 3, 3])


@pytest.mark.parametrize("provider", [None, ALWAYS])
@pytest.mark.parametrize(("name", "words"), [("w.values", "checksum does not fit"), ("w.index", "checksum does not fit")])
def test_damage(there_and_back, provider, name, words):
    """No session, and an error that names node and cause."""
    packed, _ = there_and_back(net("QLinearConv"))
    (tensor,) = (tensor for tensor in packed.graph.initializer if tensor.name == name)
    data = bytearray(tensor.raw_data)
    data[len(data) // 2] ^= 1
    tensor.raw_data = bytes(data)
    with pytest.raises(Exception, match=words):
        session_of(packed, provider)


def test_another_shape(there_and_back):
    """The attribute that shape inference reads is the shape of the weight."""
    packed, _ = there_and_back(net("QLinearConv"))
    packed.graph.node[0].attribute[0].ints[:] = [16, 24, 3, 3]
    with pytest.raises(Exception, match=r"weight_shape is \[16, 24, 3, 3\], its weight has shape \[24, 16, 3, 3\]"):
        session_of(packed)


@pytest.mark.slow
def test_size(tmp_path):
    """90 % zeros: at most 6 % of the bytes of the dense float32 file."""
    model = models.resnet50(sparsity=0.9)
    size = model.ByteSize()
    onnx.save(quantised.qdq(model), tmp_path / "model.onnx")
    pack(tmp_path / "model.onnx", tmp_path / "packed.onnx")
    assert (tmp_path / "packed.onnx").stat().st_size <= 0.06 * size
