"""Byte formats that begin with a magic, a version and a CRC-32 of all other bytes.

Compressed weights (`formats/weight_codec.py`) and compiled programs (`program/serialize.py`) are such formats. Their folders may not import
each other, so this module stands below both.
"""

from __future__ import annotations

import struct
import zlib

Bytes = bytes | bytearray | memoryview


class Frame:
    """The head of one format, little-endian: magic, version, fields, CRC-32, more fields.

    `before` and `after` are characters of `struct`, one for each number before the CRC, the version included, and after it. In messages
    the format is called `what`; `advice` says what to do about another version.
    """

    def __init__(self, magic: bytes, version: int, *, before: str, after: str = "", what: str, advice: str = "") -> None:
        self.magic, self.version, self.what, self.advice = magic, version, what, advice
        self.head = struct.Struct(f"<{len(magic)}s{before}I{after}")
        begin = struct.calcsize(f"<{len(magic)}s{before}")
        self.crc = slice(begin, begin + 4)
        self._before = len(before) - 1

    def pack(self, *fields: int) -> bytes:
        """Return the head with these fields, and with 0 for the CRC. Call `sign` when all bytes after the head are there."""
        return self.head.pack(self.magic, self.version, *fields[: self._before], 0, *fields[self._before :])

    def unpack(self, data: Bytes) -> tuple[int, ...]:
        """Return the fields. ValueError if `data` ends too early, or has another magic or version. The CRC is left to `check`."""
        if len(data) < self.head.size:
            raise ValueError(f"the {self.what} ends in its head, after {len(data)} of {self.head.size} bytes")
        magic, version, *fields = self.head.unpack(data[: self.head.size])
        if magic != self.magic:
            raise ValueError(f"the data is not a {self.what}: it does not begin with {self.magic.decode()}")
        if version != self.version:
            advice = f": {self.advice}" if self.advice else ""
            raise ValueError(f"version {version} of the {self.what} is not supported, only version {self.version}{advice}")
        del fields[self._before]
        return tuple(fields)

    def sign(self, data: bytearray | memoryview, *more: Bytes) -> None:
        """Write the CRC of `data`, followed by `more`, into the head of `data`."""
        data[self.crc] = struct.pack("<I", self._checksum(data, *more))

    def check(self, data: Bytes, *more: Bytes) -> None:
        """Raise ValueError unless the CRC in `data` fits it, followed by `more`. `unpack` must have accepted `data`."""
        if struct.pack("<I", self._checksum(data, *more)) != bytes(data[self.crc]):
            raise ValueError(f"the checksum does not fit: the {self.what} is damaged")

    def _checksum(self, data: Bytes, *more: Bytes) -> int:
        """Return the CRC-32 of everything but the CRC itself."""
        view, crc = memoryview(data), 0
        for part in (view[: self.crc.start], view[self.crc.stop :], *more):
            crc = zlib.crc32(part, crc)
        return crc
