"""Tensors of integers inside regions: ids, positions and masks as exporters compute them. Integers are exact, errors have words."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as state

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.graph.ir import Value
from onnxruntime_ep_sparse.ops import table as ops
from onnxruntime_ep_sparse.ops.integers import ARITHMETIC
from onnxruntime_ep_sparse.ops.marks import marked
from support.making import model_of, noise, pruned
from support.nodes import one_node
from support.promises import ALWAYS, assert_close, cpu_session, make_session, owned_session

N = helper.make_node
KINDS = {TensorProto.INT64: np.int64, TensorProto.INT32: np.int32, TensorProto.BOOL: bool, TensorProto.FLOAT: np.float32}
SHAPES = [(2, 5), (1, 3), (4, 1), (2, 5)]


def model(nodes, weights=None, kind=TensorProto.INT64, opset=20, more=(), shape=("b", "t")):
    """i [b, t] of integers -> nodes -> f, floats [..., 4], times a pruned matrix -> y."""
    rng = np.random.default_rng(0)
    weights = {"w": pruned(rng, (4, 4), 0.5), **(weights or {})}
    made = model_of([*nodes, N("MatMul", ["f", "w"], ["y"])], {}, ["y"], weights, opset=opset)
    for name, dtype, dims in (("i", kind, shape), *more):
        made.graph.input.append(helper.make_tensor_value_info(name, dtype, dims))
    return made


def ids(seed, shape, low=-20, high=20, dtype=np.int64):
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def assert_equal(made, shapes=SHAPES, dtype=np.int64, low=-20, high=20, **feeds):
    """The CPU provider's results for ids of these shapes in one session, in one region of ours."""
    ours, theirs = owned_session(made, regions=1), cpu_session(made)
    for seed, shape in enumerate(shapes):
        fed = {"i": ids(seed, shape, low, high, dtype), **feeds}
        for y, y_ort in zip(ours.run(None, fed), theirs.run(None, fed), strict=True):
            assert y.dtype == y_ort.dtype
            if y.dtype == np.float32:
                assert_close(y, y_ort)
            else:
                assert np.array_equal(y, y_ort)
    return ours


def spread(name):
    """Nodes that make f [b, t, 4] of [b, t], of any type."""
    return [
        N("Cast", [name], ["as_float"], to=TensorProto.FLOAT),
        N("Unsqueeze", ["as_float", "last"], ["deep"]),
        N("Mul", ["deep", "ones"], ["f"]),
    ]


SPREAD = {"last": np.array([-1]), "ones": np.arange(1, 5, dtype=np.float32)}


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32])
@pytest.mark.parametrize("name", sorted(ARITHMETIC))
def test_arithmetic(name, kind):
    """Of values that broadcast, with a constant, and of one operand; extreme integers wrap around."""
    dtype = KINDS[kind]
    constant = np.array([[3], [-7]] if name in ("Div", "Mod") else np.iinfo(dtype).max, dtype)
    names = ["i"] if name in ("Neg", "Abs") else ["i", "c"]
    made = model([N(name, names, ["r"]), *spread("r")], {**SPREAD, "c": constant}, kind)
    assert_equal(made, SHAPES if constant.ndim == 0 else [(2, 5), (1, 3)], dtype)


