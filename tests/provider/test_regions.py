"""Regions of several nodes: fused epilogues, chains, shapes that change, several inputs and outputs, special numbers, other scopes."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented

import onnxruntime_ep_sparse as sparse
import onnxruntime_ep_sparse_kernels as kernels
from making import examples, graph_of, model_of, noise, pruned
from promises import EPS, assert_close, assignment, cpu_session, exact, make_session, owned_session

ACTIVATIONS = {
    "Relu": {},
    "Clip": {},
    "LeakyRelu": {"alpha": 0.2},
    "Sigmoid": {},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
    "HardSwish": {},
    "Tanh": {},
    "Erf": {},
    "Abs": {},
    "Neg": {},
    "Sqrt": {},
    "Exp": {},
    "Elu": {"alpha": 1.3},
    "Selu": {},
    "Softplus": {},
    "Softsign": {},
    "ThresholdedRelu": {"alpha": 0.4},
    "Gelu": {},
    "Gelu tanh": {"approximate": "tanh"},
    "QuickGelu": {"alpha": 1.5},
    "Silu": {},
    "Hard": {"alpha": 1 / 6, "beta": 0.5},
    "erf Gelu": {},
}
"""Names that are no operators stand for several nodes: x * Sigmoid(x), x * HardSigmoid(x), and the first of `ERF_GELUS`."""

ERF_GELUS = {
    "half last": "s = Div x root2; e = Erf s; a = Add e one; m = Mul x a; y = Mul m half",
    "half before": "s = Mul x root_half; e = Erf s; a = Add one e; m = Mul half a; y = Mul m x",
    "half of x": "h = Mul x half; s = Div x root2; e = Erf s; a = Add e one; y = Mul a h",
    "by two": "s = Div x root2; e = Erf s; a = Add e one; h = Div x two; y = Mul h a",
}
"""Gelu as exporters write it. The nodes in between have names that end in `_gelu`."""

NUMBERS = {"root2": 2**0.5, "root_half": 0.5**0.5, "one": 1, "half": 0.5, "two": 2}


def nodes_of(text, x, y):
    """Nodes of a chain from the values x to y, written like `ERF_GELUS`, and the constants it reads."""
    nodes, named = [], {"x": x, "y": y}
    for line in text.split("; "):
        output, _, op, *operands = line.split()
        inputs = [named.get(name, name if name in NUMBERS else f"{name}_gelu") for name in operands]
        nodes.append(helper.make_node(op, inputs, [named.get(output, f"{output}_gelu")]))
    return nodes, {name: np.float32(NUMBERS[name]) for node in nodes for name in node.input if name in NUMBERS}


def activation(name, x, y):
    """Nodes of an activation, and its further constants."""
    attributes = ACTIVATIONS[name]
    if name == "Clip":
        return [helper.make_node("Clip", [x, "low", "high"], [y])], {"low": np.float32(-0.4), "high": np.float32(0.7)}
    if name in ("Silu", "Hard"):
        gate = "Sigmoid" if name == "Silu" else "HardSigmoid"
        return [helper.make_node(gate, [x], ["gate"], **attributes), helper.make_node("Mul", [x, "gate"], [y])], {}
    if name == "erf Gelu":
        return nodes_of(ERF_GELUS["half last"], x, y)
    domain = "com.microsoft" if name == "QuickGelu" else ""
    return [helper.make_node(name.split()[0], [x], [y], domain=domain, **attributes)], {}


def product(kind, x, y, rng, zeros=0.8):
    """A node, its weights and the shape of its input. Sqrt behind it wants a positive sum: see `bias`."""
    if kind == "Conv":
        node = helper.make_node("Conv", [x, f"w_{y}", f"b_{y}"], [y], pads=[1] * 4)
        return node, {f"w_{y}": pruned(rng, (12, 12, 3, 3), zeros), f"b_{y}": noise(rng, 12)}
    node = helper.make_node("Gemm", [x, f"w_{y}", f"b_{y}"], [y], transB=1)
    return node, {f"w_{y}": pruned(rng, (24, 24), zeros), f"b_{y}": noise(rng, 24)}


SHAPES = {"Conv": ["n", 12, 9, 7], "Gemm": ["n", 24]}
FEEDS = {"Conv": (2, 12, 9, 7), "Gemm": (5, 24)}


def assert_like_cpu(model, feeds, options=None, regions=1):
    """One region, as close to the CPU provider as whole nets promise."""
    session = owned_session(model, options, regions=regions)
    theirs = cpu_session(model).run(None, feeds)
    for got, wanted in zip(session.run(None, feeds), theirs, strict=True):
        assert_close(got, wanted)
    return session


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["Conv", "Gemm"])
def test_activation(kind, name):
    """Every activation behind a product, to the accuracy of float32's own evaluation of it."""
    rng = np.random.default_rng(3)
    node, weights = product(kind, "x", "p", rng)
    nodes, constants = activation(name, "p", "y")
    domains = ["com.microsoft"] if name == "QuickGelu" else []
    model = model_of([node, *nodes], {"x": SHAPES[kind]}, ["y"], {**weights, **constants}, domains=domains)
    feeds = {"x": noise(rng, *FEEDS[kind])}
    session = owned_session(model, regions=1)
    (y,), (y_ort,) = session.run(None, feeds), cpu_session(model).run(None, feeds)
    nan = np.isnan(y_ort)
    assert name == "Sqrt" or not nan.any()
    assert np.array_equal(np.isnan(y), nan)
    y, y_ort = y[~nan], y_ort[~nan]
    if name == "QuickGelu":
        return assert_close(y, y_ort)
    y64 = exact(model, feeds)[0][~nan]
    # the product's error grows with the activation's slope, at most |y| for Exp and 1/(2y) for Sqrt
    slope = {"Exp": np.abs(y64), "Sqrt": 0.5 / np.maximum(np.abs(y64), 1e-3)}.get(name, 1.2)
    allowed = np.maximum(2 * np.abs(y_ort - y64).max(), 4 * EPS * (np.abs(y64) + slope * 50))
    assert (np.abs(y - y64) <= allowed).all()
    return None


