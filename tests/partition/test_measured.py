"""Choosing by measuring, with times that the test makes up: who is taken, why, and within which time."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxruntime_ep_sparse import reasons
from onnxruntime_ep_sparse.options import parse
from onnxruntime_ep_sparse.partition import measured
from onnxruntime_ep_sparse.partition.decision import NodeDecision, Selection
from onnxruntime_ep_sparse.partition.measured import choose
from onnxruntime_ep_sparse.partition.regions import contractible, grow
from onnxruntime_ep_sparse.partition.select import select
from onnxruntime_ep_sparse.partition.verdict import SizeTimes, UnmeasuredError, Verdict
from partition.test_regions import acyclic, dags
from support.making import examples, pruned
from support.programs import graph_of

SIZE = 256
RNG = np.random.default_rng(0)
WEIGHTS = {f"w{zeros}": pruned(RNG, (SIZE, SIZE), zeros / 100, "unstructured" if zeros else "dense") for zeros in (0, 40, 95)}


def net(*zeros, rows=128):
    """Products of these percentages of zeros in a row with a Tanh between them; None stands for an operator that is not ours."""
    nodes, x = [], "x"
    for i, percent in enumerate(zeros):
        if percent is None:
            nodes.append(("Atan", (x,), f"c{i}", (rows, SIZE), {}))
        else:
            nodes.append(("MatMul", (x, f"w{percent}"), f"p{i}", (rows, SIZE), {}))
            nodes.append(("Tanh", (f"p{i}",), f"c{i}", (rows, SIZE), {}))
        x = f"c{i}"
    graph = graph_of(nodes, {"x": (rows, SIZE)}, WEIGHTS, (x,))
    return replace(graph, nodes=tuple(replace(node, since_version=13) for node in graph.nodes))


class Bench:
    """A timer that says what it is told, and a clock that only it moves."""

    def __init__(self, *speeds, takes=0.0):
        self.speeds, self.takes = list(speeds), takes
        self.now = 100.0
        self.asked = []

    def __call__(self, region, sizes, seconds):
        """Take a turn: the next speed, or no verdict if that is a text or the time is too short."""
        self.asked.append(([node.index for node in region.nodes], [size.count for size in sizes], seconds))
        if seconds < self.takes:
            raise UnmeasuredError("the time is used up")
        self.now += self.takes
        speed = self.speeds.pop(0)
        if isinstance(speed, str):
            raise UnmeasuredError(speed)
        return Verdict(tuple(SizeTimes(size.count, size.unit, speed, 1.0, speed) for size in sizes))

    def choose(self, graph, **options):
        """What comes of it."""
        return choose(graph, parse({"policy": "measure", **options}, {}), self, lambda: self.now)


def proposal(graph, regions):
    """What `select` would say if it took these regions."""
    place = {i: n for n, region in enumerate(regions) for i in region}
    findings = [reasons.NEIGHBOUR() if node.index in place else reasons.NOT_ADJACENT() for node in graph.nodes]
    decisions = [NodeDecision.of(node, findings[i], place.get(i), shape=weight_shape(node)) for i, node in enumerate(graph.nodes)]
    return Selection(tuple(regions), tuple(decisions))


def weight_shape(node):
    """The shape of a product's weight."""
    return (SIZE, SIZE) if node.op_type == "MatMul" else None


@pytest.fixture
def proposed(monkeypatch):
    """Let `select` propose these wide regions, and those as by `auto`."""

    def propose(wide, parts):
        monkeypatch.setattr(measured, "select", lambda graph, options: proposal(graph, wide if options.min_sparsity else parts))

    return propose


def codes(selection):
    """The code of every decision."""
    return [decision.code for decision in selection.decisions]


def test_a_region_that_wins_is_taken():
    """All of its nodes say how fast it is, although the estimate is against it."""
    graph, bench = net(40), Bench(1.84)
    assert not select(graph, parse({}, {})).regions
    selection = bench.choose(graph)
    assert selection.regions == ((0, 1),)
    assert codes(selection) == ["measured-faster"] * 2
    assert {d.reason for d in selection.decisions} == {"measured: 1.84x ONNX Runtime's CPU provider (1 against 1.84 ms)"}
    assert {(d.taken, d.region) for d in selection.decisions} == {(True, 0)}
    assert selection.decisions[0].sparsity == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("speed", [0.97, 1.0])
