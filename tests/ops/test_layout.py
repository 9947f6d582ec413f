"""Operators that move pixels: Concat, Pad, Resize, DepthToSpace and its inverse, behind products and inside nets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import models
from onnxruntime_ep_sparse.graph.ir import FLOAT, Graph, Node, Value
from onnxruntime_ep_sparse.passes.pads import fold_pads
from support.making import carried, dynamic, examples, model_of, noise, pruned
from support.promises import assert_close, assert_same, cpu_session, owned_session, reasons

COORDINATES = ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners", "tf_half_pixel_for_nn", "half_pixel_symmetric")
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@pytest.mark.parametrize("axis", [-4, -1, 0, 1, 2, 3])
@pytest.mark.parametrize("parts", [1, 2, 3, 70])
def test_concat(axis, parts):
    """Any axis, one to many operands, some of them made for the purpose, one twice, over changing shapes."""
    nodes = [helper.make_node("Relu", ["p"], ["r"]), helper.make_node("Neg", ["p"], ["n"])]
    names = (["p", "r", "x", "n"] * parts)[:parts] if parts > 1 else ["r"]
    model = carried([*nodes[: 2 if "n" in names else 1], helper.make_node("Concat", names, ["y"], axis=axis)], (2, 3, 4, 5))
    if parts == 2:
        model = carried([nodes[0], helper.make_node("Concat", ["r", "p"], ["y"], axis=axis)], (2, 3, 4, 5), declared=dynamic((2, 3, 4, 5)))
    shapes = [(2, 3, 4, 5), (1, 3, 4, 5), (1, 1, 7, 5), (0, 3, 4, 5)] if parts == 2 else [(2, 3, 4, 5)]
    assert_same(model, shapes)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concat_with_constant_and_reshaped(axis):
    """A constant operand, a reshaped one, and a result that is reshaped into an output."""
    make = helper.make_node
    nodes = [
        make("Reshape", ["p", "shape"], ["q"]),
        make("Relu", ["q"], ["r"]),
        make("Reshape", ["r", "shape"], ["s"]),
        make("Concat", ["s", "c", "q"], ["t"], axis=axis),
        make("Reshape", ["t", "flat"], ["y"]),
    ]
    rng = np.random.default_rng(1)
    weights = {"shape": np.array([1, 6, 4]), "flat": np.array([-1]), "c": noise(rng, 1, 6, 4)}
    assert_same(carried(nodes, (2, 3, 4), weights), [(2, 3, 4)])


def test_nested_concats():
    """Concats of Concats, a value in two of them, and parts that are outputs themselves or read again later."""
    make = helper.make_node
    rng = np.random.default_rng(2)
    nodes = [
        make("Conv", ["x", "w1"], ["a"], pads=[1] * 4),
        make("Relu", ["a"], ["b"]),
        make("Conv", ["b", "w2"], ["c"]),
        make("Concat", ["c", "b"], ["d"], axis=1),
        make("Conv", ["b", "w2"], ["e"]),
        make("Concat", ["e", "d", "b"], ["f"], axis=1),
        make("Conv", ["f", "w3"], ["g"]),
        make("Concat", ["g", "c", "g"], ["h"], axis=1),
        make("Concat", ["h", "f"], ["y"], axis=1),
        make("Conv", ["y", "w4"], ["z"]),
    ]
    shapes = {"w1": (6, 3, 3, 3), "w2": (5, 6, 1, 1), "w3": (7, 22, 1, 1), "w4": (4, 41, 1, 1)}
    weights = {name: pruned(rng, shape, 0.5) for name, shape in shapes.items()}
    for outputs in (["z"], ["z", "y"], ["z", "d", "g"]):
        model = model_of(nodes, {"x": ["n", 3, "h", "w"]}, outputs, weights)
        assert_same(model, [(1, 3, 9, 7), (3, 3, 8, 8), (1, 3, 40, 41)], exact=False)


def test_products_make_the_parts():
    """At batch 1 the convolutions write into the Concat's result, at batch 2 they cannot."""
    make = helper.make_node
    rng = np.random.default_rng(3)
    nodes = [
        make("Conv", ["x", "w"], ["a"]),
        make("Conv", ["x", "v"], ["b"]),
        make("Concat", ["a", "b"], ["c"], axis=1),
        make("Relu", ["c"], ["y"]),
    ]
    weights = {"w": pruned(rng, (8, 4, 1, 1), 0.5), "v": pruned(rng, (8, 4, 1, 1), 0.5)}
    assert_same(model_of(nodes, {"x": ["n", 4, 64, 64]}, ["y"], weights), [(1, 4, 64, 64), (2, 4, 64, 64)], exact=False)


