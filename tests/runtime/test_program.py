"""Compiled programs called from numpy: every form of a convolution, every step, every set of kernels, without ONNX Runtime."""

import re
from pathlib import Path

import numpy as np
import pytest

from onnxruntime_ep_sparse import options
from onnxruntime_ep_sparse import pipeline as lower
from onnxruntime_ep_sparse.graph.ir import FLOAT, INT64, Graph, Node, Value
from onnxruntime_ep_sparse.program.enums import StepKind
from onnxruntime_ep_sparse.runtime._program import Program
from onnxruntime_ep_sparse_kernels.isa import APART
from support.kernel_sets import SETS, table_of
from support.making import noise, pruned
from support.promises import EPS

SOURCES = Path(__file__).parents[2]
EVERY_SET = pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)


def graph_of(nodes, inputs, constants=None, outputs=("y",)):
    """A graph: `nodes` are (operator, inputs, output, shape of the output, attributes)."""
    constants = constants or {}
    values = {name: Value(name, FLOAT, shape) for name, shape in inputs.items()}
    values |= {name: Value(name, FLOAT if a.dtype == np.float32 else INT64, a.shape) for name, a in constants.items()}
    values |= {output: Value(output, FLOAT, shape) for _, _, output, shape, _ in nodes}
    made = [Node(i, "", op, "", 0, tuple(x), (y,), attributes) for i, (op, x, y, _, attributes) in enumerate(nodes)]
    return Graph(tuple(made), values, frozenset(constants), constants.__getitem__, tuple(inputs), tuple(outputs))


def program_of(graph, isa, workers=1):
    """Lower for any set of kernels, those outside the package too; steps run in bands where they can."""
    return Program(lower.lower_to_spec(graph, isa), table_of(isa), workers, far_floats=0)


class Conv:
    """A convolution of random pruned weights, and the same in float64. `known`: whether the graph tells the image's size."""

    def __init__(self, m, c, kernel, *, zeros=0.8, group=1, known=(), seed=0, relu=False, **attributes):
        rng = np.random.default_rng(seed)
        rank = len(kernel)
        self.weight, self.bias = pruned(rng, (m, c // group, *kernel), zeros), noise(rng, m)
        self.attributes = {"group": group, **attributes}
        self.relu = relu
        self.c = c
        shape = ("n", c, *(known or (f"d{i}" for i in range(rank))))
        nodes = [("Conv", ("x", "w", "b"), "y" if not relu else "p", (None, m, *[None] * rank), self.attributes)]
        if relu:
            nodes.append(("Relu", ("p",), "y", nodes[0][3], {}))
        self.graph = graph_of(nodes, {"x": shape}, {"w": self.weight, "b": self.bias})

    def exact(self, x):
        """y and |W||x| + |b| in float64: tap by tap."""
        kernel, rank = self.weight.shape[2:], self.weight.ndim - 2
        stride, dilation = (self.attributes.get(name, (1,) * rank) for name in ("strides", "dilations"))
        pads = self.attributes.get("pads", (0,) * 2 * rank)
        x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
        size = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(x.shape[2:], kernel, dilation, stride, strict=True)]
        group = self.attributes["group"]
        weight = self.weight.astype(np.float64).reshape(group, -1, *self.weight.shape[1:])
        x = x.reshape(len(x), group, -1, *x.shape[2:])
        results = []
        for w, values, bias in ((weight, x, self.bias), (np.abs(weight), np.abs(x), np.abs(self.bias))):
            y = np.zeros((len(x), group, weight.shape[1], *size))
            for tap in np.ndindex(*kernel):
                ends = [slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilation, size, stride, strict=True)]
                y += np.einsum("gmc,ngc...->ngm...", w[(..., *tap)], values[(..., *ends)])
            results.append(y.reshape(len(x), -1, *size) + bias.reshape(-1, *[1] * rank))
        return np.maximum(results[0], 0) if self.relu else results[0], results[1]

    def check(self, program, x):
        """Within the promised error."""
        (y,) = program.run(x)
        expected, size = self.exact(x)
        assert y.shape == expected.shape
        assert (np.abs(y - expected) <= 4 * EPS * np.sqrt(self.weight[0].size) * size).all()
        return y


