"""Expressions of constants: found, computed bit for bit, and replaced without a change of anything else."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnxruntime_ep_sparse.formats.constants import Constants, NotComputedError, fold
from support.making import examples, graph_of, model_of, noise, pruned

X = ["n", 40]


def node(op_type, inputs, output, **attributes):
    """A node of one output."""
    return helper.make_node(op_type, inputs, [output], **attributes)


def product(*nodes, weights, weight="w", outputs=("y",), **arguments):
    """x @ w, with nodes that make the weight."""
    return model_of([*nodes, node("MatMul", ["x", weight], "y")], {"x": X}, list(outputs), weights, **arguments)


def results(model, **feeds):
    """Outputs of a model under ONNX Runtime's usual optimisations."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": noise(np.random.default_rng(1), 3, 40), **feeds})


def folded(model, *names, source=None):
    """The model with these values folded. Its results must be the same bits, and nothing may dangle."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    done = fold(changed, names, source)
    for ours, theirs in zip(results(changed), results(model), strict=True):
        np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32))
    made = {name for each in changed.graph.node for name in each.output} | {tensor.name for tensor in changed.graph.initializer}
    assert {info.name for info in changed.graph.value_info} <= made
    return changed, done


def operators(model):
    return [each.op_type for each in model.graph.node]


def initializers(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


MASK = (np.random.default_rng(2).random((40, 30)) < 0.1).astype(np.float32)
WEIGHT = noise(np.random.default_rng(3), 40, 30)
EIGHT_BITS = np.random.default_rng(4).integers(-5, 5, (40, 30), np.int8)
FORMS = {
    "a mask": ([node("Mul", ["m", "o"], "w")], {"m": MASK, "o": WEIGHT}, MASK * WEIGHT),
    "a mask of bytes": ([node("Cast", ["m"], "f", to=1), node("Mul", ["o", "f"], "w")], {"m": MASK != 0, "o": WEIGHT}, MASK * WEIGHT),
    "a choice": ([node("Where", ["m", "o", "z"], "w")], {"m": MASK != 0, "o": WEIGHT, "z": np.float32(0)}, np.where(MASK, WEIGHT, 0)),
    "a constant": ([node("Constant", [], "w", value=numpy_helper.from_array(WEIGHT))], {}, WEIGHT),
    "transposed": ([node("Transpose", ["o"], "w", perm=[1, 0])], {"o": WEIGHT.T.copy()}, WEIGHT),
    "the same": ([node("Identity", ["o"], "i"), node("Identity", ["i"], "w")], {"o": WEIGHT}, WEIGHT),
    "half": ([node("Cast", ["o"], "w", to=1)], {"o": WEIGHT.astype(np.float16)}, WEIGHT.astype(np.float16).astype(np.float32)),
    "reshaped": ([node("Reshape", ["o", "s"], "w")], {"o": WEIGHT.reshape(-1), "s": np.array([40, 30])}, WEIGHT),
    "a mask and a scale": (
        [
            node("Mul", ["m", "o"], "a"),
            node("Transpose", ["a"], "b", perm=[1, 0]),
            node("Mul", ["b", "s"], "c"),
            node("Identity", ["c"], "w"),
        ],
        {"m": MASK.T.copy(), "o": WEIGHT.T.copy(), "s": np.arange(30, dtype=np.float32)},
        MASK * WEIGHT * np.arange(30, dtype=np.float32),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form):
    """What exporters leave, with every value declared: one initializer is left, and nothing of the rest."""
    nodes, weights, expected = FORMS[form]
    model = product(*nodes, weights=weights)
    model.graph.value_info.extend(onnx.ValueInfoProto(name=name) for name in [*weights, *(each.output[0] for each in nodes)])
    changed, done = folded(model, "w")
    assert done == {"w": [each.op_type for each in nodes]}
    assert operators(changed) == ["MatMul"]
    assert [info.name for info in changed.graph.value_info] == ["w"]
    assert list(initializers(changed)) == ["w"]
    np.testing.assert_array_equal(initializers(changed)["w"], expected)


@st.composite
def graphs(draw):
    """Random expressions of 40 x 30 matrices over each other's values, some of them read by products, others by the graph's outputs."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weights = {f"v{i}": pruned(rng, (40, 30), 0.5) for i in range(draw(st.integers(1, 3)))}
    weights["v0"].flat[:3] = [-0.0, np.inf, 1e-40]
    names, nodes = list(weights), []
    for at in range(draw(st.integers(1, 6))):
        a, b = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        out, kind = f"e{at}", draw(st.sampled_from(["Mul", "Add", "Sub", "Div", "Identity", "Transpose", "Split", "Constant"]))
        if kind == "Identity":
            nodes.append(node(kind, [a], out))
        elif kind == "Transpose":
            nodes += [node(kind, [a], f"{out}t"), node(kind, [f"{out}t"], out)]
        elif kind == "Split":
            nodes += [node("Concat", [a, b], f"{out}c", axis=0), helper.make_node(kind, [f"{out}c"], [f"{out}s", out], num_outputs=2)]
        elif kind == "Constant":
            nodes.append(node(kind, [], out, value=numpy_helper.from_array(pruned(rng, (40, 30), 0.5))))
        else:
            nodes.append(node(kind, [a, b], out))
        names.append(out)
    read = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))
    nodes += [node("MatMul", ["x", name], f"y{at}") for at, name in enumerate(read)]
    outputs = [f"y{at}" for at in range(len(read))] + draw(
        st.lists(st.sampled_from([n for n in names if n[0] == "e"]), max_size=2, unique=True)
    )
    model = model_of(nodes, {"x": X}, outputs, weights)
    return model, draw(st.lists(st.sampled_from(read), min_size=1)), set(outputs)


