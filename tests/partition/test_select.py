"""Which nodes are taken: regions that can be contracted, a reason for every node, the options that decide."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.graph.ir import FLOAT, Graph, Node, Value
from onnxruntime_ep_sparse.options import parse
from onnxruntime_ep_sparse.ort import _plugin, registration
from onnxruntime_ep_sparse.partition.regions import grow
from onnxruntime_ep_sparse.partition.select import select
from onnxruntime_ep_sparse.partition.sparsity import SAMPLE, zeros_of
from support.making import examples, graph_of, model_of, noise, pruned
from support.promises import assert_close, assignment, cpu_session, make_session, owned_session

# --- regions


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
        op = data.draw(st.sampled_from(["MatMul", "MatMul", "Add", "Add", "Relu", "Cos", "Softsign"]))
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


# --- decisions


def net(zeros, channels=256, size=14, tail="Cos"):
    """Conv, Relu, Conv, Relu and a node that is not ours."""
    rng = np.random.default_rng(1)
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w1"], ["a"], name="first"),
        make("Relu", ["a"], ["b"], name="relu"),
        make("Conv", ["b", "w2"], ["c"], name="second"),
        make(tail, ["c"], ["y"], name="tail"),
    ]
    weights = {name: pruned(rng, (channels, channels, 1, 1), zeros, "dense" if zeros == 0 else "unstructured") for name in ("w1", "w2")}
    return model_of(nodes, {"x": [1, channels, size, size]}, ["y"], weights)


def decisions(model, **options):
    """Name of a node -> what became of it, and whether ONNX Runtime agrees on the number of nodes taken."""
    session = make_session(model, {"policy": "auto", **options})
    made = {decision.name: decision for decision in sparse.explain(session)}
    taken = [decision for decision in made.values() if decision.taken]
    assert len(taken) == sum(provider == sparse.EP_NAME for provider, _ in assignment(session))
    assert all(decision.reason for decision in made.values())
    assert all((decision.region is None) != decision.taken for decision in made.values())
    return made


def taken(made):
    """Names of the nodes that are ours."""
    return {name for name, decision in made.items() if decision.taken}


def test_a_pruned_net_is_taken():
    """`auto` takes the products and what lies between them; the rest has its reason."""
    made = decisions(net(0.95))
    assert taken(made) == {"first", "relu", "second"}
    assert made["first"].reason.startswith("sparsity 9")
    assert made["first"].shape == (256, 256, 1, 1)
    assert made["first"].sparsity == pytest.approx(0.95, abs=0.01)
    assert made["relu"].reason == "neighbour of pruned nodes in its region"
    assert made["tail"].reason == "operator Cos is not supported"
    assert {made[name].region for name in taken(made)} == {0}


def test_a_dense_net_is_left_alone():
    """`auto` takes nothing, and says which option would."""
    made = decisions(net(0.0))
    assert not taken(made)
    assert "is below the break-even" in made["first"].reason
    assert made["first"].option == "min_sparsity"


def test_min_sparsity():
    """The option replaces the break-even in both directions, for every layer, and stands above the estimate of a region's gain."""
    made = decisions(net(0.95), min_sparsity="0.99")
    assert not taken(made)
    assert "is below the break-even 99.0%" in made["first"].reason
    assert made["first"].option == "min_sparsity"
    assert "is below the break-even" in decisions(net(0.2))["first"].reason
    assert taken(decisions(net(0.2), min_sparsity="0.1")) == {"first", "relu", "second"}
    assert taken(decisions(net(0.0), min_sparsity="0")) == {"first", "relu", "second"}


@pytest.mark.parametrize("zeros", [0.0, 0.95])
def test_policies(zeros):
    """`always` takes dense nets too, `never` not even sparse ones; both say so."""
    made = decisions(net(zeros), policy="always")
    assert taken(made) == {"first", "relu", "second"}
    assert made["first"].reason == "policy is always"
    made = decisions(net(zeros), policy="never")
    assert not taken(made)
    assert {(decision.reason, decision.option) for decision in made.values()} == {("policy is never", "policy=auto")}


def test_policy_from_the_environment(monkeypatch):
    """ORT_SPARSE_POLICY holds where the option is not given."""
    monkeypatch.setenv("ORT_SPARSE_POLICY", "never")
    session = registration.runtime().InferenceSession(net(0.95).SerializeToString(), sparse.session_options(), enable_fallback=0)
    assert not any(decision.taken for decision in sparse.explain(session))
    assert taken(decisions(net(0.95), policy="always"))


def test_small_products_are_not_worth_it():
    """A product that costs next to nothing is left where it is, however sparse."""
    made = decisions(net(0.99, channels=4, size=2))
    assert not taken(made)
    assert made["first"].option == "policy=always"


def test_scalars_are_judged():
    """A value without dimensions has a time like any other; a model that has one is examined."""
    rng = np.random.default_rng(4)
    nodes = [("MatMul", ["x", "w"], "p"), ("Relu", ["s"], "t"), ("Mul", ["p", "t"], "y")]
    nodes = [helper.make_node(op, inputs, [output], name=output) for op, inputs, output in nodes]
    model = model_of(nodes, {"x": [128, 512], "s": []}, ["y"], {"w": pruned(rng, (512, 512), 0.95)})
    assert decisions(model)["p"].taken
    feeds = {"x": noise(rng, 128, 512), "s": np.array(1.5, np.float32)}
    assert_close(make_session(model, {"policy": "auto"}).run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])


def test_no_product():
    """Neighbours alone are no reason for a region, whatever the policy."""
    model = model_of([helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["y"])], {"x": [4]}, ["y"], {})
    made = decisions(model, policy="always")
    assert not taken(made)
    assert {decision.reason for decision in made.values()} == {"not next to a node that is taken"}