def form_of(product):
    """What a tile holds of a channel."""
    units = len(product.unit_segment) - 1
    return "flat" if units == 1 else "copies" if units == len(product.taps) else "rows"


FORMS = {
    "pointwise": ("flat", Conv(20, 24, (1, 1), known=(9, 7)), (2, 24, 9, 7)),
    "small image": ("flat", Conv(20, 24, (3, 3), pads=(1, 1, 1, 1), known=(9, 7)), (2, 24, 9, 7)),
    "small image, stride": ("flat", Conv(20, 24, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1), known=(14, 14)), (2, 24, 14, 14)),
    "unknown width": ("rows", Conv(20, 24, (3, 3), pads=(1, 1, 1, 1)), (2, 24, 9, 70)),
    "large image": ("rows", Conv(20, 24, (3, 3), pads=(1, 1, 1, 1), known=(5, 1000)), (1, 24, 5, 1000)),
    "large image, stride": ("rows", Conv(20, 8, (5, 3), strides=(2, 3), pads=(2, 1, 2, 1), known=(9, 1000)), (1, 8, 9, 1000)),
    "far dilation": ("copies", Conv(20, 6, (2, 3), dilations=(1, 12000), pads=(1, 12000, 0, 12000)), (2, 6, 5, 13)),
    "large kernel": ("flat", Conv(8, 6, (11, 11), pads=(5,) * 4, known=(13, 15)), (2, 6, 13, 15)),
    "larger than the image": ("flat", Conv(8, 6, (7, 7), pads=(3,) * 4, known=(3, 2)), (2, 6, 3, 2)),
    "uneven": ("rows", Conv(9, 5, (2, 4), strides=(3, 1), dilations=(2, 3), pads=(0, 2, 3, 1)), (2, 5, 17, 23)),
    "dense": ("flat", Conv(21, 24, (3, 3), zeros=0, pads=(1, 1, 1, 1), known=(9, 7)), (2, 24, 9, 7)),
    "empty": ("flat", Conv(20, 24, (3, 3), zeros=1, known=(9, 7)), (2, 24, 9, 7)),
    "one row": ("flat", Conv(1, 3, (1, 1), zeros=0, known=(1, 1)), (1, 3, 1, 1)),
    "groups": ("flat", Conv(20, 24, (3, 3), group=4, pads=(1, 1, 1, 1), known=(9, 7)), (2, 24, 9, 7)),
    "one dimension": ("flat", Conv(20, 24, (5,), pads=(2, 2), known=(61,)), (2, 24, 61)),
    "one dimension, stride": ("flat", Conv(20, 24, (4,), strides=(3,), dilations=(2,), pads=(1, 4)), (2, 24, 100)),
    "three dimensions": (None, Conv(10, 6, (3, 3, 3), strides=(2, 1, 2), dilations=(1, 2, 1), pads=(1,) * 6), (2, 6, 7, 9, 8)),
    "many channels": ("flat", Conv(40, 700, (1, 1), zeros=0.9, relu=True, known=(6, 6)), (1, 700, 6, 6)),
}


