"""Graphs with something wrong in them: whatever GetCapability offers, Compile compiles, and what the CPU provider refuses is refused."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, helper
from onnxruntime import GraphOptimizationLevel
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, NotImplemented, RuntimeException

import onnxruntime_ep_sparse as sparse
from support.making import examples, model_of, noise
from support.promises import assert_close, cpu_session, exact, make_session
from support.random_graphs import RandomGraph

QUIET = {"session.intra_op.allow_spinning": "0"}
REFUSALS = (Fail, InvalidArgument, InvalidGraph, NotImplemented, RuntimeException)
LARGE = (2**31 - 1, 2**31, 2**62, 2**63 - 1, -(2**31), -(2**62), -(2**63))
"""No run follows these: some ask for more memory than there is."""
SMALL = (-9, -4, -3, -2, -1, 0, 1, 2, 3, 4, 9)
NUMBERS = (0.0, -1.0, 1e30, -1e30, float("inf"))
TEXTS = ("", "none", "NOTSET", "SAME_UPPER", "CRD", "HALF_PIXEL", "linear", "version_10", "tanh", "bidirectional", "no such word")
LOOPS = {"group", "blocksize", "hidden_size"}
"""Attributes by which the CPU provider divides, or that say how much memory it needs."""
STEEP = {"epsilon"}
"""Attributes that keep errors small: LayerNormalization of equal elements without epsilon is 0 / 0, or 1 after rounding."""
STEEP_OF = {("Celu", "alpha")}
"""The same of one operator: the CPU provider computes alpha * (exp(x / alpha) - 1), which is 0 for a large alpha and x < 0."""


class Hostile(RandomGraph):
    """A random graph in which one to three things are changed. `may_run`: the CPU provider may be asked to run it."""

    def __init__(self, seed):
        super().__init__(seed)
        self.may_run = True
        self.changed = []
        for _ in range(self.integer(1, 3)):
            self.choice(self.change_attribute, self.change_attribute, self.change_numbers, self.change_shape, self.change_input)()

    def whole(self):
        """A number, mostly a small one."""
        if self.chance(0.3):
            self.may_run = False
            return self.choice(*LARGE)
        return self.choice(*SMALL)

    def change_attribute(self):
        """Give a node another attribute that its operator has, of the right type."""
        node = self.choice(*self.nodes)
        known = not node.domain and onnx.defs.has(node.op_type)
        attributes = onnx.defs.get_schema(node.op_type, self.opset).attributes if known else {}
        if not attributes:
            return
        name = self.choice(*attributes)
        kind = int(attributes[name].type)
        if name in LOOPS | STEEP or (node.op_type, name) in STEEP_OF:
            self.may_run = False
        values = {
            AttributeProto.INT: self.whole,
            AttributeProto.INTS: lambda: [self.whole() for _ in range(self.integer(0, 5))],
            AttributeProto.FLOAT: lambda: self.choice(*NUMBERS),
            AttributeProto.FLOATS: lambda: [self.choice(*NUMBERS) for _ in range(self.integer(0, 3))],
            AttributeProto.STRING: lambda: self.choice(*TEXTS),
            AttributeProto.STRINGS: lambda: [self.choice(*TEXTS) for _ in range(self.integer(0, 3))],
        }
        if kind not in values:
            return
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        value = values[kind]()
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value, attr_type=kind)])
        self.changed.append(f"{node.op_type}.{name}={value}")

    def change_numbers(self):
        """Put another number into a constant of whole numbers: a shape, axes, pads."""
        names = [name for name, array in self.weights.items() if array.dtype == np.int64 and array.size]
        if names:
            name = self.choice(*names)
            self.weights[name] = self.weights[name].copy()
            self.weights[name].reshape(-1)[self.integer(0, self.weights[name].size - 1)] = self.whole()
            self.changed.append(f"{name}={self.weights[name]}")
            # ONNX Runtime 1.32 ends the process in a Pad of an empty tensor
            self.may_run &= not any(node.op_type == "Pad" and name in node.input for node in self.nodes)

    def change_shape(self):
        """Let a constant lack entries, have more, or have another rank."""
        if not self.weights:
            return
        name = self.choice(*self.weights)
        array = self.weights[name]
        flat = array.reshape(-1)
        others = [
            flat[:1],
            flat[:-1],
            flat,
            np.append(flat, flat[-1:]),
            array[None],
            array[..., None],
            array[:0] if array.ndim else flat[:0],
        ]
        self.weights[name] = np.ascontiguousarray(self.choice(*others, flat[0] if flat.size else flat))
        self.may_run &= self.weights[name].size > 0  # ONNX Runtime 1.32 ends the process in an LSTM of no sequences
        self.changed.append(f"{name}: {array.shape} -> {self.weights[name].shape}")

    def change_input(self):
        """Let a node read another value. ONNX Runtime 1.32 dies of some nodes without an input, as of Min(x, "")."""
        node = self.choice(*self.nodes)
        at = self.integer(0, len(node.input) - 1)
        before = {"x", *(o for other in self.nodes[: self.nodes.index(node)] for o in other.output), *self.weights}
        node.input[at] = self.choice(*sorted(before))
        self.changed.append(f"{node.op_type} reads {list(node.input)}")


def shapes_before(model, count, shape):
    """Return the shapes of what the first `count` nodes of a model compute from an input of this shape, as far as ONNX Runtime infers them.

    It folds constants, so that sizes which follow from shapes are known.
    """
    part = onnx.ModelProto()
    part.CopyFrom(model)
    part.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape))
    del part.graph.node[count:]
    del part.graph.output[:]
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for node in part.graph.node for name in node.output if name)
    session = cpu_session(part, threads=1, entries=QUIET, level=GraphOptimizationLevel.ORT_ENABLE_BASIC)
    return {value.name: [size for size in value.shape if isinstance(size, int)] for value in session.get_outputs()}


def slices_below_zero(model, shape):
    """Whether a Slice reads a value with a negative dimension, or ONNX Runtime refuses what stands before a Slice.

    ONNX's shape inference of such a Slice ends the process: https://github.com/onnx/onnx/issues/8481. Pads, pools, ConvTranspose and Split
    can all make such a dimension, so ONNX Runtime itself is asked for it, in the graph before the Slice.
    """
    for at, node in enumerate(model.graph.node):
        if at and node.op_type == "Slice":
            try:
                shapes = shapes_before(model, at, shape)
            except REFUSALS:
                return True
            if min(shapes.get(node.input[0], ()), default=0) < 0:
                return True
    return False


def has_empty_value(model, shape):
    """Whether a value has no elements: ONNX Runtime's CPU provider ends the process in some operators then, such as GRU and Resize.

    Others it refuses, such as GlobalAveragePool, whose result would have no elements either.
    """
    try:
        return any(0 in sizes for sizes in shapes_before(model, len(model.graph.node), shape).values())
    except REFUSALS:
        return True


@pytest.mark.parametrize("taken", [2, 3, 4, 5, 2**62])
def test_slices_of_negative_dimensions_are_known(taken):
    """A Pad that takes more than the four elements of a dimension before a Slice is found, and one that takes all of them."""
    nodes = [helper.make_node("Pad", ["x", "pads"], ["p"]), helper.make_node("Slice", ["p", "starts", "ends"], ["y"])]
    weights = {"pads": np.array([-taken, 0]), "starts": np.array([0]), "ends": np.array([2])}
    model = model_of(nodes, {"x": [4]}, ["y"], weights)
    assert slices_below_zero(model, [4]) == (taken > 4)
    assert taken > 4 or has_empty_value(model, [4]) == (taken == 4)


def refused_unfused(model, feeds):
    """Whether the CPU provider refuses a model (or, if there are any, `feeds`) as long as it fuses no operators.

    ONNX Runtime's fused operators check less than those that they stand for: a Clip by a matrix, a Resize of nearest pixels with
    exclude_outside.
    """
    try:
        session = cpu_session(model, threads=1, entries=QUIET, level=GraphOptimizationLevel.ORT_ENABLE_BASIC)
        if feeds is not None:
            session.run(None, feeds)
    except REFUSALS:
        return True
    return False


@pytest.mark.parametrize("policy", ["always", "auto"])
@examples(300)
@given(seed=st.integers(0, 2**32 - 1))
def test_refused_like_by_the_cpu_provider(policy, seed):
    """If the CPU provider alone creates a session, ours does too; the finite results are the same, or neither has any.

    What it only takes because it fuses operators may be refused.
    """
    graph = Hostile(seed)
    model = graph.model()
    if slices_below_zero(model, graph.shape):
        return
    try:
        theirs = cpu_session(model, threads=1, entries=QUIET)
    except REFUSALS:
        return
    try:
        ours = make_session(model, {"policy": policy}, threads=1, entries=QUIET)
    except REFUSALS:
        assert refused_unfused(model, None), graph.changed
        return
    assert not [decision.reason for decision in sparse.explain(ours) if decision.code == "not-examined"], graph.changed
    if not graph.may_run or has_empty_value(model, graph.shape):
        return
    feeds = {"x": noise(graph.rng, *graph.shape)}
    try:
        expected = theirs.run(None, feeds)
    except REFUSALS:
        with pytest.raises(REFUSALS):
            ours.run(None, feeds)
        return
    try:
        results = ours.run(None, feeds)
    except REFUSALS:
        assert refused_unfused(model, feeds), graph.changed
        return
    for i, (y, y_ort) in enumerate(zip(results, expected, strict=True)):
        assert y.shape == y_ort.shape, graph.changed
        finite = np.isfinite(y_ort)  # dead channels that are not finite no longer matter
        assert_close(y[finite], y_ort[finite], lambda i=i, finite=finite: exact(model, feeds)[i][finite])