def steps_of_gelu(text, change=None, outputs=("y",)):
    """Kinds and names of the steps that a Gemm and a chain like `ERF_GELUS` become; the results are the CPU provider's."""
    rng = np.random.default_rng(31)
    node, weights = product("Gemm", "x", "p", rng)
    nodes, constants = nodes_of(text, "p", "y")
    model = model_of([node, *nodes], {"x": SHAPES["Gemm"]}, outputs, {**weights, **constants, **(change or {})})
    session = assert_like_cpu(model, {"x": noise(rng, *FEEDS["Gemm"])}, {"profile": "1"})
    return [(step.kind, step.name) for step in sparse.step_times(session)]


@pytest.mark.parametrize("text", ERF_GELUS.values(), ids=ERF_GELUS)
def test_gelu_of_five_nodes_ends_the_product(text):
    """However the factors are multiplied, one step is left."""
    assert steps_of_gelu(text) == [("product", "p + Gelu")]


@pytest.mark.parametrize(
    ("text", "change", "outputs"),
    [
        (ERF_GELUS["half last"], {"root2": np.float32(1.4)}, ["y"]),
        (ERF_GELUS["half last"], {"one": np.float32(1.25)}, ["y"]),
        (ERF_GELUS["half last"], {"half": np.float32(0.75)}, ["y"]),
        (ERF_GELUS["half last"], {"half": np.linspace(0.5, 1, 24, dtype=np.float32)}, ["y"]),
        (ERF_GELUS["half last"], {"half": np.full((1, 1, 1), 0.5, np.float32)}, ["y"]),
        (ERF_GELUS["half last"], {}, ["y", "e_gelu"]),
        (ERF_GELUS["half of x"], {}, ["y", "h_gelu"]),
        (ERF_GELUS["half before"], {}, ["y", "m_gelu"]),
        ("s = Div root2 x; e = Erf s; a = Add e one; m = Mul x a; y = Mul m half", {}, ["y"]),
        ("s = Div x root2; e = Erf s; a = Add e one; m = Mul s a; y = Mul m half", {}, ["y"]),
        ("s = Div x root2; e = Erf s; a = Add e one; m = Mul a a; y = Mul m half", {}, ["y"]),
        ("s = Div x root2; e = Erf s; a = Add e one; h = Mul s half; y = Mul a h", {}, ["y"]),
        ("s = Div x root2; e = Erf s; a = Add e one; h = Mul x half; y = Add a h", {}, ["y"]),
        ("s = Div x root2; e = Erf s; a = Add e one; h = Mul x half; q = Mul a h; y = Add q h", {}, ["y"]),
    ],
)
def test_almost_a_gelu(text, change, outputs):
    """Other numbers, shapes, operands or readers: node by node."""
    steps = steps_of_gelu(text, change, outputs)
    assert len(steps) == 1 + len(text.split("; "))
    assert not any("Gelu" in name for _, name in steps)


