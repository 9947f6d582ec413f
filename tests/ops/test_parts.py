"""Operators that take a part of a value, or repeat it: the bits of the CPU provider, and no copy where the part is one run."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.ops import table as ops
from onnxruntime_ep_sparse.ops.costs import Setting
from onnxruntime_ep_sparse_kernels.isa import ISAS
from support.making import carried, dynamic, examples, model_of, noise, pruned
from support.nodes import C, one_node
from support.promises import assert_same, cpu_session, owned_session

FAR = np.iinfo(np.int64).max


@st.composite
def slices(draw):
    """(model, shape) of a Slice of some axes, with places inside and far outside, of either direction, alone or behind another."""
    shape = draw(st.lists(st.integers(1, 7), min_size=1, max_size=5))
    place = st.one_of(st.integers(-9, 9), st.sampled_from([FAR, -FAR - 1, FAR - 1]))
    nodes, weights, x = [], {}, "p"
    for i in range(draw(st.integers(1, 2))):
        axes = draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=len(shape), unique=True))
        # backwards through nothing, the CPU provider finds an element
        steps = [draw(st.sampled_from([1, 1, 1, 2, 3] if i else [1, 1, 1, 2, 3, -1, -2])) for _ in axes]
        lists = {
            "begin": [draw(place) for _ in axes],
            "end": [draw(place) for _ in axes],
            "axis": [axis - len(shape) * draw(st.integers(0, 1)) for axis in axes],
            "step": steps,
        }
        weights |= {f"{name}{i}": np.array(numbers, np.int64) for name, numbers in lists.items()}
        nodes.append(helper.make_node("Slice", [x, *(f"{name}{i}" for name in lists)], [f"s{i}"]))
        x = f"s{i}"
    nodes.append(helper.make_node("Neg", [x], ["y"]))
    return carried(nodes, shape, weights, declared=dynamic(shape) if draw(st.booleans()) else shape), tuple(shape)


@examples(80)
@given(slices())
def test_slices(case):
    """Any places, steps and axes, also of sizes that are known at run time."""
    model, shape = case
    assert_same(model, [shape])


def test_slice_with_attributes():
    """Before opset 10."""
    node = helper.make_node("Slice", ["p"], ["s"], starts=[1, -3], ends=[2, FAR], axes=[0, 2])
    assert_same(carried([node, helper.make_node("Neg", ["s"], ["y"])], (2, 3, 5), opset=9), [(2, 3, 5)])


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize(("sizes", "opset"), [([1, 3, 2], 13), ([1, 3, 2], 11), (None, 13), (None, 20), ([0, 6, 0], 13)])
def test_split(axis, sizes, opset):
    """By sizes and into equal parts; one result is not read."""
    shape = (6, 6, 6)
    inputs, weights, attributes = ["p"], {}, {"axis": axis}
    if sizes and opset >= 13:
        inputs, weights = ["p", "sizes"], {"sizes": np.array(sizes)}
    elif sizes:
        attributes["split"] = sizes
    elif opset >= 18:
        attributes["num_outputs"] = 3
    nodes = [
        helper.make_node("Split", inputs, ["a", "b", "c"], **attributes),
        helper.make_node("Relu", ["b"], ["r"]),
        helper.make_node("Concat", ["c", "r"], ["y"], axis=axis),
    ]
    assert_same(carried(nodes, shape, weights, opset=opset), [shape])


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("indices", [2, -1, [3], [0, 1, 2], [-3, -2, -1], [4, 3, 2, 1, 0], [-1, -3], [1, 3], [0]])
def test_gather(axis, indices):
    """A number takes the axis away, several keep it."""
    node = helper.make_node("Gather", ["p", "indices"], ["g"], axis=axis)
    model = carried([node, helper.make_node("Neg", ["g"], ["y"])], (5, 5, 5), {"indices": np.array(indices)}, declared=["n", 5, 5])
    assert_same(model, [(5, 5, 5)])


@pytest.mark.parametrize(
    ("op", "shape", "numbers", "output", "attributes", "copied"),
    [
        ("Slice", (1, 8, 9), [[2], [5], [1]], (1, 3, 9), {}, 0),
        ("Slice", (2, 8, 9), [[2], [5], [1]], (2, 3, 9), {}, 54),
        ("Slice", (1, 8, 9), [[0], [8], [1], [2]], (1, 4, 9), {}, 36),
        ("Slice", (8, 9), [[0], [7], [0]], (7, 9), {}, 0),
        ("Gather", (5, 4), [2], (4,), {"axis": 0}, 0),
        ("Gather", (3, 5, 4), [2], (3, 4), {"axis": 1}, 12),
        ("Gather", (3, 5, 4), [[2, 3]], (3, 2, 4), {"axis": 1}, 24),
        ("Gather", (1, 5, 4), [[3, 2]], (1, 2, 4), {"axis": 1}, 8),
    ],
)
def test_what_is_copied_has_a_price(op, shape, numbers, output, attributes, copied):
    """Our work is nothing where the part is one run of the value, as the runtime has it, and else a copy; ONNX Runtime always copies."""
    arrays = {place: np.array(each, np.int64) for place, each in enumerate(numbers, 1)}
    graph, node = one_node(op, [shape, *[()] * len(arrays)], output, attributes, arrays=arrays)
    estimate = ops.OPS[op].estimate(Setting(graph, ISAS[0], {}), node)
    assert estimate.ours == ({"step": 1, "copied": copied} if copied else {})
    assert estimate.ort["copied"] == np.prod(output)
    assert not estimate.ort_splits


def test_gather_beyond_the_end():
    """As with the CPU provider, the run fails."""
    node = helper.make_node("Gather", ["p", "indices"], ["g"], axis=0)
    model = carried([node, helper.make_node("Neg", ["g"], ["y"])], (5, 5), {"indices": np.array([2, 3])}, declared=["n", 5])
    assert_same(model, [(4, 5)])
    with pytest.raises(Exception, match="elements 2 to 4 of a dimension of 3"):
        owned_session(model).run(None, {"x": np.ones((3, 5), np.float32)})


@st.composite
def scatters(draw):
    """(model, shape) of a ScatterND by constant indices, each of which names one part."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    depth = draw(st.integers(1, len(shape)))
    count = int(np.prod(shape[:depth]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    chosen = rng.permutation(count)[: draw(st.integers(0, count))]
    places = np.stack(np.unravel_index(chosen, shape[:depth]), -1)
    places -= np.array(shape[:depth]) * (rng.random(places.shape) < 0.5)  # from the end
    dtype = draw(st.sampled_from([TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL]))
    make = helper.make_node
    nodes = [
        make("Cast", ["p"], ["data"], to=dtype),
        make("Gather", ["p", "some"], ["g"]) if shape[0] > 1 else make("Neg", ["p"], ["g"]),
        make("ReduceMax", ["g"], ["total"], keepdims=0),
        make("Mul", ["total", "ones"], ["u"]),
        make("Cast", ["u"], ["updates"], to=dtype),
        make("ScatterND", ["data", "indices", "updates"], ["s"]),
        make("Cast", ["s"], ["y"], to=TensorProto.FLOAT),
    ]
    ones = noise(rng, len(chosen), *shape[depth:])
    return carried(nodes, shape, {"indices": places, "ones": ones, "some": np.array([0, 1])}, dynamic(shape)), shape


@given(scatters())
@examples(60)
def test_scatter(case):
    """Any depth of indices from either end; floats, integers and truths."""
    model, shape = case
    assert_same(model, [tuple(shape)])


def scatter(indices, shape=(4, 5)):
    """p with rows of -1 by these indices."""
    node = helper.make_node("ScatterND", ["p", "indices", "u"], ["s"])
    rows = np.arange(1, len(indices) + 1, dtype=np.float32)[:, None] * np.ones(shape[1:], np.float32)
    weights = {"indices": np.array(indices)[:, None], "u": -rows}
    return carried([node, helper.make_node("Neg", ["s"], ["y"])], shape, weights, declared=["n", 5])


def test_scatter_twice_to_one_place():
    """The last one counts, as with one thread of the CPU provider."""
    assert_same(scatter([2, 0, 2, -2]), [(4, 5)], threads=1)


def test_scatter_beyond_the_end():
    """As with the CPU provider, the run fails; the next one goes on."""
    session = owned_session(scatter([0, 3]))
    with pytest.raises(Exception, match="idx=3 must be within"):
        session.run(None, {"x": np.ones((3, 5), np.float32)})
    assert session.run(None, {"x": np.ones((4, 5), np.float32)})[0][3, 0] == 2


def test_scatter_of_other_updates():
    """A shape that the indices do not ask for is refused."""
    nodes = [helper.make_node("ScatterND", ["p", "indices", "u"], ["s"]), helper.make_node("Neg", ["s"], ["y"])]
    model = carried(nodes, (3, 5), {"indices": np.array([[0], [1]]), "u": np.ones((3, 5), np.float32)}, declared=["n", 5])
    with pytest.raises(Exception, match="updates"):
        owned_session(model).run(None, {"x": np.ones((3, 5), np.float32)})


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL])
@pytest.mark.parametrize("k", [None, -FAR - 1, -2, 0, 1, 3, FAR, "computed"])
@pytest.mark.parametrize("upper", [0, 1])
def test_trilu(k, upper, dtype):
    """Both triangles from any diagonal; the same program for several shapes. NaN and infinities outside become 0."""
    make = helper.make_node
    nodes = [
        make("Div", ["p", "zeros"], ["d"]),
        make("Where", ["some", "d", "p"], ["w"]),
        make("Cast", ["p" if dtype == TensorProto.INT64 else "w"], ["c"], to=dtype),
    ]
    weights = {"zeros": np.zeros(1, np.float32), "some": np.array([True, False, True, False, False, True])}
    if k == "computed":
        nodes += [make("Shape", ["p"], ["t"], start=0, end=1), make("Squeeze", ["t"], ["k"])]
    elif k is not None:
        weights["k"] = np.array(k)
    nodes.append(make("Trilu", ["c", *(["k"] if k is not None else [])], ["u"], upper=upper))
    model = carried([*nodes, make("Cast", ["u"], ["y"], to=TensorProto.FLOAT)], (2, 4, 6), weights, declared=dynamic((2, 4, 6)))
    session, theirs = owned_session(model), cpu_session(model)
    for shape in ((2, 4, 6), (1, 7, 6), (3, 1, 6)):
        feeds = {"x": 9 * noise(np.random.default_rng(1), *shape)}
        np.testing.assert_array_equal(session.run(None, feeds)[0], theirs.run(None, feeds)[0])