def test_many_operands_and_either_order():
    """Max of three, one of them constant and first; a difference of positions along two axes."""
    nodes = [
        N("Unsqueeze", ["i", "last"], ["rows"]),
        N("Unsqueeze", ["i", "one"], ["columns"]),
        N("Sub", ["columns", "rows"], ["d"]),
        N("Max", ["c", "d", "rows"], ["m"]),
        N("Greater", ["d", "m"], ["g"]),
        N("Where", ["g", "d", "m"], ["r"]),
        N("Cast", ["r"], ["float"], to=TensorProto.FLOAT),
        N("ReduceSum", ["float", "one"], ["sums"], keepdims=0),
    ]
    deep = [N("Unsqueeze", ["sums", "last"], ["deep"]), N("Mul", ["deep", "ones"], ["f"])]
    assert_equal(model([*nodes, *deep], {**SPREAD, "one": np.array([1]), "c": np.array(-3)}))


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", [TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL])
def test_casts(source, target):
    """Floats are cut towards zero, integers are true where they are not 0."""
    chain = [N("Cast", ["i"], ["a"], to=source), N("Cast", ["a"], ["b"], to=target), *spread("b")]
    assert_equal(model(chain, SPREAD))
    fractions = [N("Cast", ["i"], ["a"], to=TensorProto.FLOAT), N("Mul", ["a", "c"], ["p"]), N("Cast", ["p"], ["b"], to=target)]
    assert_equal(model([*fractions, *spread("b")], {**SPREAD, "c": np.float32(0.3)}))


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32])
def test_rows_by_ids(kind):
    """An embedding, by ids of either sign, of either axis, in one region."""
    rng = np.random.default_rng(1)
    made = model([N("Gather", ["table", "i"], ["f"])], {"table": noise(rng, 20, 4)}, kind)
    assert_equal(made, dtype=KINDS[kind])
    along = [N("Gather", ["table", "i"], ["g"], axis=1), N("Transpose", ["g"], ["f"], perm=[1, 2, 0])]
    assert_equal(model(along, {"table": noise(rng, 4, 20)}))


@pytest.mark.parametrize("place", [(0, 0), (1, 4)])
@pytest.mark.parametrize("number", [20, -21, 1 << 40])
def test_ids_outside(place, number):
    """The run fails with ONNX Runtime's words, and the session still works."""
    made = model([N("Gather", ["table", "i"], ["f"])], {"table": noise(np.random.default_rng(1), 20, 4)})
    ours, theirs = owned_session(made, threads=2), cpu_session(made)
    good = ids(0, (2, 5))
    bad = good.copy()
    bad[place] = number
    words = rf"idx={number} must be within the inclusive range \[-20,19\]"
    for session in (theirs, ours):
        with pytest.raises((state.Fail, state.InvalidArgument), match=words):
            session.run(None, {"i": bad})
    assert_close(ours.run(None, {"i": good})[0], theirs.run(None, {"i": good})[0])


def test_positions_outside_of_a_table():
    """They are computed when a plan is made, which then fails; shorter sequences run."""
    nodes = [
        N("Shape", ["i"], ["s"], start=1, end=2),
        N("Squeeze", ["s"], ["t"]),
        N("Range", ["zero", "t", "one"], ["r"]),
        N("Gather", ["table", "r"], ["p"]),
        N("Gather", ["words", "i"], ["e"]),
        N("Add", ["e", "p"], ["f"]),
    ]
    rng = np.random.default_rng(2)
    weights = {"table": noise(rng, 6, 4), "words": noise(rng, 20, 4), "zero": np.array(0), "one": np.array(1)}
    ours = assert_equal(model(nodes, weights))
    with pytest.raises(state.Fail, match=r"idx=6 must be within the inclusive range \[-6,5\]"):
        ours.run(None, {"i": ids(0, (1, 7))})


def test_gather_nd():
    """As PyTorch's exporter indexes a mask by two grids of positions."""
    nodes = [
        N("Cast", ["i"], ["m"], to=TensorProto.BOOL),
        N("Shape", ["i"], ["s"]),
        N("Gather", ["s", "zero"], ["b"]),
        N("Gather", ["s", "one"], ["t"]),
        N("Range", ["zero", "b", "one"], ["rb"]),
        N("Range", ["zero", "t", "one"], ["rt"]),
        N("Unsqueeze", ["rb", "last"], ["cb"]),
        N("Expand", ["cb", "s"], ["gb"]),
        N("Expand", ["rt", "s"], ["gt"]),
        N("Unsqueeze", ["gb", "last"], ["ub"]),
        N("Unsqueeze", ["gt", "last"], ["ut"]),
        N("Concat", ["ub", "ut"], ["places"], axis=-1),
        N("GatherND", ["m", "places"], ["g"]),
        *spread("g"),
    ]
    assert_equal(model(nodes, {**SPREAD, "zero": np.array(0), "one": np.array(1)}), low=0, high=2)


