"""Which nodes are taken: a reason for every node, the options that decide."""

import dataclasses

import numpy as np
import pytest
from onnx import TensorProto, helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.graph.ir import FLOAT, Graph, Node, Value
from onnxruntime_ep_sparse.options import parse
from onnxruntime_ep_sparse.ort import _plugin, registration
from onnxruntime_ep_sparse.partition.select import select
from onnxruntime_ep_sparse.passes import run
from support.making import model_of, noise, pruned
from support.promises import assert_close, assignment, cpu_session, make_session, owned_session


def net(zeros, channels=256, size=14, tail="Atan"):
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
    assert made["tail"].reason == "operator Atan is not supported"
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
    assert "is below min_sparsity 99.0%" in made["first"].reason
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
    """A product that costs next to nothing is left where it is, however sparse. On several threads ONNX Runtime shares it, which costs."""
    model = net(0.99, channels=4, size=2)
    made = decisions(model, threads="1")
    assert not taken(made)
    assert made["first"].option == "policy=always"
    assert taken(decisions(model, threads="2"))  # 2.3 times as fast


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
        (helper.make_node("Atan", ["x"], ["y"]), [4], "operator Atan is not supported"),
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
    assert made["it"].code == "weight-is-input"


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


def test_what_is_judged_is_what_is_lowered(monkeypatch):
    """GetCapability and Compile run the same list of passes."""
    seen = []
    monkeypatch.setattr(run, "PASSES", (*run.PASSES, lambda graph: seen.append(len(graph.nodes)) or graph))
    session = make_session(net(0.95), {"policy": "auto"})
    taken_nodes = sum(decision.taken for decision in sparse.explain(session))
    assert taken_nodes
    assert len(seen) >= 2
    assert seen[-1] == seen[-2]


@pytest.mark.parametrize("op_type", ["Conv", "MatMul", "Gemm", "LSTM"])
def test_weights_that_are_inputs(op_type):
    """An initializer that a graph input can override: the reason names it and says what to do."""
    rng = np.random.default_rng(0)
    shapes = {"Conv": {"w": (8, 8, 3, 3)}, "LSTM": {"w": (1, 32, 8), "r": (1, 32, 8)}}.get(op_type, {"w": (8, 8)})
    x = {"Conv": [1, 8, 9, 9], "LSTM": [3, 1, 8]}.get(op_type, [4, 8])
    node = helper.make_node(op_type, ["x", *shapes], ["y"], **({"hidden_size": 8} if op_type == "LSTM" else {}))
    weights = {name: pruned(rng, shape) for name, shape in shapes.items()}
    model = model_of([node], {"x": x, "w": shapes["w"]}, ["y"], weights)
    (decision,) = sparse.explain(make_session(model))
    assert (decision.code, decision.taken) == ("weight-is-input", False)
    assert "'w' is also an input of the graph" in decision.reason
    del model.graph.input[1]
    (decision,) = sparse.explain(make_session(model))
    assert decision.taken


