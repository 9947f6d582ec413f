"""Truths in regions: comparisons, logic, Cast, Where by a computed condition. Results are the CPU provider's bits."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxruntime_ep_sparse.diagnostics.step_times import step_times
from onnxruntime_ep_sparse.ops import table as ops
from support.making import model_of, noise
from support.nodes import C, one_node
from support.promises import assert_close, cpu_session, owned_session

N = helper.make_node
SPECIAL = np.array([0.0, -0.0, 1.5, np.inf, -np.inf, np.nan, 1e-45, -3.4e38], np.float32)
COMPARISONS = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")


def model(nodes, weights=None, truths=(), results=None, opset=17):
    """A model in which nodes read s, which is x after a product of zeros is added to it, and t; `truths` are inputs of that type."""
    before = [N("MatMul", ["z", "w"], ["p"]), N("Add", ["p", "x"], ["s"])]
    more = {name: ["b", 4, "n"] for name in truths}
    inputs = {"z": ["b", 4, 1], "x": ["b", 4, "n"], "t": ["b", 1, "n"], **more}
    made = model_of([*before, *nodes], inputs, list(results or ["y"]), {"w": np.ones((1, 1), np.float32), **(weights or {})}, opset=opset)
    for value in (*made.graph.input, *made.graph.output):
        if value.name in truths or (results and results.get(value.name)):
            value.type.tensor_type.elem_type = TensorProto.BOOL
    return made


def fed(b=2, n=64, **more):
    """Special numbers against each other."""
    x = np.tile(np.repeat(SPECIAL, 8)[None, None, :n], (b, 4, 1))
    t = np.tile(np.tile(SPECIAL, 8)[None, None, :n], (b, 1, 1))
    return {"z": np.zeros((b, 4, 1), np.float32), "x": x, "t": t, **more}


def assert_bits(made, feeds):
    """The CPU provider's bits of all results, for two sizes of the batch; all nodes are ours. Return the kinds of steps."""
    session, theirs = owned_session(made, {"profile": "1"}), cpu_session(made)
    names = {value.name for value in session.get_inputs()}
    for count in (2, 1):
        some = {name: array[:count] for name, array in feeds.items() if name in names}
        for y, y_ort in zip(session.run(None, some), theirs.run(None, some), strict=True):
            assert y.dtype == y_ort.dtype
            np.testing.assert_array_equal(y, y_ort)
    return [step.kind for step in step_times(session)]


@pytest.mark.parametrize("op", COMPARISONS)
def test_comparisons(op):
    """Of values, broadcast, and with a number; truths leave the region."""
    nodes = [N(op, ["s", "t"], ["y"]), N(op, ["s", "number"], ["u"]), N(op, ["number", "s"], ["v"])]
    assert_bits(model(nodes, {"number": np.float32(1.5)}, results={"y": True, "u": True, "v": True}), fed())


@pytest.mark.parametrize("op", ["And", "Or", "Xor", "Equal"])
def test_logic(op):
    """Of computed truths and of those that callers give."""
    rng = np.random.default_rng(0)
    nodes = [
        N("Less", ["s", "t"], ["a"]),
        N(op, ["a", "m"], ["c"]),
        N("Not", ["c"], ["y"]),
        N("IsNaN", ["s"], ["n"]),
        N(op, ["n", "a"], ["u"]),
    ]
    assert_bits(model(nodes, truths=["m"], results={"y": True, "u": True}), fed(m=rng.random((2, 4, 64)) < 0.5))


def test_casts():
    """NaN is true; truths are 0 and 1."""
    nodes = [N("Cast", ["s"], ["y"], to=TensorProto.BOOL), N("Cast", ["y"], ["f"], to=TensorProto.FLOAT), N("Cast", ["m"], ["u"], to=1)]
    nodes += [N("Cast", ["m"], ["same"], to=TensorProto.BOOL), N("Add", ["u", "s"], ["v"]), N("And", ["same", "y"], ["r"])]
    results = {"y": True, "f": False, "v": False, "r": True}
    assert_bits(model(nodes, truths=["m"], results=results), fed(m=np.arange(512).reshape(2, 4, 64) % 3 == 0))