@pytest.mark.parametrize("mixes", ["none", "Concat", "constant", "Pad"])
def test_batches_in_slices(mixes):
    """A batch whose activations leave the caches runs slice by slice, unless a node mixes its images."""
    rng = np.random.default_rng(7)
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w"], ["a"]),
        make("Relu", ["a"], ["b"]),
        make("Concat", ["b", "a"], ["c"], axis=1),
        make("Pad", ["c", "channels"], ["d"]),
        make("DepthToSpace", ["d"], ["e"], blocksize=2),
        {
            "none": make("Neg", ["e"], ["y"]),
            "Concat": make("Concat", ["e", "e"], ["y"], axis=0),
            "constant": make("Concat", ["e", "c70"], ["y"], axis=1),
            "Pad": make("Pad", ["e", "images"], ["y"]),
        }[mixes],
    ]
    weights = {"w": pruned(rng, (6, 4, 1, 1), 0.5), "channels": np.array([0, 1, 0, 0, 0, 3, 0, 0])}
    weights |= {"c70": noise(rng, 70, 1, 160, 160)} if mixes == "constant" else {}
    weights |= {"images": np.array([1, 0, 0, 0, 0, 0, 0, 0])} if mixes == "Pad" else {}
    assert_same(model_of(nodes, {"x": ["n", 4, 80, 80]}, ["y"], weights), [(70, 4, 80, 80)], exact=False)


def test_concat_of_too_many():
    """A limit keeps programs small: each operand is a step."""
    model = carried([helper.make_node("Relu", ["p"], ["r"]), helper.make_node("Concat", ["r"] * 1025, ["y"], axis=0)], (2, 3))
    assert "1025 operands: at most 1024 are supported" in reasons(model)


