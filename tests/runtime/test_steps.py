"""The steps around products called from numpy, on every set of kernels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.making import examples, noise, pruned
from support.programs import EVERY_SET, Conv, graph_of, program_of


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
@examples(10)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_number_of_workers(isa, seed):
    """Items of steps around products, whole and cut anywhere, with enough elements for several of them: numpy's results, equal bits."""
    rng = np.random.default_rng(seed)
    sizes = [int(size) for size in rng.choice((1, 2, 3, 16, 30, 48), 3)]
    sizes.append(int(rng.integers(40_000, 90_000)) // int(np.prod(sizes)) + 1)
    rng.shuffle(sizes)
    other = [1 if rng.random() < 0.4 else size for size in sizes]
    order = tuple(int(axis) for axis in rng.permutation(4))
    before, after = rng.integers(0, 4, 4), rng.integers(0, 4, 4)
    constants = {"scale": noise(rng, sizes[-1]), "shift": noise(rng, sizes[-1]), "pads": np.concatenate([before, after])}
    turned = [sizes[axis] for axis in order]
    nodes = [
        ("Mul", ("x", "z"), "product", sizes, {}),
        ("Relu", ("product",), "relu", sizes, {}),
        ("Transpose", ("relu",), "turned", turned, {"perm": order}),
        ("Pad", ("relu", "pads"), "padded", [None] * 4, {}),
        ("Concat", ("relu", "x"), "joined", [None] * 4, {"axis": 3}),
        ("LayerNormalization", ("relu", "scale", "shift"), "normal", sizes, {"axis": -1}),
    ]
    outputs = ("product", "relu", "turned", "padded", "joined", "normal")
    graph = graph_of(nodes, {"x": sizes, "z": other}, constants, outputs)
    x, z = noise(rng, *sizes), noise(rng, *other)
    alone = program_of(graph, isa, workers=1).run(x, z)
    relu = np.maximum(x * z, np.float32(0))
    expected = (x * z, relu, relu.transpose(order), np.pad(relu, [*zip(before, after, strict=True)]), np.concatenate([relu, x], 3))
    for got, wanted in zip(alone, expected, strict=False):
        np.testing.assert_array_equal(got, wanted)
    centred = relu - relu.mean(-1, keepdims=True, dtype=np.float64)
    normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * constants["scale"] + constants["shift"]
    np.testing.assert_allclose(alone[-1], normal, rtol=1e-3, atol=1e-3)
    for workers in (2, 3, 7):
        results = program_of(graph, isa, workers=workers).run(x, z)
        assert [y.tobytes() for y in results] == [y.tobytes() for y in alone]


@EVERY_SET
@examples(40)
@given(
    width=st.integers(1, 300),
    level=st.sampled_from([0.0, 1e-20, 0.1, 1.0, 3.7, 1e3, -1e6]),
    steps=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_layer_normalization_of_nearly_equal_elements(isa, width, level, steps, seed):
    """Elements that are at most a few roundings apart: the mean's rounding, which 1/sqrt(epsilon) would magnify, is not in the result."""
    rng = np.random.default_rng(seed)
    level = np.float32(level)
    x = (level + np.spacing(level) * rng.integers(0, steps + 1, (5, width))).astype(np.float32)
    scale, shift = noise(rng, width), noise(rng, width)
    node = ("LayerNormalization", ("x", "scale", "shift"), "y", (5, width), {"axis": -1})
    (y,) = program_of(graph_of([node], {"x": (5, width)}, {"scale": scale, "shift": shift}, ("y",)), isa).run(x)
    centred = x.astype(np.float64) - x.mean(-1, keepdims=True, dtype=np.float64)
    exact = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale + shift
    np.testing.assert_allclose(y, exact, rtol=1e-5, atol=1e-5)
