"""The operators that come along with products: pools, elementwise operators, BatchNormalization, shapes, behind a product that is exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.ops import elementwise
from support.making import examples, model_of, noise
from support.promises import assert_close, cpu_session, make_session, owned_session

BINARY = {name: row.ufunc for name, row in elementwise.BINARY.items() if not row.keeps_x}
"""numpy's are the reference (test_elementwise.py): ONNX Runtime multiplies by the reciprocal of a constant divisor."""


def behind_identity(nodes, shape, weights=None, inputs=None, declared=None):
    """x -> MatMul by the identity -> p, then the nodes, to y."""
    nodes = [helper.make_node("MatMul", ["x", "identity"], ["p"]), *nodes]
    weights = {"identity": np.eye(shape[-1], dtype=np.float32), **(weights or {})}
    return model_of(nodes, {"x": declared or shape, **(inputs or {})}, ["y"], weights)


@st.composite
def pools(draw):
    """(model, inputs of two runs) of a pool in which every window meets the image."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rank = draw(st.sampled_from([1, 2, 2, 3]))
    op = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    kernel = draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))
    attributes = {"kernel_shape": kernel, "strides": draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))}
    dilations, auto_pad = [1] * rank, draw(st.sampled_from(["NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto_pad != "NOTSET":
        attributes["auto_pad"] = auto_pad
        # behind SAME, a stride beyond the kernel would ask for negative padding: ONNX Runtime's pools differ there among themselves
        attributes["strides"] = [min(s, k) for s, k in zip(attributes["strides"], kernel, strict=True)]
    else:
        if draw(st.booleans()):
            dilations = attributes["dilations"] = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
        attributes["pads"] = [draw(st.integers(0, k - 1)) for k in kernel * 2]
        if op == "MaxPool" or dilations == [1] * rank:
            attributes["ceil_mode"] = draw(st.integers(0, 1))
    if op == "AveragePool":
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    least = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    shapes = [[draw(st.integers(1, 2)), 3, *(n + draw(st.integers(0, 20 if rank < 3 else 6)) for n in least)] for _ in range(2)]
    shapes[1][-1] = shapes[0][-1]
    declared = ["n", 3, *(f"s{i}" for i in range(rank - 1)), shapes[0][-1]]
    model = behind_identity([helper.make_node(op, ["p"], ["y"], **attributes)], shapes[0], declared=declared)
    return model, [{"x": noise(rng, *shape)} for shape in shapes]


@examples(250)
@given(pools())
def test_pools(case):
    """MaxPool and AveragePool in one to three dimensions with every attribute."""
    model, runs = case
    session, theirs = owned_session(model), cpu_session(model)
    for feeds in runs:
        (y,), (y_ort,) = session.run(None, feeds), theirs.run(None, feeds)
        assert_close(y, y_ort)
        if model.graph.node[1].op_type == "MaxPool":
            assert np.array_equal(y, y_ort)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(2, 3, 7), (1, 5, 9, 11), (2, 2, 3, 4, 5), (3, 1, 1, 1)])
def test_global_pools(op, shape):
    """One number an image and channel."""
    model = behind_identity([helper.make_node(op, ["p"], ["y"])], shape)
    feeds = {"x": noise(np.random.default_rng(0), *shape)}
    assert_close(owned_session(model).run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])


@st.composite
def binaries(draw):
    """(model, inputs, result) of a binary operator whose operands broadcast."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    whole = draw(st.lists(st.integers(1, 7), min_size=1, max_size=5))
    shapes = []
    for _ in range(2):
        own = [d if draw(st.integers(0, 2)) else 1 for d in whole]
        shapes.append(own[draw(st.integers(0, len(own))) :])
    shapes[0] = shapes[0] or whole[-1:]
    op, constant = draw(st.sampled_from(list(BINARY))), draw(st.booleans())
    operands = ["p", "q"] if draw(st.booleans()) else ["q", "p"]
    x, q = noise(rng, *shapes[0]), np.asarray(noise(rng, *shapes[1]))
    nodes = [helper.make_node(op, operands, ["y"])]
    result = BINARY[op](*((x, q) if operands[0] == "p" else (q, x)))
    if draw(st.booleans()):
        nodes = [helper.make_node(op, operands, ["s"]), helper.make_node("Relu", ["s"], ["y"])]
        result = np.maximum(result, 0)
    declared = [f"d{i}" for i in range(len(shapes[0]) - 1)] + shapes[0][-1:] if draw(st.booleans()) else shapes[0]
    if constant:
        return behind_identity(nodes, shapes[0], {"q": q}, declared=declared), {"x": x}, result
    return behind_identity(nodes, shapes[0], inputs={"q": shapes[1]}, declared=declared), {"x": x, "q": q}, result


@examples(300)
@given(binaries())
def test_binary_operators(case):
    """Every broadcast of two operands, either of them constant or not: the bits of IEEE arithmetic."""
    model, feeds, result = case
    assert np.array_equal(owned_session(model).run(None, feeds)[0], result)


@pytest.mark.parametrize("op", BINARY)
def test_special_numbers(op):
    """NaN, infinities, zeros of both signs and denormals as either operand."""
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.5, 3e38, 1e-40], np.float32)
    for operands in (["p", "q"], ["q", "p"]):
        model = behind_identity([helper.make_node(op, operands, ["y"])], [len(special), 1], {"q": special})
        x = special[:, None]
        with np.errstate(all="ignore"):
            result = BINARY[op](*((x, special) if operands[0] == "p" else (special, x)))
        y = owned_session(model).run(None, {"x": x})[0]
        # a product adds its terms to +0: the -0 among them is lost
        lost = (x == 0) & np.signbit(x) & (op == "Div") & (operands[0] == "q")
        assert np.array_equal(np.where(lost, 0, y), np.where(lost, 0, result), equal_nan=True)


