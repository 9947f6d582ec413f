"""How zeros are spread over layers: by their errors, at the cost of the same sparsity in all of them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from onnxruntime_ep_sparse.prune.allocation import Cost, Curve, spread
from support.making import examples, model_of, noise
from support.pruning import prune

KEPT = np.geomspace(0.1, 0.9, 128)


def curve(scale, power):
    """An error that falls with the share of weights that are kept."""
    return Curve(KEPT, scale * KEPT**-power)


def test_cost():
    """Lines between the points, which go on beyond them."""
    cost = Cost((0.2, 0.4, 0.8), (1.0, 2.0, 6.0))
    np.testing.assert_allclose(cost.at(np.array([0.0, 0.2, 0.3, 0.8, 1.0])), [0, 1, 1.5, 6, 8])


@examples(40)
@given(
    st.lists(st.tuples(st.floats(1e-6, 10), st.floats(0.2, 5), st.floats(1, 1e6)), min_size=1, max_size=8),
    st.floats(0.15, 0.85),
    st.integers(0, 2**32),
)
def test_spread(layers, kept, seed):
    """It costs as much as was given, and no exchange between two layers makes the sum of errors clearly smaller."""
    curves = [curve(scale, power) for scale, power, _ in layers]
    costs = [Cost((0.0, 1.0), (0.0, size)) for *_, size in layers]
    sizes = np.array([size for *_, size in layers])
    shares = np.array(spread(curves, costs, float(kept * sizes.sum())))
    assert shares @ sizes == pytest.approx(kept * sizes.sum(), rel=1e-6)
    assert KEPT[0] - 1e-9 <= shares.min() <= shares.max() <= KEPT[-1] + 1e-9

    def error(x):
        return sum(scale * share**-power for (scale, power, _), share in zip(layers, x, strict=True))

    rng = np.random.default_rng(seed)
    for _ in range(20):
        moved = shares.copy()
        a, b = rng.integers(0, len(layers), 2)
        moved[a] += 0.05 * sizes[b] / max(sizes[a], sizes[b])
        moved[b] -= 0.05 * sizes[a] / max(sizes[a], sizes[b])
        if a != b and moved.min() >= KEPT[0] and moved.max() <= KEPT[-1]:
            assert error(moved) >= 0.98 * error(shares)


def test_a_layer_that_costs_nothing_keeps_its_weights():
    """Where zeros save no time, there are as few as possible."""
    shares = spread([curve(1, 1), curve(1, 1)], [Cost((0.0, 1.0), (0.0, 1.0)), Cost((0.0, 1.0), (3.0, 3.0))], 3.4)
    assert shares[1] == pytest.approx(KEPT[-1])
    assert shares[0] == pytest.approx(0.4, abs=0.01)


def uneven(rng):
    """Products of which the second hardly matters: its results are nearly constant."""
    sizes, nodes, arrays, x = (32, 64, 64, 10), [], {}, "x"
    for i, (inputs, count) in enumerate(pairwise(sizes)):
        scale = np.float32(0.02 if i == 1 else 1) / np.float32(inputs) ** 0.5
        arrays |= {f"w{i}": noise(rng, inputs, count) * scale, f"b{i}": np.float32(1) + noise(rng, count) * np.float32(0.1)}
        nodes.append(helper.make_node("Gemm", [x, f"w{i}", f"b{i}"], [f"h{i}"], name=f"fc{i}"))
        nodes.append(helper.make_node("Relu", [f"h{i}"], ["y" if i == 2 else f"r{i}"]))
        x = f"r{i}"
    nodes.insert(-2, helper.make_node("Add", ["r1", "r0"], ["sum"]))
    nodes[-2].input[0] = "sum"
    return model_of(nodes, {"x": ["batch", 32]}, ["y"], arrays)


def test_measured():
    """A layer that matters less gets more zeros, all together there are as many, and more is left of the model."""
    rng = np.random.default_rng(0)
    model, feeds = uneven(rng), [{"x": noise(rng, 500, 12) @ noise(rng, 12, 32)}]
    results = {name: prune(model, feeds, sparsity=0.8, allocation=name, only="fc[01]").report for name in ("uniform", "measured")}
    layers = {layer.name: layer.sparsity for layer in results["measured"].layers}
    assert layers["fc1"] > 0.81
    assert layers["fc0"] < 0.79
    assert results["measured"].zeros == pytest.approx(results["uniform"].zeros, abs=64)
    assert results["measured"].outputs[0].error < results["uniform"].outputs[0].error
    assert (results["measured"].allocation, results["uniform"].allocation) == ("measured", "uniform")


def test_uniform_where_it_is_better(monkeypatch):
    """Errors that mislead are found out on held-out data."""
    from onnxruntime_ep_sparse.prune import allocation

    def misleading(setting, sparsities):
        return {layer.name: [1e-9 if layer.name == "fc0" else 1.0] * len(sparsities) for layer in setting.selected.pruned}

    monkeypatch.setattr(allocation, "errors_alone", misleading)
    rng = np.random.default_rng(0)
    model, feeds = uneven(rng), [{"x": noise(rng, 500, 12) @ noise(rng, 12, 32)}]
    monkeypatch.setattr(allocation, "spread", lambda curves, costs, budget: [0.1, 0.25])
    report = prune(model, feeds, sparsity=0.8, allocation="measured", only="fc[01]").report
    assert report.allocation == "uniform"
    assert [layer.sparsity for layer in report.layers] == pytest.approx([0.8, 0.8], abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"holdout": 0.0, "sparsity": 0.5}, "give a holdout above 0"),
        ({"pattern": "2:4"}, "implies one sparsity"),
        ({"allocation": "best", "sparsity": 0.5}, "unknown allocation 'best'; there are uniform, measured"),
    ],
)
def test_wrong_use(arguments, words):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=words):
        prune(uneven(rng), [{"x": noise(rng, 200, 32)}], **{"allocation": "measured", **arguments})