@pytest.mark.parametrize("operands", [("s", "number"), ("number", "s"), ("number", "other"), ("nan", "other"), ("number", "nan")])
def test_where(operands):
    """A number in the place of a value, or either of two; a condition that is computed, or given and broadcast."""
    nodes = [
        N("LessOrEqual", ["s", "t"], ["c"]),
        N("Where", ["c", *operands], ["y"]),
        N("Or", ["m", "c"], ["d"]),
        N("Where", ["d", *operands], ["u"]),
    ]
    weights = {"number": np.float32(-np.inf), "other": np.full(1, 2.5, np.float32), "nan": np.float32(np.nan)}
    made = model([*nodes, N("Mul", ["s", "y"], ["v"])], weights, truths=["m"], results={"y": False, "u": False, "v": False})
    assert_bits(made, fed(m=np.random.default_rng(1).random((2, 4, 64)) < 0.5))


def test_moved_truths():
    """Operators that move elements move truths."""
    nodes = [
        N("Greater", ["s", "t"], ["a"]),
        N("Transpose", ["a"], ["b"], perm=[0, 2, 1]),
        N("Unsqueeze", ["b", "one"], ["c"]),
        N("Expand", ["c", "target"], ["d"]),
        N("Reshape", ["d", "flat"], ["e"]),
        N("Concat", ["e", "e"], ["f"], axis=1),
        N("Slice", ["f", "one", "ten", "one"], ["y"]),
    ]
    weights = {"one": np.array([1]), "ten": np.array([10]), "target": np.array([1, 3, 1, 1]), "flat": np.array([0, -1, 4])}
    assert_bits(model(nodes, weights, results={"y": True}), fed())


def test_numbers_in_the_place_of_nan():
    """Where and IsNaN of one value are one step."""
    nodes = [N("IsNaN", ["s"], ["n"]), N("Where", ["n", "number", "s"], ["y"])]
    kinds = assert_bits(model(nodes, {"number": np.float32(7)}), fed())
    assert kinds.count("binary") == 2
    assert "look_up" not in kinds


def test_masked_attention():
    """Rows that a mask leaves without a number are NaN, and 0 where the graph says so; a causal mask, of any sizes, in one region."""
    nodes = [
        N("MatMul", ["x", "w"], ["q"]),
        N("Transpose", ["q"], ["k"], perm=[0, 2, 1]),
        N("MatMul", ["q", "k"], ["s"]),
        N("Where", ["m", "zero", "low"], ["bias"]),
        N("Add", ["s", "bias"], ["d"]),
        N("Softmax", ["d"], ["p"]),
        N("IsNaN", ["p"], ["n"]),
        N("Where", ["n", "zero", "p"], ["f"]),
        N("MatMul", ["f", "q"], ["y"]),
    ]
    weights = {"w": noise(np.random.default_rng(0), 16, 16) / 4, "zero": np.float32(0), "low": np.float32(-np.inf)}
    made = model_of(nodes, {"x": ["b", "t", 16], "m": ["t", "t"]}, ["y", "p"], weights, opset=17)
    made.graph.input[1].type.tensor_type.elem_type = TensorProto.BOOL
    session, theirs = owned_session(made, regions=1), cpu_session(made)
    for b, t in ((1, 1), (2, 9), (3, 40)):
        m = np.tri(t, dtype=bool)
        m[t // 2] = False
        feeds = {"x": noise(np.random.default_rng(t), b, t, 16), "m": m}
        (y, p), (y_ort, p_ort) = (each.run(None, feeds) for each in (session, theirs))
        assert np.isnan(p[:, t // 2]).all()
        assert np.array_equal(np.isnan(p), np.isnan(p_ort))
        assert not y[:, t // 2].any()
        assert_close(y, y_ort)


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ([(2, 3), (C,), (2, 3)], None),
        ([(2, 3), (2, 3), (2, 3)], None),
        ([(2, 3), (C, 2, 3), (2, 3)], None),
        ([(2, 3), (C, 1, 1, 1), (C,)], None),
        ([(C, 2, 3), (C, 1, 1, 1), (C,)], "all-constant"),
    ],
)
def test_where_that_cannot_run(inputs, code):
    """Each has its reason."""
    graph, node = one_node("Where", inputs, (None, None))
    finding = ops.can_run(graph, node)
    assert (finding and finding.code) == code
