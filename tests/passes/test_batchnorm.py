"""BatchNormalization becomes part of the convolution before it: weights, biases, and where it must stay."""

from dataclasses import replace

import numpy as np
import pytest

from onnxruntime_ep_sparse.graph.ir import FLOAT, Graph, Node, Value
from onnxruntime_ep_sparse.graph.nonzeros import Nonzeros
from onnxruntime_ep_sparse.passes.batchnorm import fold_batchnorms
from support.making import noise, pruned

CONV = "Conv", ("x", "w", "b"), "c", {"pads": (1, 1, 1, 1)}
NORM = "BatchNormalization", ("c", "s", "o", "m", "v"), "n", {"epsilon": 1e-3}


def constants_of(rng):
    """Weight and bias of a convolution, scale, offset, mean and variance of what follows."""
    made = {"w": pruned(rng, (6, 4, 3, 3), 0.7), **{name: noise(rng, 6) for name in "bsom"}}
    return made | {"v": np.abs(noise(rng, 6)) + np.float32(0.1)}


def graph_of(nodes, constants, outputs=("n",)):
    """A graph of nodes (operator, inputs, output, attributes)."""
    made = tuple(Node(i, output, op, "", 15, inputs, (output,), dict(more)) for i, (op, inputs, output, more) in enumerate(nodes))
    values = {name: Value(name, FLOAT, array.shape) for name, array in constants.items()}
    values |= {name: Value(name, FLOAT, (None,) * 4) for name in ("x", *(node.outputs[0] for node in made))}
    return Graph(made, values, frozenset(constants), constants.__getitem__, ("x",), outputs)


def convolved(graph, node, image):
    """One output pixel of a Conv (float64): its window is `image`, (4, 3, 3)."""
    weight, bias = graph.load(node.inputs[1]), graph.load(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else 0
    return np.tensordot(weight.astype(np.float64), image, 3) + bias


@pytest.mark.parametrize("inputs", [("x", "w", "b"), ("x", "w"), ("x", "w", "")])
def test_one_convolution_computes_both(inputs):
    """With and without a bias of its own."""
    rng = np.random.default_rng(0)
    constants = constants_of(rng)
    before = graph_of([("Conv", inputs, "c", CONV[3]), NORM], constants)
    after = fold_batchnorms(before)
    (conv,) = after.nodes
    assert (conv.op_type, conv.outputs, conv.attributes) == ("Conv", ("n",), CONV[3])
    image = noise(rng, 4, 3, 3).astype(np.float64)
    factor = constants["s"] / np.sqrt(constants["v"] + 1e-3)
    expected = (convolved(before, before.nodes[0], image) - constants["m"]) * factor + constants["o"]
    np.testing.assert_allclose(convolved(after, conv, image), expected, rtol=1e-4, atol=1e-5)
    assert after.values[conv.inputs[1]].shape == (6, 4, 3, 3)
    assert after.values[conv.inputs[2]].shape == (6,)
    assert not after.load(conv.inputs[1])[constants["w"] == 0].any()


def test_nonzeros_stay_nonzeros():
    """A weight that is kept by its nonzeros is scaled as such, to the bits of the dense one."""
    rng = np.random.default_rng(1)
    constants = constants_of(rng)
    places = np.flatnonzero(constants["w"])
    kept = Nonzeros.at(places, constants["w"].reshape(-1)[places], constants["w"].shape)
    graph = replace(graph_of([CONV, NORM], constants), nonzeros={"w": kept}.get)
    after = fold_batchnorms(graph)
    weight = after.nodes[0].inputs[1]
    assert np.array_equal(after.nonzeros(weight).first(6, None, 0), after.load(weight))
    assert after.nonzeros("x") is None


def test_a_factor_that_is_not_finite_makes_the_weight_dense():
    """Zero times infinity is no zero."""
    rng = np.random.default_rng(2)
    constants = constants_of(rng) | {"v": np.full(6, -1e-3, np.float32)}
    places = np.flatnonzero(constants["w"])
    kept = Nonzeros.at(places, constants["w"].reshape(-1)[places], constants["w"].shape)
    after = fold_batchnorms(replace(graph_of([CONV, NORM], constants), nonzeros={"w": kept}.get))
    assert after.nonzeros(after.nodes[0].inputs[1]) is None
    assert not np.isfinite(after.load(after.nodes[0].inputs[1])).all()


@pytest.mark.parametrize(
    ("nodes", "outputs", "missing"),
    [
        ([CONV, NORM], ("n", "c"), ""),
        ([CONV, NORM, ("Relu", ("c",), "r", {})], ("n", "r"), ""),
        ([CONV, NORM], ("n",), "w"),
        ([CONV, NORM], ("n",), "b"),
        ([("Relu", ("x",), "c", {}), NORM], ("n",), ""),
    ],
    ids=["result is an output", "two readers", "weight varies", "bias varies", "no convolution"],
)
def test_what_stays(nodes, outputs, missing):
    """A convolution that somebody else reads, or without constant weights, and what is none."""
    graph = graph_of(nodes, constants_of(np.random.default_rng(3)), outputs)
    graph = replace(graph, constant_names=graph.constant_names - {missing})
    assert fold_batchnorms(graph) is graph