@st.composite
def pads(draw):
    """(model, shapes) of a Pad of one to five dimensions."""
    rank = draw(st.integers(1, 5))
    shape = draw(st.lists(st.integers(1, 9), min_size=rank, max_size=rank))
    opset = draw(st.sampled_from([11, 13, 18, 20]))
    axes = list(range(rank))
    weights = {}
    if opset >= 18 and draw(st.booleans()):
        axes = draw(st.permutations(axes))[: draw(st.integers(1, rank))]
        weights["axes"] = np.array([a - rank if draw(st.booleans()) else a for a in axes])
    mode = draw(st.sampled_from(["constant", "constant", "reflect", "edge", "wrap"][: 5 if opset >= 18 else 4]))
    sizes = [shape[axis] for axis in axes] * 2
    # a reflection needs an element beside the edge, and something is left of what is cut off on one side or the other
    most = [min(3, size - 1) if mode == "reflect" else 3 for size in sizes]
    least = [0 if mode == "reflect" else -(size - 1) // 2 for size in sizes]
    weights["pads"] = np.array([draw(st.integers(a, b)) * draw(st.integers(0, 1)) for a, b in zip(least, most, strict=True)])
    inputs = ["p", "pads"]
    if mode == "constant" and draw(st.booleans()):
        weights["value"] = np.array(draw(st.sampled_from([0.0, 1.5, -np.inf])), np.float32)
    if "value" in weights or "axes" in weights:
        inputs.append("value" if "value" in weights else "")
    if "axes" in weights:
        inputs.append("axes")
    # a Neg, because ONNX Runtime drops a Pad that does nothing
    nodes = [helper.make_node("Pad", inputs, ["q"], mode=mode), helper.make_node("Neg", ["q"], ["y"])]
    other = [d + 1 for d in shape[:-1]] + shape[-1:]
    return carried(nodes, shape, weights, dynamic(shape), opset), [shape, other]


@examples(150)
@given(pads())
def test_pad(case):
    """Any dimension before and after, every way to say so, any value and mode; negative numbers cut off."""
    model, shapes = case
    session, theirs = owned_session(model), cpu_session(model)
    for shape in shapes:
        feeds = {"x": noise(np.random.default_rng(0), *shape)}
        assert np.array_equal(session.run(None, feeds)[0], theirs.run(None, feeds)[0])


@pytest.mark.parametrize(
    ("amounts", "mode", "reason"),
    [
        ([0, 1, 0, 2**62], "constant", f"pads is {2**62}: -2147483647 to 2147483647 is supported"),
    ],
)
def test_declined_pads(amounts, mode, reason):
    """Sizes beyond all memory stay with the CPU provider."""
    model = carried([helper.make_node("Pad", ["p", "pads"], ["y"], mode=mode)], (3, 4), {"pads": np.array(amounts)})
    assert reason in reasons(model)


@pytest.mark.parametrize("auto_pad", ["NOTSET", "VALID", "SAME_UPPER"])
@pytest.mark.parametrize("amounts", [[0, 0, 1, 2, 0, 0, 3, 0], [0, 1, 1, 1, 0, 0, 1, 1]])
@pytest.mark.parametrize("seen", [False, True])
def test_pad_before_convolutions(auto_pad, amounts, seen):
    """Two convolutions read one Pad: with zeros around images it becomes part of them, otherwise it stays."""
    rng = np.random.default_rng(4)
    channels = 4 + amounts[1] + amounts[5]
    own = {"pads": [0, 1, 1, 0]} if auto_pad == "NOTSET" else {"auto_pad": auto_pad}
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["p"]),
        helper.make_node("Conv", ["p", "w"], ["a"], strides=[2, 2], **own),
        helper.make_node("Conv", ["p", "v"], ["y"], dilations=[2, 1]),
    ]
    weights = {
        "pads": np.array(amounts),
        "w": pruned(rng, (5, channels, 3, 3), 0.5),
        "v": pruned(rng, (5, channels, 3, 2), 0.5),
    }
    model = model_of(nodes, {"x": ["n", 4, "h", "w"]}, ["a", "y", *(["p"] if seen else [])], weights)
    assert_same(model, [(1, 4, 9, 8), (2, 4, 12, 13)], exact=False)


def test_pads_are_folded():
    """No step pads for convolutions; one does where a pool reads the same."""
    values = {name: Value(name, FLOAT, (1, 2, None, None)) for name in "xpyz"}
    constants = {"pads": np.array([0, 0, 1, 2, 0, 0, 3, 0]), "w": np.ones((2, 2, 3, 3), np.float32)}
    values |= {name: Value(name, FLOAT, array.shape) for name, array in constants.items()}
    pad = Node(0, "", "Pad", "", 13, ("x", "pads"), ("p",), {})
    conv = Node(1, "", "Conv", "", 11, ("p", "w"), ("y",), {"pads": (1, 0, 0, 1)})
    pool = Node(2, "", "MaxPool", "", 11, ("p",), ("z",), {"kernel_shape": (2, 2)})

    def graph(*nodes):
        return Graph(nodes, values, frozenset(constants), constants.__getitem__, ("x",), tuple(node.outputs[0] for node in nodes[1:]))

    (alone,) = fold_pads(graph(pad, conv)).nodes
    assert (alone.inputs, alone.attributes["pads"]) == (("x", "w"), (2, 2, 3, 1))
    assert fold_pads(graph(pad, conv, pool)).nodes == (pad, conv, pool)


