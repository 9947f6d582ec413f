"""The compressed form of one weight: every bit comes back, and damage is named."""

import itertools
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxruntime_ep_sparse.formats.weight_codec import GAPS, MASK, NONE, NUMBER, SKIP, decode, encode
from support.making import examples, noise, pruned

HEAD, CRC = struct.Struct("<4sBBBBIQ"), slice(8, 12)
"""The head as it is documented."""
ODD = np.array([0x80000000, 0x7F800001, 0xFFC12345, 0x7FC00000, 0x00000001, 0xFF800000], np.uint32).view(np.float32)
"""-0.0, a signalling NaN, quiet ones with payloads, the smallest denormal, -Inf. Of these only -0.0 is a zero."""


def bits(array):
    """What equality is about."""
    return array.view(np.uint32) if array.dtype == np.float32 else array


def returns(weight):
    """Encode and decode; gives both parts."""
    values, index = encode(weight)
    again = decode(values, index)
    assert (again.shape, again.dtype) == (weight.shape, weight.dtype)
    np.testing.assert_array_equal(bits(again), bits(weight))
    return values, index


@given(
    st.lists(st.integers(0, 9), max_size=5).map(tuple),
    st.integers(0, 2**32 - 1),
    st.floats(0, 1),
)
@examples(300)
def test_every_bit(shape, seed, zeros):
    """Any bit patterns, shapes with zeros in them too."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(0, 2**32, shape, np.uint32)
    weight[rng.random(shape) < zeros] &= 0x80000000 if seed % 2 else 0
    returns(np.asarray(weight).view(np.float32))


@given(
    st.lists(st.integers(0, 9), max_size=5).map(tuple),
    st.sampled_from([np.int8, np.uint8]),
    st.integers(-128, 255),
    st.integers(0, 2**32 - 1),
    st.floats(0, 1),
)
@examples(200)
def test_integers(shape, dtype, zero, seed, zeros):
    """Any bytes around any zero point, which is the number that is left out where most elements have it."""
    rng = np.random.default_rng(seed)
    weight = np.asarray(rng.integers(0, 256, shape)).astype(np.uint8).view(dtype)
    zero = np.array(zero).astype(dtype)
    weight[rng.random(shape) < zeros] = zero
    values, index = returns(weight)
    assert values.dtype == dtype
    assert index[6] == NUMBER
    assert len(values) <= np.count_nonzero(weight != zero)


def test_integers_have_one_byte_each():
    """A zero point of 128 costs nothing, and an index of integers is not one of floats."""
    weight = pruned(np.random.default_rng(0), (64, 512), 0.9)
    integers = np.where(weight == 0, 128, np.clip(np.rint(40 * weight) + 128, 0, 255)).astype(np.uint8)
    values, index = returns(integers)
    assert values.nbytes + index.nbytes < 0.21 * integers.nbytes
    with pytest.raises(ValueError, match="of another element type than float32"):
        decode(values.astype(np.float32), index)
    with pytest.raises(ValueError, match="not float32, int8 or uint8 of one"):
        decode(values.astype(np.int16), index)


@given(st.lists(st.tuples(st.integers(0, 2000), st.sampled_from([*ODD, np.float32(1)])), max_size=20), st.integers(0, 2000))
@examples(300)
def test_gaps(runs, rest):
    """Zeros of any number before each value and behind the last."""
    weight = np.concatenate([np.append(np.zeros(zeros, np.float32), value) for zeros, value in runs] + [np.zeros(rest, np.float32)])
    returns(weight.astype(np.float32, copy=False))


@pytest.mark.parametrize("zeros", [SKIP - 1, SKIP, SKIP + 1, 2 * SKIP - 1, 2 * SKIP, 2 * SKIP + 1])
@pytest.mark.parametrize("value", [None, 1.0])
def test_around_a_skip(zeros, value):
    """Gaps where a byte of them ends, also at the end."""
    returns(np.append(np.zeros(zeros), [] if value is None else value).astype(np.float32))


def test_odd_values_are_kept():
    """All but -0.0 are values; that is a place among the zeros."""
    weight = np.zeros(1000, np.float32)
    weight[: ODD.size] = ODD
    values, _ = returns(weight)
    np.testing.assert_array_equal(bits(values), bits(ODD[1:]))


def test_negative_zeros():
    """A mask times weights leaves as many zeros of either sign: that costs a bit a zero, and stays below 16 %."""
    rng = np.random.default_rng(0)
    weight = noise(rng, 512, 512) * (rng.random((512, 512)) >= 0.9)
    values, index = returns(weight)
    assert np.signbit(weight[weight == 0]).any()
    assert values.nbytes + index.nbytes < 0.155 * weight.nbytes


@pytest.mark.parametrize(("zeros", "form", "bytes_each"), [(0.5, MASK, 1 / 8), (0.9, GAPS, 0.1), (0.99, GAPS, 0.0109)])
def test_size(zeros, form, bytes_each):
    """The smaller form."""
    weight = pruned(np.random.default_rng(0), (256, 256, 3, 3), zeros)
    _, index = returns(weight)
    assert index[5] == form
    assert index.size / weight.size == pytest.approx(bytes_each, rel=0.05)


def test_bytes_stay():
    """An index as the first release wrote it; files with it must stay readable."""
    weight = np.zeros((3, 4), np.float32)
    weight[0, 1], weight[1, 1], weight[2, 3] = 1, -0.0, -2
    values, index = returns(weight)
    assert values.tolist() == [1, -2]
    assert index.tobytes() == bytes.fromhex("4f5254530101020240f80aa1020000000000000003000000000000000400000000000000020804")


@pytest.mark.parametrize("weight", [np.zeros((3, 3)), np.zeros((1,) * 9, np.float32)])
def test_what_cannot_be_compressed(weight):
    """Other types, and more dimensions than any weight has."""
    with pytest.raises(ValueError, match=r"only float32|9 dimensions"):
        encode(weight)


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
@pytest.mark.parametrize("zeros", [0.5, 0.95])
def test_any_byte_damaged(zeros, dtype):
    """Whichever byte is another one, and wherever the data end: an error, never another weight."""
    weight = pruned(np.random.default_rng(0), (7, 5, 3, 3), zeros)
    weight[0, 0, 0] = -0.0
    weight = weight if dtype == np.float32 else (30 * weight).astype(dtype)
    values, index = encode(weight)
    whole = np.concatenate([index, values.view(np.uint8)])
    for at in range(whole.size):
        for flipped in (1, 0x80, 0xFF):
            damaged = whole.copy()
            damaged[at] ^= flipped
            with pytest.raises(ValueError, match=r"the "):
                decode(damaged[index.size :].view(np.float32), damaged[: index.size])
    for size in range(index.size):
        with pytest.raises(ValueError, match=r"the "):
            decode(values, index[:size])
    for count in range(values.size):
        with pytest.raises(ValueError, match="checksum"):
            decode(values[:count], index)


def crafted(form, shape, listed, values, *, rank=None, version=1, size=None, form_zeros=0, zeros=b""):
    """An index with a right checksum, whatever else it says."""
    rank = len(shape) if rank is None else rank
    size = len(listed) if size is None else size
    data = bytearray(HEAD.pack(b"ORTS", version, form, form_zeros, rank, 0, size) + struct.pack(f"<{len(shape)}Q", *shape))
    data += bytes(listed) + bytes(zeros)
    data[CRC] = struct.pack("<I", zlib.crc32(values.tobytes(), zlib.crc32(data[CRC.stop :], zlib.crc32(data[: CRC.start]))))
    return np.frombuffer(bytes(data), np.uint8)


@pytest.mark.parametrize(
    ("index", "count", "words"),
    [
        ({"form": MASK, "shape": (2**40, 2**40), "listed": [1]}, 1, "elements need"),
        ({"form": MASK, "shape": (8,), "listed": [1, 0]}, 1, "2 bytes, 8 elements need 1"),
        ({"form": MASK, "shape": (4,), "listed": [0x11]}, 1, "after its last element"),
        ({"form": MASK, "shape": (8,), "listed": [3]}, 1, "lists 2 nonzeros, there are 1"),
        ({"form": GAPS, "shape": (2**62,), "listed": []}, 0, "describe 0 elements"),
        ({"form": GAPS, "shape": (2**63, 2), "listed": [255]}, 0, "describe 255 elements"),
        ({"form": GAPS, "shape": (3,), "listed": [3]}, 1, "describe 4 elements"),
        ({"form": GAPS, "shape": (600,), "listed": [255]}, 0, "describe 255 elements"),
        ({"form": GAPS, "shape": (3,), "listed": [0, 0]}, 1, "lists 2 nonzeros, there are 1"),
        ({"form": 0, "shape": (2**62,), "listed": []}, 0, "unknown forms 0 and 0"),
        ({"form": 3, "shape": (3,), "listed": []}, 0, "unknown forms 3 and 0"),
        ({"form": GAPS, "shape": (3,), "listed": [0], "form_zeros": 4}, 1, "unknown forms 2 and 4"),
        ({"form": GAPS, "shape": (3,), "listed": [0], "form_zeros": NUMBER, "zeros": [7]}, 1, "another element type than float32"),
        ({"form": GAPS, "shape": (3,), "listed": [0], "form_zeros": NUMBER, "zeros": []}, 1, "its head says"),
        ({"form": GAPS, "shape": (1,) * 9, "listed": [0]}, 1, "9 dimensions"),
        ({"form": GAPS, "shape": (3,), "listed": [0], "rank": 7}, 1, "its head says"),
        ({"form": GAPS, "shape": (3,), "listed": [0], "size": 2**64 - 1}, 1, "its head says"),
        ({"form": GAPS, "shape": (3,), "listed": [0], "zeros": [0]}, 1, "its head says"),
        ({"form": GAPS, "shape": (3,), "listed": [0], "form_zeros": MASK}, 1, "0 bytes, 2 elements need 1"),
        ({"form": GAPS, "shape": (3,), "listed": [0], "form_zeros": MASK, "zeros": [4]}, 1, "after its last element"),
        ({"form": GAPS, "shape": (3,), "listed": [0], "form_zeros": GAPS, "zeros": [2]}, 1, "describe 3 elements"),
        ({"form": GAPS, "shape": (3,), "listed": [0], "version": 2}, 1, "version 2 of the compressed weight is not supported"),
    ],
)
def test_hostile(index, count, words):
    """A right checksum does not help: nothing is read or allocated before it is checked."""
    values = np.ones(count, np.float32)
    with pytest.raises(ValueError, match=words):
        decode(values, crafted(**index, values=values))


@given(st.binary(max_size=80), st.binary(max_size=9), st.integers(0, 9), st.integers(0, 8))
@examples(500)
def test_any_lists(listed, zeros, size, count):
    """Bytes behind a right head and checksum give a weight of that shape or a ValueError."""
    values = np.ones(count, np.float32)
    for form, form_zeros in itertools.product((MASK, GAPS), (NONE, MASK, GAPS)):
        try:
            assert decode(values, crafted(form, (size, 9), listed, values, form_zeros=form_zeros, zeros=zeros)).shape == (size, 9)
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("values", "index"), [(np.ones((1, 1), np.float32), None), (np.ones(1), None), (np.ones(1, np.float32), np.zeros((40, 1), np.uint8))]
)
def test_types(values, index):
    """Other types and dimensions."""
    with pytest.raises(ValueError, match="of one"):
        decode(values, encode(np.ones(1, np.float32))[1] if index is None else index)
