"""Dead channels leave the graph: every rule and every refusal, random nets and whole ones, against the CPU provider."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import models
from onnxruntime_ep_sparse.graph.ir import FLOAT, Graph, Node, Value, subgraph
from onnxruntime_ep_sparse.passes import run
from onnxruntime_ep_sparse.passes.dead_channels import remove_dead_channels
from support.making import examples, model_of, noise
from support.promises import assert_close, assignment, cpu_session, make_session, owned_session
from support.regions import ACTIVATIONS, activation, opset_of

make = helper.make_node
PRODUCTS = ("Conv", "Gemm", "MatMul")


def weights_of(graph):
    """The weight of every product by the name of its result."""
    return {node.outputs[0]: np.array(graph.load(node.inputs[1])) for node in graph.nodes if node.op_type in PRODUCTS}


def session_of(model, create=owned_session, **arguments):
    """A session, and the weights of its products before and after folding."""
    seen = {}, {}

    def spy(graph):
        result = remove_dead_channels(graph)
        for weights, either in zip(seen, (graph, result), strict=True):
            weights.update(weights_of(either))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "PASSES", tuple(spy if rewrite is remove_dead_channels else rewrite for rewrite in run.PASSES))
        session = create(model, **arguments)
    return session, *seen


def folded(model, feeds, **arguments):
    """Weights before and after folding, of a model whose results are right."""
    session, before, after = session_of(model, **arguments)
    for got, wanted in zip(session.run(None, feeds), cpu_session(model).run(None, feeds), strict=True):
        assert_close(got, wanted)
    return before, after


def weight(rng, m, c, *kernel, rows=(), columns=()):
    """Weights with these outputs and inputs dead, no other."""
    result = noise(rng, m, c, *kernel) + np.float32(4)  # away from 0: sums of constants must not vanish
    result[list(rows)] = 0
    result[:, list(columns)] = 0
    return result / 8


BIAS = np.array([-1, 0.5, 0.25, 0.3, -0.2, 0.1, 0, -0.4], np.float32)
"""Of eight outputs, the first three of which are dead: behind a Relu they are 0, 0.5 and 0.25."""
DEAD = (0, 1, 2)


def behind(nodes, weights, *, last="Conv", kernel=1, relu=True, outputs=("y",), inputs=None, **attributes):
    """Conv with three dead outputs of eight, Relu, `nodes` from r to z, and a product that reads all of z; after folding it reads how
    many?"""
    rng = np.random.default_rng(0)
    first = [make("Conv", ["x", "first", "bias"], ["p"]), make("Relu" if relu else "Tanh", ["p"], ["r"])]
    weights = {"first": weight(rng, 8, 3, 1, 1, rows=DEAD), "bias": BIAS, **weights}
    size = weights.pop("size", 8)
    shape = (6, size, kernel, kernel) if last == "Conv" else (6, size)
    more = {"pads": [kernel // 2] * 4} if last == "Conv" else {"transB": 1}
    if last == "MatMul":
        shape, more = (size, 6), {}
    weights["last"] = noise(rng, *shape) + np.float32(0.5)
    nodes = [*first, *nodes, make(last, ["z", "last"], ["y"], **more)]
    domains = {node.domain for node in nodes} - {""}
    model = model_of(nodes, inputs or {"x": ["n", 3, 6, 5]}, outputs, weights, opset_of(nodes[2].op_type), domains)
    feeds = {"x": noise(rng, 2, 3, 6, 5)} | {name: noise(rng, 2, *s[1:]) for name, s in (inputs or {}).items() if name != "x"}
    _, after = folded(model, feeds)
    if last == "Conv":
        assert after["p"].shape[0] <= 8
    return after["y"].shape[0 if last == "MatMul" else 1]


POOLS = {
    "GlobalAveragePool": {},
    "GlobalMaxPool": {},
    "MaxPool": {"kernel_shape": [3, 3], "pads": [1] * 4, "strides": [2, 2]},
    "AveragePool": {"kernel_shape": [3, 3], "pads": [1] * 4},
}


@pytest.mark.parametrize("name", [*(name for name in ACTIVATIONS if name not in ("Reciprocal", "Log")), *POOLS])
def test_constants_pass(name):
    """The three constants go through every operator that computes each channel by itself. One of them is 0, without Reciprocal and Log."""
    nodes, constants = ([make(name, ["r"], ["z"], **POOLS[name])], {}) if name in POOLS else activation(name, "r", "z")
    assert behind(nodes, constants) == 5


RNG = np.random.default_rng(1)
CASES = {
    "Clip": (5, [make("Clip", ["r", "low", "high"], ["z"])], {"low": np.float32(0.1), "high": np.float32(0.4)}),
    "SiLU": (5, [make("Sigmoid", ["r"], ["g"]), make("Mul", ["r", "g"], ["z"])], {}),
    "counted padding": (7, [make("AveragePool", ["r"], ["z"], kernel_shape=[2, 2], pads=[1] * 4, count_include_pad=1)], {}),
    "nothing counted": (5, [make("AveragePool", ["r"], ["z"], kernel_shape=[2, 2], count_include_pad=1)], {}),
    "ceil_mode": (8, [make("MaxPool", ["r"], ["z"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)], {}),
    "scales": (5, [make("Resize", ["r", "", "scales"], ["z"], mode="linear")], {"scales": np.array([1, 1, 2, 2], np.float32)}),
    "sizes": (5, [make("Resize", ["r", "", "", "sizes"], ["z"], axes=[1, 2, 3])], {"sizes": np.array([8, 9, 7])}),
    "sizes of axes": (5, [make("Resize", ["r", "", "", "sizes"], ["z"], axes=[3, 1])], {"sizes": np.array([9, 8])}),
    "Pad": (7, [make("Pad", ["r", "pads", "fill"], ["z"])], {"pads": np.array([0, 0, 1, 1] * 2), "fill": np.float32(0.5)}),
    "Pad with zeros": (6, [make("Pad", ["r", "pads"], ["z"])], {"pads": np.array([0, 0, 1, 1] * 2)}),
    "Pad of channels": (10, [make("Pad", ["r", "pads"], ["z"])], {"pads": np.array([0, 1, 0, 0] * 2), "size": 10}),
    "Pad by reflection": (5, [make("Pad", ["r", "pads"], ["z"], mode="reflect")], {"pads": np.array([0, 0, 1, 1] * 2)}),
    "cropping Pad": (5, [make("Pad", ["r", "pads"], ["z"])], {"pads": np.array([0, 0, -1, 0] * 2)}),
    "mean": (5, [make("ReduceMean", ["r", "axes"], ["z"])], {"axes": np.array([2, 3])}),
    "least": (5, [make("ReduceMin", ["r", "axes"], ["z"])], {"axes": np.array([3])}),
    "sum": (7, [make("ReduceSum", ["r", "axes"], ["z"])], {"axes": np.array([2])}),
    "norm": (7, [make("ReduceL2", ["r", "axes"], ["z"])], {"axes": np.array([2])}),
    "mean of channels": (1, [make("ReduceMean", ["r", "axes"], ["z"])], {"axes": np.array([1]), "size": 1}),
    "a number": (5, [make("Mul", ["two", "r"], ["z"])], {"two": np.float32(2)}),
    "a number a channel": (5, [make("Sub", ["r", "each"], ["z"])], {"each": noise(RNG, 8, 1, 1)}),
    "a number a pixel": (8, [make("Add", ["r", "each"], ["z"])], {"each": noise(RNG, 6, 5)}),
    "every element": (8, [make("Max", ["r", "each"], ["z"])], {"each": noise(RNG, 1, 8, 6, 5)}),
    "division by 0": (6, [make("Div", ["two", "r"], ["s"]), make("Min", ["s", "two"], ["z"])], {"two": np.float32(2)}),
    "itself": (5, [make("Add", ["r", "r"], ["z"])], {}),
    "gate": (
        7,
        [
            make("GlobalAveragePool", ["r"], ["a"]),
            make("Conv", ["a", "s"], ["b"]),
            make("Sigmoid", ["b"], ["g"]),
            make("Mul", ["r", "g"], ["z"]),
        ],
        {"s": noise(RNG, 8, 8, 1, 1)},
    ),
    "gate that is not bounded": (
        8,
        [make("GlobalAveragePool", ["r"], ["a"]), make("Conv", ["a", "s"], ["g"]), make("Mul", ["g", "r"], ["z"])],
        {"s": noise(RNG, 8, 8, 1, 1)},
    ),
    "BatchNormalization": (
        5,
        [make("BatchNormalization", ["r", "s", "o", "m", "v"], ["z"])],
        {"s": noise(RNG, 8), "o": noise(RNG, 8), "m": noise(RNG, 8), "v": np.abs(noise(RNG, 8)) + 1},
    ),
    "depthwise": (5, [make("Conv", ["r", "d", "e"], ["z"], group=8)], {"d": noise(RNG, 8, 1, 3, 3), "e": noise(RNG, 8)}),
    "depthwise, padded": (7, [make("Conv", ["r", "d"], ["z"], group=8, pads=[1] * 4)], {"d": noise(RNG, 8, 1, 3, 3)}),
    "depthwise, dead": (3, [make("Conv", ["r", "d", "e"], ["z"], group=8, pads=[1] * 4)], {
        "d": np.concatenate([noise(RNG, 4, 1, 3, 3), np.zeros((4, 1, 3, 3), np.float32)]), "e": noise(RNG, 8)}),
    "two outputs a group": (16, [make("Conv", ["r", "d"], ["z"], group=8)], {"d": noise(RNG, 16, 1, 1, 1), "size": 16}),
    "groups": (8, [make("Conv", ["r", "d"], ["z"], group=2)], {"d": noise(RNG, 8, 4, 1, 1)}),
    "DepthToSpace": (2, [make("DepthToSpace", ["r"], ["z"], blocksize=2)], {"size": 2}),
    "Concat of rows": (8, [make("Concat", ["r", "r"], ["z"], axis=2)], {}),
    "Concat twice": (10, [make("Concat", ["r", "r"], ["z"], axis=1)], {"size": 16}),
}  # fmt: skip  # a case per line


@pytest.mark.parametrize("case", CASES)
def test_rule(case):
    """What each operator makes of the three constants: how many channels are left for the product behind it to read."""
    left, nodes, weights = CASES[case]
    assert behind(nodes, dict(weights)) == left


def test_tanh_of_a_dead_output():
    """Negative constants fold as well."""
    assert behind([make("Neg", ["r"], ["z"])], {}, relu=False) == 5


def test_padding_keeps_one():
    """Constants that meet padding go into one channel."""
    assert behind([make("Abs", ["r"], ["z"])], {}, kernel=3) == 6


def test_an_output_stays():
    """What leaves the region keeps its channels."""
    assert behind([make("Abs", ["r"], ["z"])], {}, outputs=["y", "z"]) == 8
    assert behind([make("Abs", ["r"], ["z"])], {}, outputs=["y", "r"]) == 8


@pytest.mark.parametrize("last", ["Gemm", "MatMul"])
@pytest.mark.parametrize(
    ("nodes", "weights", "pixels"),
    [
        ([make("Flatten", ["r"], ["z"])], {}, 30),
        ([make("GlobalMaxPool", ["r"], ["a"]), make("Flatten", ["a"], ["z"])], {}, 1),
        ([make("ReduceMean", ["r", "axes"], ["z"], keepdims=0)], {"axes": np.array([2, 3])}, 1),
        ([make("Reshape", ["r", "to"], ["z"])], {"to": np.array([0, -1])}, 30),
        ([make("Reshape", ["r", "to"], ["z"])], {"to": np.array([-1, 240])}, 30),
    ],
    ids=["Flatten", "pooled", "reduced", "rest", "given"],
)
def test_flattened(nodes, weights, pixels, last):
    """Images to rows. MatMul has no bias: one constant remains, and with it all pixels of its channel."""
    left = behind(nodes, weights | {"size": 8 * pixels}, last=last)
    assert left == (5 + (last == "MatMul")) * pixels


def test_reshape_that_mixes_channels():
    """Neighbouring channels in one: all stay."""
    assert behind([make("Reshape", ["r", "to"], ["z"])], {"to": np.array([0, 4, -1, 5]), "size": 4}) == 4
    assert behind([make("Flatten", ["r"], ["z"], axis=2)], {"size": 30}, last="Gemm") == 30


def test_reshape_that_copies_the_number_of_channels():
    """As many positions as there are channels, written as a copy of that number: all stay."""
    rng = np.random.default_rng(12)
    nodes = [make("MatMul", ["x", "a"], ["p"]), make("Reshape", ["p", "to"], ["z"]), make("MatMul", ["z", "b"], ["y"])]
    weights = {"a": weight(rng, 6, 8, columns=(1, 2)), "to": np.array([1, 2, 0, 8]), "b": noise(rng, 8, 5)}
    _, after = folded(model_of(nodes, {"x": [2, 8, 6]}, ["y"], weights), {"x": noise(rng, 2, 8, 6)})
    assert after["p"].shape == (6, 8)
    weights["to"] = np.array([0, 2, -1, 8])
    _, after = folded(model_of(nodes, {"x": [2, 8, 6]}, ["y"], weights), {"x": noise(rng, 2, 8, 6)})
    assert after["p"].shape == (6, 6)


def test_an_operand_from_outside():
    """Added to an input of the region no channel is constant, and none can go."""
    nodes = [make("Add", ["r", "q"], ["z"])]
    assert behind(nodes, {}, inputs={"x": ["n", 3, 6, 5], "q": ["n", 8, 6, 5]}) == 8
    nodes = [make("Mul", ["r", "q"], ["z"])]
    assert behind(nodes, {}, inputs={"x": ["n", 3, 6, 5], "q": ["n", 1, 6, 5]}) == 8


@pytest.mark.parametrize("pads", [0, 1])
def test_dead_inputs(pads):
    """Channels that nobody reads are not made, though they are not constant; what they read is not made either."""
    rng = np.random.default_rng(2)
    nodes = [
        make("Conv", ["x", "a"], ["p"], pads=[1] * 4),
        make("Conv", ["p", "b"], ["q"], group=8, pads=[1] * 4),
        make("Relu", ["q"], ["r"]),
        make("Conv", ["r", "c"], ["s"], pads=[pads] * 4),
        make("Conv", ["s", "d"], ["y"]),
    ]
    only = np.zeros((10, 8, 3, 3), np.float32)
    only[:5, :3] = noise(rng, 5, 3, 3, 3)
    only[5:, 3:6] = noise(rng, 5, 3, 3, 3)  # read only by outputs that nobody reads
    weights = {"a": noise(rng, 8, 3, 3, 3), "b": noise(rng, 8, 1, 3, 3), "c": only, "d": weight(rng, 4, 10, 1, 1, columns=range(5, 10))}
    _, after = folded(model_of(nodes, {"x": ["n", 3, "h", "w"]}, ["y"], weights), {"x": noise(rng, 2, 3, 9, 8)})
    assert [after[name].shape[:2] for name in "pqsy"] == [(3, 3), (3, 1), (5, 3), (4, 5)]


def test_residual():
    """Joined by Add, a channel goes where no user of any of the values needs it; what is dead in one branch only stays."""
    rng = np.random.default_rng(3)
    nodes = [
        make("Conv", ["x", "a", "ab"], ["p"]),
        make("Relu", ["p"], ["r"]),
        make("Conv", ["r", "b"], ["s"], pads=[1] * 4),
        make("Relu", ["s"], ["t"]),
        make("Conv", ["t", "c", "cb"], ["u"]),
        make("Add", ["u", "r"], ["v"]),
        make("Relu", ["v"], ["w"]),
        make("Conv", ["w", "d"], ["y"], pads=[1] * 4),
    ]
    weights = {
        "a": weight(rng, 8, 3, 1, 1, rows=(0, 1, 2)),
        "ab": BIAS,
        "b": weight(rng, 6, 8, 3, 3, rows=(4, 5), columns=(6, 7)),
        "c": weight(rng, 8, 6, 1, 1, rows=(1, 2, 3)),
        "cb": BIAS,
        "d": weight(rng, 5, 8, 3, 3, columns=(5, 7)),
    }
    _, after = folded(model_of(nodes, {"x": ["n", 3, 7, 9]}, ["y"], weights), {"x": noise(rng, 2, 3, 7, 9)})
    # joined: 7 is read by nobody; 1 and 2 are constant, of which one stays for the padding (1 in both products behind); 5 is read by b
    assert [after[name].shape[:2] for name in "psuy"] == [(6, 3), (4, 6), (6, 4), (5, 6)]


def test_concat():
    """Parts lose channels of their own; a part from outside does not."""
    rng = np.random.default_rng(4)
    nodes = [
        make("Conv", ["x", "a"], ["p"]),
        make("Conv", ["x", "b", "bb"], ["q"]),
        make("Concat", ["p", "x", "q"], ["c"], axis=-3),
        make("Relu", ["c"], ["r"]),
        make("Conv", ["r", "d"], ["y"]),
    ]
    weights = {
        "a": weight(rng, 4, 3, 1, 1, rows=(1, 2)),
        "b": weight(rng, 6, 3, 1, 1, rows=(0, 5)),
        "bb": np.arange(6, dtype=np.float32),
        "d": weight(rng, 5, 13, 1, 1, columns=(0, 4, 8)),
    }
    _, after = folded(model_of(nodes, {"x": ["n", 3, "h", "w"]}, ["y"], weights), {"x": noise(rng, 2, 3, 7, 9)})
    assert [after[name].shape[:2] for name in "pqy"] == [(1, 3), (3, 3), (5, 7)]


@pytest.mark.parametrize(("shape", "sizes"), [(["n", 6], [30, 60, 60]), (["n", 7, 6], [30, 66, 66]), ([3, 7, 6], [30, 60, 60])])
def test_features(shape, sizes):
    """Neurons of a feed-forward block: Gemm, MatMul where one constant remains, Gemm between Reshapes."""
    rng = np.random.default_rng(5)
    nodes = [
        make("MatMul", ["x", "a"], ["p"]),
        make("Add", ["p", "ab"], ["q"]),
        make("Gelu", ["q"], ["r"]),
        make("MatMul", ["r", "b"], ["s"]),
        make("Add", ["s", "bb"], ["t"]),
        make("Relu", ["t"], ["u"]),
        make("MatMul", ["u", "c"], ["v"]),
        make("Relu", ["v"], ["y"]),
    ]
    weights = {
        "a": weight(rng, 6, 16, columns=(3, 4, 5, 6)),
        "ab": noise(rng, 16),
        "b": weight(rng, 16, 6, rows=(7, 8)),
        "bb": noise(rng, 6),
        "c": noise(rng, 6, 5),
    }
    _, after = folded(model_of(nodes, {"x": shape}, ["y"], weights), {"x": noise(rng, 3, *shape[1:])})
    assert sorted(array.size for array in after.values()) == sizes


def test_all_dead():
    """A product without weights, and one that reads nothing but constants: one channel remains of each value."""
    rng = np.random.default_rng(6)
    nodes = [
        make("Conv", ["x", "a", "ab"], ["p"]),
        make("Relu", ["p"], ["r"]),
        make("Conv", ["r", "b"], ["s"]),
        make("Conv", ["s", "c"], ["y"]),
    ]
    weights = {"a": np.zeros((8, 3, 1, 1), np.float32), "ab": BIAS, "b": noise(rng, 7, 8, 1, 1), "c": noise(rng, 4, 7, 1, 1)}
    _, after = folded(model_of(nodes, {"x": ["n", 3, "h", "w"]}, ["y"], weights), {"x": noise(rng, 2, 3, 5, 6)})
    assert [after[name].shape[:2] for name in "psy"] == [(1, 3), (1, 1), (4, 1)]


@pytest.mark.parametrize("c", ["none", "number", "row", "column", "input"])
@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(c, transposed):
    """alpha, beta and every form of C."""
    rng = np.random.default_rng(7)
    addend = {"number": np.float32(0.7), "row": noise(rng, 1, 9), "column": noise(rng, 4, 1)}.get(c)
    weights = {
        "a": weight(rng, 10, 6, rows=(2, 3, 9)),
        "ab": noise(rng, 10),
        "b": noise(rng, 9, 10),
        "d": weight(rng, 5, 9, columns=(0, 1)),
    }
    if not transposed:
        weights["b"] = np.ascontiguousarray(weights["b"].T)
    inputs, feeds = {"x": [4, 6]}, {"x": noise(rng, 4, 6)}
    if c == "input":
        inputs["c"], feeds["c"] = [4, 9], noise(rng, 4, 9)
    elif addend is not None:
        weights["c"] = addend
    nodes = [
        make("Gemm", ["x", "a", "ab"], ["p"], transB=1),
        make("Sigmoid", ["p"], ["r"]),
        make("Gemm", ["r", "b", "c"][: 2 + (c != "none")], ["s"], transB=transposed, alpha=0.5, beta=1.0 if c == "input" else 3.0),
        make("Gemm", ["s", "d"], ["y"], transB=1),
    ]
    _, after = folded(model_of(nodes, inputs, ["y"], weights), feeds)
    assert after["p"].shape == ((10 if c in ("column", "input") else 7), 6)
    assert after["y"].shape == (5, 9 if c in ("column", "input") else 7)


def plain(nodes, constants, outputs=("y",)):
    """A graph by itself: (operator, inputs, output, attributes); every value is (1, 4, 5, 5)."""
    values = {name: Value(name, FLOAT, (1, 4, 5, 5)) for name in ("x", *(y for _, _, y, _ in nodes))}
    values |= {name: Value(name, FLOAT, array.shape) for name, array in constants.items()}
    made = [Node(i, "", op, "", 13, tuple(x), (y,), attributes) for i, (op, x, y, attributes) in enumerate(nodes)]
    return Graph(tuple(made), values, frozenset(constants), constants.__getitem__, ("x",), outputs)


def test_nothing_to_fold():
    """Without dead channels the graph is the same object."""
    rng = np.random.default_rng(8)
    constants = {"a": noise(rng, 4, 4, 1, 1), "b": noise(rng, 4, 4, 1, 1)}
    graph = plain([("Conv", ("x", "a"), "p", {}), ("Relu", ("p",), "r", {}), ("Conv", ("r", "b"), "y", {})], constants)
    assert remove_dead_channels(graph) is graph


@pytest.mark.parametrize(
    ("bias", "op", "left"), [(np.inf, "Relu", 4), (np.nan, "Relu", 4), (100, "Exp", 4), (-1, "Sqrt", 4), (80, "Exp", 3)]
)
def test_numbers_that_are_not_finite(bias, op, left):
    """Inf and NaN are computed as ever."""
    rng = np.random.default_rng(9)
    constants = {"a": weight(rng, 4, 4, 1, 1, rows=(1,)), "ab": np.array([0, bias, 0, 0], np.float32), "b": noise(rng, 4, 4, 1, 1)}
    graph = plain([("Conv", ("x", "a", "ab"), "p", {}), (op, ("p",), "r", {}), ("Conv", ("r", "b"), "y", {})], constants)
    assert weights_of(remove_dead_channels(graph))["y"].shape[1] == left
    constants["ab"][1] = 0.5
    constants["b"][0, 1] = np.inf
    assert weights_of(remove_dead_channels(graph))["y"].shape[1] == 4


def test_a_part_of_a_graph():
    """Values that nodes outside the part read or make keep all channels."""
    rng = np.random.default_rng(10)
    constants = {"a": weight(rng, 4, 4, 1, 1, rows=(1,)), "b": noise(rng, 4, 4, 1, 1)}
    nodes = [("Conv", ("x", "a"), "p", {}), ("Relu", ("p",), "r", {}), ("Conv", ("r", "b"), "y", {})]
    graph = plain(nodes, constants)
    for part, left in (({0, 1, 2}, {"p": 3, "y": 3}), ({0, 1}, {"p": 4}), ({0, 2}, {"p": 4, "y": 4}), ({1, 2}, {"y": 4})):
        after = weights_of(remove_dead_channels(subgraph(graph, part)))
        assert {name: weight.shape[0 if name == "p" else 1] for name, weight in after.items()} == left, part
    graph = plain(nodes, constants, outputs=("y", "p"))
    assert weights_of(remove_dead_channels(graph))["p"].shape[0] == 4
    around = Node(3, "", "If", "", 13, ("x",), ("z",), {}, implicit_inputs=("r",))
    graph = plain(nodes, constants)
    assert weights_of(remove_dead_channels(replace(graph, nodes=(*graph.nodes, around))))["p"].shape[0] == 4


@examples(120)
@given(st.data())
def test_random_nets(data):
    """Any joint of products, elementwise operators, pools and Concat with dead outputs and inputs in all weights."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    batch, size = data.draw(st.integers(1, 2)), data.draw(st.integers(6, 12))
    nodes, weights, shapes = [], {}, {"x": (batch, 5, size, size)}

    def append(op, inputs, shape, **attributes):
        name = f"v{len(shapes)}"
        nodes.append(make(op, inputs, [name], **attributes))
        shapes[name] = shape
        return name

    def constant(array):
        name = f"w{len(weights)}"
        weights[name] = array
        return name

    def half_dead(m, c, *kernel):
        some = [np.flatnonzero(rng.random(n) < data.draw(st.sampled_from([0, 0.3, 0.7]))) for n in (m, c)]
        return constant((noise(rng, m, c, *kernel) / np.sqrt(c * np.prod(kernel))).astype(np.float32) * alive(m, c, kernel, *some))

    def alive(m, c, kernel, rows, columns):
        mask = np.ones((m, c, *kernel), np.float32)
        mask[rows] = 0
        mask[:, columns] = 0
        return mask

    def twin(name):
        return data.draw(st.sampled_from([other for other, shape in shapes.items() if shape == shapes[name]]))

    here = "x"
    for _ in range(data.draw(st.integers(3, 10))):
        n, c, *pixels = shapes[here]
        kinds = ["conv", "conv", "depthwise", "act", "act", "add", "mul", "gate", "scale", "concat"]
        if min(pixels) > 3:
            kinds += ["pool", "unpadded"]
        match data.draw(st.sampled_from(kinds)):
            case "conv":
                m, k = data.draw(st.sampled_from([4, 7])), data.draw(st.sampled_from([1, 3]))
                here = append("Conv", [here, half_dead(m, c, k, k), constant(noise(rng, m))], (n, m, *pixels), pads=[k // 2] * 4)
            case "unpadded":
                here = append("Conv", [here, half_dead(6, c, 2, 2), constant(noise(rng, 6))], (n, 6, *(d - 1 for d in pixels)))
            case "depthwise":
                here = append("Conv", [here, half_dead(c, 1, 3, 3), constant(noise(rng, c))], shapes[here], pads=[1] * 4, group=c)
            case "act":
                here = append(data.draw(st.sampled_from(["Relu", "Tanh", "HardSwish", "Sigmoid"])), [here], shapes[here])
            case "add" | "mul" as op:
                here = append(op.title(), [here, twin(here)], shapes[here])
            case "gate":
                pooled = append("GlobalAveragePool", [here], (n, c, 1, 1))
                squeezed = append("Conv", [pooled, half_dead(c, c, 1, 1), constant(noise(rng, c))], (n, c, 1, 1))
                here = append("Mul", [append("Sigmoid", [squeezed], (n, c, 1, 1)), here], shapes[here])
            case "scale":
                here = append(data.draw(st.sampled_from(["Mul", "Sub"])), [here, constant(noise(rng, c, 1, 1))], shapes[here])
            case "concat":
                here = append("Concat", [here, twin(here)], (n, 2 * c, *pixels), axis=1)
            case "pool":
                op, more = data.draw(st.sampled_from([("MaxPool", {}), ("AveragePool", {}), ("AveragePool", {"count_include_pad": 1})]))
                smaller = tuple((d + 1 - 3) // 2 + 1 for d in pixels)
                here = append(op, [here], (n, c, *smaller), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0], **more)
    n, c, *pixels = shapes[here]
    here = append("Conv", [here, half_dead(6, c, 1, 1)], (n, 6, *pixels))
    flat = append("Flatten", [here], (n, 6 * int(np.prod(pixels))))
    append("Gemm", [flat, half_dead(5, shapes[flat][1])], (n, 5), transB=1)
    outputs = [f"v{len(shapes) - 1}"]
    outputs += [name for name in shapes if name not in ("x", *outputs) and data.draw(st.integers(0, 9)) == 0]
    model = model_of(nodes, {"x": ["n", 5, size, size]}, outputs, weights)
    session, before, after = session_of(model, make_session)
    assert {provider for provider, op in assignment(session) if op in PRODUCTS} <= {sparse.EP_NAME}
    feeds = {"x": noise(rng, batch, 5, size, size)}
    for got, wanted in zip(session.run(None, feeds), cpu_session(model).run(None, feeds), strict=True):
        assert_close(got, wanted)
    assert all(after[name].size <= before[name].size for name in before)


NETS = {
    "resnet50": ({"image": 64, "width": 0.25}, 0.6),
    "mobilenet_v1": ({"image": 64, "width": 0.25}, 0.6),
    "mobilenet_v2": ({"image": 64, "width": 0.25}, 0.55),
    "efficientnet_b0": ({"image": 64, "width": 0.25}, 0.75),
    "unet": ({"channels": 8}, 0.3),
}
"""Sizes of whole nets, and the share of their weights that half of the outputs leave at most."""


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["channels", "channels/2"])
@pytest.mark.parametrize("name", NETS)
def test_whole_nets(name, pattern):
    """Half of the outputs dead, and what reads them: the same results from fewer weights."""
    sizes, share = NETS[name]
    model = models.BUILDERS[name](0.5 if pattern == "channels" else 0.8, pattern=pattern, **sizes)
    feeds = models.inputs_for(cpu_session(model), batch=2, shapes={"input": (2, 1, 64, 64)} if name == "unet" else None)
    before, after = folded(model, feeds, regions=1)
    assert sum(array.size for array in after.values()) <= share * sum(array.size for array in before.values())
    assert sum(map(np.count_nonzero, after.values())) < sum(map(np.count_nonzero, before.values()))


def test_auto_takes_channels():
    """A third of the outputs dead: too few zeros by themselves, enough for the product that no longer reads them."""
    rng = np.random.default_rng(11)
    names, nodes, weights = ["x"], [], {}
    for i in range(3):
        w = noise(rng, 256, 256, 3, 3)
        if i < 2:
            w[::3] = 0
        weights |= {f"w{i}": w, f"b{i}": noise(rng, 256)}
        nodes += [make("Conv", [names[-1], f"w{i}", f"b{i}"], [f"p{i}"], pads=[1] * 4), make("Relu", [f"p{i}"], [f"r{i}"])]
        names.append(f"r{i}")
    model = model_of(nodes, {"x": [1, 256, 14, 14]}, names[-1:], weights)
    session = make_session(model, {"policy": "auto"})
    convs = [decision for decision in sparse.explain(session) if decision.op_type == "Conv"]
    # whether the first comes along is a question of the instruction set
    assert [decision.taken for decision in convs[1:]] == [True] * 2
    assert convs[1].reason.startswith("taken: removing dead channels leaves 44.")
    feeds = {"x": noise(rng, 1, 256, 14, 14)}
    assert_close(session.run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])
    dense = {name: np.where(array == 0, np.float32(0.01), array) for name, array in weights.items()}
    session = make_session(model_of(nodes, {"x": [1, 256, 14, 14]}, names[-1:], dense), {"policy": "auto"})
    assert not any(decision.taken for decision in sparse.explain(session))
