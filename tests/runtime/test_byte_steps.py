"""Steps on bytes as programs, on every set of kernels; equal to numpy, without ONNX Runtime."""

import re

import numpy as np
import pytest

from onnxruntime_ep_sparse.program.enums import ElementType, StepKind
from onnxruntime_ep_sparse.program.kinds.quantized import Carry, Combine, LookUp
from onnxruntime_ep_sparse.program.kinds.reduce import Reduce
from onnxruntime_ep_sparse.program.kinds.windows import Pool
from onnxruntime_ep_sparse.program.steps import Window
from onnxruntime_ep_sparse_kernels.elementwise import Op
from onnxruntime_ep_sparse_kernels.isa import ISAS, byte_sets_for
from support.byte_steps import max_of_windows, run, some, spec_of

EVERY_SET = pytest.mark.parametrize("row", byte_sets_for(ISAS), ids=lambda row: row.name)
TYPES = (np.uint8, np.int8)
F32 = np.float32


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
    for scale, shift in ((1e8, 0.0), (1.0, np.inf), (2.0**-30, 2.0**20)):
        with pytest.raises(ValueError, match="too large, or of scales that are too far apart"):
            spec_of(StepKind.COMBINE, Combine(False, 0.0, scale * 1.1, 0.0, 1.0, shift, 0.0, -255.0, 255.0), np.uint8, x, x)
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


@EVERY_SET
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("shape", "axes"), [((2, 37, 7, 7), (2, 3)), ((3, 5, 300, 9), (2, 3)), ((2, 90, 70), (1,)), ((4, 6, 5), (0, 2))], ids=str
)
def test_sum(row, dtype, shape, axes):
    """Sums over planes, over rows of columns and over axes apart, less the zero points; whole numbers, and means of them."""
    x = some(2, dtype, *shape)
    total = (x.astype(np.int64) - 11).sum(axes, keepdims=True)
    np.testing.assert_array_equal(run(row, StepKind.REDUCE, Reduce(axes, Op.ADD, zero=11.0), F32, x, workers=3), total.astype(F32))
    mean = run(row, StepKind.REDUCE, Reduce(axes, Op.ADD, mean=True, zero=11.0), F32, x)
    np.testing.assert_array_equal(mean, total.astype(F32) / F32(x.size / total.size))


def test_sums_of_bytes_are_floats():
    """Other reductions of bytes are refused, and sums that are not floats."""
    x = some(0, np.uint8, 2, 3)
    with pytest.raises(ValueError, match="a reduction of bytes that is not a sum"):
        spec_of(StepKind.REDUCE, Reduce((1,), Op.MAX), F32, x)
    with pytest.raises(ValueError, match="the zero point 256"):
        spec_of(StepKind.REDUCE, Reduce((1,), Op.ADD, zero=256.0), F32, x)
    with pytest.raises(ValueError, match="value 1 is uint8, float32 is expected"):
        spec_of(StepKind.REDUCE, Reduce((1,), Op.ADD), np.uint8, x)


@EVERY_SET
@pytest.mark.parametrize("x_type", TYPES)
@pytest.mark.parametrize("y_type", TYPES)
def test_look_up(row, x_type, y_type):
    """A table gives a byte for each byte, of the same or of the other type."""
    x, info = some(3, x_type, 2, 9000), np.iinfo(y_type)
    table = np.random.default_rng(4).integers(info.min, info.max + 1, 256)
    spec = LookUp(table.astype(F32), float(np.iinfo(x_type).min))
    expected = table[x.astype(np.int64) - np.iinfo(x_type).min].astype(y_type)
    np.testing.assert_array_equal(run(row, StepKind.LOOK_UP, spec, y_type, x, workers=2), expected)


def test_tables_of_bytes():
    """A table has bytes of the type of the result, from the least number of the operand's on."""
    x, table = some(0, np.int8, 5), np.arange(256, dtype=F32)
    for spec, dtype, message in (
        (LookUp(table, 0.0), np.uint8, "a table from 0.0 on"),
        (LookUp(table, -128.0), np.int8, "numbers that are not bytes"),
        (LookUp(table / 2, -128.0), np.uint8, "numbers that are not bytes"),
        (LookUp(table, -128.0), F32, "a table of bytes and floats"),
    ):
        with pytest.raises(ValueError, match=message):
            spec_of(StepKind.LOOK_UP, spec, dtype, x)


SHAPES_OF_CARRY = {"one number": ((3, 5, 700), None), "channels": ((2, 6, 11, 70), 1), "last axis": ((5, 3, 130), 2), "first": ((9, 40), 0)}


def carried_numbers(shape, axis):
    """A Carry, and its zero points and scales as they broadcast with a value of this shape."""
    if axis is None:
        return Carry(5.0, 0.3), F32(5), F32(0.3)
    rng = np.random.default_rng(6)
    zeros, scales = rng.integers(-20, 20, shape[axis]).astype(F32), np.exp(rng.uniform(-4, 0, shape[axis])).astype(F32)
    along = [-1 if i == axis else 1 for i in range(len(shape))]
    return Carry(zero__c=zeros, scale__c=scales, axis=axis), zeros.reshape(along), scales.reshape(along)


@EVERY_SET
@pytest.mark.parametrize("name", SHAPES_OF_CARRY)
@pytest.mark.parametrize("dtype", TYPES)
def test_quantizes_and_dequantizes(row, name, dtype):
    """From floats to bytes and back, by one scale and zero point or by those of an axis: as ONNX defines it, NaN and infinities too."""
    shape, axis = SHAPES_OF_CARRY[name]
    spec, zero, scale = carried_numbers(shape, axis)
    x = (np.random.default_rng(5).standard_normal(shape) * 40).astype(F32)
    x.flat[:6] = np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0
    x.flat[6:40] = (np.arange(34) - 17) * F32(0.15)
    info = np.iinfo(dtype)
    with np.errstate(over="ignore"):
        whole = np.rint(x / scale) + zero
    expected = np.clip(np.where(np.isnan(whole), -np.inf, whole), info.min, info.max).astype(dtype)
    np.testing.assert_array_equal(run(row, StepKind.CARRY, spec, dtype, x, workers=3), expected)
    q = some(7, dtype, *shape)
    np.testing.assert_array_equal(run(row, StepKind.CARRY, spec, F32, q, workers=3), (q.astype(F32) - zero) * scale)


def test_refuses_scales():
    """Scales are positive, zero points are near, both fit the axis, and int32 has neither."""
    x = some(0, np.uint8, 2, 3)
    three = np.ones(3, F32)
    for spec, message in (
        (Carry(0.0, 0.0), "scales that are not positive"),
        (Carry(0.0, np.inf), "scales that are not positive"),
        (Carry(256.0), "zero points up to 256"),
        (Carry(zero__c=three, scale__c=three[:2], axis=1), "scales of the shape (2,) along 3 elements"),
        (Carry(scale__c=three, axis=2), "axis 2 of 2 dimensions"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            spec_of(StepKind.CARRY, spec, F32, x)
    with pytest.raises(ValueError, match="int32 with a scale"):
        spec_of(StepKind.CARRY, Carry(0.0, 0.5), F32, x.astype(np.int32))
    with pytest.raises(RuntimeError, match="3 scales or zero points along a dimension of 2"):
        run(byte_sets_for(ISAS)[-1], StepKind.CARRY, Carry(scale__c=three, axis=0), F32, x)