@pytest.mark.parametrize("name", [None, "Relu", "Silu", "Gelu"])
@pytest.mark.parametrize("first", [True, False], ids=["product first", "product second"])
@pytest.mark.parametrize("other", ["input", "product", "constant", "itself", "bias", "wide"])
@pytest.mark.parametrize("kind", ["Conv", "Gemm"])
def test_add(kind, other, first, name):
    """Add behind a product: another input, another product, a constant, the product itself, a bias, a broadcast; activation behind."""
    rng = np.random.default_rng(4)
    node, weights = product(kind, "x", "p", rng)
    inputs, nodes = {"x": SHAPES[kind]}, [node]
    feeds = {"x": noise(rng, *FEEDS[kind])}
    match other:
        case "input":
            inputs["q"], feeds["q"] = SHAPES[kind], noise(rng, *FEEDS[kind])
        case "wide":
            inputs["q"] = [1] * (len(SHAPES[kind]) - 1) + SHAPES[kind][-1:]
            feeds["q"] = noise(rng, *inputs["q"])
        case "product":
            second, more = product(kind, "x", "q", rng)
            nodes.append(second)
            weights |= more
        case "constant":
            weights["q"] = noise(rng, *FEEDS[kind][1:])
        case "bias":
            weights["q"] = noise(rng, 12, 1, 1) if kind == "Conv" else noise(rng, 24)
    operands = ["p", "p" if other == "itself" else "q"]
    nodes.append(helper.make_node("Add", operands if first else operands[::-1], ["s" if name else "y"]))
    constants = {}
    if name:
        more_nodes, constants = activation(name, "s", "y")
        nodes += more_nodes
    assert_like_cpu(model_of(nodes, inputs, ["y"], weights | constants), feeds)


