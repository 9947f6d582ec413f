"""Kernels that compute bytes one by one, of every set, against numpy: equal in every element."""

import numpy as np
import pytest

from onnxruntime_ep_sparse_kernels import call_bytes
from support.kernel_sets import BYTE_SETS, byte_table_of

EVERY_SET = pytest.mark.parametrize("row", BYTE_SETS, ids=lambda row: row.name)
TYPES = (np.uint8, np.int8)
LENGTHS = (1, 3, 4, 15, 16, 17, 31, 33, 63, 64, 65, 127, 130, 257)
"""Around the widths of words and of vectors."""
F32 = np.float32
ALL = np.arange(256).astype(np.uint8)


def fused(x, y, z):
    """The sum of x * y, which is exact in 64 bits, and z: rounded once to float32, unless a tie is missed."""
    return (np.asarray(x, np.longdouble) * np.longdouble(y) + np.asarray(z, np.longdouble)).astype(F32)


def combined(a, b, dtype, *, multiplies, a_zero, a_scale, b_zero, b_scale, shift, y_zero, low=-255, high=255):
    """What the kernel computes."""
    a, b, info = a.astype(np.int64), b.astype(np.int64), np.iinfo(dtype)
    with np.errstate(over="ignore"):
        if multiplies:
            value = ((a - a_zero) * (b - b_zero)).astype(F32) * F32(a_scale) + F32(y_zero)
        else:
            value = fused(a, F32(a_scale), fused(b, F32(b_scale), F32(shift)))
    low, high = max(low + y_zero, info.min), min(high + y_zero, info.max)
    return np.rint(np.clip(value, low - 1, high + 1)).clip(low, high).astype(dtype)


def settings(rng, multiplies):
    """Numbers of a sum or product: usual ones, ties, and those whose results lie far beyond a byte."""
    scale = rng.choice([0.5, 0.25, 1.0, float(np.exp(rng.uniform(-6, 1))), 1e30 if multiplies else 1000.0])
    return {
        "multiplies": multiplies,
        "a_zero": int(rng.integers(-128, 256)),
        "a_scale": F32(scale / 100 if multiplies else scale),
        "b_zero": int(rng.integers(-128, 256)),
        "b_scale": F32(rng.choice([0.5, float(np.exp(rng.uniform(-6, 1)))])),
        "shift": F32(rng.choice([0.0, -17.5, float(rng.normal() * 100)])),
        "y_zero": int(rng.integers(0, 128)),
        "low": int(rng.choice([-255, 0])),
        "high": int(rng.choice([255, 30])),
    }


@EVERY_SET
@pytest.mark.parametrize("multiplies", [False, True])
def test_combines_all_pairs(row, multiplies):
    """Every byte with every byte, of all types."""
    a, b = np.repeat(ALL, 256), np.tile(ALL, 256)
    for seed in range(8):
        numbers = settings(np.random.default_rng(seed), multiplies)
        if seed == 0:
            numbers |= {"low": -255, "high": 255}
        x, r, dtype = a.view(TYPES[seed & 1]), b.view(TYPES[seed >> 1 & 1]), TYPES[seed >> 2]
        y = call_bytes.combine(byte_table_of(row), x, r, dtype, **numbers)
        np.testing.assert_array_equal(y, combined(x, r, dtype, **numbers), err_msg=f"{seed}: {numbers}")


@EVERY_SET
@pytest.mark.parametrize("multiplies", [False, True])
def test_combines_any_number(row, multiplies):
    """Rows of all lengths, with as many elements of the other operand, or with one for all."""
    rng = np.random.default_rng(3)
    for n in LENGTHS:
        for a_size, b_size in ((n, n), (1, n), (n, 1)):
            a, b = (rng.integers(0, 256, size).astype(np.uint8) for size in (a_size, b_size))
            numbers = settings(rng, multiplies)
            y = call_bytes.combine(byte_table_of(row), a, b, np.uint8, **numbers)
            np.testing.assert_array_equal(y, combined(a, b, np.uint8, **numbers), err_msg=f"{n}: {numbers}")


def test_refuses_operands_that_do_not_fit():
    """Operands have one length, or one of them a single element."""
    with pytest.raises(ValueError, match="2 and 3 elements"):
        call_bytes.combine(byte_table_of(BYTE_SETS[-2]), ALL[:2], ALL[:3], np.uint8)
    with pytest.raises(ValueError, match="2 scales and 1 zero points of 3 elements"):
        call_bytes.dequantize(byte_table_of(BYTE_SETS[-2]), ALL[:3], np.ones(2, F32), np.ones(1, F32))


@EVERY_SET
def test_sums(row):
    """Rows of all lengths and types, without reading beyond them; sums beyond 16 bits."""
    rng = np.random.default_rng(5)
    for n in (*LENGTHS, 70000):
        x = rng.integers(0, 256, n + 200).astype(np.uint8)
        for dtype in TYPES:
            assert call_bytes.sum(byte_table_of(row), x[:n].view(dtype)) == x[:n].view(dtype).sum(dtype=np.int64)
    assert call_bytes.sum(byte_table_of(row), np.full(2**24 + 5, 255, np.uint8)) == 255 * (2**24 + 5)


@EVERY_SET
def test_looks_up(row):
    """Every byte, and rows of all lengths."""
    rng = np.random.default_rng(6)
    table = rng.permutation(ALL)
    for n in (*LENGTHS, 256):
        x = ALL if n == 256 else rng.integers(0, 256, n).astype(np.uint8)
        np.testing.assert_array_equal(call_bytes.look_up(byte_table_of(row), x, table), table[x])


@EVERY_SET
@pytest.mark.parametrize("dtype", TYPES)
def test_quantizes_and_dequantizes(row, dtype):
    """Rows of all lengths, with one scale and zero point or one of each element."""
    rng, info = np.random.default_rng(7), np.iinfo(dtype)
    for n in LENGTHS:
        for count in (1, n):
            scale, zero = np.exp(rng.uniform(-3, 0, count)).astype(F32), rng.integers(info.min, info.max + 1, count).astype(F32)
            x = (rng.standard_normal(n) * 60).astype(F32)
            y = call_bytes.quantize(byte_table_of(row), x, scale, zero, dtype)
            np.testing.assert_array_equal(y, np.clip(np.rint(x / scale) + zero, info.min, info.max).astype(dtype))
            back = call_bytes.dequantize(byte_table_of(row), y, scale, zero)
            np.testing.assert_array_equal(back, (y.astype(F32) - zero) * scale)