@pytest.mark.parametrize("target", [[1], [4, 1, 1], [2, 3, 5], [2, 1, 3, 5], [1, 3, 1], []])
@pytest.mark.parametrize("shape", [(1, 3, 1), (2, 1, 5), (2, 3, 5)])
def test_expand(target, shape):
    """Both sides may broadcast."""
    if any(d not in (1, e) and e != 1 for d, e in zip(reversed(target), reversed(shape), strict=False)):
        pytest.skip("the operands are not of one shape")
    nodes = [helper.make_node("Expand", ["p", "shape"], ["e"]), helper.make_node("Neg", ["e"], ["y"])]
    assert_same(carried(nodes, shape, {"shape": np.array(target, np.int64)}, declared=dynamic(shape)), [shape])


@pytest.mark.parametrize("x_first", [False, True])
@pytest.mark.parametrize("mask", [(4, 5), (5,), (3, 1, 1), ()])
@pytest.mark.parametrize("other", [(), (5,), (2, 3, 4, 5)])
def test_where(x_first, mask, other):
    """A constant mask puts constants into a value, infinities too."""
    rng = np.random.default_rng(5)
    weights = {"mask": np.asarray(rng.random(mask) < 0.5), "c": np.asarray(noise(rng, *other)) if other else np.float32(-np.inf)}
    operands = ["p", "c"] if x_first else ["c", "p"]
    nodes = [helper.make_node("Where", ["mask", *operands], ["w"]), helper.make_node("Relu", ["w"], ["y"])]
    assert_same(carried(nodes, (2, 3, 4, 5), weights), [(2, 3, 4, 5)])