@examples(60)
@given(graphs())
def test_random_graphs(case):
    """Whatever is shared: every result has the same bits, and what is asked for is an initializer unless it is an output."""
    model, names, outputs = case
    changed, done = folded(model, *names)
    left = set(initializers(changed))
    assert all(name in left or name in outputs for name in names)
    assert set(done) == {name for name in names if name[0] == "e"} - outputs
    read = {name for each in changed.graph.node for name in each.input} | outputs
    used = {name for each in model.graph.node for name in each.input}
    assert all(name in read for name in left if name in used)


def test_what_is_shared_stays():
    """Operands that something else reads, also a node within a node: they stay, and so do nodes with another output that is needed."""
    inner = graph_of([node("Mul", ["m", "m"], "z")], {}, ["z"], {})
    nodes = [
        node("Mul", ["m", "o"], "w"),
        helper.make_node("If", ["c"], ["q"], then_branch=inner, else_branch=inner),
        helper.make_node("Split", ["s"], ["s0", "s1"], num_outputs=2, axis=0),
        node("MatMul", ["x", "s0"], "y0"),
        node("Add", ["s1", "q"], "y1"),
    ]
    weights = {"m": MASK, "o": WEIGHT, "c": np.array(True), "s": np.concatenate([WEIGHT, MASK])}
    changed, done = folded(product(*nodes, weights=weights, outputs=("y", "y0", "y1")), "w", "s0")
    assert set(done) == {"w", "s0"}
    assert set(initializers(changed)) == {"m", "c", "s", "w", "s0"}
    assert operators(changed) == ["If", "Split", "MatMul", "Add", "MatMul"]


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.graph.input.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, [40, 30])),
        lambda model: model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [40, 30])),
        lambda model: setattr(model.graph.node[0], "op_type", "Pow"),
        lambda model: setattr(model.graph.node[0], "domain", "somebody"),
    ],
)
def test_what_is_no_expression(change):
    """An operand that an input overrides, an output of the graph, an operator whose rounding is a kernel's own, somebody else's."""
    model = product(node("Mul", ["m", "o"], "w"), weights={"m": MASK, "o": WEIGHT})
    change(model)
    before = model.SerializeToString()
    assert fold(model, ["w", "x", "o"]) == {}
    assert model.SerializeToString() == before


