"""Heads of byte formats: the layout, the checksum, and what is said about other bytes."""

import struct
import zlib

import pytest

from onnxruntime_ep_sparse.framed import Frame

FRAME = Frame(b"TEST", 2, before="HB", after="Q", what="test format", advice="make it again")
LAYOUT = struct.Struct("<4sHBIQ")


def signed(*fields, rest=b"content"):
    """A head with these fields, and a checksum that fits what follows."""
    data = bytearray(FRAME.pack(*fields) + rest)
    FRAME.sign(data, b"more", b"parts")
    return data


def test_layout():
    """Fields stand before and behind the CRC, which covers all other bytes and what follows them."""
    data = signed(7, 1 << 40)
    crc = zlib.crc32(b"TEST\2\0\7" + struct.pack("<Q", 1 << 40) + b"content" + b"moreparts")
    assert bytes(data) == LAYOUT.pack(b"TEST", 2, 7, crc, 1 << 40) + b"content"
    assert FRAME.head.size == LAYOUT.size
    assert FRAME.crc == slice(7, 11)


def test_fields_come_back():
    """From whatever kind of bytes."""
    data = signed(7, 11)
    for kind in (bytes, bytearray, memoryview):
        assert FRAME.unpack(kind(data)) == (7, 11)
        FRAME.check(kind(data), b"moreparts")


def test_every_damaged_bit():
    """Of the head or behind it: unpack or check refuses it."""
    whole = signed(7, 11)
    for place in range(8 * len(whole)):
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        with pytest.raises(ValueError, match=r"checksum|not supported|not a test format"):
            FRAME.unpack(data), FRAME.check(data, b"moreparts")
    with pytest.raises(ValueError, match="the checksum does not fit: the test format is damaged"):
        FRAME.check(whole, b"other parts")


def test_too_short():
    """Nothing is read behind the end."""
    for size in range(LAYOUT.size):
        with pytest.raises(ValueError, match=f"the test format ends in its head, after {size} of 19 bytes"):
            FRAME.unpack(signed(7, 11)[:size])
    assert FRAME.unpack(signed(7, 11, rest=b"")) == (7, 11)


def test_other_bytes():
    """Another magic, another version."""
    with pytest.raises(ValueError, match="the data is not a test format: it does not begin with TEST"):
        FRAME.unpack(bytes(100))
    with pytest.raises(ValueError, match="version 3 of the test format is not supported, only version 2: make it again"):
        FRAME.unpack(LAYOUT.pack(b"TEST", 3, 7, 0, 11))
    with pytest.raises(ValueError, match=r"only version 1$"):
        Frame(b"TEST", 1, before="HB", after="Q", what="test format").unpack(signed(7, 11))
