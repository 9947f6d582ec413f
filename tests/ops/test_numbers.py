"""Numbers that the graph computes from shapes: the plan computes them, and the CPU provider's results and refusals stay."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as state

import onnxruntime_ep_sparse as sparse
from support.making import examples, model_of, noise, pruned
from support.promises import assert_close, assignment, cpu_session, make_session, owned_session, reasons

FAR = np.iinfo(np.int64).max
SHAPES = [(2, 3, 8), (1, 5, 8), (4, 1, 8), (2, 3, 8), (3, 7, 8)]
N = helper.make_node


class Chain:
    """Nodes that compute numbers, with the constants that they read."""

    def __init__(self):
        self.nodes, self.weights = [], {}

    def constant(self, *numbers, dtype=np.int64, scalar=False):
        name = f"c{len(self.weights)}"
        self.weights[name] = np.array(numbers[0] if scalar else numbers, dtype)
        return name

    def node(self, op, *inputs, **attributes):
        name = f"n{len(self.nodes)}"
        self.nodes.append(N(op, list(inputs), [name], **attributes))
        return name

    def sized(self, x, axis):
        """[size] of a dimension, as TorchScript's exporter writes it."""
        size = self.node("Gather", self.node("Shape", x), self.constant(axis, scalar=True), axis=0)
        return self.node("Unsqueeze", size, self.constant(0))

    def model(self, last, opset=17, more=()):
        """x [b, t, 8] -> MatMul by the identity -> p, then the numbers, then `last`, which makes y."""
        nodes = [N("MatMul", ["x", "identity"], ["p"]), *self.nodes, *last]
        weights = {"identity": np.eye(8, dtype=np.float32), **self.weights}
        made = model_of(nodes, {"x": ["b", "t", 8]}, ["y"], weights, opset=opset)
        for name, dtype, shape in more:
            made.graph.input.append(helper.make_tensor_value_info(name, dtype, shape))
        return made


def assert_equal(model, shapes=SHAPES, session=None, **feeds):
    """The bits of the CPU provider for all these shapes in one session, in which all nodes are ours."""
    ours, theirs = session or owned_session(model), cpu_session(model)
    for i, shape in enumerate(shapes):
        fed = {"x": noise(np.random.default_rng(i), *shape), **feeds}
        for y, y_ort in zip(ours.run(None, fed), theirs.run(None, fed), strict=True):
            assert y.dtype == y_ort.dtype
            assert np.array_equal(y, y_ort)


REFUSALS = (state.Fail, state.InvalidArgument, state.RuntimeException)


def assert_both(model, feeds):
    """The CPU provider's bits, or a refusal where it refuses: of the model, or of these sizes."""
    try:
        expected = cpu_session(model).run(None, feeds)
    except REFUSALS:
        with pytest.raises(REFUSALS):
            make_session(model).run(None, feeds)
        return
    for y, y_ort in zip(owned_session(model).run(None, feeds), expected, strict=True):
        assert np.array_equal(y, y_ort)


# --- what exporters write


def heads(chain, x="p"):
    """[b, t, 2, 4] of [b, t, 8], and back, as TorchScript writes attention."""
    batch, times = chain.sized(x, 0), chain.sized(x, 1)
    split = chain.node("Concat", batch, times, chain.constant(-1), chain.constant(4), axis=0)
    joined = chain.node("Concat", batch, times, chain.constant(8), axis=0)
    return [
        N("Reshape", [x, split], ["h"]),
        N("Transpose", ["h"], ["ht"], perm=[0, 2, 1, 3]),
        N("Transpose", ["ht"], ["hh"], perm=[0, 2, 1, 3]),
        N("Reshape", ["hh", joined], ["y"]),
    ]


def test_heads_of_torchscript():
    """Shape, Gather, Unsqueeze, Concat, Reshape: one region, plans for several shapes, some of them again."""
    chain = Chain()
    model = chain.model(heads(chain))
    assert_equal(model, session=owned_session(model, regions=1))


