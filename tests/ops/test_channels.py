"""Channels: what weights read, and what becomes of those of known channels."""

import numpy as np
import pytest

from onnxruntime_ep_sparse.ops.channels import Flow, alive, merged, split
from support.making import noise
from support.nodes import C, one_node


@pytest.fixture
def case():
    """Weights (M, C, taps), and which channels are known with which numbers."""
    rng = np.random.default_rng(4)
    known__c = np.array([True, False, True, False, True])
    return noise(rng, 6, 5, 3), known__c, np.where(known__c, noise(rng, 5), 0).astype(np.float64), rng


def product(weight__mct, x__c):
    """Outputs of a window of which every tap sees the same channels."""
    return np.einsum("mct,c->m", weight__mct.astype(np.float64), x__c)


def test_split_moves_known_channels_to_the_bias(case):
    """The rest of the weights plus what the known channels add are the whole."""
    weight__mct, known__c, value__c, rng = case
    rest__mct, addend__m = split(weight__mct, known__c, value__c)
    x__c = np.where(known__c, value__c, noise(rng, 5))
    assert not rest__mct[:, known__c].any()
    np.testing.assert_allclose(product(rest__mct, x__c) + addend__m, product(weight__mct, x__c), rtol=1e-12)


def test_merged_keeps_one_known_channel(case):
    """The channel of largest value stands for all that are known; the others have no weights left."""
    weight__mct, known__c, value__c, rng = case
    result__mct = merged(weight__mct, known__c, value__c)
    x__c = np.where(known__c, value__c, noise(rng, 5))
    left__c = result__mct.any(axis=(0, 2))
    assert left__c[~known__c].all()
    assert np.flatnonzero(left__c & known__c) == [np.argmax(np.abs(value__c))]
    np.testing.assert_allclose(product(result__mct, x__c), product(weight__mct, x__c), rtol=1e-5)


def test_merged_drops_channels_of_zeros(case):
    """They add nothing wherever padding stands beside them."""
    weight__mct, known__c, value__c, _ = case
    assert not merged(weight__mct, known__c, 0 * value__c)[:, known__c].any()


@pytest.mark.parametrize("outputs", [3, 16, 100])
def test_alive(outputs):
    """A channel is alive if one of the chosen outputs reads it."""
    rng = np.random.default_rng(outputs)
    weight__mct = noise(rng, outputs, 40, 2) * (rng.random((outputs, 40, 1)) < 2 / outputs)
    among__m = rng.random(outputs) < 0.5
    assert np.array_equal(alive(weight__mct), (weight__mct != 0).any(axis=(0, 2)))
    assert np.array_equal(alive(weight__mct, among__m), (weight__mct[among__m] != 0).any(axis=(0, 2)))


def test_what_is_not_finite_is_not_known():
    """Inf and NaN are computed as ever."""
    graph, _ = one_node("Relu", [(1, 3)], (1, 3))
    flow = Flow(graph)
    flow.make("y", 1, np.array([True, True, False]), np.array([1, np.inf, 2]))
    assert flow.channels["y"].known__c.tolist() == [True, False, False]
    assert flow.known_of("y", 1, 3) is flow.channels["y"]
    assert not flow.channels["y"].needed__c.any()
    assert flow.known_of("y", 0, 3) is None
    assert flow.channels["y"].left == 3


def test_constants_that_rules_make():
    """They have names of their own, and are loaded in place of the graph's."""
    graph, node = one_node("Conv", [(1, 4, 8, 8), (C, 6, 4, 1, 1)], (1, 6, 8, 8))
    flow = Flow(graph)
    changed = flow.constant(node, 2, np.ones(6, np.float32))
    assert changed.inputs[:2] == node.inputs
    assert changed.inputs[2] not in graph.values
    assert np.array_equal(flow.load(changed.inputs[2]), np.ones(6))
    assert flow.load("x1").shape == (6, 4, 1, 1)
