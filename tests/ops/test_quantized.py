"""Quantised operators against exact integers: random ones, their edges, and what is declined."""

import numpy as np
import pytest
from onnx import helper

from support import quantized
from support.kernel_sets import BYTE_SETS, EVERY_BYTE_SET
from support.making import MORE
from support.quantized import reasons_of, run

CASES = 50 * MORE
F32 = np.float32


@EVERY_BYTE_SET
def test_random_cases(row):
    """Equal to the exact reference in every element, on every set of kernels."""
    for seed in range(CASES):
        case = quantized.random_case(seed)
        y = run(case, row, 1 + seed % 3)
        assert not isinstance(y, str), (seed, y)
        assert y.dtype == case[5].dtype, seed
        np.testing.assert_array_equal(y, case[5], err_msg=f"seed {seed}: {[node.op_type for node in case[0]]}")


def conv_case(x, w, wz=0, *, xs=0.01, xz=0, ws=0.02, ys=0.3, yz=0, bias=None, y_type=None, **attributes):
    """A QLinearConv with these operands and what it computes."""
    y_type = y_type or x.dtype.type
    constants = {
        "xs": F32(xs),
        "xz": x.dtype.type(xz),
        "w": w,
        "ws": np.asarray(ws, F32),
        "wz": np.asarray(wz, w.dtype),
        "ys": F32(ys),
        "yz": y_type(yz),
    }
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    if bias is not None:
        constants["bias"] = bias
        names.append("bias")
    node = helper.make_node("QLinearConv", names, ["y"], **attributes)
    given = {name: constants[name] for name in names[1:8]}
    expected = quantized.qlinear_conv(x, *given.values(), bias, **attributes)
    return [node], {"x": (x.dtype, x.shape)}, {"y": y_type}, constants, {"x": x}, expected


def noise(*shape, dtype=np.uint8, seed=0):
    """Activations over the whole range."""
    return quantized.integers(np.random.default_rng(seed), dtype, shape)


def one_of(values, shape, dtype):
    """Weights of these numbers alone."""
    return np.random.default_rng(1).choice(values, shape).astype(dtype)


EDGES = {
    "extreme weights": lambda: conv_case(np.full((1, 8, 6, 6), 255, np.uint8), one_of([-128, 127], (5, 8, 3, 3), np.int8)),
    **{
        f"zero point {zero} of the weight": lambda zero=zero: conv_case(
            noise(1, 8, 9, 9), one_of([0, zero, zero, 255], (6, 8, 3, 3), np.uint8), zero, xz=3, pads=[1] * 4, yz=100
        )
        for zero in (0, 114, 128, 255)
    },
    "a zero point for each channel": lambda: conv_case(
        noise(1, 8, 9, 9), noise(6, 8, 3, 3, seed=2), noise(6, seed=3), ws=np.linspace(0.01, 0.03, 6), xz=200, pads=[2, 1, 0, 1]
    ),
    "signed activations": lambda: conv_case(
        noise(1, 8, 9, 9, dtype=np.int8), one_of([-3, 0, 0, 5], (6, 8, 3, 3), np.int8), xz=-128, yz=-5, pads=[1] * 4
    ),
    "padding with the zero point": lambda: conv_case(
        np.full((1, 4, 5, 5), 7, np.uint8), one_of([-9, 4], (3, 4, 3, 3), np.int8), xz=250, yz=128, pads=[2] * 4
    ),
    "ties": lambda: conv_case(
        noise(1, 4, 16, 16), one_of([-1, 0, 1], (8, 4, 1, 1), np.int8), xs=1, ws=0.5, ys=1, xz=128, yz=128, y_type=np.uint8
    ),
    "rows of zero points": lambda: conv_case(
        noise(1, 4, 7, 7), np.full((5, 4, 3, 3), 128, np.uint8), 128, bias=np.arange(-2, 3, dtype=np.int32) * 900, yz=30
    ),
    "one row that lives": lambda: conv_case(
        noise(1, 4, 7, 7), np.where(np.arange(5) == 2, 129, 128).reshape(5, 1, 1, 1).repeat(4, 1).astype(np.uint8), 128, yz=30
    ),
    "depthwise": lambda: conv_case(
        noise(1, 32, 13, 13), one_of([-128, 0, 127], (32, 1, 3, 3), np.int8), group=32, xz=90, pads=[1] * 4, ws=np.full(32, 0.03)
    ),
    "large images": lambda: conv_case(
        noise(1, 16, 64, 64), one_of([-50, 0, 0, 0, 0, 77], (24, 16, 3, 3), np.int8), xz=9, pads=[1] * 4, ws=np.linspace(0.01, 0.1, 24)
    ),
    "few pixels": lambda: conv_case(noise(3, 300, 1, 1), one_of([-50, 0, 0, 0, 77], (70, 300, 1, 1), np.int8), xz=9, ws=0.001),
}


@EVERY_BYTE_SET
@pytest.mark.parametrize("edge", EDGES)
def test_edges(edge, row):
    """Exact, on every set of kernels, alone and with several workers."""
    case = EDGES[edge]()
    for workers in (1, 3):
        y = run(case, row, workers)
        assert y.dtype == case[5].dtype
        np.testing.assert_array_equal(y, case[5])


def deep(depth, zero=127, **changes):
    """A row whose sums reach depth * 255 * (255 - zero), and one that reaches -depth * 255 * zero. With 127 weights do not fit 8 bits."""
    w = np.stack([np.full(depth, 255), np.full(depth, 0)]).reshape(2, depth, 1, 1).astype(np.uint8)
    return conv_case(np.full((1, depth, 3, 3), 255, np.uint8), w, zero, xs=1e-3, ws=1e-3, ys=0.5, yz=128, **changes)


