"""The expected gain of a region: nodes that the passes fuse are priced and given back as one."""

import numpy as np
import pytest

from onnxruntime_ep_sparse.graph.ir import FLOAT, Graph, Node, Value, subgraph
from onnxruntime_ep_sparse.partition import cost
from onnxruntime_ep_sparse.partition.gain import RegionGain
from onnxruntime_ep_sparse.passes.run import run_passes

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


@pytest.fixture
def graph():
    """That net."""
    return swish_net(np.random.default_rng(0))


def test_the_passes_fuse_the_gate(graph):
    """The Silu stands at the Mul's place and covers the Sigmoid."""
    rewritten = run_passes(graph)
    assert [(node.index, node.op_type, node.covers) for node in rewritten.nodes] == [(0, "Conv", ()), (2, "Silu", (1,)), (3, "Conv", ())]


def test_a_fused_unit_costs_what_runs(graph):
    """ONNX Runtime's time of both nodes, ours of the one that is left."""
    rewritten = run_passes(graph)
    gain = RegionGain(graph, rewritten, range(4), {})
    theirs = sum(cost.node_seconds(graph, graph.nodes[i], 1.0)[0] for i in (1, 2))
    assert gain.saved[(1, 2)] == pytest.approx(theirs - cost.node_seconds(rewritten, rewritten.nodes[1], 1.0)[1])
    assert set(gain.saved) == {(0,), (1, 2), (3,)}


def test_a_part_of_a_unit_runs_as_it_stands(graph):
    """Where the region holds the Mul alone, nothing is fused in it."""
    gain = RegionGain(graph, run_passes(graph), (2, 3), {})
    theirs, ours = cost.node_seconds(graph, graph.nodes[2], 1.0)
    assert gain.saved[(2,)] == pytest.approx(theirs - ours)


def test_units_are_given_back_whole(graph):
    """Trimming takes both nodes of the gate or none, and never a wanted one; what is given back does not lower the gain."""
    for wanted in ((0,), (3,), (0, 3)):
        gain = RegionGain(graph, run_passes(graph), range(4), {0: 0.1, 3: 0.1})
        before = gain.total()
        gain.trim(wanted)
        assert gain.members.issuperset(wanted)
        assert (1 in gain.members) == (2 in gain.members)
        assert gain.total() >= before


def test_without_is_the_difference_of_totals(graph):
    """Giving back a unit changes the total by what `without` says."""
    gain = RegionGain(graph, run_passes(graph), range(4), {0: 0.1, 3: 0.1})
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
