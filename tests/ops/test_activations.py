"""Activations behind products: alone, made of several nodes, and of special numbers."""

import numpy as np
import pytest
from onnx import defs, helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.ops.activations import Given
from onnxruntime_ep_sparse.ops.row import MICROSOFT
from support.making import model_of, noise
from support.promises import EPS, assert_close, cpu_session, exact, owned_session
from support.regions import ACTIVATIONS, ERF_GELUS, FEEDS, OPERATORS, SHAPES, activation, assert_like_cpu, nodes_of, opset_of, product

WITHOUT_REFERENCE = [name for name, row in OPERATORS.items() if row.domains == MICROSOFT]
"""onnx.reference knows the operators of ONNX only."""


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["Conv", "Gemm"])
def test_activation(kind, name):
    """Every activation behind a product, to the accuracy of float32's own evaluation of it."""
    rng = np.random.default_rng(3)
    node, weights = product(kind, "x", "p", rng)
    nodes, constants = activation(name, "p", "y")
    domains = {node.domain for node in nodes} - {""}
    model = model_of([node, *nodes], {"x": SHAPES[kind]}, ["y"], {**weights, **constants}, opset_of(name), domains)
    feeds = {"x": noise(rng, *FEEDS[kind])}
    session = owned_session(model, regions=1)
    (y,), (y_ort,) = session.run(None, feeds), cpu_session(model).run(None, feeds)
    nan = np.isnan(y_ort)
    assert name in ("Sqrt", "Log") or not nan.any()
    assert np.array_equal(np.isnan(y), nan)
    y, y_ort = y[~nan], y_ort[~nan]
    if name in WITHOUT_REFERENCE:
        return assert_close(y, y_ort)
    y64 = exact(model, feeds)[0][~nan]
    # the product's error grows with the activation's slope, |y| for Exp, 1/(2y) for Sqrt and 1/x for Log
    slopes = {"Exp": np.abs(y64), "Sqrt": 0.5 / np.maximum(np.abs(y64), 1e-3), "Log": np.exp(-y64)}
    slope = slopes.get(name, 1.2)
    allowed = np.maximum(2 * np.abs(y_ort - y64).max(), 4 * EPS * (np.abs(y64) + slope * 50))
    assert (np.abs(y - y64) <= allowed).all()
    return None


@pytest.mark.parametrize(
    ("slope", "steps"),
    [
        (np.float32(0.25), [("product", "p + LeakyRelu")]),
        (np.full(1, -0.5, np.float32), [("product", "p + LeakyRelu")]),
        (np.full((1, 1, 1), 1.5, np.float32), [("product", "p + LeakyRelu")]),
        (np.linspace(-1, 2, 24, dtype=np.float32), [("product", "p"), ("binary", "y")]),
    ],
    ids=["scalar", "one", "one of three dimensions", "one each"],
)
def test_prelu_with_one_slope_ends_the_product(slope, steps):
    """PRelu becomes part of the product where all channels have one slope."""
    rng = np.random.default_rng(32)
    shape = "Conv" if slope.size == 1 else "Gemm"
    node, weights = product(shape, "x", "p", rng)
    model = model_of([node, helper.make_node("PRelu", ["p", "slope"], ["y"])], {"x": SHAPES[shape]}, ["y"], {**weights, "slope": slope})
    session = assert_like_cpu(model, {"x": noise(rng, *FEEDS[shape])}, {"profile": "1"})
    assert [(step.kind, step.name) for step in sparse.step_times(session)] == steps


def steps_of_gelu(text, change=None, outputs=("y",)):
    """Kinds and names of the steps that a Gemm and a chain like `ERF_GELUS` become; the results are the CPU provider's."""
    rng = np.random.default_rng(31)
    node, weights = product("Gemm", "x", "p", rng)
    nodes, constants = nodes_of(text, "p", "y")
    model = model_of([node, *nodes], {"x": SHAPES["Gemm"]}, outputs, {**weights, **constants, **(change or {})})
    session = assert_like_cpu(model, {"x": noise(rng, *FEEDS["Gemm"])}, {"profile": "1"})
    return [(step.kind, step.name) for step in sparse.step_times(session)]