@pytest.mark.parametrize("slope", [(), (1,), (9, 1), (4, 1, 1), (3, 4, 9, 1), (3, 1, 9, 1)])
def test_prelu(slope):
    """A slope of any shape that broadcasts to the value, and special numbers: the CPU provider's bits."""
    rng = np.random.default_rng(7)
    x, q = noise(rng, 3, 4, 9, 1), np.asarray(noise(rng, *slope))
    x[0, :, :, 0] = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.5, -3e38, -1e-40]
    model = behind_identity([helper.make_node("PRelu", ["p", "q"], ["y"])], x.shape, {"q": q})
    (y,), (y_ort,) = owned_session(model).run(None, {"x": x}), cpu_session(model).run(None, {"x": x})
    np.testing.assert_array_equal(y, y_ort)


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 6), (2, 5, 4, 3)])
def test_batch_normalization(shape):
    """Behind an activation, where nobody can fold it into a product."""
    rng = np.random.default_rng(1)
    weights = {name: np.abs(noise(rng, shape[1])) + (name == "variance") for name in ("scale", "offset", "mean", "variance")}
    nodes = [helper.make_node("Relu", ["p"], ["r"]), helper.make_node("BatchNormalization", ["r", *weights], ["y"], epsilon=1e-3)]
    model = behind_identity(nodes, shape, weights)
    feeds = {"x": noise(rng, *shape)}
    assert_close(owned_session(model).run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])


@pytest.mark.parametrize(("low", "high"), [(None, None), (-0.5, None), (None, 0.25), (-0.5, 0.25), (0.5, -0.5)])
def test_clip(low, high):
    """With and without limits, and with limits that cross."""
    weights = {name: np.float32(limit) for name, limit in (("low", low), ("high", high)) if limit is not None}
    names = ["" if low is None else "low", "" if high is None else "high"]
    nodes = [helper.make_node("Clip", ["p", *names], ["c"]), helper.make_node("Neg", ["c"], ["y"])]
    model = behind_identity(nodes, [3, 5], weights)
    feeds = {"x": noise(np.random.default_rng(2), 3, 5)}
    assert np.array_equal(owned_session(model).run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])


@pytest.mark.parametrize("axis", [-4, -1, 0, 1, 2, 3, 4])
def test_flatten(axis):
    """Every axis, also counted from the end, over changing shapes."""
    model = behind_identity([helper.make_node("Flatten", ["p"], ["y"], axis=axis)], [2, 3, 4, 5], declared=["a", "b", "c", 5])
    session, theirs = owned_session(model), cpu_session(model)
    for shape in ((2, 3, 4, 5), (1, 6, 2, 5), (0, 3, 4, 5)):
        feeds = {"x": noise(np.random.default_rng(3), *shape)}
        y, y_ort = session.run(None, feeds)[0], theirs.run(None, feeds)[0]
        assert y.shape == y_ort.shape
        assert np.array_equal(y, y_ort)


@pytest.mark.parametrize(
    ("target", "shape", "zero"),
    [([0, -1], (2, 3, 4), 0), ([-1], (2, 3, 4), 0), ([4, 0, 2], (2, 3, 4), 0), ([0, -1, 3], (4, 5, 3), 0), ([0, 4], (3, 0, 4), 1)],
)
def test_reshape(target, shape, zero):
    """0 copies a dimension, or is one; -1 is what is left."""
    nodes = [helper.make_node("Reshape", ["p", "target"], ["y"], **({"allowzero": 1} if zero else {}))]
    model = behind_identity(nodes, shape, {"target": np.array(target)}, declared=[f"d{i}" for i in range(len(shape) - 1)] + [shape[-1]])
    feeds = {"x": noise(np.random.default_rng(4), *shape)}
    y, y_ort = owned_session(model).run(None, feeds)[0], cpu_session(model).run(None, feeds)[0]
    assert y.shape == y_ort.shape
    assert np.array_equal(y, y_ort)


@pytest.mark.parametrize(
    ("op", "attributes", "reason"),
    [
        ("MaxPool", {"kernel_shape": [2, 2], "storage_order": 1}, "storage_order=1 is not supported"),
        ("MaxPool", {"kernel_shape": [2, 2], "strides": [1, 2**61]}, f"strides is {2**61}: 1 to 65535 is supported"),
        ("MaxPool", {"kernel_shape": [2**62, 2]}, f"kernel_shape is {2**62}: 1 to 65535 is supported"),
        ("AveragePool", {"kernel_shape": [2000, 1], "dilations": [2000, 1]}, "the window's extent is 3998001: 1 to 1048576 is supported"),
        ("DepthToSpace", {"blocksize": 2**31}, "blocksize is 2147483648: 1 to 1023 is supported"),
        ("Clip", {}, "input min is not constant"),
    ],
)
def test_declined(op, attributes, reason):
    """What a neighbour cannot do stays outside of the region, with the reason."""
    names = ["p", "limit"] if op == "Clip" else ["p"]
    model = behind_identity(
        [helper.make_node(op, names, ["y"], name="it", **attributes)], [1, 2, 4, 4], inputs={"limit": []} if op == "Clip" else {}
    )
    made = {decision.op_type: decision for decision in sparse.explain(make_session(model))}
    assert made["MatMul"].taken
    assert (made[op].taken, made[op].reason) == (False, reason)