@pytest.mark.parametrize("delta", [1, 3, -2])
def test_ranges(delta):
    """From and to computed numbers, forwards and backwards, empty ones too."""
    nodes = [
        N("Size", ["i"], ["n"]),
        N("Range", ["start", "n", "delta"], ["r"]),
        N("Cast", ["r"], ["rf"], to=TensorProto.FLOAT),
        N("ReduceSum", ["rf"], ["total"], keepdims=0),
        N("Cast", ["i"], ["as_float"], to=TensorProto.FLOAT),
        N("Add", ["as_float", "total"], ["moved"]),
        N("Unsqueeze", ["moved", "last"], ["deep"]),
        N("Mul", ["deep", "ones"], ["f"]),
    ]
    assert_equal(model(nodes, {**SPREAD, "start": np.array(4), "delta": np.array(delta)}))


@pytest.mark.parametrize("op_type", ["Transpose", "Slice", "Concat", "Split", "Flatten", "Squeeze"])
def test_moves(op_type):
    """Elements of eight bytes move as those of four do."""
    moves = {
        "Transpose": [N("Transpose", ["i"], ["a"]), N("Add", ["a", "a"], ["b"]), N("Transpose", ["b"], ["m"])],
        "Slice": [N("Slice", ["i", "far", "end", "last", "last"], ["m"])],
        "Concat": [N("Concat", ["i", "c", "i"], ["m"], axis=1)],
        "Split": [N("Concat", ["i", "i"], ["a"], axis=0), N("Neg", ["a"], ["m"])],
        "Flatten": [N("Flatten", ["i"], ["m"], axis=0)],
        "Squeeze": [N("Unsqueeze", ["i", "last"], ["a"]), N("Neg", ["a"], ["b"]), N("Squeeze", ["b", "last"], ["m"])],
    }
    weights = {**SPREAD, "far": np.array([1 << 40]), "end": np.array([-(1 << 40)]), "c": ids(9, (1, 3))}
    assert_equal(model([*moves[op_type], *spread("m")], weights), [(1, 5), (1, 3)] if op_type == "Concat" else SHAPES)


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT])
@pytest.mark.parametrize(("axis", "exclusive", "reverse"), [(1, 0, 0), (0, 1, 0), (-1, 0, 1), (0, 1, 1)])
def test_sums_up_to_each_element(kind, axis, exclusive, reverse):
    """CumSum along either axis, as positions of masked sequences are made."""
    nodes = [
        N("Cast", ["i"], ["a"], to=kind),
        N("CumSum", ["a", "axis"], ["s"], exclusive=exclusive, reverse=reverse),
        N("Cast", ["s"], ["as_float"], to=TensorProto.FLOAT),
        *spread("s")[1:],
    ]
    assert_equal(model(nodes, {**SPREAD, "axis": np.array(axis)}))


@pytest.mark.parametrize("opset", [9, 20])
def test_choice_of_floats(opset):
    """Where of three values that broadcast, none of them constant, NaN included."""
    nodes = [
        N("Cast", ["i"], ["c"], to=TensorProto.BOOL),
        N("Cast", ["i"], ["a"], to=TensorProto.FLOAT),
        N("Unsqueeze", ["a", "last"], ["deep"]) if opset > 9 else N("Unsqueeze", ["a"], ["deep"], axes=[2]),
        N("Unsqueeze", ["c", "last"], ["cd"]) if opset > 9 else N("Unsqueeze", ["c"], ["cd"], axes=[2]),
        N("Mul", ["deep", "ones"], ["x"]),
        N("Sqrt", ["deep"], ["r"]),
        N("Where", ["cd", "x", "r"], ["f0"]),
        N("Where", ["cd", "f0", "ones"], ["f"]),
    ]
    assert_equal(model(nodes, SPREAD, opset=opset), low=0, high=3)