@pytest.mark.parametrize("text", ERF_GELUS.values(), ids=ERF_GELUS)
def test_gelu_of_five_nodes_ends_the_product(text):
    """However the factors are multiplied, one step is left."""
    assert steps_of_gelu(text) == [("product", "p + Gelu")]


@pytest.mark.parametrize(
    ("text", "change", "outputs"),
    [
        (ERF_GELUS["half last"], {"root2": np.float32(1.4)}, ["y"]),
        (ERF_GELUS["half last"], {"one": np.float32(1.25)}, ["y"]),
        (ERF_GELUS["half last"], {"half": np.float32(0.75)}, ["y"]),
        (ERF_GELUS["half last"], {"half": np.linspace(0.5, 1, 24, dtype=np.float32)}, ["y"]),
        (ERF_GELUS["half last"], {"half": np.full((1, 1, 1), 0.5, np.float32)}, ["y"]),
        (ERF_GELUS["half last"], {}, ["y", "e_gelu"]),
        (ERF_GELUS["half of x"], {}, ["y", "h_gelu"]),
        (ERF_GELUS["half before"], {}, ["y", "m_gelu"]),
        ("s = Div root2 x; e = Erf s; a = Add e one; m = Mul x a; y = Mul m half", {}, ["y"]),
        ("s = Div x root2; e = Erf s; a = Add e one; m = Mul s a; y = Mul m half", {}, ["y"]),
        ("s = Div x root2; e = Erf s; a = Add e one; m = Mul a a; y = Mul m half", {}, ["y"]),
        ("s = Div x root2; e = Erf s; a = Add e one; h = Mul s half; y = Mul a h", {}, ["y"]),
        ("s = Div x root2; e = Erf s; a = Add e one; h = Mul x half; y = Add a h", {}, ["y"]),
        ("s = Div x root2; e = Erf s; a = Add e one; h = Mul x half; q = Mul a h; y = Add q h", {}, ["y"]),
    ],
)
def test_almost_a_gelu(text, change, outputs):
    """Other numbers, shapes, operands or readers: node by node."""
    steps = steps_of_gelu(text, change, outputs)
    assert len(steps) == 1 + len(text.split("; "))
    assert not any("Gelu" in name for _, name in steps)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_special_numbers_in_activations(name):
    """NaN, infinities, zeros, denormals and huge numbers behind a product by the identity, like the CPU provider's."""
    nodes, constants = activation(name, "p", "y")
    special = [np.nan, np.inf, -np.inf, 0.0, 1e-40, -1e-40, 3e38, -3e38, 88.0, -88.0, 104.0, -104.0, 1e-3, -20.0, 20.0, 9.0]
    # one number a row: a product by the identity must not mix them
    model = model_of(
        [helper.make_node("MatMul", ["x", "w"], ["p"]), *nodes],
        {"x": ["n", 1]},
        ["y"],
        {"w": np.ones((1, 1), np.float32), **constants},
        opset_of(name),
        domains={node.domain for node in nodes} - {""},
    )
    feeds = {"x": np.array(special, np.float32)[:, None]}
    (y,), (y_ort,) = owned_session(model).run(None, feeds), cpu_session(model).run(None, feeds)
    np.testing.assert_allclose(y, y_ort, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, row in OPERATORS.items() if row.of is None and name not in WITHOUT_REFERENCE])
def test_defaults_are_those_of_onnx(name):
    """A number that a node does not give is the one in ONNX's schema of the operator."""
    row, schema = OPERATORS[name], defs.get_schema(name, max(22, opset_of(name)))
    given = {number.attribute: number.default for number in (row.alpha, row.beta) if isinstance(number, Given)}
    wanted = {key: attribute.default_value.f for key, attribute in schema.attributes.items() if attribute.default_value.HasField("f")}
    assert given == pytest.approx(wanted)


def test_a_power_that_is_a_root():
    """As exporters write a standard deviation."""
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Pow", ["p", "half"], ["y"])]
    model = model_of(nodes, {"x": [3, 8]}, ["y"], {"w": np.abs(noise(rng, 8, 8)), "half": np.float32(0.5)})
    feeds = {"x": np.abs(noise(rng, 3, 8))}
    assert_close(owned_session(model, regions=1).run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])