DEPTHWISE = {
    "large": (Conv(24, 24, (3, 3), group=24, zeros=0, pads=(1, 1, 1, 1)), (2, 24, 30, 300)),
    "5x5": (Conv(24, 24, (5, 5), group=24, zeros=0, pads=(2, 2, 2, 2)), (2, 24, 14, 14)),
    "stride": (Conv(24, 24, (5, 5), group=24, zeros=0, strides=(2, 2), pads=(2, 2, 2, 2)), (2, 24, 31, 33)),
    "narrow": (Conv(40, 40, (3, 3), group=40, zeros=0, pads=(1,) * 4, relu=True), (3, 40, 7, 7)),
    "narrow, stride": (Conv(70, 70, (5, 5), group=70, strides=(2, 2), pads=(2,) * 4), (2, 70, 14, 14)),
    "one column": (Conv(7, 7, (3, 3), group=7, pads=(1,) * 4), (1, 7, 40, 1)),
    "one pixel": (Conv(7, 7, (3, 3), group=7, pads=(1,) * 4), (3, 7, 1, 1)),
    "smaller than the window": (Conv(7, 7, (5, 5), group=7, pads=(2,) * 4), (3, 7, 2, 3)),
    "padding beyond a vector": (Conv(3, 3, (3, 3), group=3, pads=(5, 19, 6, 40)), (1, 3, 6, 9)),
    "no padding": (Conv(3, 3, (3, 3), group=3), (1, 3, 60, 90)),
    "uneven": (Conv(9, 9, (2, 4), group=9, strides=(3, 1), dilations=(2, 3), pads=(0, 2, 3, 1)), (2, 9, 17, 43)),
    "stride 2, any kernel": (Conv(9, 9, (3, 7), group=9, strides=(1, 2), dilations=(2, 1), pads=(2, 3, 1, 2)), (2, 9, 17, 63)),
    "stride 3": (Conv(9, 9, (3, 3), group=9, strides=(3, 3), pads=(1, 2, 1, 0)), (2, 9, 17, 63)),
    "far dilation": (Conv(6, 6, (7, 7), group=6, zeros=0, dilations=(1, 900), pads=(3, 2700) * 2), (1, 6, 9, 3000)),
    "two outputs a channel": (Conv(24, 12, (3, 3), group=12, zeros=0, pads=(1,) * 4), (2, 12, 9, 20)),
    "one dimension": (Conv(12, 12, (9,), group=12, zeros=0, pads=(4, 4)), (2, 12, 100)),
    "three dimensions": (Conv(5, 5, (3, 3, 3), group=5, zeros=0, pads=(1,) * 6), (2, 5, 6, 7, 8)),
    "depth 1 of three": (Conv(5, 5, (1, 3, 3), group=5, zeros=0, strides=(2, 1, 1), pads=(1, 1, 1) * 2), (2, 5, 6, 17, 18)),
}


@EVERY_SET
@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise(isa, name):
    """One channel an output: the promised error, the same bits for any number of workers, nothing seen of the channels beside."""
    conv, shape = DEPTHWISE[name]
    spec = lower.lower_to_spec(conv.graph, isa)
    assert spec.steps[0].kind == StepKind.DEPTHWISE
    x = noise(np.random.default_rng(1), *shape)
    y = conv.check(Program(spec, table_of(isa), 1), x)
    for workers in range(2, 6):
        assert Program(spec, table_of(isa), workers).run(x)[0].tobytes() == y.tobytes()
    x[:, 1] = np.nan
    (poisoned,) = Program(spec, table_of(isa), 2).run(x)
    others = np.arange(y.shape[1]) * shape[1] // y.shape[1] != 1
    assert poisoned[:, others].tobytes() == y[:, others].tobytes()
    assert np.isnan(poisoned[:, ~others]).any()


TOGETHER = {
    "bands": ((2, 24, 30, 23), {}),
    "rows of four": ((1, 40, 22, 70), {}),
    "one band an image": ((4, 9, 7, 7), {}),
    "too low": ((4, 9, 3, 50), {}),
    "stride": ((1, 24, 57, 40), {"strides": (2, 2)}),
    "any window": ((1, 24, 25, 40), {"dilations": (2, 1)}),
    "tanh": ((1, 24, 30, 23), {"activation": "Tanh"}),
    "residual": ((1, 24, 30, 23), {"residual": True}),
    "deep and wide": ((1, 600, 14, 14), {"m": 700}),
}