def test_transposed_keys_of_dynamo():
    """Shape with parts of it by Slice, places far outside, in another order."""
    chain = Chain()
    dims = chain.node("Shape", "p", start=0)
    ends = [(-FAR - 1, -2), (-2, -1), (-1, FAR)]
    front, rows, columns = (chain.node("Slice", dims, chain.constant(begin), chain.constant(end)) for begin, end in ends)
    flat = chain.node("Concat", chain.constant(-1), rows, columns, axis=0)
    back = chain.node("Concat", front, columns, rows, axis=0)
    last = [N("Reshape", ["p", flat], ["f"]), N("Transpose", ["f"], ["ft"], perm=[0, 2, 1]), N("Reshape", ["ft", back], ["y"])]
    assert_equal(chain.model(last))


def test_expand_of_torchscript():
    """A class token, expanded to the batch: -1 becomes 1 by Equal and Where."""
    chain = Chain()
    listed = chain.node("Concat", chain.sized("p", 0), chain.constant(-1), chain.constant(-1), axis=0)
    target = chain.node("Reshape", listed, chain.constant(-1))
    equal = chain.node("Equal", target, chain.constant(-1, -1, -1))
    chosen = chain.node("Where", equal, chain.constant(1, 1, 1), target)
    chain.weights["token"] = noise(np.random.default_rng(0), 1, 1, 8)
    last = [N("Expand", ["token", chosen], ["e"]), N("Concat", ["e", "p"], ["y"], axis=1)]
    assert_equal(chain.model(last))


def test_slice_to_computed_places():
    """The first half of the times, and the last one."""
    chain = Chain()
    times = chain.sized("p", 1)
    half = chain.node("Div", chain.node("Add", times, chain.constant(1)), chain.constant(2))
    last = [
        N("Slice", ["p", chain.constant(0), half, chain.constant(1)], ["a"]),
        N("Slice", ["p", chain.node("Sub", times, chain.constant(1)), times, chain.constant(1)], ["z"]),
        N("Concat", ["a", "z"], ["y"], axis=1),
    ]
    assert_equal(chain.model(last))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("whole", [True, False])
def test_resize_to_computed_sizes(mode, whole):
    """The sizes of another image, or the own ones times a number by way of floats, as dynamic segmentation nets have them."""
    chain = Chain()
    dims = chain.node("Shape", "c")
    front = chain.node("Slice", dims, chain.constant(0), chain.constant(2), chain.constant(0))
    other = chain.node("Slice", chain.node("Shape", "x") if whole else dims, chain.constant(2), chain.constant(4), chain.constant(0))
    if not whole:
        scaled = chain.node("Mul", chain.node("Cast", other, to=TensorProto.FLOAT), chain.constant(1.7, dtype=np.float32))
        other = chain.node("Cast", chain.node("Floor", scaled), to=TensorProto.INT64)
    sizes = chain.node("Concat", front, chain.node("Cast", other, to=TensorProto.INT64), axis=0)
    weight = pruned(np.random.default_rng(0), (5, 3, 3, 3))
    nodes = [N("Conv", ["x", "w"], ["c"], strides=[2, 2]), *chain.nodes]
    nodes.append(N("Resize", ["c", "", "", sizes], ["y"], mode=mode, coordinate_transformation_mode="half_pixel"))
    model = model_of(nodes, {"x": ["n", 3, "h", "w"]}, ["y"], {"w": weight, **chain.weights}, opset=17)
    ours, theirs = owned_session(model, regions=1), cpu_session(model)
    for shape in [(1, 3, 9, 12), (1, 3, 20, 7), (2, 3, 9, 12), (1, 3, 9, 12), (1, 3, 40, 41)]:
        feeds = {"x": noise(np.random.default_rng(1), *shape)}
        assert_close(ours.run(None, feeds)[0], theirs.run(None, feeds)[0])


def test_resize_of_channels_is_declined():
    """Sizes of which nothing is known may change the number of channels."""
    nodes = [N("Conv", ["x", "w"], ["c"]), N("Resize", ["c", "", "", "s"], ["y"], mode="nearest")]
    model = model_of(nodes, {"x": [1, 3, "h", "w"]}, ["y"], {"w": np.ones((3, 3, 1, 1), np.float32)}, opset=17)
    model.graph.input.append(helper.make_tensor_value_info("s", TensorProto.INT64, [4]))
    decisions = sparse.explain(make_session(model))
    assert [d.reason for d in decisions if not d.taken] == ["axes other than height and width are not supported"]


