"""Products called from numpy: every form of a convolution, Gemm, few pixels, on every set of kernels, without ONNX Runtime."""

import numpy as np
import pytest

from onnxruntime_ep_sparse import pipeline
from onnxruntime_ep_sparse.runtime import _weight_store
from onnxruntime_ep_sparse.runtime._program import Program
from onnxruntime_ep_sparse_kernels.isa import APART
from support.kernel_sets import table_of
from support.making import noise, pruned
from support.programs import EVERY_SET, Conv, graph_of, program_of
from support.promises import EPS


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
    "one dimension, stride": ("copies", Conv(20, 24, (4,), strides=(3,), dilations=(2,), pads=(1, 4)), (2, 24, 100)),
    "three dimensions": (None, Conv(10, 6, (3, 3, 3), strides=(2, 1, 2), dilations=(1, 2, 1), pads=(1,) * 6), (2, 6, 7, 9, 8)),
    "blocks": ("flat", Conv(75, 24, (3, 3), pads=(1, 1, 1, 1), pattern="blocks", known=(9, 7)), (2, 24, 9, 7)),
    "a pixel more": ("flat", Conv(40, 24, (1, 1), pattern="blocks", relu=True, known=(7, 7)), (2, 24, 7, 7)),
    "a pixel more, many channels": ("flat", Conv(75, 1400, (1, 1), pattern="blocks", relu=True, known=(5, 5)), (2, 1400, 5, 5)),
    "shuffled blocks": ("flat", Conv(75, 24, (3, 3), pads=(1, 1, 1, 1), pattern="shuffled blocks", known=(9, 7)), (2, 24, 9, 7)),
    "shuffled blocks, many channels": (
        "flat",
        Conv(166, 1400, (1, 1), zeros=0.9, pattern="shuffled blocks", relu=True, known=(6, 6)),
        (1, 1400, 6, 6),
    ),
    "many channels": ("flat", Conv(40, 700, (1, 1), zeros=0.9, relu=True, known=(6, 6)), (1, 700, 6, 6)),
}


@EVERY_SET
@pytest.mark.parametrize("name", FORMS)
def test_convolution(isa, name):
    """Each case takes the form it is there for, keeps the promised error, and gives the same bits for any number of workers."""
    form, conv, shape = FORMS[name]
    spec = pipeline.lower_to_spec(conv.graph, isa)
    assert form in (None, form_of(spec.steps[0].spec))
    x = noise(np.random.default_rng(1), *shape)
    y = conv.check(Program(spec, table_of(isa), 1), x)
    for workers in range(2, 6):
        assert Program(spec, table_of(isa), workers).run(x)[0].tobytes() == y.tobytes()


