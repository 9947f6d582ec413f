"""Every depthwise kernel of every instruction set against float64, and unrolled kernels against general ones bit for bit."""

import numpy as np
import pytest

from onnxruntime_ep_sparse_kernels import call
from onnxruntime_ep_sparse_kernels.isa import DEPTHWISE
from support.kernel_sets import SETS, table_of

EPS = np.finfo(np.float32).eps
GENERAL = ((3, 3), (2, 1), (7, 2))
"""Some windows that no kernel is unrolled for."""
WIDTHS = (1, 2, 7, 15, 16, 17, 33, 64, 65, 100)


def problem(size, stride, width, pad, seed=0):
    """An image of this width, weights, bias and padding; the image lies between NaN, which the kernels must not read."""
    rng = np.random.default_rng(seed)
    height = size + stride * int(rng.integers(4, 9))
    around = np.full((3, height, max(width, size - 2 * pad)), np.nan, np.float32)
    around[1] = rng.standard_normal(around.shape[1:])
    return around[1], rng.standard_normal((size, size)).astype(np.float32), float(np.float32(rng.standard_normal())), stride, pad


def exact(x, weight, bias, stride, pad):
    """The convolution and the sum of its absolute terms in float64, tap by tap."""
    results = []
    for image, window, start in ((x, weight, bias), (np.abs(x), np.abs(weight), abs(bias))):
        padded = np.pad(image.astype(np.float64), pad)
        height, width = ((n - len(window)) // stride + 1 for n in padded.shape)
        y = np.full((height, width), start, np.float64)
        for ky, kx in np.ndindex(window.shape):
            y += window[ky, kx] * padded[ky : ky + stride * height : stride, kx : kx + stride * width : stride][:height, :width]
        results.append(y)
    return results


@pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
@pytest.mark.parametrize(("size", "stride"), [*DEPTHWISE, *GENERAL])
def test_convolution(isa, size, stride):
    """Each width of the image and padding gives the promised error; clamping applies to the result."""
    for seed, width in enumerate(WIDTHS):
        for pad in {0, size // 2, size}:
            x, *window = problem(size, stride, width, pad, seed)
            expected, total = exact(x, *window)
            y = call.depthwise(table_of(isa), x, *window)
            assert y.shape == expected.shape
            assert (np.abs(y - expected) <= 4 * EPS * size * total).all()
            assert call.depthwise(table_of(isa), x, *window, low=-0.5, high=0.25).tobytes() == np.clip(y, -0.5, 0.25).tobytes()


@pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
@pytest.mark.parametrize(("size", "stride"), [*DEPTHWISE, *GENERAL])
def test_same_bits(isa, size, stride):
    """The number of rows per call does not change a bit: below four rows the general kernels compute what the unrolled ones do above."""
    for seed, width in enumerate(WIDTHS):
        x, *window = problem(size, stride, width, size // 2, seed)
        whole = call.depthwise(table_of(isa), x, *window)
        for rows in (1, 3, 4, 5):
            assert call.depthwise(table_of(isa), x, *window, rows_per_call=rows).tobytes() == whole.tobytes()


def test_wrong_arguments():
    """Windows that are not square or do not fit the image are refused."""
    x, square = np.ones((4, 4), np.float32), np.ones((5, 5), np.float32)
    with pytest.raises(ValueError, match="an image of 4x4 with 0 pads is smaller than the window"):
        call.depthwise(table_of(SETS[-2]), x, square, 0.0, 1, 0)
    with pytest.raises(ValueError, match="a window of 5x4 with stride 1 and 2 pads is invalid"):
        call.depthwise(table_of(SETS[-2]), x, square[:, :4].copy(), 0.0, 1, 2)