# --- at the border of a region


def test_numbers_that_leave():
    """Sizes are results of the model, too: integers, a truth and a float."""
    chain = Chain()
    last = heads(chain)
    times = chain.sized("p", 1)
    made = {
        "n": times,
        "even": chain.node("Equal", chain.node("Mod", times, chain.constant(2)), chain.constant(0)),
        "real": chain.node("Sqrt", chain.node("Cast", times, to=TensorProto.FLOAT)),
        "small": chain.node("Cast", times, to=TensorProto.INT32),
    }
    types = [TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT, TensorProto.INT32]
    model = chain.model([*last, *(N("Identity", [source], [name]) for name, source in made.items())])
    model.graph.output.extend(helper.make_tensor_value_info(name, type_, [1]) for name, type_ in zip(made, types, strict=True))
    assert_equal(model)


def test_numbers_that_come_in():
    """A size that is an input: a plan is that of its contents."""
    chain = Chain()
    target = chain.node("Concat", chain.sized("p", 0), "columns", chain.constant(-1), axis=0)
    model = chain.model([N("Reshape", ["p", target], ["y"])], more=[("columns", TensorProto.INT64, [1])])
    ours = owned_session(model)
    for columns in (1, 4, 12, 4, 24, 2):
        assert_equal(model, [(2, 3, 8)], session=ours, columns=np.array([columns]))
    with pytest.raises(state.Fail, match="Reshape of 48 elements"):
        ours.run(None, {"x": noise(np.random.default_rng(0), 2, 3, 8), "columns": np.array([5])})


def test_shapes_of_other_types():
    """The shape of token numbers, which no step reads."""
    nodes = [
        N("MatMul", ["x", "w"], ["p"]),
        N("Shape", ["ids"], ["s"]),
        N("Concat", ["s", "four"], ["t"], axis=0),
        N("Reshape", ["p", "t"], ["y"]),
    ]
    weights = {"w": np.eye(4, dtype=np.float32), "four": np.array([4])}
    model = model_of(nodes, {"x": ["n", 4]}, ["y"], weights, opset=17)
    model.graph.input.append(helper.make_tensor_value_info("ids", TensorProto.INT64, ["b", "t"]))
    assert_equal(model, [(6, 4)], ids=np.zeros((2, 3), np.int64))
    assert_equal(model, [(6, 4)], ids=np.zeros((6, 1), np.int64))


def test_numbers_in_the_middle():
    """A number that another operator reads before its result comes back: no region may hold both sides."""
    chain = Chain()
    size = chain.node("Gather", chain.node("Shape", "p"), chain.constant(1, scalar=True), axis=0)
    places = chain.node("Range", chain.constant(0, scalar=True), size, chain.constant(1, scalar=True))
    far = chain.node("Cast", places, to=TensorProto.FLOAT)
    column = chain.node("Unsqueeze", far, chain.constant(0, 2))
    model = chain.model([N("Add", ["p", column], ["q"]), N("MatMul", ["q", "identity"], ["y"])])
    assert_equal(model, session=make_session(model))


def test_no_region_of_shapes_alone():
    """Numbers are no reason to take anything, and neither `auto` nor `always` begins with them."""
    nodes = [N("Shape", ["x"], ["s"]), N("Gather", ["s", "i"], ["g"]), N("Mul", ["g", "i"], ["m"]), N("Asinh", ["x"], ["y"])]
    model = model_of(nodes, {"x": ["b", "t"]}, ["y"], {"i": np.array([1])}, opset=17)
    model.graph.output.append(helper.make_tensor_value_info("m", TensorProto.INT64, [1]))
    for policy in ("auto", "always"):
        assert {provider for provider, _ in assignment(make_session(model, {"policy": policy}))} == {"CPUExecutionProvider"}


# --- what cannot be