def test_a_region_that_does_not_win_is_left(speed):
    """Although the estimate is for it, and says which option takes it all the same."""
    graph = net(95)
    assert select(graph, parse({}, {})).regions
    selection = Bench(speed).choose(graph)
    assert selection.regions == ()
    assert {(d.code, d.taken, d.option) for d in selection.decisions} == {("measured-slower", False, "policy=always")}
    assert f"{speed:.2f}x ONNX Runtime's CPU provider" in selection.decisions[0].reason


def test_dense_products_are_no_candidates():
    """They keep the reason that `auto` gives, and nothing is measured."""
    bench = Bench()
    selection = bench.choose(net(0))
    assert (bench.asked, selection.regions) == ([], ())
    assert codes(selection) == ["below-break-even", "not-adjacent"]


def test_min_sparsity_moves_the_candidates():
    """In both directions."""
    assert Bench(2.0).choose(net(0), min_sparsity="0").regions
    bench = Bench()
    assert not bench.choose(net(40), min_sparsity="0.5").regions
    assert not bench.asked


def test_the_part_that_auto_takes_has_its_turn(proposed):
    """Where a wide region loses: the smaller one within it, on what is left of the time."""
    graph = net(95, 40, 40, 40)
    proposed([tuple(range(8))], [(0, 1)])
    bench = Bench(0.9, 1.5, takes=2.0)
    selection = bench.choose(graph, measure_budget_ms="9000")
    assert selection.regions == ((0, 1),)
    assert codes(selection) == ["measured-faster"] * 2 + ["measured-slower"] * 6
    assert "0.90x" in selection.decisions[7].reason
    assert [(nodes, seconds) for nodes, _, seconds in bench.asked] == [([*range(8)], 4.5), ([0, 1], 7.0)]
    assert not Bench(0.9, 0.8).choose(graph).regions
    assert len(Bench(1.1).choose(graph).regions[0]) == 8


def test_a_region_that_crosses_another_is_left(proposed):
    """It is neither measured nor taken, and what it shares with the other keeps its reason."""
    proposed([(0, 1, 2, 3)], [(2, 3, 4, 5)])
    selection = Bench(2.0).choose(net(95, 95, 95))
    assert selection.regions == ((0, 1, 2, 3),)
    assert codes(selection) == ["measured-faster"] * 4 + ["not-measured"] * 2
    assert "crosses it" in selection.decisions[4].reason


def test_regions_are_judged_one_by_one():
    """Each by its own times."""
    graph = net(95, None, 95, None, 95)
    selection = Bench(2.0, 0.5, 3.0).choose(graph)
    assert selection.regions == ((0, 1), (6, 7))
    assert [selection.decisions[i].code for i in (0, 2, 3, 6)] == [
        "measured-faster",
        "unsupported-operator",
        "measured-slower",
        "measured-faster",
    ]
    assert [selection.decisions[i].region for i in (0, 3, 6)] == [0, None, 1]


def test_the_budget_is_split():
    """Into equal shares of what is left."""
    bench = Bench(2.0, 2.0, 2.0, takes=3.0)
    assert len(bench.choose(net(95, None, 95, None, 95), measure_budget_ms="18000").regions) == 3
    assert [seconds for _, _, seconds in bench.asked] == pytest.approx([18 / 3, 15 / 2, 12])


def test_the_budget_is_used_up(proposed):
    """The rest is decided as by `auto`, in both directions, and says why it was not measured. The largest weights come first."""
    graph = net(95, None, 95, None, 40, 40)
    proposed([(0, 1), (3, 4), (6, 7, 8, 9)], [(0, 1)])
    bench = Bench(takes=25.0)
    selection = bench.choose(graph, measure_budget_ms="24000")
    assert [(nodes, seconds) for nodes, _, seconds in bench.asked] == [([6, 7, 8, 9], 8.0), ([0, 1], 12.0), ([3, 4], 24.0)]
    assert selection.regions == ((0, 1),)
    assert set(codes(selection)) == {"not-measured", "not-adjacent"}
    for i, why in ((0, "neighbour of"), (3, "not next to"), (6, "not next to")):
        assert selection.decisions[i].reason.startswith(why)
        assert selection.decisions[i].reason.endswith("; not measured: the time is used up")
        assert selection.decisions[i].taken == (i == 0)


