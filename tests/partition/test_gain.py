"""The expected gain of a region: nodes that the passes fuse are priced and given back as one."""

import numpy as np
import pytest

from onnxruntime_ep_sparse.graph.ir import FLOAT, Graph, Node, Value, subgraph
from onnxruntime_ep_sparse.partition.cost import DENSE, Density, Prices
from onnxruntime_ep_sparse.partition.gain import RegionGain
from onnxruntime_ep_sparse.passes.run import run_passes
from onnxruntime_ep_sparse_kernels.isa import ISAS

CHANNELS, SIZE = 64, 28


def swish_net(rng, zeros=0.9):
    """Conv -> Sigmoid, Mul (which are one Silu) -> Conv, as a graph: indices 0 to 3."""
    weight = rng.standard_normal((CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
    weight[rng.random(weight.shape) < zeros] = 0
    shape = (1, CHANNELS, SIZE, SIZE)
    attributes = {"pads": (1, 1, 1, 1)}
    nodes = (
        Node(0, "first", "Conv", "", 11, ("x", "w"), ("a",), attributes),
        Node(1, "gate", "Sigmoid", "", 13, ("a",), ("g",), {}),
        Node(2, "product", "Mul", "", 14, ("a", "g"), ("s",), {}),
        Node(3, "second", "Conv", "", 11, ("s", "w"), ("y",), attributes),
    )
    values = {name: Value(name, FLOAT, shape) for name in "xagsy"} | {"w": Value("w", FLOAT, weight.shape)}
    return Graph(nodes, values, frozenset({"w"}), load=lambda name: weight, inputs=("x",), outputs=("y",))


def gain_of(graph, members, densities=None):
    """The gain of some nodes of a graph as a region, on one thread."""
    prices = Prices(graph, ISAS[0], 1)
    return RegionGain(prices, prices.of(run_passes(graph)), members, densities or {})


@pytest.fixture
def graph():
    """That net."""
    return swish_net(np.random.default_rng(0))


def test_the_passes_fuse_the_gate(graph):
    """The Silu stands at the Mul's place and covers the Sigmoid."""
    rewritten = run_passes(graph)
    assert [(node.index, node.op_type, node.covers) for node in rewritten.nodes] == [(0, "Conv", ()), (2, "Silu", (1,)), (3, "Conv", ())]


def test_a_fused_unit_costs_what_runs(graph):
    """Both providers compute one Silu."""
    rewritten = run_passes(graph)
    gain = gain_of(graph, range(4))
    silu = Prices(rewritten, ISAS[0], 1).seconds(rewritten.nodes[1])
    assert gain.seconds[(1, 2)] == pytest.approx((silu.ort, silu.ours(DENSE)))
    assert set(gain.seconds) == {(0,), (1, 2), (3,)}


def test_a_part_of_a_unit_runs_as_it_stands(graph):
    """Where the region holds the Mul alone, nothing is fused in it."""
    alone = Prices(graph, ISAS[0], 1).seconds(graph.nodes[2])
    assert gain_of(graph, (2, 3)).seconds[(2,)] == pytest.approx((alone.ort, alone.ours(DENSE)))


def test_units_are_given_back_whole(graph):
    """Trimming takes both nodes of the gate or none, and never a wanted one; what is given back does not lower the gain."""
    for wanted in ((0,), (3,), (0, 3)):
        gain = gain_of(graph, range(4), {0: Density(0.1), 3: Density(0.1)})
        before = gain.total()
        gain.trim(wanted)
        assert gain.members.issuperset(wanted)
        assert (1 in gain.members) == (2 in gain.members)
        assert gain.total() >= before


def test_without_is_the_difference_of_totals(graph):
    """Giving back a unit changes the total by what `without` says."""
    gain = gain_of(graph, range(4), {0: Density(0.1), 3: Density(0.1)})
    before, change = gain.total(), gain.without((1, 2))
    gain.give_back((1, 2))
    assert gain.total() - before == pytest.approx(change)


def test_subgraph(graph):
    """Some nodes as a region: what it reads from others are inputs, what others read are outputs; constants are neither."""
    part = subgraph(graph, {0, 1})
    assert [node.index for node in part.nodes] == [0, 1]
    assert (part.inputs, part.outputs) == (("x",), ("a", "g"))
    assert subgraph(graph, {2, 3}).inputs == ("a", "g")
    assert subgraph(graph, range(4)).outputs == ("y",)
