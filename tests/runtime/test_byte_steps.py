"""Steps on bytes as programs, on every set of kernels; equal to numpy, without ONNX Runtime."""

import numpy as np
import pytest

from onnxruntime_ep_sparse.program.enums import ElementType, StepKind
from onnxruntime_ep_sparse.program.kinds.quantized import Combine
from onnxruntime_ep_sparse.program.kinds.windows import Pool
from onnxruntime_ep_sparse.program.steps import Window
from onnxruntime_ep_sparse_kernels.isa import ISAS, byte_sets_for
from support.byte_steps import max_of_windows, run, spec_of

EVERY_SET = pytest.mark.parametrize("row", byte_sets_for(ISAS), ids=lambda row: row.name)
TYPES = (np.uint8, np.int8)
F32 = np.float32


def some(seed, dtype, *shape):
    """Random bytes."""
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8).view(dtype)


SHAPES = {
    "equal": ((2, 5, 30, 31), (2, 5, 30, 31)),
    "one number": ((3, 70), (1, 1)),
    "channels": ((2, 5, 7, 7), (1, 5, 1, 1)),
    "both broadcast": ((4, 1, 65), (1, 9, 1)),
    "many items": ((1, 3, 200, 200), (1, 3, 200, 200)),
}


@EVERY_SET
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("multiplies", [False, True])
def test_combine(row, name, multiplies):
    """Sums and products of operands of either type that broadcast; bounds as of Relu."""
    for seed, dtype in enumerate((np.uint8, np.int8, np.uint8)):
        x, r = some(seed, dtype, *SHAPES[name][0]), some(seed + 9, TYPES[seed & 1], *SHAPES[name][1])
        zero = 30 - 10 * seed
        spec = Combine(multiplies, 3.0, 0.01 if multiplies else 0.75, -7.0, 0.5, -20.25, float(zero), 0.0 if seed == 2 else -255.0, 255.0)
        y = run(row, StepKind.COMBINE, spec, dtype, x, r, workers=1 + seed)
        a, b = x.astype(F32), r.astype(F32)
        # these numbers are exact in float32
        value = (a - 3) * (b + 7) * F32(spec.x_scale) + F32(zero) if multiplies else a * F32(0.75) + b * F32(0.5) - F32(20.25)
        info = np.iinfo(dtype)
        expected = np.clip(np.rint(value), max(info.min, zero if seed == 2 else info.min), info.max)
        np.testing.assert_array_equal(y, expected.astype(dtype))


def test_combine_needs_equal_forms():
    """Bytes are not combined with floats, nor sums that int32 does not hold; the error names it."""
    x, data = some(0, np.uint8, 4), Combine(False, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, -255.0, 255.0)
    with pytest.raises(ValueError, match="not all bytes or all floats"):
        spec_of(StepKind.COMBINE, data, np.uint8, x, x.astype(F32))
    with pytest.raises(ValueError, match="not all bytes or all floats"):
        spec_of(StepKind.COMBINE, data, np.int32, x, x)
    with pytest.raises(ValueError, match="sums up to"):
        spec_of(StepKind.COMBINE, Combine(False, 0.0, 1e8, 0.0, 1.0, 0.0, 0.0, -255.0, 255.0), np.uint8, x, x)
    assert spec_of(StepKind.COMBINE, data, F32, x.astype(F32), x.astype(F32)).type_of(2) == ElementType.FLOAT32


POOLS = {
    "3x3/2": ((2, 3, 33, 70), Window((3, 3), (2, 2), (1, 1), (1, 1), (1, 1)), False),
    "ceil": ((1, 2, 20, 21), Window((2, 2), (2, 2), (1, 1), (0, 0), (0, 0)), True),
    "one dimension": ((2, 4, 75), Window((4,), (3,), (1,), (2,), (1,)), False),
    "many items": ((1, 40, 56, 56), Window((5, 5), (1, 1), (1, 1), (2, 2), (2, 2)), False),
}


@EVERY_SET
@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("dtype", TYPES)
def test_max_pool(row, name, dtype):
    """Padding counts for nothing, whatever the type."""
    shape, w, ceil = POOLS[name]
    x = some(1, dtype, *shape)
    y = run(row, StepKind.POOL, Pool(w, True, ceil), dtype, x, workers=2)
    np.testing.assert_array_equal(y, max_of_windows(x, w.kernel, w.stride, w.pad_begin + w.pad_end, w.dilation, ceil))


def test_pools_of_bytes_are_maxima():
    """Averages, images of three dimensions and results of another type are refused."""
    x, window = some(0, np.uint8, 1, 1, 4, 4), POOLS["3x3/2"][1]
    deep = Window((2,) * 3, (1,) * 3, (1,) * 3, (0,) * 3, (0,) * 3)
    for pool, image in ((Pool(window), x), (Pool(deep, True), x[None])):
        with pytest.raises(ValueError, match="is not a MaxPool of one or two dimensions"):
            spec_of(StepKind.POOL, pool, np.uint8, image)
    with pytest.raises(ValueError, match="value 0 is uint8, int8 is expected"):
        spec_of(StepKind.POOL, Pool(window, True), np.int8, x)