@EVERY_SET
@pytest.mark.parametrize("name", TOGETHER)
def test_depthwise_with_pointwise(isa, name):
    """A depthwise convolution and the pointwise one behind it give the same bits together as one by one, for any number of workers."""
    (n, c, h, w), case = TOGETHER[name]
    rng = np.random.default_rng(4)
    m, stride, dilation = case.get("m", 30), case.get("strides", (1, 1)), case.get("dilations", (1, 1))
    out = [(d + 2 - 2 * k - 1) // s + 1 for d, k, s in zip((h, w), dilation, stride, strict=True)]
    window = {"group": c, "pads": (1, 1, 1, 1), "strides": stride, "dilations": dilation}
    nodes = [
        ("Conv", ("x", "dw", "db"), "d", (None, c, *out), window),
        (case.get("activation", "Relu"), ("d",), "a", (None, c, *out), {}),
        ("Conv", ("a", "pw", "pb"), "p", (None, m, *out), {}),
    ]
    inputs, last = {"x": ("n", c, h, w)}, "p"
    if "residual" in case:
        inputs["r"], last = ("n", m, *out), "s"
        nodes.append(("Add", ("p", "r"), "s", ("n", m, *out), {}))
    nodes.append(("Relu", (last,), "y", ("n", m, *out), {}))
    weights = {"dw": pruned(rng, (c, 1, 3, 3), 0), "db": noise(rng, c), "pw": pruned(rng, (m, c, 1, 1), 0.8), "pb": noise(rng, m)}
    data = [noise(rng, n, *shape[1:]) for shape in inputs.values()]
    # where the graph gives away what is between them, each step runs on its own
    expected = program_of(graph_of(nodes, inputs, weights, ("y", "a")), isa).run(*data)[0]
    for workers in (1, 2, 3):
        (y,) = program_of(graph_of(nodes, inputs, weights), isa, workers).run(*data)
        assert y.tobytes() == expected.tobytes()
    exact = Conv(c, c, (3, 3), **window)
    exact.weight, exact.bias = weights["dw"], weights["db"]
    between = np.tanh(exact.exact(data[0])[0]) if "activation" in case else np.maximum(exact.exact(data[0])[0], 0)
    final = np.einsum("mc,nchw->nmhw", weights["pw"][:, :, 0, 0].astype(np.float64), between) + weights["pb"][:, None, None]
    final = np.maximum(final + data[1] if "residual" in case else final, 0)
    assert np.abs(y - final).max() <= 1e-5 * np.abs(final).max()


@EVERY_SET
def test_results_over_their_residual(isa):
    """Blocks that add their own input, as bands and as single steps: nothing that somebody still reads is written over."""
    rng = np.random.default_rng(5)
    c, shape, window = 24, ("n", 24, 30, 23), {"group": 24, "pads": (1, 1, 1, 1)}
    weights = {name: pruned(rng, (c, 1, 3, 3), 0) for name in ("d0", "d1")} | {
        name: pruned(rng, (c, c, 1, 1), 0.8) for name in ("p0", "p1")
    }
    nodes = [("Relu", ("x",), "a0", shape, {})]
    for i in range(2):
        nodes += [
            ("Conv", (f"a{i}", f"d{i}"), f"b{i}", shape, window),
            ("Relu", (f"b{i}",), f"c{i}", shape, {}),
            ("Conv", (f"c{i}", f"p{i}"), f"e{i}", shape, {}),
            ("Add", (f"e{i}", f"a{i}"), f"a{i + 1}", shape, {}),
        ]
    nodes.append(("Sigmoid", ("a2",), "y", shape, {}))
    inputs = {"x": shape}
    x = noise(rng, 2, *shape[1:])
    # where everything is given away, nothing may be written over
    given = ("y", "a0", "b0", "c0", "e0", "a1", "b1", "c1", "e1", "a2")
    expected = program_of(graph_of(nodes, inputs, weights, given), isa).run(x)[0]
    for workers in (1, 2, 3):
        for outputs in (("y",), ("y", "a1"), ("y", "b0", "b1")):
            y = program_of(graph_of(nodes, inputs, weights, outputs), isa, workers).run(x)[0]
            assert y.tobytes() == expected.tobytes()


@EVERY_SET
@pytest.mark.parametrize("name", FORMS)
def test_convolution(isa, name):
    """Each case takes the form it is there for, keeps the promised error, and gives the same bits for any number of workers."""
    form, conv, shape = FORMS[name]
    spec = lower.lower_to_spec(conv.graph, isa)
    assert form in (None, form_of(spec.steps[0].spec))
    x = noise(np.random.default_rng(1), *shape)
    y = conv.check(Program(spec, table_of(isa), 1), x)
    for workers in range(2, 6):
        assert Program(spec, table_of(isa), workers).run(x)[0].tobytes() == y.tobytes()


@EVERY_SET
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (1, 3)])
def test_widths(isa, kernel):
    """Images around whole vectors and whole tiles; a program serves them all."""
    conv = Conv(6, 8, kernel, pads=(kernel[0] // 2, kernel[1] // 2) * 2, zeros=0.5)
    program = program_of(conv.graph, isa)
    rng = np.random.default_rng(2)
    for vectors in (1, 2, isa.widest(APART), 2 * isa.widest(APART)):
        for width in range(vectors * isa.lanes - 1, vectors * isa.lanes + 2):
            for height in (1, 3):
                conv.check(program, noise(rng, 1, 8, height, width))


@EVERY_SET
@pytest.mark.parametrize("zeros", [0, 0.8])
def test_batch(isa, zeros):
    """An image gives the same bits alone and in any batch, in one as well that runs in slices; the last slice may be shorter."""
    rng = np.random.default_rng(3)
    constants = {"w": pruned(rng, (40, 3, 1, 1), zeros), "v": pruned(rng, (2, 40, 3, 3), zeros)}
    nodes = [
        ("Conv", ("x", "w"), "a", (None, 40, None, None), {}),
        ("Conv", ("a", "v"), "y", (None, 2, None, None), {"pads": (1, 1, 1, 1)}),
    ]
    graph = graph_of(nodes, {"x": ("n", 3, "h", "w")}, constants)
    assert lower.lower_to_spec(graph, isa).separable
    program = program_of(graph, isa, workers=3)
    x = noise(rng, 11, 3, 120, 150)
    (whole,) = program.run(x)
    for i in range(len(x)):
        assert program.run(x[i : i + 1])[0].tobytes() == whole[i].tobytes()
    assert program.run(x[:0])[0].shape == (0, 2, 120, 150)


@EVERY_SET
def test_steps(isa):
    """Every kind of step in one program, several inputs and outputs."""
    rng = np.random.default_rng(4)
    constants = {
        "w": pruned(rng, (8, 4, 3, 3)),
        "v": pruned(rng, (24, 10)),
        "u": pruned(rng, (3, 10, 7)),
        "scale": noise(rng, 8, 1, 1),
        "shape": np.array([0, -1, 3, 8], np.int64),
    }
    image = ("n", 8, None, None)
    nodes = [
        ("Conv", ("x", "w"), "conv", image, {"pads": (1, 1, 1, 1)}),
        ("Add", ("conv", "z"), "sum", image, {}),
        ("Relu", ("sum",), "relu", image, {}),
        ("Mul", ("relu", "scale"), "scaled", image, {}),
        ("MaxPool", ("scaled",), "max", image, {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}),
        ("AveragePool", ("max",), "average", image, {"kernel_shape": (2, 2), "pads": (0, 1, 1, 0)}),
        ("GlobalAveragePool", ("average",), "mean", image, {}),
        ("GlobalMaxPool", ("average",), "top", image, {}),
        ("Sub", ("mean", "top"), "difference", image, {}),
        ("Mul", ("average", "difference"), "product", image, {}),
        ("Tanh", ("product",), "tanh", image, {}),
        ("Reshape", ("tanh", "shape"), "parts", ("n", None, 3, 8), {}),
        ("Flatten", ("parts",), "flat", ("n", None), {"axis": 3}),
        ("MatMul", ("rows", "v"), "matmul", ("m", 10), {}),
        ("MatMul", ("matmul", "u"), "batched", (3, "m", 7), {}),
    ]
    outputs = ("flat", "batched", "relu")
    graph = graph_of(nodes, {"x": ("n", 4, "h", "w"), "z": ("n", 8, "h", "w"), "rows": ("m", 24)}, constants, outputs)
    program = program_of(graph, isa, workers=2)
    assert (program.input_names, program.output_names) == (("x", "z", "rows"), outputs)
    for n, h, w, m in ((1, 6, 6, 1), (3, 5, 11, 40)):
        x, z, rows = noise(rng, n, 4, h, w), noise(rng, n, 8, h, w), noise(rng, m, 24)
        conv = Conv(8, 4, (3, 3), pads=(1, 1, 1, 1))
        conv.weight, conv.bias = constants["w"], np.zeros(8)
        relu = np.maximum(conv.exact(x)[0] + z, 0)
        top = pool(relu * constants["scale"], (3, 3), (2, 2), (1, 1, 1, 1), np.nanmax)
        average = pool(top, (2, 2), (1, 1), (0, 1, 1, 0), np.nanmean)
        difference = average.mean((2, 3), keepdims=True) - average.max((2, 3), keepdims=True)
        if average[0, 0].size % 3:
            with pytest.raises(RuntimeError, match=r"Reshape of \d+ elements into \d+"):
                program.run(x, z, rows)
            continue
        flat = np.tanh(average * difference).reshape(-1, 8)
        batched = rows.astype(np.float64) @ constants["v"] @ constants["u"]
        for got, wanted in zip(program.run(x, z, rows), (flat, batched, relu), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def pool(x, kernel, stride, pads, reduce):
    """Pooling by hand: padding is NaN, which `reduce` leaves out."""
    x = np.pad(x, [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])], constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]
    return reduce(windows, axis=(4, 5))


@EVERY_SET
@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("constant", ["a", "b"])
def test_gemm(isa, trans, constant):
    """Either operand constant, either way round, rows around whole vectors."""
    rng = np.random.default_rng(5)
    rows = ("n", 33) if (constant == "b") != trans else (33, "n")
    weight = pruned(rng, (33, 29) if (constant == "b") != trans else (29, 33))
    attributes = {"transA": trans, "transB": trans, "alpha": 0.5}
    graph = graph_of([("Gemm", ("a", "b"), "y", (None, None), attributes)], {"b" if constant == "a" else "a": rows}, {constant: weight})
    program = program_of(graph, isa, workers=2)
    for n in (0, 1, 7, 8, 9, isa.lanes * isa.widest(APART), isa.lanes * isa.widest(APART) + 1, 700):
        x = noise(rng, *(n if size == "n" else size for size in rows))
        a, b = (m.astype(np.float64).T if trans else m.astype(np.float64) for m in ((weight, x) if constant == "a" else (x, weight)))
        (y,) = program.run(x)
        assert y.shape == (a @ b).shape
        assert (np.abs(y - 0.5 * (a @ b)) <= 4 * EPS * np.sqrt(33) * (np.abs(a) @ np.abs(b))).all()


FEW = {
    "one row": {"m": 1},
    "rows beyond a vector": {"m": 37},
    "several blocks and strips": {"m": 75, "k": 900, "zeros": 0.95},
    "empty rows": {"m": 40, "zeros": 0.99},
    "nothing": {"m": 12, "zeros": 1},
    "dense": {"m": 43, "zeros": 0},
    "clamp": {"activation": "Relu"},
    "activation": {"activation": "Tanh"},
    "residual": {"residual": True},
    "residual and activation": {"m": 66, "residual": True, "activation": "Sigmoid"},
    "most columns": {"m": 5, "k": 65536, "zeros": 0.999},
    "too many columns": {"m": 5, "k": 65537, "zeros": 0.999},
}


@EVERY_SET
@pytest.mark.parametrize("name", FEW)
def test_few_rows(isa, name):
    """A row gives the same bits alone, among few and among many, for any number of workers."""
    case = {"m": 33, "k": 50, "zeros": 0.8, "activation": None, "residual": False} | FEW[name]
    rng = np.random.default_rng(6)
    weights = {"w": pruned(rng, (case["m"], case["k"]), case["zeros"]).T.copy(), "b": noise(rng, case["m"])}
    shape = ("n", case["m"])
    nodes, inputs, last = [("MatMul", ("x", "w"), "p", shape, {}), ("Add", ("p", "b"), "s", shape, {})], {"x": ("n", case["k"])}, "s"
    if case["residual"]:
        inputs["r"], last = shape, "t"
        nodes.append(("Add", ("s", "r"), "t", shape, {}))
    nodes.append((case["activation"] or "Neg", (last,), "y", shape, {}))
    graph = graph_of(nodes, inputs, weights)
    data = [noise(rng, 3 * isa.lanes, dims[1]) for dims in inputs.values()]
    (many,) = program_of(graph, isa).run(*data)
    exact = data[0].astype(np.float64) @ weights["w"] + weights["b"] + (data[1] if case["residual"] else 0)
    exact = {"Relu": lambda y: np.maximum(y, 0), "Tanh": np.tanh, "Sigmoid": lambda y: 1 / (1 + np.exp(-y))}.get(
        case["activation"], np.negative
    )(exact)
    assert np.abs(many - exact).max() <= 1e-5 * max(np.abs(exact).max(), 1)
    for workers in (1, 2, 3):
        program = program_of(graph, isa, workers)
        for rows in (1, 2, isa.lanes - 1, isa.lanes, isa.lanes + 1):
            (few,) = program.run(*(a[:rows] for a in data))
            assert few.tobytes() == many[:rows].tobytes()


@EVERY_SET
def test_one_pixel(isa):
    """Other products of one pixel: a convolution of pooled images, a constant on the left, a weight for each batch, a vector."""
    rng = np.random.default_rng(7)
    cases = [
        (("Conv", ("x", "w"), "y", (None, 40, 1, 1), {}), {"w": pruned(rng, (40, 30, 1, 1))}, ("n", 30, 1, 1), (3, 30, 1, 1)),
        (("MatMul", ("w", "x"), "y", ("n", 40, 1), {}), {"w": pruned(rng, (40, 30))}, ("n", 30, 1), (3, 30, 1)),
        (("MatMul", ("x", "w"), "y", ("n", 2, 1, 40), {}), {"w": pruned(rng, (2, 30, 40))}, ("n", 2, 1, 30), (3, 2, 1, 30)),
        (("MatMul", ("x", "w"), "y", ("n",), {}), {"w": pruned(rng, (30,), 0.5)}, ("n", 30), (1, 30)),
        (("Conv", ("x", "w"), "y", (None, 40, 1, 1), {"pads": (1, 1, 0, 0), "strides": (3, 3)}), {"w": pruned(rng, (40, 30, 1, 1))},
         ("n", 30, 1, 1), (2, 30, 1, 1)),
    ]  # fmt: skip
    for node, weights, shape, size in cases:
        x = noise(rng, *size)
        expected = np.zeros((2, 40, 1, 1)) if "pads" in node[4] else None
        if expected is None and node[0] == "Conv":
            expected = np.einsum("mchw,nchw->nmhw", weights["w"], x)
        elif expected is None:
            expected = np.matmul(weights["w"], x) if node[1][0] == "w" else np.matmul(x, weights["w"])
        for workers in (1, 3):
            (y,) = program_of(graph_of([node], {"x": shape}, weights), isa, workers).run(x)
            assert y.shape == expected.shape
            assert np.abs(y - expected).max() <= 1e-5


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 7, 5, 5), "input has 7 channels, the weights expect 8"),
        ((8, 5, 5), "input 0 has 3 dimensions, 4 expected"),
        ((1, 8, 5, 5, 5), "input 0 has 5 dimensions, 4 expected"),
        ((1, 8, 2, 5), "the window is larger than the padded input"),
        ((1,) * 9, "input 0 has 9 dimensions, at most 8 are supported"),
    ],
)
def test_wrong_shape(shape, message):
    """The reason is in the error, and the program goes on with the next input."""
    conv = Conv(6, 8, (3, 3))
    program = lower.lower(conv.graph, options.parse({}))
    for _ in range(2):
        with pytest.raises(RuntimeError, match=re.escape(message)):
            program.run(np.zeros(shape, np.float32))
        conv.check(program, noise(np.random.default_rng(6), 1, 8, 5, 5))