def test_without_a_budget_what_is_known_counts():
    """The timer is asked, with no time."""
    bench = Bench(0.5)
    assert not bench.choose(net(95), measure_budget_ms="0").regions
    assert bench.asked == [([0, 1], [None], 0.0)]


def test_what_cannot_be_measured(proposed):
    """Is decided as by `auto`; a part of it may still be measured."""
    graph = net(95, 40, 40, 40)
    proposed([tuple(range(8))], [(0, 1)])
    assert Bench("a whim", "a whim").choose(graph).regions == ((0, 1),)
    assert Bench("a whim", 0.5).choose(graph).regions == ()
    assert codes(Bench("a whim", 2.0).choose(graph)) == ["measured-faster"] * 2 + ["not-measured"] * 6
    assert Bench(0.5, "a whim").choose(graph).regions == ((0, 1),)


@pytest.mark.parametrize(("speeds", "taken"), [((3.0, 2.0, 1.1), True), ((3.0, 2.0, 0.9), False), ((0.9, 2.0, 3.0), False)])
def test_open_rows(speeds, taken):
    """A region is measured at several numbers of rows, and taken if it is faster at each."""

    def timer(region, sizes, seconds):
        assert [size.shapes for size in sizes] == [{"x": (count, SIZE)} for count in (1, 8, 128)]
        return Verdict(tuple(SizeTimes(size.count, size.unit, speed, 1.0, speed) for size, speed in zip(sizes, speeds, strict=True)))

    selection = choose(net(95, rows="n"), parse({"policy": "measure"}, {}), timer)
    assert bool(selection.regions) == taken
    assert "at 1 row; 1 against" in selection.decisions[0].reason
    assert f"{min(speeds):.2f}x to 3.00x" in selection.decisions[0].reason


@examples(200)
@given(dags(10), st.data())
def test_contractible(case, data):
    """Whether regions of any shape leave an order of the graph."""
    graph, _, _ = case
    place = [data.draw(st.integers(0, 3)) for _ in graph.nodes]
    regions = [[i for i, n in enumerate(place) if n == number] for number in range(3)]
    regions = [region for region in regions if region]
    assert contractible(graph, regions) == acyclic(graph, regions)


@examples(100)
@given(case=dags(12), speeds=st.lists(st.sampled_from([0.5, 2.0, None]), min_size=24, max_size=24), data=st.data())
def test_regions_of_both_kinds_can_be_contracted_at_once(case, speeds, data):
    """Whatever `select` proposes under its two rules, and whatever wins: regions share no node and leave an order of the graph."""
    graph, runnable, wanted = case
    some = {i for i in wanted if data.draw(st.booleans())}

    def timer(region, sizes, seconds):
        speed = speeds.pop()
        if speed is None:
            raise UnmeasuredError("a whim")
        return Verdict((SizeTimes(None, "", speed, 1.0, speed),))

    with pytest.MonkeyPatch.context() as patch:
        regions = {kind: sorted(map(tuple, grow(graph, runnable, around))) for kind, around in (("wide", wanted), ("parts", some))}
        patch.setattr(measured, "select", lambda graph, options: proposal(graph, regions["wide" if options.min_sparsity else "parts"]))
        selection = choose(graph, parse({"policy": "measure"}, {}), timer)
    nodes = [i for region in selection.regions for i in region]
    assert len(set(nodes)) == len(nodes)
    assert acyclic(graph, selection.regions)
    for i, decision in enumerate(selection.decisions):
        assert decision.taken == (i in nodes)
        assert decision.taken == {"measured-faster": True, "measured-slower": False}.get(decision.code, decision.taken)