@examples(80)
@given(st.data())
def test_random_nets(data):
    """Conv and Gemm with activations, residuals, pools, reshapes in any order: every node is ours and the result is right."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    batch, size = data.draw(st.integers(1, 3)), data.draw(st.integers(8, 20))
    nodes, weights, shapes = [], {}, {"x": (batch, 6, size, size)}
    make = helper.make_node

    def append(op, inputs, shape, **attributes):
        name = f"v{len(shapes)}"
        nodes.append(make(op, inputs, [name], **attributes))
        shapes[name] = shape
        return name

    here = "x"
    for _ in range(data.draw(st.integers(2, 8))):
        shape = shapes[here]
        kinds = ["conv", "conv", "act", "gate", "add", "mul", "pool"] if len(shape) == 4 and min(shape[2:]) > 4 else ["conv", "act", "add"]
        match data.draw(st.sampled_from(kinds if len(shape) == 4 else ["gemm", "act", "add"])):
            case "conv":
                m, k = data.draw(st.sampled_from([6, 10])), data.draw(st.sampled_from([1, 3]))
                w = f"w{len(shapes)}"
                weights[w] = pruned(rng, (m, shape[1], k, k), 0.7) / 3
                here = append("Conv", [here, w], (batch, m, *shape[2:]), pads=[k // 2] * 4)
            case "gemm":
                w = f"w{len(shapes)}"
                weights[w] = pruned(rng, (shape[1], 14), 0.7) / 3
                here = append("Gemm", [here, w], (batch, 14))
            case "act":
                here = append(data.draw(st.sampled_from(["Relu", "Tanh", "HardSwish", "LeakyRelu"])), [here], shape)
            case "gate":
                here = append("Mul", [here, append("Sigmoid", [here], shape)], shape)
            case "add" | "mul" as op:
                twins = [name for name, other in shapes.items() if other == shape and name != "x"] or [here]
                pair = [here, data.draw(st.sampled_from(twins))]
                here = append(op.title(), pair if data.draw(st.booleans()) else pair[::-1], shape)
            case "pool":
                op = data.draw(st.sampled_from(["MaxPool", "AveragePool"]))
                smaller = tuple((d - 2) // 2 + 1 for d in shape[2:])
                here = append(op, [here], (*shape[:2], *smaller), kernel_shape=[2, 2], strides=[2, 2])
        if len(shapes[here]) == 4 and data.draw(st.integers(0, 9)) == 0:
            shape = shapes[here]
            here = append("Flatten", [here], (batch, int(np.prod(shape[1:]))))
    w = "w_last"
    axis = shapes[here][1]
    last = pruned(rng, (4, axis, 1, 1), 0.5) if len(shapes[here]) == 4 else pruned(rng, (axis, 4), 0.5)
    weights[w] = last
    append("Conv" if last.ndim == 4 else "Gemm", [here, w], None)
    outputs = [f"v{len(shapes) - 1}"]
    outputs += [name for name in shapes if name not in ("x", *outputs) and data.draw(st.integers(0, 5)) == 0]
    declared = (
        ["n", 6, "h", "w"] if all(len(s or ()) != 2 for s in shapes.values()) and data.draw(st.booleans()) else [batch, 6, size, size]
    )
    model = model_of(nodes, {"x": declared}, outputs, weights)
    session = make_session(model)
    # what no product leads to or comes from may stay outside
    assert {provider for provider, op in assignment(session) if op in ("Conv", "Gemm")} == {sparse.EP_NAME}
    feeds = {"x": noise(rng, batch, 6, size, size)}
    for got, wanted in zip(session.run(None, feeds), cpu_session(model).run(None, feeds), strict=True):
        assert_close(got, wanted)


def chain(inputs=("n", 8, "h", "w")):
    """Conv, Relu, MaxPool, depthwise Conv, HardSwish as two nodes, Conv, pooled, Flatten, Gemm."""
    rng = np.random.default_rng(5)
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w1"], ["a"], pads=[1] * 4),
        make("Relu", ["a"], ["b"]),
        make("MaxPool", ["b"], ["c"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        make("Conv", ["c", "w2"], ["d"], pads=[1] * 4, group=16),
        make("HardSigmoid", ["d"], ["e"], alpha=1 / 6, beta=0.5),
        make("Mul", ["d", "e"], ["f"]),
        make("Conv", ["f", "w3"], ["g"]),
        make("GlobalAveragePool", ["g"], ["h"]),
        make("Flatten", ["h"], ["i"]),
        make("Gemm", ["i", "w4"], ["y"], transB=1),
    ]
    shapes = {"w1": (16, 8, 3, 3), "w2": (16, 1, 3, 3), "w3": (24, 16, 1, 1), "w4": (10, 24)}
    return model_of(nodes, {"x": inputs}, ["y"], {name: pruned(rng, shape, 0.7) for name, shape in shapes.items()})


def test_chain_over_changing_shapes():
    """More shapes on one session than it keeps plans for, then the first ones again: the same bits."""
    model = chain()
    ours, theirs = owned_session(model, regions=1), cpu_session(model)
    rng = np.random.default_rng(6)
    inputs = [noise(rng, 1 + i % 4, 8, 5 + i % 11, 4 + 3 * (i % 7)) for i in range(40)]
    assert len({x.shape for x in inputs}) == 40
    first = [ours.run(None, {"x": x})[0] for x in inputs]
    for x, y in zip(inputs, first, strict=True):
        assert_close(y, theirs.run(None, {"x": x})[0])
    for x, y in zip(inputs, first, strict=True):
        assert np.array_equal(ours.run(None, {"x": x})[0], y)


def test_large_batches():
    """A batch that runs in several parts gives every image the bits it has alone, in the last part too."""
    model = chain()
    session = owned_session(model)
    x = noise(np.random.default_rng(7), 5, 8, 224, 224)
    whole = session.run(None, {"x": x})[0]
    assert_close(whole, cpu_session(model).run(None, {"x": x})[0])
    for i in range(len(x)):
        assert np.array_equal(session.run(None, {"x": x[i : i + 1]})[0], whole[i : i + 1])


SIDE = 384
"""Of images whose activations, four at a time, are too large to run in one part."""


@pytest.mark.parametrize(
    "case", ["addend", "addend of lower rank", "constant", "Reshape", "Reshape to one", "Flatten", "left", "left of rows"]
)
def test_what_a_batch_cannot_be_cut_for(case):
    """Large enough to run in parts, if images were independent of each other: here they are not."""
    rng = np.random.default_rng(8)
    make = helper.make_node
    x = noise(rng, 4, 4, SIDE, 2 * SIDE)
    weights, feeds = {"w": pruned(rng, (4, 4, 1, 1), 0.5)}, {"x": x}
    nodes = [make("Conv", ["x", "w"], ["p"]), make("Relu", ["p"], ["r"]), make("Add", ["r", "z"], ["q"]), make("Conv", ["q", "w"], ["y"])]
    match case:
        case "addend":
            feeds["z"] = noise(rng, 1, *x.shape[1:])
        case "addend of lower rank":
            feeds["z"] = noise(rng, *x.shape[1:])
        case "constant":
            weights["z"] = noise(rng, 4, 4, 1, 1)
        case "Reshape":
            weights["z"] = np.array([2, 4, 2 * SIDE, -1])
            nodes[2] = make("Reshape", ["r", "z"], ["q"])
        case "Reshape to one":
            weights["z"] = np.array([1, -1])
            nodes[2:] = [make("Conv", ["r", "w"], ["q"]), make("Reshape", ["q", "z"], ["y"])]
        case "Flatten":
            nodes[2:] = [make("Conv", ["r", "w"], ["q"]), make("Flatten", ["q"], ["y"], axis=0)]
        case "left" | "left of rows":
            weights["w"] = weights["w"][:, :, 0, 0]
            feeds["x"] = x.reshape((4, -1) if case == "left" else (-1, 4))
            nodes = [make("Gemm", ["w", "x"], ["p"], transB=int(case != "left")), nodes[1], make("Gemm", ["w", "r"], ["y"])]
    assert_like_cpu(model_of(nodes, {name: array.shape for name, array in feeds.items()}, ["y"], weights), feeds)


@pytest.mark.parametrize("first", [True, False], ids=["product first", "product second"])
@pytest.mark.parametrize("addend", ["()", "(1,)", "(n,)", "(m,1)", "(1,n)", "(1,1,n)", "(m,n)", "(2,1,1)"])
@pytest.mark.parametrize(
    "kind",
    ["right", "left", "batches right", "batches left", "batch of x", "left of a batch", "vector", "row vector", "Gemm right", "Gemm left"],
)
@pytest.mark.parametrize(("m", "n"), [(6, 10), (9, 9)])
def test_constant_behind_matrices(m, n, kind, addend, first):
    """A constant added to a product of matrices with m rows and n columns, whether it is a bias or not."""
    rng = np.random.default_rng(24)
    shapes = {  # of the weight and of x
        "right": ((8, n), (m, 8)),
        "left": ((m, 8), (8, n)),
        "batches right": ((2, 8, n), (m, 8)),
        "batches left": ((2, m, 8), (8, n)),
        "batch of x": ((8, n), (2, m, 8)),
        "left of a batch": ((m, 8), (2, 8, n)),
        "vector": ((8,), (n, 8)),
        "row vector": ((8, n), (8,)),
        "Gemm right": ((8, n), (m, 8)),
        "Gemm left": ((m, 8), (8, n)),
    }
    weight, x = (noise(rng, *shape) for shape in shapes[kind])
    weights = {"w": np.where(rng.random(weight.shape) < 0.5, np.float32(0), weight)}
    shape = [{"m": m, "n": n}.get(d) or int(d) for d in addend.strip("()").split(",") if d]
    weights["c"] = np.asarray(noise(rng, *shape))
    op = "Gemm" if kind.startswith("Gemm") else "MatMul"
    nodes = [helper.make_node(op, ["w", "x"] if "left" in kind else ["x", "w"], ["p"])]
    nodes += [helper.make_node("Add", ["p", "c"] if first else ["c", "p"], ["s"]), helper.make_node("Relu", ["s"], ["y"])]
    assert_like_cpu(model_of(nodes, {"x": x.shape}, ["y"], weights), {"x": x})


@pytest.mark.parametrize("kernel", [1, 3])
def test_batch_of_nothing(kernel):
    """Batch 0, and a batch after it."""
    rng = np.random.default_rng(9)
    nodes = [helper.make_node("Conv", ["x", "w"], ["p"]), helper.make_node("Relu", ["p"], ["y"])]
    model = model_of(nodes, {"x": ["n", 8, "h", "w"]}, ["y"], {"w": pruned(rng, (12, 8, kernel, kernel))})
    session = owned_session(model)
    assert session.run(None, {"x": np.zeros((0, 8, 6, 6), np.float32)})[0].shape == (0, 12, 7 - kernel, 7 - kernel)
    x = noise(rng, 2, 8, 6, 6)
    assert_close(session.run(None, {"x": x})[0], cpu_session(model).run(None, {"x": x})[0])


@pytest.mark.parametrize("shape", [(0, 5), (3, 0, 5), (0, 2, 5)])
def test_no_rows(shape):
    """MatMul of no rows."""
    rng = np.random.default_rng(10)
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [None] * len(shape)}, ["y"], {"w": pruned(rng, (5, 7), 0.5)})
    feeds = {"x": np.zeros(shape, np.float32)}
    assert owned_session(model).run(None, feeds)[0].shape == cpu_session(model).run(None, feeds)[0].shape == (*shape[:-1], 7)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 8, 5), "rank|dimensions"), ((1, 7, 5, 5), "7 channels|index: 1"), ((1, 8, 2, 2), "window"), ((0, 8, 0, 9), "window")],
)
def test_wrong_shapes(shape, message):
    """An input that does not fit is an error with its reason, and the session goes on."""
    rng = np.random.default_rng(11)
    model = model_of([helper.make_node("Conv", ["x", "w"], ["y"])], {"x": ["n", "c", "h", "w"]}, ["y"], {"w": pruned(rng, (4, 8, 3, 3))})
    session = owned_session(model)
    x = noise(rng, 1, 8, 5, 5)
    before = session.run(None, {"x": x})[0]
    with pytest.raises(Exception, match=message):
        session.run(None, {"x": np.zeros(shape, np.float32)})
    assert np.array_equal(session.run(None, {"x": x})[0], before)


def test_views():
    """Inputs that are not contiguous."""
    model = chain()
    session = owned_session(model)
    x = noise(np.random.default_rng(12), 4, 9, 11, 16)
    for whole in (x[::2, ::-1, :, ::2], np.moveaxis(x, 3, 1)):
        view = whole[:, :8]
        assert not view.flags.c_contiguous
        assert np.array_equal(session.run(None, {"x": view})[0], session.run(None, {"x": view.copy()})[0])


def test_several_inputs_and_outputs():
    """Two inputs, three outputs, two of which are read inside the region as well; one input is an output's only source."""
    rng = np.random.default_rng(13)
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w1"], ["a"], pads=[1] * 4),
        make("Relu", ["a"], ["b"]),
        make("Conv", ["z", "w2"], ["c"]),
        make("Add", ["b", "c"], ["d"]),
        make("Conv", ["d", "w2"], ["e"]),
        make("Sigmoid", ["e"], ["f"]),
    ]
    weights = {"w1": pruned(rng, (8, 8, 3, 3)), "w2": pruned(rng, (8, 8, 1, 1))}
    shape = ["n", 8, 6, 5]
    model = model_of(nodes, {"x": shape, "z": shape}, ["f", "a", "d", "c"], weights)
    assert_like_cpu(model, {name: noise(rng, 2, 8, 6, 5) for name in "xz"})


