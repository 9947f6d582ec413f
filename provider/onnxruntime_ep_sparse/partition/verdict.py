"""The measurements of a region, in words and as a file.

A file is a `Frame`: the magic "ORTM", version, CRC-32, then JSON with the fields of `Verdict`.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from ..framed import Frame

FRAME = Frame(b"ORTM", 1, before="I", what="measured verdict")


class UnmeasuredError(Exception):
    """A region could not be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class SizeTimes:
    """Times of one size, of which `count` is the number of rows or items (`unit`) that was open, None if nothing is open.

    `theirs_ms` and `ours_ms` are medians of a run with the CPU provider and with ours; `ratio` is the median of paired ratios, the
    CPU provider's time over ours.
    """

    count: int | None
    unit: str
    theirs_ms: float
    ours_ms: float
    ratio: float

    def __str__(self) -> str:
        """Return both times, and the size if there is a choice of it."""
        at = "" if self.count is None else f" at {self.count} {self.unit}{'' if self.count == 1 else 's'}"
        return f"{self.ours_ms:.3g} against {self.theirs_ms:.3g} ms{at}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The times of a region, by size. There is at least one."""

    times: tuple[SizeTimes, ...]

    @property
    def faster(self) -> bool:
        """Return whether our provider is faster at every size."""
        return all(time.ratio > 1 for time in self.times)

    def __str__(self) -> str:
        """Return the figures: "1.84x ONNX Runtime's CPU provider (0.52 against 0.96 ms at 1 row)"."""
        low, high = (f"{bound(time.ratio for time in self.times):.2f}x" for bound in (min, max))
        speed = low if low == high else f"{low} to {high}"
        return f"{speed} ONNX Runtime's CPU provider ({'; '.join(map(str, self.times))})"


def stored(verdict: Verdict) -> bytes:
    """Return the bytes of a verdict's file."""
    data = bytearray(FRAME.pack() + json.dumps(asdict(verdict)).encode())
    FRAME.sign(data)
    return bytes(data)


def restored(data: bytes) -> Verdict:
    """Return the verdict in the bytes of a file. ValueError if they are damaged, or of another version."""
    FRAME.unpack(data)
    FRAME.check(data)
    try:
        times = tuple(SizeTimes(**entry) for entry in json.loads(data[FRAME.head.size :])["times"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"the file does not hold a measured verdict: {error}") from None
    if not times or not all(map(_is_sound, times)):
        raise ValueError("the measured verdict has no times")
    return Verdict(times)


def _is_sound(time: SizeTimes) -> bool:
    """Return whether all fields have their types, and times are positive."""
    numbers: tuple[Any, ...] = (time.theirs_ms, time.ours_ms, time.ratio)
    named = (time.count is None or type(time.count) is int) and type(time.unit) is str
    return named and all(type(n) is float and 0 < n < math.inf for n in numbers)