def test_ids_that_leave():
    """Integers are results of a region, of either type, with steps before them or not."""
    nodes = [N("Add", ["i", "c"], ["j"]), N("Cast", ["j"], ["k"], to=TensorProto.INT32), N("Gather", ["table", "k"], ["f"])]
    made = model(nodes, {"table": noise(np.random.default_rng(1), 20, 4), "c": np.array(2)})
    more = {"j": TensorProto.INT64, "k": TensorProto.INT32}
    made.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name, kind in more.items())
    assert_equal(made, low=-15, high=15)


def test_what_depends_on_shapes_alone_is_computed_once():
    """A causal mask takes no time in a run: no step of it moves anything."""
    nodes = [
        N("Shape", ["i"], ["s"], start=1, end=2),
        N("Squeeze", ["s"], ["t"]),
        N("Range", ["zero", "t", "one"], ["r"]),
        N("Unsqueeze", ["r", "last"], ["rows"]),
        N("LessOrEqual", ["r", "rows"], ["causal"]),
        N("Cast", ["causal"], ["mask"], to=TensorProto.FLOAT),
        N("Gather", ["words", "i"], ["e"]),
        N("MatMul", ["mask", "e"], ["f"]),
    ]
    weights = {"words": noise(np.random.default_rng(2), 20, 4), "zero": np.array(0), "one": np.array(1), "last": np.array([-1])}
    made = model(nodes, weights)
    assert_equal(made)
    session = owned_session(made, {"profile": "1"})
    session.run(None, {"i": ids(0, (2, 5))})
    steps = {step.kind: step for step in sparse.step_times(session)}
    assert steps["integers"].moved_bytes == steps["range"].moved_bytes == 0
    assert steps["take"].moved_bytes > 0


