"""The depthwise kernels of every instruction set on one plane: against float64, and with any number of rows per call bit for bit."""

from itertools import product

import numpy as np
import pytest

from onnxruntime_ep_sparse_kernels import call
from support.kernel_sets import SETS, table_of

EPS = np.finfo(np.float32).eps
WINDOWS = (
    ((3, 3), (1, 1), (1, 1)),
    ((3, 3), (2, 2), (1, 1)),
    ((3, 3), (1, 1), (2, 3)),
    ((3, 3), (2, 2), (2, 2)),
    ((2, 3), (1, 2), (1, 1)),
    ((5, 5), (1, 1), (1, 1)),
    ((7, 7), (2, 2), (1, 1)),
    ((7, 1), (3, 1), (2, 1)),
    ((1, 9), (1, 3), (1, 2)),
    ((1, 1), (4, 4), (1, 1)),
)
"""(kernel, strides, dilations), with and without a kernel of their own."""
WIDTHS = (1, 2, 7, 15, 16, 17, 28, 33, 64, 65, 100)


def problem(kernel, strides, dilations, width, pad, seed=0):
    """An image of this width, weights, bias, strides, pads and dilations; the image lies between NaN, which the kernels must not read."""
    rng = np.random.default_rng(seed)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = [r // 2 if pad == "half" else r if pad == "all" else 0 for r in reach]
    height = reach[0] + strides[0] * int(rng.integers(4, 13))
    around = np.full((3, height, max(width, reach[1] - 2 * pads[1])), np.nan, np.float32)
    around[1] = rng.standard_normal(around.shape[1:])
    weight = rng.standard_normal(kernel).astype(np.float32)
    return around[1], weight, float(np.float32(rng.standard_normal())), strides, pads, dilations


def exact(x, weight, bias, strides, pads, dilations):
    """The convolution and the sum of its absolute terms in float64, tap by tap."""
    results = []
    for image, window, start in ((x, weight, bias), (np.abs(x), np.abs(weight), abs(bias))):
        padded = np.pad(image.astype(np.float64), [(p, p) for p in pads])
        sizes = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(padded.shape, window.shape, strides, dilations, strict=True)]
        y = np.full(sizes, start, np.float64)
        for tap in np.ndindex(window.shape):
            ends = [slice(k * d, k * d + (n - 1) * s + 1, s) for k, d, n, s in zip(tap, dilations, sizes, strides, strict=True)]
            y += window[tap] * padded[tuple(ends)]
        results.append(y)
    return results


@pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
@pytest.mark.parametrize(("kernel", "strides", "dilations"), WINDOWS)
def test_convolution(isa, kernel, strides, dilations):
    """Each width of the image and padding gives the promised error; clamping applies to the result."""
    for seed, (width, pad) in enumerate(product(WIDTHS, ("none", "half", "all"))):
        case = problem(kernel, strides, dilations, width, pad, seed)
        expected, total = exact(*case)
        y = call.depthwise(table_of(isa), *case)
        assert y.shape == expected.shape
        assert (np.abs(y - expected) <= 4 * EPS * np.sqrt(case[1].size) * total).all()
        assert call.depthwise(table_of(isa), *case, low=-0.5, high=0.25).tobytes() == np.clip(y, -0.5, 0.25).tobytes()


@pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
@pytest.mark.parametrize(("kernel", "strides", "dilations"), WINDOWS)
def test_same_bits(isa, kernel, strides, dilations):
    """The number of rows per call does not change a bit: calls of few rows compute all outputs together, others output by output."""
    for seed, width in enumerate(WIDTHS):
        case = problem(kernel, strides, dilations, width, "half", seed)
        whole = call.depthwise(table_of(isa), *case)
        for rows in (1, 3, 4, 5, 9):
            assert call.depthwise(table_of(isa), *case, rows_per_call=rows).tobytes() == whole.tobytes()


def test_wrong_arguments():
    """Numbers out of range and windows that do not fit the image are refused."""
    x, weight = np.ones((4, 4), np.float32), np.ones((5, 5), np.float32)
    with pytest.raises(ValueError, match="an image of 4x4 with 0 pads is smaller than the window"):
        call.depthwise(table_of(SETS[-2]), x, weight, 0.0, (1, 1), (0, 0))
    with pytest.raises(ValueError, match="a window of 5 taps, stride 0, 2 pads is invalid"):
        call.depthwise(table_of(SETS[-2]), x, weight, 0.0, (1, 0), (2, 2))