def test_wrong_operands():
    """Products, additions and broadcasts that do not fit each other."""
    rng = np.random.default_rng(7)
    graph = graph_of(
        [("MatMul", ("x", "w"), "p", (2, "m", 4), {}), ("Add", ("p", "z"), "y", (2, "m", 4), {})],
        {"x": (None, "m", 6), "z": (None, None, None)},
        {"w": pruned(rng, (2, 6, 4))},
    )
    program = lower.lower(graph, options.parse({}))
    for x, z, message in (
        ((2, 5, 7), (2, 5, 4), "MatMul input does not fit weights with K = 6"),
        ((3, 5, 6), (2, 5, 4), "MatMul batch dimensions 3 and 2 do not broadcast"),
        ((2, 5, 6), (2, 3, 4), "dimensions 5 and 3 do not broadcast"),
    ):
        with pytest.raises(RuntimeError, match=message):
            program.run(noise(rng, *x), noise(rng, *z))
    with pytest.raises(ValueError, match="2 inputs expected: x, z"):
        program.run(noise(rng, 2, 5, 6))


def test_many_shapes():
    """More shapes than a program remembers, each of them twice, sizes going up and down."""
    conv = Conv(6, 8, (3, 3), pads=(1, 1, 1, 1), relu=True)
    program = lower.lower(conv.graph, options.parse({"threads": "3"}))
    rng = np.random.default_rng(8)
    sizes = [(int(h), int(w)) for h, w in rng.integers(1, 60, (40, 2))]
    first = {size: noise(rng, 1, 8, *size) for size in sizes}
    results = {size: conv.check(program, x) for size, x in first.items()}
    for size in (*sizes[::-1], *sizes[:3] * 2):
        assert program.run(first[size])[0].tobytes() == results[size].tobytes()


@pytest.mark.parametrize(
    ("weight", "x", "separable"),
    [
        ((4, 8, 16), ("n", 16, "p"), False),
        ((4, 8, 16), ("n", 4, 16, "p"), True),
        ((8, 16), ("n", 16, "p"), True),
        ((3, 4, 8, 16), ("n", 4, 16, "p"), False),
    ],
)
def test_batches_of_weights_are_not_cut(weight, x, separable):
    """Where a weight has the first dimension too, a part of the batch needs a part of the weights."""
    rank = max(len(weight), len(x))
    graph = graph_of([("MatMul", ("w", "x"), "y", (None,) * rank, {})], {"x": x}, {"w": pruned(np.random.default_rng(0), weight)})
    assert lower.lower_to_spec(graph, options.isa_of(options.parse({}))).separable == separable