HALF = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.5])
IMAGES_ALONE = {
    "factors of channels": [N("Mul", ["image", "factors"], ["scaled"]), N("Conv", ["scaled", "c"], ["z"])],
    "factors and an activation": [
        N("Mul", ["image", "factors"], ["sum"]), N("Relu", ["sum"], ["scaled"]), N("Conv", ["scaled", "c"], ["z"])],
    "factors that vary": [N("Mul", ["image", "data_factors"], ["scaled"]), N("Conv", ["scaled", "c"], ["z"])],
    "an image that varies": [N("Mul", ["varied", "factors"], ["scaled"]), N("Conv", ["scaled", "c"], ["z"])],
    "another shape": [
        N("Mul", ["image", "factors"], ["scaled"]), N("Conv", ["scaled", "c"], ["conv"]), N("Reshape", ["conv", "flat"], ["z"])],
    "a window": [
        N("Mul", ["image", "factors"], ["scaled"]), N("Conv", ["scaled", "c"], ["conv"]),
        N("MaxPool", ["conv"], ["z"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGES_ALONE)
def test_images_of_shapes_alone(name):
    """Products of images that shapes alone make, times factors of channels, which the product may apply itself: once."""
    rng = np.random.default_rng(5)
    nodes = [
        N("Shape", ["d"], ["shape"]),
        N("ConstantOfShape", ["shape"], ["half"], value=HALF),
        N("Mul", ["half", "pattern"], ["image"]),
        N("ReduceMean", ["image"], ["means"], axes=[2, 3]),
        N("Sigmoid", ["means"], ["factors"]),
        N("Relu", ["d"], ["varied"]),
        N("ReduceMean", ["varied"], ["data_factors"], axes=[2, 3]),
        *IMAGES_ALONE[name],
        N("Conv", ["varied", "c"], ["v"]),
        N("Flatten", ["z"], ["y"]),
    ]
    weights = {"c": pruned(rng, (8, 8, 1, 1), 0.5), "pattern": noise(rng, 1, 8, 6, 7), "flat": np.array([1, -1])}
    made = model_of(nodes, {"d": ("n", 8, 6, 7)}, ["v", "y"], weights, opset=11)
    ours, theirs = owned_session(made), cpu_session(made)
    for n in (1, 2, 1):
        fed = {"d": noise(rng, n, 8, 6, 7)}
        for y, y_ort in zip(ours.run(None, fed), theirs.run(None, fed), strict=True):
            assert_close(y, y_ort)


def test_ids_of_known_shape_are_no_part_of_plans():
    """A few ids are data: other ones do not make another plan, but where they are the numbers of a shape."""
    graph, node = one_node("Add", [(3,), (3,)], (3,))
    graph = replace(graph, values={name: Value(name, TensorProto.INT64, (3,)) for name in graph.values})
    (found,) = marked(graph).nodes
    assert found.integers
    assert not found.counts
    reshape = replace(node, index=1, op_type="Reshape", inputs=("data", node.outputs[0]), outputs=("r",))
    more = {"data": Value("data", TensorProto.FLOAT, (4,)), "r": Value("r", TensorProto.FLOAT, (2, 2, 1))}
    found, _ = marked(replace(graph, values={**graph.values, **more}, nodes=(node, reshape))).nodes
    assert found.counts


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "code"),
    [
        ("Gather", [(4, 3), ("n", 2)], {"axis": 1}, None),
        ("Gather", [(4, 3), ("n", 2)], {"axis": 2}, "out-of-range"),
        ("Gather", [(4,) * 6, ("n", 2, 2, 2)], {}, "unsupported-rank"),
        ("GatherND", [(4, 3), ("n", 2)], {}, None),
        ("GatherND", [(4, 3), ("n", 2)], {"batch_dims": 1}, "unsupported-attribute"),
        ("GatherND", [(4, 3), ("n", "k")], {}, "mismatched"),
        ("GatherND", [(4, 3), ("n", 3)], {}, "mismatched"),
        ("ScatterND", [(2, 3), ("n", 1), ("n", 3)], {}, None),
        ("ScatterND", [(2, 3), ("n", 1), ("n", 3)], {"reduction": "add"}, "unsupported-attribute"),
        ("ScatterND", [(2, 3), ("n", 1), ("n",)], {}, "mismatched"),
        ("ScatterND", [(2, 3), ("n", "k"), ("n", 3)], {}, "mismatched"),
        ("ScatterND", [(2, 3), ("n", 3), ("n",)], {}, "mismatched"),
    ],
)
def test_nodes_that_cannot_run(op_type, inputs, attributes, code):
    """Each has its reason."""
    finding = ops.can_run(*one_node(op_type, inputs, (None, None), attributes, dtypes={1: TensorProto.INT64}))
    assert (finding and finding.code) == code


def test_division_by_what_a_run_computes():
    """It is left to the CPU provider, which fails in its own way at 0."""
    made = model([N("Div", ["i", "i"], ["r"]), *spread("r")], SPREAD)
    decisions = {d.op_type: d for d in sparse.explain(make_session(made))}
    assert not decisions["Div"].taken
    assert "divisor" in decisions["Div"].reason


def test_compiled_models_hold_integers():
    """Constants of int64 and what reads them come back from the bytes of a compiled region."""
    nodes = [N("Add", ["i", "c"], ["a"]), N("Gather", ["table", "a"], ["f"])]
    made = model(nodes, {"c": ids(1, (1, 5), 0, 3), "table": noise(np.random.default_rng(1), 20, 4)})
    compiler = onnxruntime.ModelCompiler(sparse.session_options(ALWAYS), made.SerializeToString(), embed_compiled_data_into_model=True)
    compiled, theirs = owned_session(compiler.compile_to_bytes(), regions=1), cpu_session(made)
    for shape in ((2, 5), (1, 5)):
        fed = {"i": ids(0, shape, -15, 15)}
        assert_close(compiled.run(None, fed)[0], theirs.run(None, fed)[0])
