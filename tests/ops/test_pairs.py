"""Products of two values that a run computes, in sessions: attention as exporters write it, in one region."""

import numpy as np
import pytest
from onnx import helper

from onnxruntime_ep_sparse.diagnostics.step_times import step_times
from onnxruntime_ep_sparse.ops import table as ops
from support.making import model_of, noise, pruned
from support.nodes import C, one_node
from support.promises import assert_close, cpu_session, owned_session

HIDDEN, HEADS = 48, 3
N = helper.make_node


def attended(nodes, more=None, inputs=None, outputs=("y",), opset=17):
    """A model in which nodes read q, k and v of HEADS heads, each (batch, time, HEADS, size), and make a; y is its product."""
    rng = np.random.default_rng(0)
    weights = {name: noise(rng, HIDDEN, HIDDEN) / 8 for name in ("wq", "wk", "wv", "wo")}
    weights |= {"split": np.array([0, 0, HEADS, HIDDEN // HEADS]), "join": np.array([0, 0, HIDDEN]), **(more or {})}
    before = [
        node
        for name in "qkv"
        for node in (N("MatMul", ["x", f"w{name}"], [f"{name}_rows"]), N("Reshape", [f"{name}_rows", "split"], [name]))
    ]
    after = [N("Reshape", ["a", "join"], ["joined"]), N("MatMul", ["joined", "wo"], ["y"])]
    return model_of([*before, *nodes, *after], {"x": ["b", "t", HIDDEN], **(inputs or {})}, list(outputs), weights, opset=opset)


HEADS_FIRST = [N("Transpose", [name], [f"{name}t"], perm=[0, 2, 1, 3]) for name in "qv"]
KEYS = N("Transpose", ["k"], ["kt"], perm=[0, 2, 3, 1])
SCALED = [N("MatMul", ["qt", "kt"], ["s"]), N("Div", ["s", "root"], ["d"]), N("Softmax", ["d"], ["p"], axis=-1)]
LAST = [N("MatMul", ["p", "vt"], ["c"]), N("Transpose", ["c"], ["a"], perm=[0, 2, 1, 3])]
ROOT = {"root": np.float32(4)}


def kinds(session):
    """How many steps of each kind a session has."""
    found = [step.kind for step in step_times(session)]
    return {kind: found.count(kind) for kind in dict.fromkeys(found)}


def run(model, regions=1, **feeds):
    """A session that has all nodes, in one region; its results are those of the CPU provider for several sizes."""
    session, theirs = owned_session(model, {"profile": "1"}, regions=regions), cpu_session(model)
    for b, t in ((1, 1), (2, 5), (3, 40), (1, 129)):
        fed = {"x": noise(np.random.default_rng(t), b, t, HIDDEN), **{name: make(b, t) for name, make in feeds.items()}}
        for y, y_ort in zip(session.run(None, fed), theirs.run(None, fed), strict=True):
            assert_close(y, y_ort)
    return kinds(session)


def test_attention():
    """Transpositions and the factor are a part of the products."""
    found = run(attended([*HEADS_FIRST, KEYS, *SCALED, *LAST], ROOT))
    assert found == {"product": 4, "reshape": 4, "pair_product": 2, "softmax": 1}


def test_attention_of_optimised_files():
    """Keys are transposed twice, once in the product, which also has a factor; both are a part of the step."""
    scores = N("FusedMatMul", ["qt", "kt"], ["s"], transB=1, alpha=0.25, domain="com.microsoft")
    keys = N("Transpose", ["k"], ["kt"], perm=[0, 2, 1, 3])
    model = attended([*HEADS_FIRST, keys, scores, N("Softmax", ["s"], ["p"], axis=-1), *LAST])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert run(model) == {"product": 4, "reshape": 4, "pair_product": 2, "softmax": 1}


def test_scaled_operands_and_a_mask():
    """Both operands are scaled before they are multiplied, as dynamo's exporter does; a mask is added."""
    nodes = [
        *HEADS_FIRST,
        KEYS,
        N("Mul", ["qt", "root"], ["qs"]),
        N("Mul", ["root", "kt"], ["ks"]),
        N("MatMul", ["qs", "ks"], ["s"]),
        N("Add", ["s", "mask"], ["d"]),
        N("Softmax", ["d"], ["p"], axis=-1),
        *LAST,
    ]

    def mask(b, t):
        return np.where(np.tri(t, dtype=bool), np.float32(0), np.float32(-np.inf))

    found = run(attended(nodes, {"root": np.float32(0.5)}, {"mask": ["t", "t"]}), mask=mask)
    assert found == {"product": 4, "reshape": 4, "pair_product": 2, "binary": 1, "softmax": 1}


def test_matrices_transposed_with_three_dimensions():
    """Reshape, Transpose and Reshape by computed shapes swap the last two dimensions, as dynamo's exporter writes it."""
    nodes = [
        N("Transpose", ["k"], ["new"], perm=[0, 2, 1, 3]),
        N("Transpose", ["v"], ["more"], perm=[0, 2, 1, 3]),
        N("Transpose", ["q"], ["qt"], perm=[0, 2, 1, 3]),
        N("Concat", ["cache", "new"], ["kh"], axis=2),
        N("Concat", ["cache", "more"], ["vt"], axis=2),
        N("Shape", ["kh"], ["sizes"]),
        N("Slice", ["sizes", "n0", "n2"], ["outer"]),
        N("Slice", ["sizes", "n2", "n3"], ["rows"]),
        N("Slice", ["sizes", "n3", "n4"], ["columns"]),
        N("Concat", ["minus", "rows", "columns"], ["flat"], axis=0),
        N("Concat", ["outer", "columns", "rows"], ["whole"], axis=0),
        N("Reshape", ["kh", "flat"], ["k3"]),
        N("Transpose", ["k3"], ["k3t"], perm=[0, 2, 1]),
        N("Reshape", ["k3t", "whole"], ["kt"]),
        *SCALED,
        *LAST,
    ]
    numbers = {f"n{n}": np.array([n]) for n in (0, 2, 3, 4)} | {"minus": np.array([-1])}
    model = attended(nodes, ROOT | numbers, {"cache": ["b", HEADS, "c", HIDDEN // HEADS]})
    found = run(model, cache=lambda b, t: noise(np.random.default_rng(b), b, HEADS, 20, HIDDEN // HEADS))
    assert found == {"product": 4, "reshape": 4, "transpose": 2, "concat": 4, "pair_product": 2, "softmax": 1}


def test_what_others_read_stays():
    """Keys that are a result as well are transposed by a step of their own."""
    found = run(attended([*HEADS_FIRST, KEYS, *SCALED, *LAST], ROOT, outputs=("y", "kt")))
    assert found == {"product": 4, "reshape": 4, "transpose": 1, "pair_product": 2, "softmax": 1}


def test_orders_that_products_do_not_have():
    """Columns that are far apart are transposed before: neither dimension of the matrices is the last one in memory."""
    keys = [N("Transpose", ["k"], ["kt"], perm=[3, 2, 0, 1]), N("Transpose", ["q"], ["qt"], perm=[3, 2, 1, 0])]
    nodes = [*keys, N("Transpose", ["v"], ["vt"], perm=[3, 2, 0, 1]), N("MatMul", ["qt", "kt"], ["s"]), N("MatMul", ["s", "qt"], ["c"])]
    nodes += [N("Add", ["c", "qt"], ["sum"]), N("Transpose", ["sum"], ["a"], perm=[3, 2, 1, 0])]
    session = owned_session(attended(nodes, ROOT), {"profile": "1"})
    x = noise(np.random.default_rng(0), 2, 7, HIDDEN)
    assert_close(session.run(None, {"x": x})[0], cpu_session(attended(nodes, ROOT)).run(None, {"x": x})[0])
    assert kinds(session)["transpose"] >= 2


@pytest.mark.parametrize("c", [None, (), (9,), (7, 1), (7, 9), "value"], ids=str)
@pytest.mark.parametrize("attributes", [{}, {"transA": 1, "alpha": 0.25}, {"transB": 1, "activation": "Tanh"}], ids=str)
def test_gemm_of_two_values(attributes, c):
    """ONNX Runtime makes it of a MatMul and an Add of matrices, such as those of attention without a batch, or of a graph's nodes."""
    rng = np.random.default_rng(0)
    shapes = {"x": (12, 7) if "transA" in attributes else (7, 12), "z": (9, 12) if "transB" in attributes else (12, 9)}
    weights = {f"w{name}": pruned(rng, (shape[1], shape[1])) for name, shape in shapes.items()}
    operands = [N("MatMul", [name, f"w{name}"], [f"p{name}"]) for name in shapes]
    if c == "value":
        shapes["c"] = (1, 9)
    elif c is not None:
        weights["c"], attributes = noise(rng, *c), {**attributes, "beta": 2.0}
    gemm, domain = ("FusedGemm", "com.microsoft") if "activation" in attributes else ("Gemm", "")
    product = N(gemm, ["px", "pz", *([] if c is None else ["c"])], ["y"], domain=domain, **attributes)
    model = model_of([*operands, product], shapes, ["y"], weights, domains=["com.microsoft"])
    feeds = {name: noise(rng, *shape) for name, shape in shapes.items()}
    y, y_ort = (make(model).run(None, feeds)[0] for make in (owned_session, cpu_session))
    assert_close(y, y_ort)


@pytest.mark.parametrize("attributes", [{}, {"transA": 1}, {"transB": 1}, {"transA": 1, "transB": 1, "alpha": 0.25}, {"alpha": 1e30}])
def test_fused_products(attributes):
    """FusedMatMul of two values, as optimised files hold it."""
    nodes = [N("FusedMatMul", ["p", "r"], ["y"], domain="com.microsoft", **attributes)]
    model = model_of(
        [N("MatMul", ["x", "w"], ["p"]), N("MatMul", ["z", "w"], ["r"]), *nodes],
        {"x": [2, 16, 16], "z": [2, 16, 16]},
        ["y"],
        {"w": np.eye(16, dtype=np.float32)},
        opset=17,
    )
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    x, z = (noise(np.random.default_rng(i), 2, 16, 16) for i in range(2))
    y, y_ort = (make(model).run(None, {"x": x, "z": z})[0] for make in (owned_session, cpu_session))
    assert_close(y, y_ort)


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ([(5, 3), (3, 4)], None),
        ([(2, 1, 5, 3), (3, 4)], None),
        ([(3,), (3, 4)], "unsupported-rank"),
        ([(2, 5, 3), (3,)], "unsupported-rank"),
        ([(C, 5, 3), (C, 3, 4)], "all-constant"),
    ],
)
def test_nodes_that_cannot_run(inputs, code):
    """Vectors of values are left to the CPU provider."""
    finding = ops.can_run(*one_node("MatMul", inputs, (None, None)))
    assert (finding and finding.code) == code