@pytest.mark.parametrize("activations", [True, False])
@pytest.mark.parametrize("integers", [True, False])
def test_integer_weights(activations, integers):
    """They are folded where the caller says so and activations are floats. A mask in the same model is folded anyway."""
    scales = np.arange(1, 31, dtype=np.float32) / 7
    nodes = [node("DequantizeLinear", ["o", "t"], "w", axis=1), node("Mul", ["m", "f"], "v"), node("MatMul", ["h", "v"], "z")]
    start = [node("QuantizeLinear", ["x", "s", "p"], "q"), node("DequantizeLinear", ["q", "s", "p"], "h")]
    weights = {"o": EIGHT_BITS, "t": scales, "s": np.float32(0.1), "p": np.int8(0), "m": MASK, "f": WEIGHT}
    nodes = [*(start if activations else [node("Identity", ["x"], "h")]), *nodes, node("MatMul", ["h", "w"], "y")]
    model = model_of(nodes, {"x": X}, ["y", "z"], weights)
    done = fold(model, ["w", "v"], integers=integers)
    assert done == {"v": ["Mul"]} | ({"w": ["DequantizeLinear"]} if integers and not activations else {})
    if "w" in done:
        np.testing.assert_array_equal(initializers(model)["w"], EIGHT_BITS * scales)


def test_what_cannot_be_computed():
    """Operands that do not fit: one line, with the node's name."""
    model = product(node("Mul", ["m", "o"], "w", name="mask"), weights={"m": MASK, "o": WEIGHT[:7]})
    with pytest.raises(NotComputedError, match="node 'mask': ONNX Runtime cannot compute this constant") as raised:
        fold(model, ["w"])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.bool_, np.int8, np.uint16, np.int64, np.uint64])
@pytest.mark.parametrize("how", ["raw", "listed", "external"])
def test_operands_of_all_types(tmp_path, dtype, how):
    """Wherever their data are."""
    values = np.array([[0, 1, 1, 0] * 10] * 30).T[:, :30].astype(dtype)
    model = product(node("Cast", ["o"], "w", to=1), weights={"o": values})
    if how == "listed":
        flat = values.reshape(-1)
        model.graph.initializer[0].CopyFrom(helper.make_tensor("o", helper.np_dtype_to_tensor_dtype(values.dtype), values.shape, flat))
    path = tmp_path / "model.onnx"
    onnx.save(model, path, **({"save_as_external_data": True, "location": "data", "size_threshold": 0} if how == "external" else {}))
    read = onnx.load(path, load_external_data=False)
    constants = Constants(read, path)
    assert constants.is_external("w") == (how == "external")
    assert constants.freed_bytes("w") == values.nbytes
    np.testing.assert_array_equal(constants.array("w"), values.astype(np.float32))
    assert list(fold(read, ["w"], path)) == ["w"]
    np.testing.assert_array_equal(initializers(read)["w"], values.astype(np.float32))


def test_freed_bytes():
    """Only what nobody else reads counts; a chain counts to its end."""
    weights = {"m": MASK, "o": WEIGHT, "p": WEIGHT.T.copy()}
    nodes = [node("Mul", ["m", "o"], "w"), node("Transpose", ["p"], "t"), node("Mul", ["t", "m"], "v"), node("MatMul", ["x", "v"], "y2")]
    constants = Constants(product(*nodes, weights=weights, outputs=("y", "y2")))
    assert [constants.freed_bytes(name) for name in ("w", "v")] == [WEIGHT.nbytes] * 2
    constants.fold("w")
    assert constants.freed_bytes("v") == 2 * WEIGHT.nbytes
    assert constants.operators("v") == ["Transpose", "Mul"]
