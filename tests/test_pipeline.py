"""Regions of several nodes: fused epilogues, chains, shapes that change, several inputs and outputs, special numbers."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import onnxruntime_ep_sparse as sparse
import onnxruntime_ep_sparse_kernels as kernels
from support.making import examples, model_of, noise, pruned
from support.promises import assert_close, assignment, cpu_session, make_session, owned_session
from support.regions import FEEDS, SHAPES, activation, assert_like_cpu, product


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


def test_denormal_weights_and_activations():
    """Denormals are numbers like others."""
    weight = np.array([[1e-40, 0, 2], [0, 1e-20, 0]], np.float32)
    model = model_of([helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)], {"x": ["n", 3]}, ["y"], {"w": weight})
    feeds = {"x": np.array([[1, 1e-20, 1e-40], [1e3, 5, 0]], np.float32)}
    np.testing.assert_allclose(owned_session(model).run(None, feeds)[0], feeds["x"].astype(np.float64) @ weight.T, rtol=1e-6, atol=1e-45)


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