@pytest.mark.parametrize("numbers", [(-1, -1), (-1, -5), (0, 0), (2, 5), (1 << 61, 2), (1 << 40, 1 << 40), (-1, 0)], ids=str)
def test_refused_shapes(numbers):
    """-1 twice, negative sizes, sizes that do not fit: what the CPU provider does."""
    chain = Chain()
    same = chain.node("Div", chain.sized("p", 0), chain.sized("p", 0))  # 1, so that nothing is a constant
    parts = [chain.node("Mul", same, chain.constant(number)) for number in numbers]
    target = chain.node("Concat", *parts, axis=0)
    assert_both(chain.model([N("Reshape", ["p", target], ["y"])]), {"x": noise(np.random.default_rng(0), 2, 3, 8)})


@pytest.mark.parametrize("op", ["Div", "Mod"])
def test_division_by_zero(op):
    """It fails the run, as the CPU provider's division does, and leaves the session usable."""
    chain = Chain()
    size = chain.sized("p", 1)
    rest = chain.node(op, chain.constant(24), chain.node("Sub", size, chain.constant(3)))
    target = chain.node("Concat", chain.sized("p", 0), chain.node("Max", rest, chain.constant(1)), chain.constant(-1), axis=0)
    session = owned_session(chain.model([N("Reshape", ["p", target], ["y"])]))
    with pytest.raises(state.Fail, match="division by zero"):
        session.run(None, {"x": np.ones((2, 3, 8), np.float32)})
    assert session.run(None, {"x": np.ones((3, 9, 8), np.float32)})[0].shape[0] == 3


def test_of_the_values_of_a_tensor():
    """A number that is computed from a tensor's values stays with the CPU provider, and its reader too."""
    chain = Chain()
    greatest = chain.node("ReduceMax", "p", keepdims=0)
    count = chain.node("Cast", chain.node("Abs", greatest), to=TensorProto.INT64)
    target = chain.node("Concat", chain.sized("p", 0), chain.node("Unsqueeze", count, chain.constant(0)), chain.constant(-1), axis=0)
    session = make_session(chain.model([N("Reshape", ["p", target], ["q"]), N("Asinh", ["q"], ["y"])]))
    left = {d.op_type: d.reason for d in sparse.explain(session) if not d.taken}
    assert left["Cast"] == "the number depends on the values of a tensor, not on shapes"
    x = np.full((2, 3, 8), 4.5, np.float32)
    assert session.run(None, {"x": x})[0].shape == (2, 4, 6)


# --- any arithmetic


BINARY = ("Add", "Sub", "Mul", "Div", "Mod", "Max", "Min")
OPERATORS = (*BINARY, "Abs", "Neg", "Concat", "Gather", "Slice", "Where", "Floor")
FACTORS = st.sampled_from([0.5, 1.5, -2.0])


@st.composite
def chains(draw):
    """A model whose y is p in a shape that random arithmetic of sizes yields, sometimes one that does not fit."""
    chain = Chain()
    lists = [(chain.sized("p", 0), 1), (chain.sized("p", 1), 1), (chain.node("Shape", "p"), 3), (chain.constant(2), 1)]
    for _ in range(draw(st.integers(1, 8))):
        (a, n), (b, m) = draw(st.sampled_from(lists)), draw(st.sampled_from(lists))
        op = draw(st.sampled_from(OPERATORS))
        if op in ("Abs", "Neg"):
            lists.append((chain.node(op, a), n))
        elif op == "Concat" and n + m <= 5:
            lists.append((chain.node(op, a, b, axis=0), n + m))
        elif op == "Gather":
            places = draw(st.lists(st.integers(-n, n - 1), min_size=1, max_size=4))
            lists.append((chain.node(op, a, chain.constant(*places), axis=0), len(places)))
        elif op == "Slice":
            begin, step = draw(st.integers(0, n - 1)), draw(st.sampled_from([1, 2, -1]))
            count = len(range(n)[begin::step])
            end = FAR if step > 0 else -FAR
            lists.append((chain.node(op, a, *(chain.constant(number) for number in (begin, end, 0, step))), count))
        elif op == "Floor":
            scaled = chain.node("Mul", chain.node("Cast", a, to=TensorProto.FLOAT), chain.constant(draw(FACTORS), dtype=np.float32))
            rounded = chain.node(draw(st.sampled_from([op, "Ceil", "Round"])), scaled)
            lists.append((chain.node("Cast", rounded, to=TensorProto.INT64), n))
        elif op == "Where" and n == m:
            condition = chain.node(draw(st.sampled_from(["Less", "Greater", "Equal", "LessOrEqual", "GreaterOrEqual"])), a, b)
            lists.append((chain.node(op, chain.node("Not", condition), a, b), n))
        elif op in BINARY and (1 in (n, m) or n == m):
            lists.append((chain.node(op, a, b), max(n, m)))
    target, count = lists[-1]
    if draw(st.booleans()) and count < 5:
        target = chain.node("Concat", target, chain.constant(-1), axis=0)
    return chain.model([N(draw(st.sampled_from(["Reshape", "Reshape", "Expand"])), ["p", target], ["y"])], opset=17)


