"""Conversions of 16 bits: every float16, every number between two of them, and the same bits on every instruction set."""

import numpy as np
import pytest

from onnxruntime_ep_sparse_kernels import call
from support.kernel_sets import SETS, table_of

EVERY_SET = pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
BITS = np.arange(1 << 16, dtype=np.uint16)
HALVES = BITS.view(np.float16).astype(np.float32)


def floats():
    """The middles of neighbouring float16 and what is beside them, random bits, and the ends of the range."""
    finite = np.sort(HALVES[np.isfinite(HALVES)])
    middle = (finite[1:] + finite[:-1]) / 2
    beside = [np.nextafter(middle, np.float32(end)) for end in (-np.inf, np.inf)]
    random = np.random.default_rng(0).integers(0, 1 << 32, 100_000, dtype=np.uint32).view(np.float32)
    ends = np.array([65519.996, 65520, -65520, 1e30, np.inf, -np.inf, 1e-40, 2**-25, np.nextafter(np.float32(2**-25), 1)], np.float32)
    return np.concatenate([finite, middle, *beside, random, ends])


@EVERY_SET
def test_float16_widens_exactly(isa):
    """Subnormals, infinities and the payloads of NaN included; NaN become quiet."""
    wide = call.widen(table_of(isa), BITS, True)
    numbers = ~np.isnan(HALVES)
    assert np.array_equal(wide.view(np.uint32)[numbers], HALVES.view(np.uint32)[numbers])
    sign, payload = BITS.astype(np.uint32) >> 15 << 31, (BITS.astype(np.uint32) & 0x3FF) << 13
    assert np.array_equal(wide.view(np.uint32)[~numbers], (sign | 0x7FC00000 | payload)[~numbers])


@EVERY_SET
def test_float16_rounds_half_to_even(isa):
    """As numpy rounds; what is too large becomes infinite."""
    x = floats()
    narrow = call.narrow(table_of(isa), x, True)
    numbers = ~np.isnan(x)
    with np.errstate(over="ignore"):
        expected = x[numbers].astype(np.float16)
    assert np.array_equal(narrow[numbers], expected.view(np.uint16))
    bits = x[~numbers].view(np.uint32)
    assert np.array_equal(narrow[~numbers], (bits >> 16 & 0x8000 | 0x7E00 | bits >> 13 & 0x3FF).astype(np.uint16))


@EVERY_SET
def test_bfloat16(isa):
    """The upper half of a float32; rounded half to even, a NaN stays one."""
    wide = call.widen(table_of(isa), BITS, False)
    assert np.array_equal(wide.view(np.uint32), BITS.astype(np.uint32) << 16)
    x = np.concatenate([floats(), wide])
    bits = x.view(np.uint32).astype(np.uint64)
    rounded = np.where(np.isnan(x), bits >> 16 | 0x40, bits + 0x7FFF + (bits >> 16 & 1) >> 16)
    assert np.array_equal(call.narrow(table_of(isa), x, False), rounded.astype(np.uint16))


@EVERY_SET
@pytest.mark.parametrize("half", [True, False])
def test_any_number_of_elements(isa, half):
    """The last vector may be short."""
    x, table = floats(), table_of(isa)
    narrow = call.narrow(table, x, half)
    for n in range(36):
        assert np.array_equal(call.narrow(table, x[:n], half), narrow[:n])
        assert np.array_equal(call.widen(table, BITS[:n], half), call.widen(table, BITS, half)[:n])