@pytest.mark.parametrize("between", ["Flatten", "Flatten 2", "Reshape", "Reshape twice"])
def test_reshapes(between):
    """Reshape and Flatten between products and at both ends of a region, with -1 and 0 in the target."""
    rng = np.random.default_rng(14)
    make = helper.make_node
    weights = {"w1": pruned(rng, (6, 4, 1, 1))}
    middle = {
        "Flatten": [make("Flatten", ["a"], ["b"])],
        "Flatten 2": [make("Flatten", ["a"], ["c"], axis=2), make("Reshape", ["c", "back"], ["b"])],
        "Reshape": [make("Reshape", ["a", "two"], ["b"])],
        "Reshape twice": [make("Reshape", ["a", "three"], ["c"]), make("Relu", ["c"], ["d"]), make("Reshape", ["d", "two"], ["b"])],
    }[between]
    for name, target in {"two": [0, -1], "three": [0, 3, -1], "back": [-1, 120], "out": [-1, 2, 5], "in": [-1, 4, 4, 5]}.items():
        weights[name] = np.array(target, np.int64)
    weights["w2"] = pruned(rng, (120, 10))
    nodes = [
        make("Reshape", ["x", "in"], ["x4"]),
        make("Conv", ["x4", "w1"], ["a"]),
        *middle,
        make("MatMul", ["b", "w2"], ["g"]),
        make("Reshape", ["g", "out"], ["y"]),
    ]
    for shape in (["n", 80], [3, 80]):
        assert_like_cpu(model_of(nodes, {"x": shape}, ["y", "g", "a"], weights), {"x": noise(rng, 3, 80)})