EXACT = (1 << 24) // (255 * 128)
"""Depth up to which floats hold all sums of `deep`."""


@EVERY_BYTE_SET
@pytest.mark.parametrize("depth", [EXACT, EXACT + 1, 2 * EXACT])
def test_sums_at_the_edge(row, depth):
    """Sums up to 2^24 are those of one product of floats, those of up to twice as much of two; both are exact."""
    case = deep(depth, bias=np.array([3, -3], np.int32)) if depth == EXACT else deep(depth)
    np.testing.assert_array_equal(run(case, row), case[5])


def test_sums_beyond_the_edge():
    """A deeper product is declined where weights do not fit 8 bits."""
    assert [finding.code for finding in reasons_of(deep(2 * EXACT + 2))] == ["sum-too-large"]


@pytest.mark.parametrize("size", [1, 3])
def test_sums_of_bytes(size):
    """Sums of bytes have int32: any of them are exact, and wrap as those of int32 do."""
    case = deep(5 * EXACT, 128)
    np.testing.assert_array_equal(run(case, BYTE_SETS[0]), case[5])
    x, w = np.full((1, 5, size, size), 255, np.uint8), np.full((4, 5, 1, 1), 127, np.int8)
    case = conv_case(x, w, xs=1e-8, ws=1, ys=1, yz=128, bias=np.array([2**31 - 1, 2**31 - 200000, -(2**31), 2**25 + 1], np.int32))
    np.testing.assert_array_equal(run(case, BYTE_SETS[0]), case[5])


def changed(name, array):
    """A small QLinearConv with another constant."""
    case = conv_case(noise(1, 4, 5, 5), one_of([-1, 0, 2], (3, 4, 1, 1), np.int8))
    return (*case[:3], {**case[3], name: np.asarray(array)}, *case[4:])


BAD = {
    "zero scale": ("xs", F32(0), "quantisation-scale"),
    "NaN scale": ("ws", F32(np.nan), "quantisation-scale"),
    "negative scale": ("ys", F32(-0.1), "quantisation-scale"),
    "infinite scale": ("xs", F32(np.inf), "quantisation-scale"),
    "scales of a wrong shape": ("ws", np.full(2, 0.1, F32), "quantisation-axis"),
    "scales of two dimensions": ("ws", np.full((3, 1), 0.1, F32), "quantisation-axis"),
    "float16 scale": ("xs", np.float16(0.1), "quantisation-type"),
    "zero point of another type": ("xz", np.int8(0), "quantisation-type"),
    "weight zero point of another type": ("wz", np.uint8(0), "quantisation-type"),
    "result zero point of another type": ("yz", np.int8(0), "quantisation-type"),
    "scales for each element of x": ("xs", np.full(4, 0.1, F32), "quantisation-axis"),
    "product of scales beyond float32": ("ys", F32(1e-45), "quantisation-scale"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_parameters(bad):
    """Declined, with a reason."""
    name, array, code = BAD[bad]
    assert [finding.code for finding in reasons_of(changed(name, array))] == [code]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16], ids=str)
def test_16_bits(dtype):
    """Declined by type, whatever the node."""
    x = np.zeros((1, 4), dtype)
    node = helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"])
    case = [node], {"x": (dtype, x.shape)}, {"y": np.float32}, {"s": F32(1), "z": dtype(0)}, {"x": x}, x
    assert [finding.code for finding in reasons_of(case)] == ["type-not-supported"]


def test_blocked_parameters():
    """Scales for blocks of an axis are declined."""
    x = noise(4, 4)
    node = helper.make_node("DequantizeLinear", ["x", "s"], ["y"], axis=1, block_size=2)
    case = [node], {"x": (np.uint8, x.shape)}, {"y": np.float32}, {"s": np.ones((4, 2), F32)}, {"x": x}, x
    assert [finding.code for finding in reasons_of(case)] == ["unsupported-attribute"]


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2,), (3,), (1, 1), (3, 1), (2, 2, 2)])
@pytest.mark.parametrize("name", ["xs", "xz", "ws", "wz", "ys", "yz"])
def test_parameters_of_any_shape_get_an_answer(name, shape):
    """None or a reason, and no exception: that would leave the whole graph."""
    given = conv_case(noise(1, 4, 5, 5), one_of([-1, 0, 2], (3, 4, 1, 1), np.int8))[3][name]
    found = reasons_of(changed(name, np.full(shape, np.asarray(given).reshape(-1)[0], np.asarray(given).dtype)))
    fits = shape in ((), (1,)) or (shape == (3,) and name in ("ws", "wz"))
    assert (found == []) == fits


@pytest.mark.parametrize("missing", ["xs", "ws", "w", "ys"])
def test_parameters_that_change_between_runs(missing):
    """A scale or a weight that is no constant is declined, with a reason."""
    case = conv_case(noise(1, 4, 5, 5), one_of([-1, 0, 2], (3, 4, 1, 1), np.int8))
    array = np.asarray(case[3][missing])
    inputs = {**case[1], missing: (array.dtype, array.shape)}
    constants = {name: value for name, value in case[3].items() if name != missing}
    code = "weight-not-constant" if missing == "w" else "parameter-not-constant"
    assert [finding.code for finding in reasons_of((case[0], inputs, case[2], constants, *case[4:]))] == [code]