def test_pad_of_channels():
    """Zeros behind the channels, for a residual of more channels."""
    rng = np.random.default_rng(5)
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w"], ["a"], pads=[1] * 4, strides=[2, 2]),
        make("MaxPool", ["x"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
        make("Pad", ["b", "pads"], ["c"]),
        make("Add", ["a", "c"], ["d"]),
        make("Relu", ["d"], ["y"]),
    ]
    weights = {"w": pruned(rng, (12, 8, 3, 3), 0.5), "pads": np.array([0, 0, 0, 0, 0, 4, 0, 0])}
    model = model_of(nodes, {"x": ["n", 8, "h", "w"]}, ["y"], weights)
    assert_same(model, [(1, 8, 10, 12), (3, 8, 6, 6), (1, 8, 96, 96)], exact=False)


@st.composite
def resizes(draw):
    """(model, shapes, whether exact) of a Resize."""
    shape = [draw(st.integers(1, 2)), 3, draw(st.integers(1, 12)), draw(st.integers(1, 12))]
    opset = draw(st.sampled_from([10, 11, 13, 18, 20]))
    attributes = {"mode": draw(st.sampled_from(["nearest", "linear"]))}
    if opset > 10:
        attributes["coordinate_transformation_mode"] = draw(st.sampled_from(COORDINATES[: 5 if opset < 19 else 6]))
        if attributes["mode"] == "nearest":
            attributes["nearest_mode"] = draw(st.sampled_from(NEAREST))
    by_size = opset > 10 and draw(st.booleans())
    if by_size:
        given_ = np.array([*shape[:2], draw(st.integers(1, 25)), draw(st.integers(1, 25))])
    else:
        whole = attributes.get("coordinate_transformation_mode") == "align_corners"
        factor = st.sampled_from([1.0, 2.0, 3.0] if whole else [0.3, 0.5, 0.6, 1.0, 1.5, 1.7, 2.0, 2.0, 3.0])
        # at least one pixel is left
        given_ = np.array([1, 1, *(max(draw(factor), 1.001 / d if d > 1 else 1) for d in shape[2:])], np.float32)
    if opset >= 18 and draw(st.booleans()):
        attributes["axes"] = [2, 3]
        given_ = given_[2:]
    if opset == 10:
        inputs, weights = ["p", "g"], {"g": given_}
    elif opset < 13:
        inputs, weights = ["p", "e", "e", "g"] if by_size else ["p", "e", "g"], {"g": given_, "e": np.zeros(0, np.float32)}
    else:
        inputs, weights = ["p", "", "", "g"] if by_size else ["p", "", "g"], {"g": given_}
    nodes = [helper.make_node("Resize", inputs, ["r"], **attributes), helper.make_node("Neg", ["r"], ["y"])]
    free = not by_size or "axes" in attributes
    declared = ["n" if free else shape[0], 3, "h", shape[3]]
    shapes = [shape, [shape[0] + free, 3, shape[2] + 3, shape[3]]]
    return carried(nodes, shape, weights, declared, opset), shapes, attributes["mode"] == "nearest"


@examples(400)
@given(resizes())
def test_resize(case):
    """Nearest (the same pixels) and linear, by scales and sizes, in every version, over changing shapes."""
    model, shapes, exact = case
    assert_same(model, shapes, exact)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("nearest", NEAREST)
def test_nearest_pixels(coordinates, nearest):
    """Many sizes, some of which reach halves that float32 misses, like 7 to 2."""
    opset = 19 if coordinates == "half_pixel_symmetric" else 11
    for size, out in ((7, 2), (13, 28), (20, 6), (23, 14), (26, 64), (260, 97), (11, 13)):
        node = helper.make_node(
            "Resize", ["p", "e", "e", "g"], ["r"], mode="nearest", nearest_mode=nearest, coordinate_transformation_mode=coordinates
        )
        weights = {"g": np.array([1, 2, out, 3]), "e": np.zeros(0, np.float32)}
        nodes = [node, helper.make_node("Neg", ["r"], ["y"])]
        assert_same(carried(nodes, (1, 2, size, 3), weights, opset=opset), [(1, 2, size, 3)])


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_of_larger_images(mode):
    """Several threads, batches in slices, and rows longer than a vector."""
    attributes = {"mode": mode, "coordinate_transformation_mode": "asymmetric" if mode == "nearest" else "half_pixel"}
    attributes |= {"nearest_mode": "floor"} if mode == "nearest" else {}
    nodes = [helper.make_node("Resize", ["p", "", "g"], ["r"], **attributes), helper.make_node("Relu", ["r"], ["y"])]
    model = carried(nodes, [2, 16, 41, 57], {"g": np.array([1, 1, 2, 2], np.float32)}, ["n", 16, "h", 57])
    assert_same(model, [(2, 16, 41, 57), (1, 16, 7, 57), (0, 16, 7, 57)], mode == "nearest", threads=2)


@pytest.mark.parametrize(
    ("attributes", "given_", "reason"),
    [
        ({"mode": "nearest"}, [1, 2, 2, 2], "axes other than height and width are not supported"),
        ({"mode": "nearest"}, [1, 1, 1, 32768], "scales is 32768.0: 1/16384 to 16384 is supported"),
        ({"mode": "linear", "antialias": 1}, [1, 1, 0.5, 0.5], "antialias=1 is not supported"),
        (
            {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
            [1, 1, 0.5, 2],
            "align_corners with a scale that is not whole is not supported",
        ),
        ({"mode": "nearest", "keep_aspect_ratio_policy": "not_larger"}, None, "keep_aspect_ratio_policy=not_larger is not supported"),
    ],
)
def test_declined_resizes(attributes, given_, reason):
    """What we would not compute as ONNX Runtime does stays with the CPU provider."""
    inputs = ["p", "", "", "g"] if given_ is None else ["p", "", "g"]
    weights = {"g": np.array([2, 3, 9, 9]) if given_ is None else np.array(given_, np.float32)}
    assert reason in reasons(carried([helper.make_node("Resize", inputs, ["y"], **attributes)], (2, 3, 4, 5), weights))


def test_sizes_for_an_unknown_batch_are_declined():
    """Sizes that name the batch would resize any other."""
    node = helper.make_node("Resize", ["p", "", "", "g"], ["y"], mode="nearest")
    model = carried([node], (1, 3, 4, 5), {"g": np.array([1, 3, 8, 10])}, ["n", 3, 4, 5])
    assert "axes other than height and width are not supported" in reasons(model)


def test_scales_that_vary_are_declined():
    """Scales from an input are no constants."""
    model = carried([helper.make_node("Resize", ["p", "", "g"], ["y"], mode="nearest")], (1, 3, 4, 5))
    model.graph.input.append(helper.make_tensor_value_info("g", TensorProto.FLOAT, [4]))
    assert "input scales is not constant" in reasons(model)


@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize("mode", ["DCR", "CRD", None])
def test_depth_and_space(block, mode):
    """DepthToSpace in both orders, and SpaceToDepth (mode None)."""
    if mode is None:
        node, shapes = helper.make_node("SpaceToDepth", ["p"], ["y"], blocksize=block), [(2, 3, 12, 6), (1, 5, 6, 6), (1, 40, 30, 6)]
    else:
        node = helper.make_node("DepthToSpace", ["p"], ["y"], blocksize=block, mode=mode)
        shapes = [(2, 36, 5, 7), (1, 72, 1, 7), (1, 36, 40, 7)]
    assert_same(carried([node], shapes[0], declared=dynamic(shapes[0])), shapes, threads=2)


def test_unet_is_one_region():
    """Skips and upsampling included, by our own estimate of what is worth taking."""
    model = models.unet(0.95, channels=16, levels=3)
    session = owned_session(model, {"policy": "auto"}, regions=1)
    theirs = cpu_session(model)
    for shape in ((1, 1, 32, 48), (3, 1, 16, 16), (1, 1, 128, 128)):
        feeds = {"input": noise(np.random.default_rng(6), *shape)}
        assert_close(session.run(None, feeds)[0], theirs.run(None, feeds)[0])
    assert any(decision.op_type == "Resize" for decision in sparse.explain(session))


@st.composite
def transposes(draw):
    """(order, shape, whether to name it): some dimensions of 1, one of them large enough for several items."""
    rank = draw(st.integers(1, 6))
    shape = tuple(draw(st.lists(st.sampled_from([1, 1, 2, 3, 5]), min_size=rank, max_size=rank)))
    large = draw(st.integers(0, rank - 1))
    shape = (*shape[:large], draw(st.sampled_from([64, 301])), *shape[large + 1 :])
    return draw(st.permutations(range(rank))), shape, draw(st.booleans())


@examples(100)
@given(transposes())
def test_transpose(case):
    """Any order of up to six dimensions; a batch in slices where the first stays, on two threads."""
    order, shape, named = case
    attributes = {} if order == list(range(len(order)))[::-1] else {"perm": order}
    node = helper.make_node("Transpose", ["p"], ["y"], **attributes)
    shapes = [shape, (2 * shape[0], *shape[1:])] if named and len(shape) > 1 else [shape]
    assert_same(carried([node], shape, declared=dynamic(shape) if len(shapes) > 1 else None), shapes, threads=2)


@pytest.mark.parametrize("opset", [11, 20])
def test_axes_of_one(opset):
    """Squeeze and Unsqueeze with axes as an attribute and as an input, of either sign, over changing batches."""

    def node(op_type, x, y, axes):
        given = [f"axes_{y}"] if opset >= 13 else []
        return helper.make_node(op_type, [x, *given], [y], **({} if given else {"axes": axes})), {f"axes_{y}": np.array(axes, np.int64)}

    nodes, weights = zip(
        node("Unsqueeze", "p", "a", [0, -2]),
        (helper.make_node("Relu", ["a"], ["b"]), {}),
        node("Squeeze", "b", "c", [0]),
        node("Unsqueeze", "c", "d", [1, 4]),
        node("Squeeze", "d", "y", [-2, 3] if opset >= 13 else [1]),
        strict=True,
    )
    constants = {name: array for made in weights for name, array in made.items()} if opset >= 13 else {}
    assert_same(carried(nodes, (3, 4, 6), constants, declared=dynamic((3, 4, 6)), opset=opset), [(3, 4, 6), (1, 4, 6), (5, 2, 6)])


def test_squeeze_without_axes():
    """Every dimension of 1 goes, where the shape is known."""
    assert_same(carried([helper.make_node("Squeeze", ["p"], ["y"])], (1, 3, 1, 4)), [(1, 3, 1, 4)])
    unknown = carried([helper.make_node("Squeeze", ["p"], ["y"])], (1, 3, 1, 4), declared=dynamic((1, 3, 1, 4)))
    assert reasons(unknown) == {"rank of 'y' is unknown"}


def test_squeeze_of_more_than_one():
    """An axis that turns out not to be 1 is an error that says so."""
    model = carried([helper.make_node("Squeeze", ["p", "axes"], ["y"])], (2, 3, 4), {"axes": np.array([0])}, declared=dynamic((2, 3, 4)))
    with pytest.raises(Exception, match="Squeeze removes a dimension that is missing or not 1"):
        owned_session(model).run(None, {"x": np.zeros((2, 3, 4), np.float32)})
