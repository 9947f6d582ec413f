"""Reductions over any axes, and Softmax along any, against float64 and the CPU provider."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from onnxruntime_ep_sparse.ops import table as ops
from onnxruntime_ep_sparse.ops.reductions import REDUCTIONS
from support.making import carried, dynamic, examples, model_of, noise
from support.nodes import one_node
from support.promises import EPS, assert_close, cpu_session, exact, owned_session

NAMES = [name for name, row in REDUCTIONS.items() if not row.is_pool]


def reduction(name, axes, keepdims, shape, opset, declared=None):
    """A model of one reduction, its axes as an attribute or an input as the opset has it; without axes, over all."""
    by_input = opset >= (13 if name == "ReduceSum" else 18)
    inputs, weights, attributes = ["p"], {}, {"keepdims": keepdims}
    if axes is not None and by_input:
        inputs, weights = ["p", "axes"], {"axes": np.array(axes, np.int64)}
    elif axes is not None:
        attributes["axes"] = axes
    return carried([helper.make_node(name, inputs, ["y"], **attributes)], shape, weights, declared, opset)


def assert_as_exact(model, feeds):
    """The promise, for an operator whose condition is that of its sum of absolute values."""
    (y,), (y_ort,), (y64,) = owned_session(model).run(None, feeds), cpu_session(model).run(None, feeds), exact(model, feeds)
    assert y.shape == y_ort.shape
    count = feeds["x"].size / max(y.size, 1)
    allowed = np.maximum(2 * np.abs(y_ort - y64).max(), 8 * EPS * np.maximum(np.abs(y64), count**0.5))
    assert (np.abs(y - y64) <= allowed).all(), np.abs(y - y64).max()


@st.composite
def reductions(draw):
    """(model, feeds) of a reduction: all numbers of axes, with and without the reduced ones in the result, sizes of 1 among others."""
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 5, 8, 19]), min_size=1, max_size=5)))
    axes = draw(st.one_of(st.none(), st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=len(shape), unique=True)))
    axes = axes and [axis - len(shape) * draw(st.integers(0, 1)) for axis in axes]
    declared = dynamic(shape) if draw(st.booleans()) else None
    model = reduction(draw(st.sampled_from(NAMES)), axes, draw(st.integers(0, 1)), shape, draw(st.sampled_from([11, 13, 18, 20])), declared)
    return model, {"x": noise(np.random.default_rng(draw(st.integers(0, 2**32))), *shape)}


@examples(80)
@given(reductions())
def test_reductions(case):
    """Any axes."""
    assert_as_exact(*case)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axes", [[0], [1], [0, 2], [2]])
def test_long_reductions(name, axes):
    """Many rows and wide ones: sums stay as exact as those of short ones."""
    shape = (70, 3, 2100)
    assert_as_exact(reduction(name, axes, 1, shape, 20), {"x": np.abs(noise(np.random.default_rng(1), *shape))})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axes", [[0], [1]])
def test_special_numbers(name, axes):
    """NaN and infinities, alone and with each other."""
    special = np.array(list(itertools.product([1.5, np.nan, np.inf, -np.inf], repeat=3)), np.float32)
    special = special.T.copy() if axes == [0] else special
    nodes = [helper.make_node("Add", ["p", "special"], ["s"]), helper.make_node(name, ["s"], ["y"], axes=axes)]
    model = carried(nodes, special.shape, {"special": special}, opset=11)
    feeds = {"x": np.zeros_like(special)}
    with np.errstate(all="ignore"):
        got, wanted = owned_session(model).run(None, feeds)[0], exact(model, feeds)[0]
    np.testing.assert_array_equal(got, wanted.astype(np.float32))


@pytest.mark.parametrize("name", ["ReduceMax", "ReduceMin", "GlobalMaxPool", "Softmax", "LogSoftmax"])
def test_nan_in_first_place(name):
    """The result of a row has a NaN that is its first element, or the first of a later piece of it; no other row has it."""
    special = noise(np.random.default_rng(0), 2, 4, 2100)
    special[0, 1, 0] = special[1, 2, 1024] = special[1, 3, :] = np.nan
    attributes = {"axes": [2]} if name.startswith("Reduce") else {}
    nodes = [helper.make_node("Add", ["p", "special"], ["s"]), helper.make_node(name, ["s"], ["y"], **attributes)]
    model = carried(nodes, special.shape, {"special": special}, opset=13)
    got = owned_session(model).run(None, {"x": np.zeros_like(special)})[0]
    np.testing.assert_array_equal(np.isnan(got).all(2), np.isnan(special).any(2))
    np.testing.assert_array_equal(np.isnan(got).any(2), np.isnan(special).any(2))


@pytest.mark.parametrize("name", ["ReduceMean", "ReduceSum", "ReduceL2"])
def test_no_elements(name):
    """0, as with the CPU provider."""
    model = reduction(name, [0], 1, (0, 4), 20, ["n", 4])
    feeds = {"x": np.zeros((0, 4), np.float32)}
    np.testing.assert_array_equal(owned_session(model).run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
@pytest.mark.parametrize("shape", [(2, 3, 7), (5, 1, 1300), (3, 40, 1100)])
def test_softmax(name, opset, axis, shape):
    """Along one axis, and before opset 13 along all from it on."""
    node = helper.make_node(name, ["p"], ["y"], **({} if axis is None else {"axis": axis}))
    model = carried([node], shape, declared=dynamic(shape), opset=opset)
    x = 9 * noise(np.random.default_rng(0), *shape)
    x[0, 0, :2] = 80, -300
    session, theirs = owned_session(model), cpu_session(model)
    assert_close(session.run(None, {"x": x})[0], theirs.run(None, {"x": x})[0])
    assert session.run(None, {"x": x[:0]})[0].shape == (0, *shape[1:])


@pytest.mark.parametrize("n", [1, 3, 15, 16, 17, 31, 48, 100])
def test_softmax_of_special_rows(n):
    """Rows with NaN, Inf, -Inf alone, -Inf among others, and numbers far apart: NaN and zeros where the CPU provider has them."""
    x = noise(np.random.default_rng(n), 9, n)
    x[0], x[1, n // 2], x[2, -1], x[3, 0], x[5] = -np.inf, np.nan, np.inf, -np.inf, 3e38
    x[4] = np.linspace(-200, 100, n)
    x[6, : n // 2] = -np.inf
    x[7, n // 2 :] = -np.inf
    nodes = [helper.make_node(op, x, [y]) for op, x, y in (("MatMul", ["z", "w"], "p"), ("Add", ["p", "x"], "s"), ("Softmax", ["s"], "y"))]
    model = model_of(nodes, {"z": [9, 1], "x": [9, n]}, ["y"], {"w": np.ones((1, n), np.float32)})
    feeds = {"z": np.zeros((9, 1), np.float32), "x": x}
    y, y_ort = (make(model).run(None, feeds)[0] for make in (owned_session, cpu_session))
    assert np.array_equal(np.isnan(y), np.isnan(y_ort))
    np.testing.assert_allclose(y, y_ort, rtol=3e-6, atol=1e-37)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "code"),
    [
        ("ReduceMean", [(2, 3, 4)], {"axes": (0, 2), "keepdims": 0}, None),
        ("ReduceMean", [(2, 3, 4)], {"axes": (3,)}, "mismatched"),
        ("ReduceMean", [(2, 3, 4)], {"axes": (1, -2)}, "mismatched"),
        ("ReduceMean", [(2, 3, 4), (1,)], {}, "parameter-not-constant"),
        ("ReduceSum", [(2, 3, 4)], {"noop_with_empty_axes": 1}, "no-axes"),
        ("GlobalAveragePool", [(2, 3)], {}, "unsupported-rank"),
        ("Softmax", [(2, 3)], {"axis": 2}, "out-of-range"),
    ],
)
def test_nodes_that_cannot_run(op_type, inputs, attributes, code):
    """Each has its reason."""
    finding = ops.can_run(*one_node(op_type, inputs, (None, None), attributes))
    assert (finding and finding.code) == code
