"""Transformers as exporters write them: every pruned projection is ours with all that is around it but attention."""

import numpy as np
import pytest
from onnx import helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.diagnostics.step_times import step_times
from support.making import carried, dynamic, model_of, noise, pruned
from support.promises import assert_close, assert_same, cpu_session, exact, make_session, owned_session, reasons

HIDDEN, HEADS, FFN = 256, 4, 1024
ZEROS = 0.95
"""So many that each layer is expected to gain for any number of rows."""


class Writer:
    """Collects the nodes and weights of one encoder layer from `x` (batch, sequence, HIDDEN) to `y`."""

    def __init__(self, opset, shape):
        self.opset, self.fixed = opset, None if None in shape else shape
        self.rng = np.random.default_rng(0)
        self.nodes, self.weights = [], {}

    def node(self, op_type, *inputs, **attributes):
        """Append a node, named as its result."""
        y = f"{op_type}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [y], name=y, **attributes))
        return y

    def constant(self, array):
        """A new initializer."""
        name = f"c{len(self.weights)}"
        self.weights[name] = np.asarray(array)
        return name

    def number(self, value):
        """A float32 scalar."""
        return self.constant(np.float32(value))

    def linear(self, x, inputs, outputs):
        """MatMul and Add, the bias first, as torch's exporters write nn.Linear for three dimensions."""
        weight = self.constant(np.ascontiguousarray(pruned(self.rng, (outputs, inputs), ZEROS).T) / np.float32(np.sqrt(inputs / 10)))
        return self.node("Add", self.constant(noise(self.rng, outputs)), self.node("MatMul", x, weight))

    def gemm(self, x, inputs, outputs):
        """Reshape, Gemm, Reshape, as the dynamo exporter writes aten.addmm."""
        rows = self.node("Reshape", x, self.constant(np.array([-1, inputs])))
        weight = self.constant(pruned(self.rng, (outputs, inputs), ZEROS) / np.float32(np.sqrt(inputs / 10)))
        y = self.node("Gemm", rows, weight, self.constant(noise(self.rng, outputs)), transB=1)
        return self.node("Reshape", y, self.shape(x, [outputs]))

    def shape(self, x, last):
        """Batch and sequence as x has them, then `last`: constant where they are, else by Shape, Gather and Concat."""
        if self.fixed:
            return self.constant(np.array([*self.fixed, *last]))
        axes = [self.constant(np.array([0]))] if self.opset >= 13 else []
        parts = []
        for axis in (0, 1):
            size = self.node("Gather", self.node("Shape", x), self.constant(np.array(axis)), axis=0)
            parts.append(self.node("Unsqueeze", size, *axes, **({} if axes else {"axes": [0]})))
        return self.node("Concat", *parts, *(self.constant(np.array([size])) for size in last), axis=0)

    def norm(self, x):
        """LayerNormalization, or before opset 17 its nine nodes."""
        scale, bias = self.constant(self.rng.uniform(0.5, 1.5, HIDDEN).astype(np.float32)), self.constant(noise(self.rng, HIDDEN))
        if self.opset >= 17:
            return self.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-12)
        centred = self.node("Sub", x, self.node("ReduceMean", x, axes=[-1], keepdims=1))
        variance = self.node("ReduceMean", self.node("Pow", centred, self.number(2)), axes=[-1], keepdims=1)
        deviation = self.node("Sqrt", self.node("Add", variance, self.number(1e-12)))
        return self.node("Add", self.node("Mul", self.node("Div", centred, deviation), scale), bias)

    def gelu(self, x):
        """One node from opset 20 on, five before."""
        if self.opset >= 20:
            return self.node("Gelu", x)
        y = self.node("Add", self.node("Erf", self.node("Div", x, self.number(np.sqrt(2)))), self.number(1))
        return self.node("Mul", self.node("Mul", x, y), self.number(0.5))

    def heads(self, x, perm, computed):
        """(batch, sequence, HIDDEN) to heads, by a shape that is computed or [0, 0, heads, size]."""
        sizes = [HEADS, HIDDEN // HEADS]
        target = self.shape(x, sizes) if computed else self.constant(np.array([0, 0, *sizes]))
        return self.node("Transpose", self.node("Reshape", x, target), perm=perm)


def layer(opset, *, computed, linear, shape=(None, None)):
    """An encoder layer. `computed` shapes are the TorchScript exporter's and optimum's, constant ones dynamo's; `linear` names a method."""
    net = Writer(opset, shape)
    project = getattr(net, linear)
    query, value = (net.heads(project("x", HIDDEN, HIDDEN), [0, 2, 1, 3], computed) for _ in range(2))
    key = net.heads(project("x", HIDDEN, HIDDEN), [0, 2, 3, 1], computed)
    scores = net.node("Div", net.node("MatMul", query, key), net.number(np.sqrt(HIDDEN // HEADS)))
    y = net.node("MatMul", net.node("Softmax", scores, axis=-1 if opset >= 13 else 3), value)
    y = net.node("Transpose", y, perm=[0, 2, 1, 3])
    y = net.node("Reshape", y, net.shape(y, [HIDDEN]) if computed else net.constant(np.array([0, 0, HIDDEN])))
    x = net.norm(net.node("Add", project(y, HIDDEN, HIDDEN), "x"))
    y = project(net.gelu(project(x, HIDDEN, FFN)), FFN, HIDDEN)
    net.nodes.append(helper.make_node("Identity", [net.norm(net.node("Add", y, x))], ["y"]))
    return model_of(net.nodes, {"x": [*(net.fixed or ("batch", "sequence")), HIDDEN]}, ["y"], net.weights, opset=opset)


EXPORTS = {
    "torchscript-11": (11, True, "linear"),
    "torchscript-14": (14, True, "linear"),
    "optimum-17": (17, True, "linear"),
    "dynamo-18": (18, False, "linear"),
    "dynamo-20": (20, False, "linear"),
}
SHAPES = ((1, 16), (2, 7), (1, 128), (3, 33), (1, 1))


def assert_taken(model, shapes, activations=True):
    """Under `auto` each of the six projections is taken, with its bias and its Gelu; results are those of the CPU provider."""
    session, theirs = make_session(model, {"policy": "auto"}), cpu_session(model)
    decisions = sparse.explain(session)
    products = [d for d in decisions if d.shape is not None and d.op_type in ("MatMul", "Gemm")]
    assert len(products) == 6, [d.op_type for d in products]
    assert all(d.taken for d in products), [(d.name, d.reason) for d in products if not d.taken]
    taken = [d.op_type for d in decisions if d.taken]
    assert not activations or taken.count("Gelu") + taken.count("Erf") == 1
    assert not activations or taken.count("LayerNormalization") == 2 or taken.count("ReduceMean") == 4
    for batch, sequence in shapes:
        feeds = {"x": noise(np.random.default_rng(batch), batch, sequence, HIDDEN)}
        assert_close(session.run(None, feeds)[0], theirs.run(None, feeds)[0])


@pytest.mark.parametrize("export", EXPORTS)
def test_exports(export):
    """Any batch and length, in one session."""
    opset, computed, linear = EXPORTS[export]
    assert_taken(layer(opset, computed=computed, linear=linear), SHAPES)


@pytest.mark.parametrize("shape", [(2, 16), (None, None)])
def test_gemm_between_reshapes(shape):
    """Projections as Gemm over rows. Where batch and sequence are open, the exporter computes the shapes, and the Gelu stays outside."""
    fixed = None not in shape
    assert_taken(layer(20, computed=not fixed, linear="gemm", shape=shape), [shape] if fixed else SHAPES, activations=fixed)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_threads(threads):
    """A layer's bits do not depend on the number of threads, which chooses the width of tiles."""
    model = layer(20, computed=False, linear="linear")
    x = noise(np.random.default_rng(5), 2, 67, HIDDEN)
    results = [make_session(model, {"policy": "auto"}, threads=n).run(None, {"x": x})[0] for n in (1, threads)]
    np.testing.assert_array_equal(results[0], results[1])


def test_norm_of_nine_nodes():
    """Before opset 17 a LayerNormalization is nine nodes, of which a region makes one step."""
    session = make_session(layer(14, computed=True, linear="linear"), {"policy": "auto", "profile": "1"})
    session.run(None, {"x": noise(np.random.default_rng(0), 1, 8, HIDDEN)})
    kinds = [step.kind for step in step_times(session)]
    assert kinds.count("normalize") == 2
    assert "reduce" not in kinds


@pytest.mark.parametrize(("exponent", "mean_again"), [(3, False), (2, True)])
def test_no_norm(exponent, mean_again):
    """What only looks like a LayerNormalization stays what it is: another power, or a mean that somebody else reads."""
    net = Writer(14, (None, None))
    net.nodes.append(helper.make_node("Identity", [net.norm("p")], ["z"]))
    pow_ = next(node for node in net.nodes if node.op_type == "Pow")
    net.weights[pow_.input[1]] = np.float32(exponent)
    net.nodes.append(helper.make_node("Add", ["z", net.nodes[0].output[0]] if mean_again else ["z", "p"], ["y"]))
    model = carried(net.nodes, (2, 3, HIDDEN), net.weights, ["a", "b", HIDDEN])
    model.opset_import[0].version = 14
    feeds = {"x": np.abs(noise(np.random.default_rng(0), 2, 3, HIDDEN))}
    # ONNX Runtime 1.32 fuses other powers, too: the reference is ONNX's
    assert_close(make_session(model).run(None, feeds)[0], exact(model, feeds)[0].astype(np.float32))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [1, 3, 16, 100, 768])
def test_layer_norm(size, bias):
    """Rows of any length, of any batch."""
    rng = np.random.default_rng(size)
    names = ["scale", "bias"][: 1 + bias]
    weights = {name: noise(rng, size) for name in names}
    node = helper.make_node("LayerNormalization", ["p", *names], ["y"], axis=-1, epsilon=1e-5)
    shapes = [(2, 5, size), (1, 1, size), (3, 70, size), (0, 5, size)]
    assert_same(carried([node], shapes[0], weights, dynamic(shapes[0])), shapes, exact=False, threads=2)


def test_layer_norm_of_large_mean():
    """The variance is that of the differences to the mean: no cancellation."""
    weights = {"scale": np.ones(256, np.float32)}
    model = carried([helper.make_node("LayerNormalization", ["p", "scale"], ["y"])], (4, 256), weights)
    x = noise(np.random.default_rng(1), 4, 256) + np.float32(1000)
    x64 = x.astype(np.float64)
    exact = (x64 - x64.mean(1, keepdims=True)) / np.sqrt(x64.var(1, keepdims=True) + 1e-5)
    assert np.abs(owned_session(model).run(None, {"x": x})[0] - exact).max() < 1e-3


@pytest.mark.parametrize(
    ("attributes", "shapes", "reason"),
    [
        ({"axis": 1}, {"scale": (3, 4)}, "axes other than the last are not supported"),
        ({"axis": -1}, {"scale": (1,)}, "input Scale does not fit the last dimension"),
    ],
)
def test_layer_norm_declined(attributes, shapes, reason):
    """What is not one row of weights for rows of the last dimension."""
    weights = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    node = helper.make_node("LayerNormalization", ["p", *weights], ["y"], **attributes)
    assert reason in reasons(carried([node], (2, 3, 4), weights))


@pytest.mark.parametrize("perm", [[0, 2, 1, 3], [0, 2, 3, 1], [3, 2, 1, 0], [0, 1, 3, 2], [1, 0, 2, 3], [0, 1, 2, 3], [2, 3, 0, 1], None])
def test_transpose(perm):
    """Any order, whole squares of a vector's lanes and what is left of them."""
    node = helper.make_node("Transpose", ["p"], ["y"], **({} if perm is None else {"perm": perm}))
    shapes = [(1, 128, 4, 32), (2, 7, 3, 32), (3, 16, 8, 32), (1, 1, 1, 32), (2, 0, 3, 32)]
    assert_same(carried([node], shapes[0], declared=dynamic(shapes[0])), shapes, threads=2)


@pytest.mark.parametrize("last", [1, 5, 64])
def test_transpose_of_matrices(last):
    """Two dimensions: rows that are no whole vector, too."""
    shapes = [(33, last), (8, last), (64, last)]
    assert_same(carried([helper.make_node("Transpose", ["p"], ["y"])], shapes[0], declared=dynamic(shapes[0])), shapes)