@pytest.mark.parametrize(
    ("node", "shape", "reason"),
    [
        (helper.make_node("MatMul", ["x", "x"], ["y"]), [4, 4], "neither operand is constant"),
        (helper.make_node("Gemm", ["x", "x"], ["y"]), [4, 4], "neither operand is constant"),
        (helper.make_node("Conv", ["x", "x"], ["y"]), [1, 1, 2, 2], "the weight is not constant"),
        (helper.make_node("Conv", ["x", "w4", "s"], ["y"]), [4, 4, 2, 2], "input B is not constant"),
        *(
            (
                helper.make_node("Conv", ["x", "w4"], ["y"], **{name: value}),
                [4, 4, 2, 2],
                f"{name} is {max(value)}: {low} to 65535 is supported",
            )
            for name, value, low in (("strides", [2**63 - 1, 1], 1), ("dilations", [1, 2**61], 1), ("pads", [0, 0, 2**16, 0], 0))
        ),
        (
            helper.make_node("Gemm", ["x", "w", "x"], ["y"], beta=0.5),
            [4, 4],
            "input C is not constant and beta is 0.5, not 1",
        ),
        (helper.make_node("Cos", ["x"], ["y"]), [4], "operator Cos is not supported"),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), [1] * 7 + [4, 4], "9 dimensions: at most 8 are supported"),
    ],
)
def test_reasons(node, shape, reason):
    """Why a node cannot be run."""
    inputs = {"x": shape} | ({"s": [4]} if "s" in node.input else {})
    weights = {
        name: w for name, w in {"w": np.eye(4, dtype=np.float32), "w4": np.ones((4, 4, 1, 1), np.float32)}.items() if name in node.input
    }
    node.name = "it"
    made = decisions(model_of([node], inputs, ["y"], weights), policy="always")
    assert not made["it"].taken
    assert made["it"].reason == reason


def test_an_initializer_that_is_an_input_may_change():
    """A weight that callers can override is not constant."""
    rng = np.random.default_rng(2)
    model = model_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="it")], {"x": [4, 4], "w": [4, 4]}, ["y"], {"w": pruned(rng, (4, 4))}
    )
    made = decisions(model, policy="always")
    assert made["it"].reason == "neither operand is constant"


def test_the_answer_repeats(monkeypatch):
    """`select` is a function of graph and options: asked again it answers the same, within a session and in the next."""
    answers = []

    def twice(graph, options):
        first = select(graph, options)
        assert select(graph, options) == first
        answers.append(first)
        return first

    monkeypatch.setattr(_plugin, "select", twice)
    rounds = []
    for _ in range(2):
        owned_session(net(0.9, channels=32, tail="Relu"))
        rounds.append(answers[:])
        answers.clear()
    assert rounds[0]
    assert rounds[0] == rounds[1]


def test_decisions_are_plain_data():
    """A decision cannot be changed, and becomes JSON."""
    (decision, *_) = decisions(net(0.95)).values()
    assert decision.to_dict()["op_type"] == decision.op_type == "Conv"
    with pytest.raises(dataclasses.FrozenInstanceError):
        decision.taken = False


def test_select_knows_only_the_graph():
    """A hand-made graph, no ONNX Runtime: the product and its neighbour are one region."""
    weight = pruned(np.random.default_rng(3), (64, 64))
    nodes = (Node(0, "m", "MatMul", "", 13, ("x", "w"), ("p",), {}), Node(1, "r", "Relu", "", 14, ("p",), ("y",), {}))
    values = {name: Value(name, FLOAT, (64, 64)) for name in ("x", "w", "p", "y")}
    graph = Graph(nodes, values, frozenset({"w"}), load={"w": weight}.__getitem__, inputs=("x",), outputs=("y",))
    assert select(graph, parse({"policy": "always"}, {})).regions == ((0, 1),)
    assert select(graph, parse({"policy": "never"}, {})).regions == ()
    inside = dataclasses.replace(graph, is_subgraph=True)
    (first, _) = select(inside, parse({"policy": "always"}, {})).decisions
    assert first.reason == "inside the body of a control-flow node"


# --- zeros


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("dense", "dense"),
        ("unstructured", "unstructured"),
        ("blocks", "4x1 blocks"),
        ("2:4", "2:4"),
        ("rows", "channels"),
        ("all zero", "all zero"),
    ],
)
@pytest.mark.parametrize("shape", [(64, 32), (48, 16, 3, 3), (64, 4096)])
def test_patterns(shape, pattern, name):
    """The name of a pattern and an exact share of zeros, whatever the size."""
    weight = pruned(np.random.default_rng(4), shape, 0.6, pattern)
    zeros = zeros_of(weight)
    assert zeros.pattern == name
    assert zeros.sparsity == pytest.approx(np.mean(weight == 0), abs=1e-12)


def test_large_dense_weights_are_sampled():
    """A large weight with few zeros is not read as a whole, and its share is near the truth."""
    weight = pruned(np.random.default_rng(5), (1024, 1024), 0.1)
    zeros = zeros_of(weight)
    assert not zeros.counted
    assert zeros.sparsity == pytest.approx(0.1, abs=0.02)
    assert zeros_of(weight[:4, :SAMPLE]).counted


def test_zeros_that_a_sample_meets_in_step():
    """Whole zero columns of a wide matrix are not taken for all zeros or none."""
    weight = np.ones((2048, 512), np.float32)
    weight[:, ::2] = 0
    assert zeros_of(weight).sparsity == 0.5