@examples(60)
@given(chains(), st.tuples(st.integers(1, 4), st.integers(1, 5)))
def test_any_arithmetic(model, sizes):
    """The CPU provider's bits, or a refusal where it refuses."""
    assert_both(model, {"x": noise(np.random.default_rng(0), *sizes, 8)})


# --- plans


def test_several_shapes_at_once():
    """Threads that run one session, each with shapes of its own in turn."""
    chain = Chain()
    model = chain.model(heads(chain))
    session = owned_session(model)

    def run(first):
        for i in range(40):
            x = noise(np.random.default_rng(i), 1 + (first + i) % 5, 1 + (first * i) % 9, 8)
            assert np.array_equal(session.run(None, {"x": x})[0], x)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))


def test_filling():
    """A state of zeros, or of another number, for a batch that is known at run time."""
    chain = Chain()
    target = chain.node("Concat", chain.sized("p", 0), chain.constant(1), chain.constant(8), axis=0)
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [2.5])
    last = [N("ConstantOfShape", [target], ["f"], value=value), N("Concat", ["f", "p"], ["y"], axis=1)]
    assert_equal(chain.model(last))


@pytest.mark.parametrize("exponent", [2.0, 0.5, -0.5, -1.0])
def test_powers_of_sizes(exponent):
    """The factor of attention, as exporters write it: a power of a size."""
    chain = Chain()
    size = chain.node("Cast", chain.node("Gather", chain.node("Shape", "p"), chain.constant(1, scalar=True)), to=1)
    last = [N("Pow", [size, chain.constant(exponent, dtype=np.float32, scalar=True)], ["factor"]), N("Mul", ["p", "factor"], ["y"])]
    ours, theirs = owned_session(chain.model(last), regions=1), cpu_session(chain.model(last))
    for i, shape in enumerate(SHAPES):
        feeds = {"x": noise(np.random.default_rng(i), *shape)}
        assert_close(ours.run(None, feeds)[0], theirs.run(None, feeds)[0])


def test_other_powers_of_sizes_are_declined():
    chain = Chain()
    size = chain.node("Cast", chain.sized("p", 1), to=1)
    last = [N("Pow", [size, chain.constant(0.3, dtype=np.float32)], ["factor"]), N("Mul", ["p", "factor"], ["y"])]
    assert "exponents other than 2, 0.5, -0.5, -1 are not supported" in reasons(chain.model(last))


def test_steps_read_floats_that_the_plan_computes():
    """A root of a size as a factor, alone, with more dimensions, and as a result too; one region, in batches of several sizes."""
    chain = Chain()
    root = chain.node("Sqrt", chain.node("Cast", chain.node("Gather", chain.node("Shape", "p"), chain.constant(1, scalar=True)), to=1))
    sizes = chain.node("Cast", chain.node("Shape", "p"), to=1)
    deep = chain.node("Unsqueeze", sizes, chain.constant(0, 2))
    last = [
        N("Div", ["p", root], ["scaled"]),
        N("Identity", [root], ["root"]),
        N("Slice", [deep, "first", "second", "middle"], ["batch"]),
        N("Mul", ["scaled", "batch"], ["product"]),
        N("Neg", [sizes], ["negative"]),
        N("ReduceSum", ["negative"], ["sum"], keepdims=0),
        N("Add", ["product", "sum"], ["y"]),
    ]
    chain.weights |= {name: np.array([n]) for name, n in (("first", 0), ("second", 1), ("middle", 1))}
    assert_equal(chain.model(last))