def test_output_behind_reshape():
    """A value and its reshaped self are both outputs, and so is an input's."""
    rng = np.random.default_rng(15)
    make = helper.make_node
    nodes = [
        make("Reshape", ["x", "in"], ["z"]),
        make("MatMul", ["z", "w"], ["a"]),
        make("Reshape", ["a", "flat"], ["y"]),
        make("Flatten", ["y"], ["v"], axis=0),
    ]
    weights = {"w": pruned(rng, (5, 6), 0.5), "in": np.array([-1, 5]), "flat": np.array([-1])}
    assert_like_cpu(model_of(nodes, {"x": [2, 10]}, ["z", "a", "y", "v"], weights), {"x": noise(rng, 2, 10)})


def test_shared_weights():
    """One weight in several nodes, of the same and of another operator."""
    rng = np.random.default_rng(16)
    make = helper.make_node
    nodes = [
        make("Gemm", ["x", "w"], ["a"], transB=1),
        make("Gemm", ["a", "w"], ["b"]),
        make("MatMul", ["b", "w"], ["c"]),
        make("Add", ["c", "a"], ["y"]),
    ]
    assert_like_cpu(model_of(nodes, {"x": ["n", 16]}, ["y"], {"w": pruned(rng, (16, 16), 0.7)}), {"x": noise(rng, 3, 16)})