def left_products(rng):
    """Nodes of products that no region may hold: other operators, and ours with something unsupported; with a pruned weight each."""
    return {
        "Attention": (
            helper.make_node("Attention", ["x", "w", "b"], ["y"], domain="com.microsoft", num_heads=2, do_rotary=1),
            [1, 5, 16],
            (16, 48),
        ),
        "FusedMatMul": (helper.make_node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft", transA=1), [16, 4], (16, 24)),
        "ConvTranspose": (helper.make_node("ConvTranspose", ["x", "w"], ["y"], output_padding=[1, 1]), [1, 8, 9, 9], (8, 8, 3, 3)),
        "Gemm": (helper.make_node("Gemm", ["x", "w", "c"], ["y"], beta=0.5), [4, 16], (16, 24)),
    }


@pytest.mark.parametrize("name", left_products(None))
@pytest.mark.parametrize("policy", ["auto", "always", "never"])
def test_pruned_products_that_are_left(name, policy):
    """They count as pruned and left, but not where the policy says that nobody is to look."""
    rng = np.random.default_rng(0)
    node, x, shape = left_products(rng)[name]
    weights = {"w": pruned(rng, shape)} | ({"b": noise(rng, 48)} if name == "Attention" else {})
    inputs = {"x": x} | ({"c": [4, 24]} if name == "Gemm" else {})
    model = model_of([node], inputs, ["y"], weights, domains=["com.microsoft"])
    (decision,) = sparse.explain(make_session(model, {"policy": policy}))
    assert not decision.taken
    if policy != "never":
        assert decision.shape == shape
        assert decision.sparsity == pytest.approx(0.9, abs=0.05)
        assert decision.pattern == "unstructured"


def quantised_products(rng):
    """Products of integers with a weight whose zeros are its zero point: of all, of each output feature, or 0 without one."""
    zero = np.uint8([7])
    weight = np.where(rng.random((16, 24)) < 0.9, 0, rng.integers(1, 60, (16, 24)))
    filters = np.where(rng.random((8, 8, 3, 3)) < 0.9, 0, rng.integers(1, 60, (8, 8, 3, 3)))
    scales = {"s": np.float32([0.1])}
    make = helper.make_node
    return {
        "MatMulInteger": (make("MatMulInteger", ["q", "w"], ["i"]), {"w": weight.astype(np.int8)}, [4, 16]),
        "MatMulInteger, zero point": (
            make("MatMulInteger", ["q", "w", "", "z"], ["i"]),
            {"w": (weight + 7).astype(np.uint8), "z": zero.reshape(())},
            [4, 16],
        ),
        "MatMulInteger, a zero point per column": (
            make("MatMulInteger", ["q", "w", "", "z"], ["i"]),
            {"w": (weight + np.arange(24)).astype(np.uint8), "z": np.arange(24, dtype=np.uint8)},
            [4, 16],
        ),
        "ConvInteger": (
            make("ConvInteger", ["q", "w", "", "z"], ["i"]),
            {"w": (filters + 7).astype(np.uint8), "z": zero.reshape(())},
            [1, 8, 9, 9],
        ),
        "QLinearConv": (
            make("QLinearConv", ["q", "s", "qz", "w", "s", "z", "s", "qz"], ["i"]),
            {"w": (filters + np.arange(8).reshape(8, 1, 1, 1)).astype(np.uint8), "z": np.arange(8, dtype=np.uint8), "qz": zero.reshape(())}
            | scales,
            [1, 8, 9, 9],
        ),
        "QLinearMatMul": (
            make("QLinearMatMul", ["q", "s", "qz", "w", "s", "z", "s", "qz"], ["i"]),
            {"w": (weight + 7).astype(np.uint8), "z": zero, "qz": zero} | scales,
            [4, 16],
        ),
    }


@pytest.mark.parametrize("name", quantised_products(np.random.default_rng(0)))
def test_pruned_quantised_products(name):
    """They are taken, and what equals the zero point is zero."""
    node, weights, x = quantised_products(np.random.default_rng(5))[name]
    nodes = [
        helper.make_node("Cast", ["x"], ["q"], to=TensorProto.UINT8),
        node,
        helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    made = {decision.op_type: decision for decision in sparse.explain(make_session(model_of(nodes, {"x": x}, ["y"], weights)))}
    decision = made[node.op_type]
    assert decision.taken
    assert decision.shape == weights["w"].shape
    assert decision.sparsity == pytest.approx(np.mean(zeros_in(node, weights)))
    assert decision.sparsity == pytest.approx(0.9, abs=0.05)
    assert decision.pattern == "unstructured"


def zeros_in(node, weights):
    """Where a weight equals its zero point."""
    shape = [-1, 1, 1, 1] if "Conv" in node.op_type else [1, -1]
    return weights["w"] == weights.get("z", np.uint8(0)).reshape(shape)


@pytest.mark.parametrize(
    ("op_type", "attributes", "shape", "x"),
    [
        ("Conv", {}, (8, 8, 3, 3), [1, 8, 9, 9]),
        ("MatMul", {}, (16, 24), [4, 16]),
        ("Gemm", {}, (16, 24), [4, 16]),
        ("Gemm", {"transB": 1}, (24, 16), [4, 16]),
    ],
)
def test_pruned_weights_behind_dequantize_linear(op_type, attributes, shape, x):
    """They are taken with the dequantised weight, whichever axis their zero points belong to."""
    rng = np.random.default_rng(6)
    axis = 0 if op_type == "Conv" or attributes else 1
    zero = np.arange(shape[axis], dtype=np.uint8)
    weight = np.where(rng.random(shape) < 0.9, 0, rng.integers(1, 60, shape)) + zero.reshape(
        [-1 if i == axis else 1 for i in range(len(shape))]
    )
    scale = np.full(zero.shape, 0.1, np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], axis=axis),
        helper.make_node(op_type, ["x", "d"], ["y"], name="product", **attributes),
    ]
    model = model_of(nodes, {"x": x}, ["y"], {"w": weight.astype(np.uint8), "s": scale, "z": zero})
    made = {decision.name: decision for decision in sparse.explain(make_session(model))}
    decision = made["product"]
    assert decision.taken
    assert decision.shape == shape
    assert decision.sparsity == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize("weight", ["right", "left", "none"])
def test_products_of_unknown_rank(weight):
    """They are left with the reason, and looked at without an error, wherever their weight is."""
    constant = pruned(np.random.default_rng(7), (16, 16))
    inputs = {"right": ["r", "w"], "left": ["w", "r"], "none": ["r", "r"]}[weight]
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["r"]), helper.make_node("MatMul", inputs, ["y"], name="product")]
    model = model_of(nodes, {"x": [4, 16], "shape": ["rank"]}, ["y"], {"w": constant} if weight != "none" else {})
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    (decision,) = [decision for decision in sparse.explain(make_session(model)) if decision.name == "product"]
    assert decision.code == "rank-unknown"