def test_parts_of_one_image_are_not_copied():
    """At batch 1 the halves of the channels are read where they lie; at batch 2 the same program copies them, image by image or not."""
    rng = np.random.default_rng(7)
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "v"], ["a"]),
        make("Split", ["a"], ["b", "c"], axis=1),
        make("Conv", ["c", "w"], ["d"], pads=[1] * 4),
        make("Concat", ["b", "c", "d"], ["e"], axis=1),
        make("Slice", ["e", "begin", "end", "axis"], ["f"]),
        make("Conv", ["f", "w"], ["y"]),
    ]
    weights = {"v": pruned(rng, (8, 3, 1, 1), 0.5), "w": pruned(rng, (4, 4, 3, 3), 0.5)}
    weights |= {"begin": np.array([4]), "end": np.array([8]), "axis": np.array([1])}
    model = model_of(nodes, {"x": ["n", 3, 9, 9]}, ["y", "f"], weights, opset=13)
    assert_same(model, [(1, 3, 9, 9), (2, 3, 9, 9)], exact=False)
    session = owned_session(model_of(nodes, {"x": [1, 3, 9, 9]}, ["y"], weights, opset=13), {"profile": "1"}, regions=1)
    session.run(None, {"x": noise(rng, 1, 3, 9, 9)})
    parts = [step for step in sparse.step_times(session) if step.kind == "part"]
    assert len(parts) == 3
    assert not any(step.moved_bytes for step in parts)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "arrays", "code"),
    [
        ("Slice", [(2, 3), (1,), (1,)], {}, {}, "parameter-not-constant"),
        ("Slice", [(2, 3), (C,), (C,), (C,)], {}, {1: [0], 2: [1], 3: [2]}, "mismatched"),
        ("Slice", [(2, 3), (C,), (C,), (C,)], {}, {1: [0, 1], 2: [1, 2], 3: [1, -1]}, "mismatched"),
        ("Slice", [(2, 3), (C,), (C,), (C,), (C,)], {}, {1: [0], 2: [1], 3: [0], 4: [0]}, "out-of-range"),
        ("Split", [(2, 3), (C,)], {"axis": 1}, {1: [2]}, "mismatched"),
        ("Split", [(2, "n")], {"axis": 1}, {}, "size-unknown"),
        ("Split", [(2, 3)], {"axis": 2}, {}, "out-of-range"),
        ("Split", [(2, 3), (1,)], {"axis": 1}, {}, "parameter-not-constant"),
        ("Gather", [(2, 3), (1,)], {}, {}, "integers-only"),
        ("Gather", [(9, 3), (C,)], {"axis": 2}, {1: [0]}, "out-of-range"),
        ("ScatterND", [(2, 3), (1, 1), (1, 3)], {}, {}, "integers-only"),
        ("Expand", [(2, 3), (1,)], {}, {}, "parameter-not-constant"),
        ("Expand", [(2, 3), (C,)], {}, {1: [-1]}, "out-of-range"),
        ("Expand", [(2, 3), (C,)], {}, {1: [1] * 9}, "unsupported-rank"),
        ("Where", [(C, 3), (C, 3), (C,)], {}, {0: [True, False, True], 2: np.float32(1)}, "all-constant"),
    ],
)
def test_nodes_that_cannot_run(op_type, inputs, attributes, arrays, code):
    """Each has its reason."""
    finding = ops.can_run(*one_node(op_type, inputs, (None,), attributes, arrays=arrays))
    assert (finding and finding.code) == code