@EVERY_SET
@pytest.mark.parametrize("act", ["Relu", "Tanh"])
@pytest.mark.parametrize("kernel", [(3, 3), (7, 5)])
def test_whole_rows(isa, kernel, act):
    """Convolutions of few channels whose kernels write whole rows give the bits of those whose sums wait for a residual, here of zeros.

    The last vectors of a row overlap where the width is odd. Any number of workers and images.
    """
    rng, layouts = np.random.default_rng(0), set()
    weights = {"w": noise(rng, 21, 3, *kernel), "b": noise(rng, 21)}
    attributes = {"pads": (kernel[0] // 2, kernel[1] // 2) * 2, "strides": (kernel[0] // 3, 2)}
    for width in (12, 61, 128):
        height, columns = 19 // attributes["strides"][0] + (kernel[0] == 7), (width + 1) // 2
        x, zeros, shape = noise(rng, 2, 3, 19, width), np.zeros((2, 21, height, columns), np.float32), (None, 21, height, columns)
        conv = ("Conv", ("x", "w", "b"), "p", shape, attributes)
        known = {"x": ("n", 3, 19, width)}
        whole = pipeline.lower_to_spec(graph_of([conv, (act, ("p",), "y", shape, {})], known, weights), isa)
        nodes = [conv, ("Add", ("p", "r"), "s", shape, {}), (act, ("s",), "y", shape, {})]
        waiting = pipeline.lower_to_spec(graph_of(nodes, known | {"r": shape}, weights), isa)
        (expected,) = Program(waiting, table_of(isa), 1).run(x, zeros)
        for workers in (1, 2, 5):
            recorded = []
            (y,) = Program(whole, table_of(isa), workers).run(x, recorded=recorded)
            np.testing.assert_array_equal(y, expected)
            layouts |= {record.layout for record in recorded if record.kernel}
    assert layouts == {"rows", "tiles"}


@EVERY_SET
@pytest.mark.parametrize("side", [1, 3, 7, 14])
@pytest.mark.parametrize("group", [1, 2])
def test_images_of_one_tile(isa, side, group):
    """Tiles that go on from image to image give each image the bits that it gets alone, for any number of workers and images."""
    rng = np.random.default_rng(0)
    shape = (None, 26, side, side)
    nodes = [
        ("Conv", ("x", "w"), "a", shape, {"group": group}),
        ("Conv", ("a", "v", "b"), "p", shape, {"group": group}),
        ("Add", ("p", "a"), "s", shape, {}),
        ("Sigmoid", ("s",), "y", shape, {}),
    ]
    weights = {
        "w": pruned(rng, (26, 18 // group, 1, 1), 0.7),
        "v": pruned(rng, (26, 26 // group, 1, 1), 0.7),
        "b": noise(rng, 26),
    }
    spec = pipeline.lower_to_spec(graph_of(nodes, {"x": ("n", 18, side, side)}, weights), isa)
    x = noise(rng, 9, 18, side, side)
    alone = np.concatenate([Program(spec, table_of(isa), 1).run(image[None])[0] for image in x])
    for workers in range(1, 5):
        program = Program(spec, table_of(isa), workers)
        for images in (2, 3, 9):
            assert program.run(x[:images])[0].tobytes() == alone[:images].tobytes()


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
    "half zeros": {"m": 203, "k": 61, "zeros": 0.5},
    "half zeros, residual": {"m": 50, "zeros": 0.5, "residual": True, "activation": "Relu"},
    "blocks": {"m": 70, "k": 130, "pattern": "block4"},
    "blocks, half zeros": {"m": 70, "zeros": 0.5, "pattern": "block4"},
    "shuffled blocks": {"m": 70, "k": 130, "pattern": "shuffled blocks", "residual": True, "activation": "Tanh"},
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
    """A row gives the same bits alone, among few and among many, whatever layout these take, for any number of workers."""
    case = {"m": 33, "k": 50, "zeros": 0.8, "pattern": "unstructured", "activation": None, "residual": False} | FEW[name]
    rng = np.random.default_rng(6)
    weights = {"w": pruned(rng, (case["m"], case["k"]), case["zeros"], case["pattern"]).T.copy(), "b": noise(rng, case["m"])}
    shape = ("n", case["m"])
    nodes, inputs, last = [("MatMul", ("x", "w"), "p", shape, {}), ("Add", ("p", "b"), "s", shape, {})], {"x": ("n", case["k"])}, "s"
    if case["residual"]:
        inputs["r"], last = shape, "t"
        nodes.append(("Add", ("s", "r"), "t", shape, {}))
    nodes.append((case["activation"] or "Neg", (last,), "y", shape, {}))
    graph = graph_of(nodes, inputs, weights)
    data = [noise(rng, 3 * isa.lanes + 5, dims[1]) for dims in inputs.values()]
    (many,) = program_of(graph, isa).run(*data)
    exact = data[0].astype(np.float64) @ weights["w"] + weights["b"] + (data[1] if case["residual"] else 0)
    exact = {"Relu": lambda y: np.maximum(y, 0), "Tanh": np.tanh, "Sigmoid": lambda y: 1 / (1 + np.exp(-y))}.get(
        case["activation"], np.negative
    )(exact)
    assert np.abs(many - exact).max() <= 1e-5 * max(np.abs(exact).max(), 1)
    for workers in (1, 2, 3):
        program = program_of(graph, isa, workers)
        for rows in range(1, 3 * isa.lanes + 2) if workers == 1 else (1, 2, isa.lanes - 1, isa.lanes, isa.lanes + 1):
            (few,) = program.run(*(a[:rows] for a in data))
            assert few.tobytes() == many[:rows].tobytes()


@EVERY_SET
@pytest.mark.parametrize("zeros", [0.5, 0.97])
def test_second_layout(isa, zeros):
    """Weights are there a second time only where a run has needed it, once: with all their zeros where these are few, else without."""
    m, k = 128, 64
    weight = pruned(np.random.default_rng(8), (m, k), zeros)
    program = program_of(graph_of([("MatMul", ("x", "w"), "y", ("n", m), {})], {"x": ("n", k)}, {"w": weight.T.copy()}), isa)
    held = []
    for rows in (0, 1, 2, 1):
        program.run(noise(np.random.default_rng(rows), rows, k))
        held.append(_weight_store.held()[1])
    if zeros == 0.5:
        assert held[1] - held[0] == 4 * m * k
    else:
        assert 0 < held[1] - held[0] < 4 * m * k / 4
    assert held[1:] == held[1:2] * 3


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
    ]  # fmt: skip  # a case per line
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
