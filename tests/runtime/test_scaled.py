"""Products that multiply what they gather by factors of channels give the bits of a step before them that does so."""

import numpy as np
import pytest

from onnxruntime_ep_sparse import pipeline
from onnxruntime_ep_sparse.runtime._program import Program
from support.kernel_sets import table_of
from support.making import noise, pruned
from support.programs import EVERY_SET, graph_of

WINDOWS = {"plain": {}, "stride": {"strides": (3, 2)}, "padding": {"pads": (1, 0, 2, 1)}}


@EVERY_SET
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [(7, 7), (5, 31), (40, 24)])
def test_factors(isa, window, size):
    """Factors that the program computes, with NaN and Inf; a residual, steps that follow in bands, any number of workers and images."""
    rng = np.random.default_rng(0)
    shape, factors = (None, 40, *size), (None, 40, 1, 1)
    weights = {"w": pruned(rng, (24, 40, 1, 1), 0.8), "b": noise(rng, 24), "d": noise(rng, 24, 1, 3, 3), "v": noise(rng, 24, 24, 1, 1)}
    one = (None, 24, None, None)
    nodes = [
        ("Tanh", ("x",), "t", shape, {}),
        ("Neg", ("f",), "n", factors, {}),
        ("Mul", ("t", "n"), "m", shape, {}),
        ("Conv", ("m", "w", "b"), "p", one, WINDOWS[window]),
        ("Conv", ("p", "d"), "c", one, {"group": 24, "pads": (1, 1, 1, 1)}),
        ("Conv", ("c", "v"), "z", one, {}),
        ("Add", ("z", "p"), "y", one, {}),
    ]
    inputs = {"x": ("n", *shape[1:]), "f": ("n", *factors[1:])}
    x, f = noise(rng, 3, 40, *size), noise(rng, 3, 40, 1, 1)
    f[1, 3], f[2, 5] = np.nan, np.inf
    alone = pipeline.lower_to_spec(graph_of(nodes, inputs, weights, ("y", "m")), isa)
    scaled = pipeline.lower_to_spec(graph_of(nodes, inputs, weights), isa)
    expected = Program(alone, table_of(isa), 1, far_floats=1 << 40).run(x, f)[0]
    assert np.isnan(expected).any()
    for workers in (1, 2, 3):
        for far_floats in (0, 1 << 40):
            recorded: list = []
            program = Program(scaled, table_of(isa), workers, far_floats=far_floats)
            (y,) = program.run(x, f, recorded=recorded)
            assert y.tobytes() == expected.tobytes()
            assert 2 not in {record.step for record in recorded}, "the step before has nothing to do"


@EVERY_SET
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [(7, 7), (5, 31), (40, 24)])
@pytest.mark.parametrize("after", ["Relu", "LeakyRelu", ""])
def test_normalized_channels(isa, window, size, after):
    """A BatchNormalization before a convolution, with Relu while it gathers: the bits of a step of its own, and near float64."""
    rng = np.random.default_rng(0)
    shape = (None, 40, *size)
    weights = {"w": pruned(rng, (24, 40, 1, 1), 0.8), "b": noise(rng, 24), "d": noise(rng, 24, 1, 3, 3)}
    weights |= {name: noise(rng, 40) for name in ("scale", "offset", "mean")} | {"variance": np.abs(noise(rng, 40)) + 1}
    one = (None, 24, None, None)
    norm = ("BatchNormalization", ("t", "scale", "offset", "mean", "variance"), "m", shape, {"epsilon": 1e-3})
    nodes = [("Tanh", ("x",), "t", shape, {}), norm, *([(after, ("m",), "a", shape, {})] if after else [])]
    last = "a" if after else "m"
    nodes += [("Conv", (last, "w", "b"), "p", one, WINDOWS[window]), ("Conv", ("p", "d"), "y", one, {"group": 24, "pads": (1, 1, 1, 1)})]
    inputs = {"x": ("n", *shape[1:])}
    x = noise(rng, 3, 40, *size)
    x[1, 3, 2, 2], x[2, 5, 1, 1] = np.nan, np.inf
    alone = pipeline.lower_to_spec(graph_of(nodes, inputs, weights, ("y", last)), isa)
    scaled = pipeline.lower_to_spec(graph_of(nodes, inputs, weights), isa)
    expected, normalized = Program(alone, table_of(isa), 1, far_floats=1 << 40).run(x)
    t = np.tanh(x.astype(np.float64))
    wide = {name: weights[name].astype(np.float64)[:, None, None] for name in ("scale", "offset", "mean", "variance")}
    exact = (t - wide["mean"]) / np.sqrt(wide["variance"] + 1e-3) * wide["scale"] + wide["offset"]
    exact = {"Relu": np.maximum(exact, 0), "LeakyRelu": np.where(exact < 0, 0.01 * exact, exact), "": exact}[after]
    np.testing.assert_allclose(normalized, exact, rtol=1e-5, atol=1e-5)
    for workers in (1, 2, 3):
        for far_floats in (0, 1 << 40):
            recorded: list = []
            program = Program(scaled, table_of(isa), workers, far_floats=far_floats)
            (y,) = program.run(x, recorded=recorded)
            assert y.tobytes() == expected.tobytes()
            assert (1 in {record.step for record in recorded}) == (after == "LeakyRelu"), "the product clamps, and nothing else"


@EVERY_SET
def test_several_readers(isa):
    """A result that something else reads too is computed."""
    rng = np.random.default_rng(0)
    nodes = [("Mul", ("x", "f"), "m", (None, 8, 9, 9), {}), ("Conv", ("m", "w"), "p", (None, 8, 9, 9), {})]
    nodes.append(("Add", ("p", "m"), "y", (None, 8, 9, 9), {}))
    weight = pruned(rng, (8, 8, 1, 1), 0.5)
    spec = pipeline.lower_to_spec(graph_of(nodes, {"x": ("n", 8, 9, 9), "f": ("n", 8, 1, 1)}, {"w": weight}), isa)
    x, f = noise(rng, 2, 8, 9, 9), noise(rng, 2, 8, 1, 1)
    (y,) = Program(spec, table_of(isa), 1).run(x, f)
    m = (x * f).astype(np.float64)
    np.testing.assert_allclose(y, np.einsum("mc,nchw->nmhw", weight[:, :, 0, 0], m) + m, rtol=1e-4, atol=1e-5)