def exported_pads(chain, amounts, rank):
    """The pads of ONNX in the order of those of PyTorch, last dimension first, as TorchScript's exporter writes it."""
    both = chain.node("Concat", *amounts, chain.constant(*[0] * (2 * rank - len(amounts))), axis=0)
    pairs = chain.node("Reshape", both, chain.constant(-1, 2))
    first = chain.node("Slice", pairs, chain.constant(-1), chain.constant(-FAR), chain.constant(0), chain.constant(-1))
    flat = chain.node("Reshape", chain.node("Transpose", first, perm=[1, 0]), chain.constant(-1))
    return chain.node("Cast", flat, to=TensorProto.INT64)


@pytest.mark.parametrize("fill", [(), (1.5,)])
def test_pads_as_torchscript_writes_them(fill):
    """Windows are filled up to a multiple, on their way through lists of two dimensions."""
    chain = Chain()
    size = chain.sized("p", 1)
    to_7 = chain.node("Mod", chain.node("Sub", chain.constant(7), chain.node("Mod", size, chain.constant(7))), chain.constant(7))
    pads = exported_pads(chain, [chain.constant(0), chain.constant(2), chain.constant(1), to_7], 3)
    value = [chain.constant(*fill, dtype=np.float32)] if fill else []
    chain.weights |= {name: chain.weights[name].reshape(()) for name in value}
    assert_equal(chain.model([N("Pad", ["p", pads, *value], ["y"])]), [(2, 3, 8), (1, 7, 8), (1, 8, 8), (3, 1, 8)])


@pytest.mark.parametrize(("opset", "own"), [(17, (0, -1, 2, -1, 1, -3)), (17, (2, 0, -3, 0, 2, 1)), (13, (-1, 0, 0, 2, 0, -7))])
def test_computed_pads_of_either_sign(opset, own):
    """Every dimension, the batch too; negative ones cut off, as those in the file do."""
    chain, first = Chain(), Chain.sized
    zero = chain.node("Sub", first(chain, "p", 1), first(chain, "p", 1))
    pads = chain.node("Add", chain.constant(*own), zero)
    assert_equal(chain.model([N("Pad", ["p", pads], ["y"])], opset), [(2, 3, 8), (4, 5, 8)])


def test_computed_pads_of_more_than_there_is():
    """What would be left is less than nothing: the run fails, and the next one goes on."""
    chain = Chain()
    less = chain.node("Neg", chain.sized("p", 0))
    zero = chain.constant(0)
    pads = chain.node("Concat", zero, less, zero, zero, less, zero, axis=0)
    session = owned_session(chain.model([N("Pad", ["p", pads], ["y"])]))
    with pytest.raises(REFUSALS, match="Pad by -4 and -4 elements around 3"):
        session.run(None, {"x": np.ones((4, 3, 8), np.float32)})
    assert session.run(None, {"x": np.ones((1, 3, 8), np.float32)})[0].shape == (1, 1, 8)


def test_modes_whose_pads_are_computed_are_left():
    """Only constants are put around by numbers that a run computes."""
    chain = Chain()
    pads = chain.node("Mul", chain.sized("p", 1), chain.constant(0, 0, 0, 0, 0, 0))
    assert "input pads is not constant" in reasons(chain.model([N("Pad", ["p", pads], ["y"], mode="edge")]))


def test_lists_of_two_dimensions_may_leave():
    """They have their shape, as results of a region and where other operators read them."""
    chain = Chain()
    both = chain.node("Concat", chain.sized("p", 0), chain.sized("p", 1), chain.constant(7, 9), axis=0)
    turned = chain.node("Transpose", chain.node("Reshape", both, chain.constant(2, 2)))
    rows = chain.node("Slice", turned, chain.constant(1), chain.constant(2), chain.constant(-2))
    model = chain.model([N("Cast", [turned], ["f"], to=TensorProto.FLOAT), N("Cast", [rows], ["y"], to=TensorProto.FLOAT)])
    model.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name, kind in (("f", 1), (turned, 7)))
    session, theirs = make_session(model), cpu_session(model)
    for shape in SHAPES:
        fed = {"x": noise(np.random.default_rng(0), *shape)}
        for y, y_ort in zip(session.run(None, fed), theirs.run(None, fed), strict=True):
            np.testing.assert_array_equal(y, y_ort)