@pytest.mark.parametrize("zeros", ["unstructured", "dense", "blocks"])
@pytest.mark.parametrize("kind", ["Conv", "Gemm"])
def test_nan_and_inf(kind, zeros):
    """Each activation that is not finite reaches every output that reads it with a nonzero weight, and no output that does not read it."""
    rng = np.random.default_rng(17)
    if kind == "Conv":
        weights = {"w": pruned(rng, (16, 6, 3, 3), 0.6, zeros)}
        model = model_of([helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)], {"x": ["n", 6, "h", "w"]}, ["y"], weights)
        x = noise(rng, 2, 6, 13, 11)
        places = [(0, 2, 0, 0), (0, 3, 12, 10), (1, 5, 6, 5), (1, 0, 3, 10)]
    else:
        weights = {"w": pruned(rng, (24, 40), 0.6, zeros)}
        model = model_of([helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)], {"x": ["n", 40]}, ["y"], weights)
        x = noise(rng, 9, 40)
        places = [(0, 0), (3, 17), (8, 39)]
    session = owned_session(model)
    clean = session.run(None, {"x": x})[0]
    for bad in (np.nan, np.inf, -np.inf):
        dirty = x.copy()
        for place in places:
            dirty[place] = bad
        y = session.run(None, {"x": dirty})[0]
        masks = {}
        for name, weight in (("reads", weights["w"] != 0), ("touches", np.ones_like(weights["w"]))):
            masked = model_of(list(model.graph.node), {"x": ["n", *model_shape(kind)]}, ["y"], {"w": weight.astype(np.float32)})
            masks[name] = cpu_session(masked).run(None, {"x": (~np.isfinite(dirty)).astype(np.float32)})[0] > 0
        assert masks["reads"].any()
        assert not masks["touches"].all()
        assert not np.isfinite(y[masks["reads"]]).any()
        assert np.array_equal(y[~masks["touches"]], clean[~masks["touches"]])
        pruned_away = y[masks["touches"] & ~masks["reads"]]
        assert (np.isnan(pruned_away) | (pruned_away == clean[masks["touches"] & ~masks["reads"]])).all()


def model_shape(kind):
    """The dimensions of that test's input behind the batch."""
    return [6, "h", "w"] if kind == "Conv" else [40]


@pytest.mark.parametrize(
    "name",
    [
        *("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSwish", "Tanh", "Erf", "Abs", "Neg", "Exp", "Gelu", "Silu", "erf Gelu"),
        *("Elu", "Selu", "Softplus", "Softsign", "ThresholdedRelu"),
    ],
)
def test_special_numbers_in_activations(name):
    """NaN, infinities, zeros, denormals and huge numbers behind a product by the identity, like the CPU provider's."""
    nodes, constants = activation(name, "p", "y")
    special = [np.nan, np.inf, -np.inf, 0.0, 1e-40, -1e-40, 3e38, -3e38, 88.0, -88.0, 104.0, -104.0, 1e-3, -20.0, 20.0, 9.0]
    # one number a row: a product by the identity must not mix them
    model = model_of(
        [helper.make_node("MatMul", ["x", "w"], ["p"]), *nodes], {"x": ["n", 1]}, ["y"], {"w": np.ones((1, 1), np.float32), **constants}
    )
    feeds = {"x": np.array(special, np.float32)[:, None]}
    (y,), (y_ort,) = owned_session(model).run(None, feeds), cpu_session(model).run(None, feeds)
    np.testing.assert_allclose(y, y_ort, rtol=1e-5, atol=1e-6)


def test_denormal_weights_and_activations():
    """Denormals are numbers like others."""
    weight = np.array([[1e-40, 0, 2], [0, 1e-20, 0]], np.float32)
    model = model_of([helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)], {"x": ["n", 3]}, ["y"], {"w": weight})
    feeds = {"x": np.array([[1, 1e-20, 1e-40], [1e3, 5, 0]], np.float32)}
    np.testing.assert_allclose(owned_session(model).run(None, feeds)[0], feeds["x"].astype(np.float64) @ weight.T, rtol=1e-6, atol=1e-45)


def test_retired_operators_are_declined():
    """Operators whose old versions mean something else: Add with an axis, Reshape with its shape as attribute."""
    rng = np.random.default_rng(23)
    make = helper.make_node
    nodes = [make("MatMul", ["x", "w"], ["p"]), make("Reshape", ["p"], ["r"], shape=[4, 3])]
    model = model_of(nodes, {"x": [3, 4]}, {"r": [4, 3]}, {"w": pruned(rng, (4, 4), 0.5)}, opset=4)
    session = make_session(model)
    assert set(assignment(session)) == {(sparse.EP_NAME, "MatMul"), ("CPUExecutionProvider", "Reshape")}
    assert "version 1 of the operator is not supported, 5 is the first" in {decision.reason for decision in sparse.explain(session)}
    # ONNX Runtime has no kernel either, and says so instead of adding along the wrong axis
    add = [nodes[0], make("Add", ["p", "b"], ["y"], broadcast=1, axis=0)]
    weights = {"w": pruned(rng, (4, 3), 0.5), "b": noise(rng, 3)}
    with pytest.raises(NotImplemented, match=r"Add\(6\)"):
        make_session(model_of(add, {"x": [3, 4]}, ["y"], weights, opset=6))


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT32])
def test_other_types_are_declined(dtype):
    """MatMul of another type stays where it was, with the reason."""
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    info = [helper.make_tensor_value_info(name, dtype, ["n", 4]) for name in "xy"]
    weight = numpy_helper.from_array(np.eye(4, dtype=kind), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], "g", info[:1], info[1:], [weight])
    session = make_session(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9))
    assert {provider for provider, _ in assignment(session)} == {"CPUExecutionProvider"}
    assert "only float32 is supported" in {decision.reason for decision in sparse.explain(session)}
    x = np.arange(8).reshape(2, 4).astype(kind)
    assert np.array_equal(session.run(None, {"x": x})[0], x)


