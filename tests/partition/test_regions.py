"""Regions can be contracted into one node each, and are as large as that allows."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.graph.ir import FLOAT, Graph, Node, Value
from onnxruntime_ep_sparse.partition.regions import grow
from support.making import examples, graph_of, model_of, noise, pruned
from support.promises import assert_close, assignment, cpu_session, make_session


@st.composite
def dags(draw, most):
    """(graph, runnable, wanted) with up to `most` nodes of one to three inputs; some nodes are not runnable and have bodies that read."""
    nodes = []
    for i in range(draw(st.integers(1, most))):
        names = [f"v{j}" for j in draw(st.lists(st.integers(-1, i - 1), min_size=1, max_size=3, unique=True))]
        explicit = draw(st.integers(1, len(names))) if draw(st.integers(0, 3)) == 0 else len(names)
        nodes.append(Node(i, f"n{i}", "Op", "", 1, tuple(names[:explicit]), (f"v{i}",), {}, implicit_inputs=tuple(names[explicit:])))
    kinds = ["x" if node.implicit_inputs else draw(st.sampled_from("rrwwx")) for node in nodes]
    values = {f"v{i}": Value(f"v{i}", FLOAT, (1,)) for i in range(-1, len(nodes))}
    graph = Graph(tuple(nodes), values, frozenset(), load=lambda name: np.zeros(0), inputs=("v-1",), outputs=(f"v{len(nodes) - 1}",))
    return graph, {i for i, kind in enumerate(kinds) if kind in "rw"}, {i for i, kind in enumerate(kinds) if kind == "w"}


def edges_of(graph):
    """Pairs of nodes of which the second reads the first."""
    return {
        (graph.producer[name].index, node.index)
        for node in graph.nodes
        for name in node.inputs + node.implicit_inputs
        if name in graph.producer
    }


def acyclic(graph, regions):
    """Whether the graph has an order once every region is one node."""
    place = {i: i for i in range(len(graph.nodes))} | {i: min(region) for region in regions for i in region}
    edges = {(place[a], place[b]) for a, b in edges_of(graph) if place[a] != place[b]}
    left = set(place.values())
    while left:
        free = {n for n in left if not any(b == n and a in left for a, b in edges)}
        if not free:
            return False
        left -= free
    return True


def connected(region, edges):
    """Whether the region is one piece."""
    reached, fresh = set(), {min(region)}
    while fresh:
        reached |= fresh
        fresh = {n for a, b in edges for n, other in ((a, b), (b, a)) if other in reached and n in region} - reached
    return reached == set(region)


@examples(200)
@given(dags(14))
def test_regions_can_be_contracted(case):
    """Disjoint connected sets of runnable nodes around wanted ones, every wanted one in one; the contracted graph has no cycle."""
    graph, runnable, wanted = case
    regions = list(grow(graph, runnable, wanted))
    members = [i for region in regions for i in region]
    assert len(members) == len(set(members))
    assert wanted <= set(members) <= runnable
    assert all(wanted & set(region) and connected(region, edges_of(graph)) for region in regions)
    assert acyclic(graph, regions)


@examples(150)
@given(dags(7))
def test_regions_are_maximal(case):
    """By brute force: no two regions that touch can be joined."""
    graph, runnable, wanted = case
    regions = list(grow(graph, runnable, wanted))
    for one, other in itertools.combinations(regions, 2):
        if connected(one + other, edges_of(graph)):
            rest = [region for region in regions if region not in (one, other)]
            assert not acyclic(graph, [*rest, one + other])


@examples(150)
@given(dags(7))
def test_a_lone_wanted_node_gets_the_largest_region(case):
    """By brute force: where one node is wanted, no runnable neighbour of its region could still join it."""
    graph, runnable, wanted = case
    for centre in sorted(wanted)[:1]:
        (region,) = grow(graph, runnable, {centre})
        for i in runnable - set(region):
            if connected([*region, i], edges_of(graph)):
                assert not acyclic(graph, [[*region, i]])


@examples(60)
@given(st.data())
def test_random_graphs_in_a_session(data):
    """ONNX Runtime accepts the regions of graphs in which some operators are not ours, and the results are right."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    nodes, names = [], ["x"]
    weights = {f"w{i}": pruned(rng, (6, 6), 0.5) for i in range(3)}
    for i in range(data.draw(st.integers(3, 14))):
        op = data.draw(st.sampled_from(["MatMul", "MatMul", "Add", "Add", "Relu", "Atan", "Softsign"]))
        inputs = [data.draw(st.sampled_from(names[-4:]))]
        if op == "MatMul":
            inputs.append(data.draw(st.sampled_from(sorted(weights))))
        elif op == "Add":
            inputs.append(data.draw(st.sampled_from(names[-4:])))
        nodes.append(helper.make_node(op, inputs, [f"v{i}"], name=f"n{i}"))
        names.append(f"v{i}")
    read = {name for node in nodes for name in node.input}
    model = model_of(nodes, {"x": ["n", 6]}, [name for name in names[1:] if name not in read], weights)
    session = make_session(model)
    ours = {provider for provider, op in assignment(session) if op in ("MatMul", "Gemm")}
    assert ours <= {sparse.EP_NAME}
    assert all(decision.reason for decision in sparse.explain(session))
    feeds = {"x": noise(rng, 3, 6)}
    for got, wanted in zip(session.run(None, feeds), cpu_session(model).run(None, feeds), strict=True):
        assert_close(got, wanted)


def test_a_body_that_reads_a_region():
    """An If whose branches read a product from around them lies between that product and the Add behind: not one region."""
    rng = np.random.default_rng(0)
    make = helper.make_node
    branches = [graph_of([make(op, ["p"], ["t"])], {}, {"t": None}, {}) for op in ("Neg", "Abs")]
    nodes = [
        make("MatMul", ["x", "w"], ["p"], name="product"),
        make("Relu", ["p"], ["r"], name="relu"),
        make("If", ["c"], ["s"], then_branch=branches[0], else_branch=branches[1]),
        make("Add", ["r", "s"], ["y"], name="add"),
    ]
    model = model_of(nodes, {"x": ["n", 6]}, ["y"], {"w": pruned(rng, (6, 6), 0.5)})
    model.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    session, theirs = make_session(model), cpu_session(model)
    assert {decision.name for decision in sparse.explain(session) if decision.taken} >= {"product", "relu"}
    assert (sparse.EP_NAME, "MatMul") in assignment(session)
    for condition in (True, False):
        feeds = {"x": noise(rng, 2, 6), "c": np.array(condition)}
        assert_close(session.run(None, feeds)[0], theirs.run(None, feeds)[0])
