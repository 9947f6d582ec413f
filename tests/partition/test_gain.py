"""The expected gain of a region: nodes that the passes fuse are priced and given back as one."""

from dataclasses import replace

import numpy as np
import pytest

from onnxruntime_ep_sparse.graph.ir import FLOAT, FLOAT16, Graph, Node, Value, subgraph
from onnxruntime_ep_sparse.ops import table
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


def runnable_of(graph):
    """The nodes that the provider can run."""
    return {node.index for node in graph.nodes if table.can_run(graph, node) is None}


def gain_of(graph, members, densities=None, threads=1):
    """The gain of some nodes of a graph as a region."""
    prices = Prices(graph, ISAS[0], threads)
    return RegionGain(prices, prices.of(run_passes(graph)), members, densities or {}, runnable_of(graph))


@pytest.fixture
def graph():
    """That net."""
    return swish_net(np.random.default_rng(0))


def test_the_passes_fuse_the_gate(graph):
    """The Silu stands at the Mul's place and covers the Sigmoid."""
    rewritten = run_passes(graph)
    assert [(node.index, node.op_type, node.covers) for node in rewritten.nodes] == [(0, "Conv", ()), (2, "Silu", (1,)), (3, "Conv", ())]


def test_conversions_at_the_border_have_a_price(graph):
    """Values of 16 bits are converted where they cross the border of a region, and nowhere else."""
    half = replace(graph, narrow=dict.fromkeys("xagsy", FLOAT16))
    assert gain_of(half, {0}).handover() > gain_of(graph, {0}).handover()
    assert gain_of(half, {0}).total() < gain_of(graph, {0}).total()
    assert gain_of(half, range(4)).total() == gain_of(graph, range(4)).total()


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


def policy(rng, zeros):
    """Two products of an open number of rows with Tanh between them, as a graph, and the densities of their weights."""
    shapes = {"w": (64, 256), "v": (256, 8)}
    weights = {name: (rng.standard_normal(shape) * (rng.random(shape) >= zeros)).astype(np.float32) for name, shape in shapes.items()}
    nodes = (
        Node(0, "first", "MatMul", "", 13, ("x", "w"), ("a",), {}),
        Node(1, "tanh", "Tanh", "", 13, ("a",), ("b",), {}),
        Node(2, "last", "MatMul", "", 13, ("b", "v"), ("y",), {}),
    )
    values = {name: Value(name, FLOAT, ("n", width)) for name, width in (("x", 64), ("a", 256), ("b", 256), ("y", 8))}
    values |= {name: Value(name, FLOAT, shape) for name, shape in shapes.items()}
    graph = Graph(nodes, values, frozenset(shapes), load=weights.__getitem__, inputs=("x",), outputs=("y",))
    return graph, {i: Density(1 - zeros) for i in (0, 2)}


def test_open_rows_are_weighed_by_their_share():
    """The gain of a unit is the mean share of the time that it saves, over the numbers of rows; the times shown are the nominal ones."""
    graph, densities = policy(np.random.default_rng(0), 0.3)  # no channel is dead
    gain = gain_of(graph, range(3), densities)
    prices = Prices(graph, ISAS[0], 1)
    counts = prices.row_counts(graph.nodes[0])
    assert len(counts) > 1
    both = [[prices.seconds(node, rows) for node in graph.nodes] for rows in counts]
    shares = [(seconds[2].ort - seconds[2].ours(densities[2])) / sum(each.ort for each in seconds) for seconds in both]
    assert gain.saved((2,)) == pytest.approx(np.mean(shares) * gain.theirs(), rel=1e-6)
    assert gain.seconds[(2,)] == pytest.approx((prices.seconds(graph.nodes[2]).ort, prices.seconds(graph.nodes[2]).ours(densities[2])))


def test_a_region_that_loses_for_some_rows_is_not_enough():
    """Whatever it saves for others."""
    graph, densities = policy(np.random.default_rng(0), 0.9)
    gain = gain_of(graph, range(3), densities)
    gain.prices._ours = {**gain.prices._ours, "region": 0.0}  # so small a net has to carry its region alone
    assert gain.is_enough()
    gain._saved[-1] = dict.fromkeys(gain._saved[-1], -1e-9)
    assert gain.total() > 0
    assert not gain.is_enough()


@pytest.mark.parametrize("outside", [False, None, True])
@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("theirs", [False, True])
def test_threads_are_woken_once_per_run(theirs, ours, outside, monkeypatch):
    """That costs where we alone need them, and saves where the region alone needed them; where the rest is not known, it saves nothing."""
    graph, densities = policy(np.random.default_rng(0), 0.9)
    gain = gain_of(graph, range(3), densities, threads=2)
    monkeypatch.setattr(Prices, "shared_outside", lambda *_: outside)
    found = gain.woken(None, {(0,): (theirs, ours), (1,): (False, False), (2,): (theirs, False)})
    if ours and not theirs and not outside:
        assert found == gain.prices.wake > 0
    elif theirs and not ours and outside is False:
        assert found == -gain.prices.wake
    else:
        assert found == 0


def test_what_stands_outside_may_wake_threads():
    """Of the nodes outside the region, those that ONNX Runtime shares count; one that cannot be priced leaves it open."""
    graph, _ = policy(np.random.default_rng(0), 0.9)
    prices, runnable = Prices(graph, ISAS[0], 2), runnable_of(graph)
    assert prices.shared_outside({0, 1}, runnable, 128) is True  # 128 x 256 x 8
    assert prices.shared_outside({0, 1}, runnable, 1) is False
    assert prices.shared_outside({0, 1, 2}, runnable, 128) is False
    assert prices.shared_outside({0}, runnable, 1) is False
    unknown = replace(graph, nodes=(*graph.nodes, Node(3, "other", "NonZero", "", 13, ("y",), ("z",), {})))
    assert Prices(unknown, ISAS[0], 2).shared_outside({0, 1, 2}, runnable, 1) is None
    assert Prices(unknown, ISAS[0], 2).shared_outside({0, 1}, runnable, 128) is True


def test_sleeping_threads_are_no_reason_to_take_a_region(monkeypatch):
    """A region that wins only because ONNX Runtime wakes threads is left: they are awake where one run follows the other."""
    graph, densities = policy(np.random.default_rng(0), 0.3)
    gain = gain_of(graph, range(3), densities, threads=2)
    monkeypatch.setattr(RegionGain, "woken", lambda *_: -1.0)
    assert gain.total() > 0
    assert not gain.is_enough()


def test_nodes_that_cannot_be_read_have_no_price():
    """A constant outside the region that cannot be loaded leaves the answer open, as for every node that cannot run."""

    def load(name):
        raise OSError(f"{name} is not there")

    graph, _ = policy(np.random.default_rng(0), 0.9)
    slicing = Node(3, "slice", "Slice", "", 13, ("y", "begin", "begin"), ("z",), {})
    broken = replace(graph, nodes=(*graph.nodes, slicing), constant_names=graph.constant_names | {"begin"}, load=load)
    assert Prices(broken, ISAS[0], 2).shared_outside({0, 1, 2}, {0, 1, 2}, 1) is None