def test_int8_is_declined():
    """Quantised products stay where they were, with a reason."""
    rng = np.random.default_rng(18)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["i"]),
        helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    model = model_of(nodes, {"x": ["n", 8]}, ["y"], {"w": rng.integers(-9, 9, (8, 4)).astype(np.int8)})
    session = make_session(model)
    assert sparse.EP_NAME not in {provider for provider, _ in assignment(session)}
    assert all(decision.reason for decision in sparse.explain(session))


def branches(rng):
    """Two graphs with a Conv each, for If: of an outer weight, and of one of their own."""
    conv = helper.make_node
    own = {"w_own": pruned(rng, (4, 4, 1, 1), 0.5)}
    return (
        graph_of([conv("Conv", ["x", "w"], ["then_y"])], {}, {"then_y": None}, {}),
        graph_of([conv("Conv", ["x", "w_own"], ["t"]), conv("Relu", ["t"], ["else_y"])], {}, {"else_y": None}, own),
    )


def test_inside_if():
    """A Conv in a branch is left to the CPU provider, with the reason; the one outside is ours."""
    rng = np.random.default_rng(19)
    then, other = branches(rng)
    nodes = [
        helper.make_node("If", ["c"], ["t"], then_branch=then, else_branch=other),
        helper.make_node("Conv", ["t", "w"], ["y"], name="outside"),
    ]
    model = model_of(nodes, {"x": ["n", 4, 5, 5]}, ["y"], {"w": pruned(rng, (4, 4, 1, 1), 0.5)})
    model.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    session = make_session(model)
    reasons = {decision.name: (decision.taken, decision.reason) for decision in sparse.explain(session) if decision.op_type == "Conv"}
    assert reasons["outside"][0]
    assert {taken for name, (taken, _) in reasons.items() if name != "outside"} == {False}
    assert any("control-flow" in reason for _, reason in reasons.values())
    assert (sparse.EP_NAME, "Conv") in assignment(session)
    theirs = cpu_session(model)
    for condition in (True, False):
        feeds = {"x": noise(rng, 2, 4, 5, 5), "c": np.array(condition)}
        assert_close(session.run(None, feeds)[0], theirs.run(None, feeds)[0])


def test_inside_loop():
    """The same in the body of a Loop."""
    rng = np.random.default_rng(20)
    body = graph_of([helper.make_node("Conv", ["v", "w"], ["v_next"])], {}, {"v_next": ["n", 4, 5, 5]}, {})
    scalars = [
        helper.make_tensor_value_info(name, kind, [])
        for name, kind in (("i", TensorProto.INT64), ("go", TensorProto.BOOL), ("go_on", TensorProto.BOOL))
    ]
    body.input.extend([*scalars[:2], helper.make_tensor_value_info("v", TensorProto.FLOAT, ["n", 4, 5, 5])])
    body.node.append(helper.make_node("Identity", ["go"], ["go_on"]))
    carried = body.output[0]
    again = onnx.ValueInfoProto()
    again.CopyFrom(carried)
    del body.output[:]
    body.output.extend([scalars[2], again])
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"], name="outside"), helper.make_node("Loop", ["trips", "", "a"], ["y"], body=body)]
    weights = {"w": pruned(rng, (4, 4, 1, 1), 0.5), "trips": np.array(3)}
    model = model_of(nodes, {"x": ["n", 4, 5, 5]}, ["y"], weights)
    session = make_session(model)
    convs = {decision.name == "outside": decision.taken for decision in sparse.explain(session) if decision.op_type == "Conv"}
    assert convs == {True: True, False: False}
    feeds = {"x": noise(rng, 2, 4, 5, 5)}
    assert_close(session.run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])


def test_external_data(tmp_path):
    """Weights in a file beside the model."""
    model = chain()
    path = tmp_path / "model.onnx"
    loaded = onnx.ModelProto()
    loaded.CopyFrom(model)
    onnx.save(loaded, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").stat().st_size > 4 * 24 * 16
    feeds = {"x": noise(np.random.default_rng(21), 1, 8, 12, 12)}
    session = owned_session(str(path), regions=1)
    assert np.array_equal(session.run(None, feeds)[0], owned_session(model).run(None, feeds)[0])


@pytest.mark.parametrize("isa", kernels.available_isas())
def test_every_instruction_set(isa):
    """The chain on each instruction set this machine has."""
    model = chain((2, 8, 19, 23))
    assert_like_cpu(model, {"x": noise(np.random.default_rng(22), 2, 8, 19, 23)}, {"isa": isa})
