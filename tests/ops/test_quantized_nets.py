"""Small nets as `onnxruntime.quantization` and SparseML write them, after ONNX Runtime's own rewrites: one region, the same results."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnxruntime_ep_sparse as sparse
from support import quantized
from support.image_net import EXACT, KINDS, SHAPE, image_net, quantise
from support.making import noise
from support.promises import assert_close, cpu_session, make_session, owned_session


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The net and its quantised files, by kind."""
    folder = tmp_path_factory.mktemp("quantised")
    onnx.save(image_net(), folder / "net.onnx")
    for kind in KINDS:
        quantise(folder / "net.onnx", folder / f"{kind}.onnx", kind)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_quantised_nets(kind, files):
    """One region with every node; the results of ONNX Runtime to the bit, and close to those of the floats."""
    path = str(files / f"{kind}.onnx")
    ours = owned_session(path, regions=1)
    theirs = cpu_session(path, entries=EXACT if "uint8" in kind else None)
    for seed in range(3):
        feeds = {"x": noise(np.random.default_rng(seed), *SHAPE)}
        (y,), (y_ort,) = ours.run(None, feeds), theirs.run(None, feeds)
        if kind == "dynamic":
            assert_close(y, y_ort)
        else:
            np.testing.assert_array_equal(y, y_ort)
        (floats,) = cpu_session(str(files / "net.onnx")).run(None, feeds)
        assert np.abs(y - floats).max() < 0.1 * np.abs(floats).max()


def test_groups_are_decided_as_one(files):
    """Zeros are those of the float weights; what belongs to a product says so."""
    decisions = sparse.explain(make_session(str(files / "QDQ uint8.onnx")))
    assert all(decision.taken for decision in decisions)
    convolutions = [decision for decision in decisions if decision.op_type == "Conv"]
    assert len(convolutions) == 7
    assert sum(0.75 < decision.sparsity < 0.85 for decision in convolutions) == 6
    parts = {decision.op_type for decision in decisions if decision.code == "part-of-other"}
    assert {"DequantizeLinear", "QuantizeLinear"} <= parts


def test_left_for_its_density(files):
    """Under `auto`, a net that is too small for its zeros stays, whole groups with their product."""
    session = make_session(str(files / "QDQ uint8.onnx"), {"policy": "auto", "min_sparsity": "0.99"})
    assert not any(decision.taken for decision in sparse.explain(session))


def sparseml_chain(rng, x, y, c, m, zero, **attributes):
    """ConvInteger and what SparseML writes after it, and its constants: weights are around 128."""
    weight = np.where(rng.random((m, c, 3, 3)) < 0.2, rng.integers(1, 256, (m, c, 3, 3)), 128).astype(np.uint8)
    names = {
        f"{y}_w": weight,
        f"{y}_wz": np.uint8(128),
        f"{y}_b": rng.integers(-900, 900, (1, m, 1, 1)).astype(np.int32),
        f"{y}_s": rng.uniform(1e-5, 1e-4, (1, m, 1, 1)).astype(np.float32),
        f"{y}_ys": np.float32(0.02),
        f"{y}_yz": np.uint8(0),
    }
    nodes = [
        helper.make_node("ConvInteger", [x, f"{y}_w", zero, f"{y}_wz"], [f"{y}_i"], **attributes),
        helper.make_node("Add", [f"{y}_i", f"{y}_b"], [f"{y}_a"]),
        helper.make_node("Cast", [f"{y}_a"], [f"{y}_c"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{y}_c", f"{y}_s"], [f"{y}_m"]),
        helper.make_node("Relu", [f"{y}_m"], [f"{y}_r"]),
        helper.make_node("QuantizeLinear", [f"{y}_r", f"{y}_ys", f"{y}_yz"], [y]),
    ]
    return nodes, names


def test_sparseml():
    """Two chains and a residual with DequantizeLinear on both sides, in one region, to the bit."""
    rng = np.random.default_rng(0)
    first, constants = sparseml_chain(rng, "x", "p", 8, 16, "xz", pads=[1] * 4)
    second, more = sparseml_chain(rng, "p", "q", 16, 16, "p_yz", pads=[1] * 4)
    constants |= {**more, "xz": np.uint8(3), "rs": np.float32(0.04), "rz": np.uint8(0)}
    nodes = [
        *first,
        *second,
        helper.make_node("DequantizeLinear", ["p", "p_ys", "p_yz"], ["pf"]),
        helper.make_node("DequantizeLinear", ["q", "q_ys", "q_yz"], ["qf"]),
        helper.make_node("Add", ["pf", "qf"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["rectified"]),
        helper.make_node("QuantizeLinear", ["rectified", "rs", "rz"], ["y"]),
    ]
    model = quantized.model(nodes, {"x": (np.uint8, ["n", 8, "h", "w"])}, {"y": np.uint8}, constants)
    x = quantized.integers(rng, np.uint8, (2, 8, 14, 11))
    (y,), (y_ort,) = owned_session(model, regions=1).run(None, {"x": x}), cpu_session(model).run(None, {"x": x})
    np.testing.assert_array_equal(y, y_ort)


@pytest.mark.parametrize("op_type", ["QLinearMul", "QLinearConcat", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearGlobalAveragePool"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8], ids=lambda dtype: dtype.__name__)
def test_operators_of_com_microsoft(op_type, dtype):
    """ONNX Runtime's results, behind a product by the identity."""
    rng = np.random.default_rng(3)
    for _ in range(4):
        shape = (2, 8, 5, 16)
        identity = helper.make_node("QLinearMatMul", ["x", "one", "xz", "eye", "one", "none", "one", "xz"], ["p"])
        constants = {"one": np.float32(1), "eye": np.eye(16, dtype=dtype), "none": dtype(0), "xs": quantized.scales(rng)}
        constants |= {name: dtype(quantized.zero_of(rng, dtype)) for name in ("xz", "bz", "yz")}
        constants |= {"bs": quantized.scales(rng), "ys": quantized.scales(rng)}
        feeds = {"x": quantized.integers(rng, dtype, shape), "b": quantized.integers(rng, dtype, shape)}
        two = op_type in ("QLinearMul", "QLinearConcat")
        names = ["p", "xs", "xz", *(["b", "bs", "bz"] if two else [])]
        if op_type == "QLinearMul":
            constants["ys"] = np.float32(constants["xs"] * constants["bs"] * 60)  # many ties
        names = ["ys", "yz", *names] if op_type == "QLinearConcat" else [*names, "ys", "yz"]
        attributes = {"QLinearConcat": {"axis": 1}, "QLinearLeakyRelu": {"alpha": 0.1}}.get(op_type, {})
        node = helper.make_node(op_type, names, ["y"], domain="com.microsoft", **attributes)
        read = {name: (dtype, shape) for name in (("x", "b") if two else ("x",))}
        used = {name: array for name, array in constants.items() if name in {*identity.input, *node.input}}
        model = quantized.model([identity, node], read, {"y": dtype}, used)
        given = {name: feeds[name] for name in read}
        (y,), (y_ort,) = owned_session(model, regions=1).run(None, given), cpu_session(model).run(None, given)
        np.testing.assert_array_equal(y, y_ort)
