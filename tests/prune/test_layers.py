"""Layers as matrices and columns: their product is what onnxruntime computes."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from onnxruntime_ep_sparse.prune.layers import Site
from onnxruntime_ep_sparse.prune.selection import layers
from onnxruntime_ep_sparse.prune.source import Changes, Source
from support.making import examples, model_of, noise


def run(model, feeds):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def one(model):
    source = Source(model)
    (layer,) = layers(source)
    return source, layer


def columns_of(layer, x, most=10**6, seed=0):
    site = Site(lambda slot: x, lambda: None)
    columns = np.concatenate(list(layer.columns(site, np.random.default_rng(seed), most)), axis=1)
    assert columns.shape[1] == layer.rows(site, most)
    return columns


def product(source, layer, x):
    columns = columns_of(layer, x)
    return np.einsum("grk,gmk->grm", columns, layer.matrices(source.array(layer.weight)))


def check_restored(source, layer):
    weight = source.array(layer.weight)
    restored = layer.restored(layer.matrices(weight))
    assert restored.shape == weight.shape
    assert (restored == weight).all()


@st.composite
def convolutions(draw):
    """A Conv and its input: one to three dimensions, groups, strides, dilations, all kinds of padding."""
    rank = draw(st.integers(1, 3))
    group, channels, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    kernel = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    sizes = draw(st.lists(st.integers(5, 9), min_size=rank, max_size=rank))
    attributes = {"group": group, "strides": draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))}
    padding = draw(st.sampled_from(["none", "pads", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if padding.startswith("SAME"):
        attributes["auto_pad"] = padding
    else:
        attributes["dilations"] = draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))
        if padding == "VALID":
            attributes["auto_pad"] = padding
        elif padding == "pads":
            attributes["pads"] = draw(st.lists(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    weight = noise(rng, group * outputs, channels, *kernel)
    x = noise(rng, draw(st.integers(1, 3)), group * channels, *sizes)
    return model_of([helper.make_node("Conv", ["x", "w"], ["y"], **attributes)], {"x": [None] * (rank + 2)}, ["y"], {"w": weight}), x


@given(convolutions())
@examples(30)
def test_convolutions(case):
    """Columns times matrices, position by position, are the convolution."""
    model, x = case
    source, layer = one(model)
    y = run(model, {"x": x})
    groups, outputs, _ = layer.shape__gmk
    expected = y.reshape(len(y), groups, outputs, -1).transpose(1, 0, 3, 2).reshape(groups, -1, outputs)
    np.testing.assert_allclose(product(source, layer, x), expected, rtol=1e-4, atol=1e-4)
    check_restored(source, layer)


def test_sampled_positions():
    """Fewer positions are taken when asked for, the same ones for the same seed."""
    rng = np.random.default_rng(0)
    model = model_of([helper.make_node("Conv", ["x", "w"], ["y"])], {"x": [None] * 4}, ["y"], {"w": noise(rng, 4, 3, 3, 3)})
    _, layer = one(model)
    x = noise(rng, 2, 3, 9, 9)
    some = [columns_of(layer, x, 5, seed) for seed in (1, 1, 2)]
    assert some[0].shape == (1, 10, 27)
    assert (some[0] == some[1]).all()
    assert (some[0] != some[2]).any()


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("transposed", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm(right, transposed):
    """All four ways to transpose, with the constant on either side, and a bias of its own."""
    rng = np.random.default_rng(0)
    a, b = ((5, 7) if not transposed[0] else (7, 5)), ((7, 6) if not transposed[1] else (6, 7))
    x, weight = noise(rng, *(a if right else b)), noise(rng, *(b if right else a))
    names = ["x", "w"] if right else ["w", "x"]
    bias = noise(rng, 6) if right else noise(rng, 5, 1)
    node = helper.make_node("Gemm", [*names, "c"], ["y"], transA=transposed[0], transB=transposed[1], alpha=0.5, beta=2.0)
    model = model_of([node], {"x": list(x.shape)}, ["y"], {"w": weight, "c": bias})
    source, layer = one(model)
    y = run(model, {"x": x})
    mine = product(source, layer, x)[0] * 0.5 + 2 * bias.reshape(-1)
    np.testing.assert_allclose(mine, y if right else y.T, rtol=1e-4, atol=1e-4)
    check_restored(source, layer)
    changes = Changes(source)
    delta = np.arange(mine.shape[1], dtype=np.float64)[None]
    layer.bias.add(changes, delta)
    moved = model_of([changes.nodes[0]], {"x": list(x.shape)}, ["y"], {"w": weight, **changes.constants})
    shift = (run(moved, {"x": x}) - y) if right else (run(moved, {"x": x}) - y).T
    np.testing.assert_allclose(shift, np.broadcast_to(0.5 * delta, shift.shape), atol=1e-4)


@pytest.mark.parametrize(("shape", "right"), [((4, 5, 7), True), ((7,), True), ((3, 7, 5), False), ((7,), False)])
def test_matmul(shape, right):
    """A constant matrix on either side, operands of any rank."""
    rng = np.random.default_rng(0)
    x, weight = noise(rng, *shape), noise(rng, *((7, 6) if right else (6, 7)))
    model = model_of([helper.make_node("MatMul", ["x", "w"] if right else ["w", "x"], ["y"])], {"x": list(shape)}, ["y"], {"w": weight})
    source, layer = one(model)
    y = run(model, {"x": x})
    expected = y if right or len(shape) == 1 else np.swapaxes(y, -1, -2)
    np.testing.assert_allclose(product(source, layer, x)[0], expected.reshape(-1, 6), rtol=1e-4, atol=1e-4)
    assert layer.bias is None
    check_restored(source, layer)


@pytest.mark.parametrize(
    ("shape", "stack", "right"),
    [
        ((5, 7), (1,), True),
        ((2, 5, 7), (1, 1), True),
        ((3, 5, 7), (3,), True),
        ((5, 7), (3,), True),
        ((7,), (1,), True),
        ((2, 3, 5, 7), (3,), True),
        ((2, 1, 5, 7), (3,), True),
        ((4, 3, 5, 7), (1, 3), True),
        ((2, 3, 5, 7), (2, 1), True),
        ((2, 3, 5, 7), (2, 3), True),
        ((2, 3, 7, 5), (3,), False),
    ],
)
def test_stack_of_matrices(shape, stack, right):
    """Each matrix of a constant is multiplied by the rows that broadcasting pairs it with, and a constant behind is its bias."""
    rng = np.random.default_rng(0)
    x, weight = noise(rng, *shape), noise(rng, *stack, *((7, 6) if right else (6, 7)))
    nodes = [helper.make_node("MatMul", ["x", "w"] if right else ["w", "x"], ["p"]), helper.make_node("Add", ["p", "c"], ["y"])]
    weights = {"w": weight, "c": noise(rng, 6)}
    source, layer = one(model_of(nodes, {"x": list(shape)}, ["y"], weights))
    mine = product(source, layer, x)
    full = np.matmul(x, weight) if right else np.matmul(weight, x)
    rows = full.reshape(full.shape if x.ndim > 1 else (*full.shape[:-1], 1, 6))
    rows = rows if right else np.swapaxes(rows, -1, -2)
    offset = rows.ndim - 2 - len(stack)
    matrices = [offset + axis for axis, size in enumerate(stack) if size > 1]
    expected = rows.transpose(*matrices, *(axis for axis in range(rows.ndim) if axis not in matrices))
    np.testing.assert_allclose(mine, expected.reshape(np.prod(stack), -1, 6), rtol=1e-4, atol=1e-4)
    check_restored(source, layer)
    assert (layer.bias is not None) == right
    if right and x.ndim > 1:
        changes = Changes(source)
        delta = np.arange(np.prod(stack) * 6, dtype=np.float64).reshape(-1, 6)
        layer.bias.add(changes, delta)
        moved = model_of(changes.nodes, {"x": list(shape)}, ["y"], {**weights, **changes.constants})
        shift = run(moved, {"x": x}) - run(source.model, {"x": x})
        np.testing.assert_allclose(shift, np.broadcast_to(delta.reshape(*stack, 1, 6), shift.shape), atol=1e-4)


def test_vector_times_stack():
    """It is refused, because the place of a bias depends on the rank of x, which a model does not say."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    _, layer = one(model_of(nodes, {"x": [7]}, ["y"], {"w": np.zeros((3, 7, 6), np.float32)}))
    with pytest.raises(ValueError, match="layer 'product' multiplies a vector by a stack of matrices"):
        columns_of(layer, np.zeros(7, np.float32))


def test_bias_behind_a_matmul():
    """An Add of a constant is the bias, but not where others read the product, or the constant is no row."""
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["c", "p"], ["y"])]
    rows = ((6, ["y"], True), ((1, 1, 6), ["y"], True))
    others = (((5, 6), ["y"], False), (1, ["y"], False), (6, ["y", "p"], False))
    for bias, outputs, found in (*rows, *others):
        weights = {"w": noise(rng, 7, 6), "c": np.zeros(bias, np.float32)}
        _, layer = one(model_of(nodes, {"x": [5, 7]}, outputs, weights))
        assert (layer.bias is not None) == found, (bias, outputs)


def test_not_constant():
    """Weights that are inputs, or not float32, are no layers."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    assert not list(layers(Source(model_of(nodes, {"x": [5, 7], "w": [7, 6]}, ["y"], {}))))
    assert not list(layers(Source(model_of(nodes, {"x": [5, 7]}, ["y"], {"w": np.zeros((7, 6))}))))
