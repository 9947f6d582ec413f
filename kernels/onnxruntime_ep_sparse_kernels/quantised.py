"""The forms in which quantised products write their results.

Plain Python that imports only the standard library: setup.py imports it before anything is built.
"""

from __future__ import annotations

from enum import IntEnum


class Out(IntEnum):
    """The results that a quantised product makes of its int32 sums."""

    BYTES = 0
    """Bytes: the sum times its row's scale in float32, divided by one number, clamped, rounded half to even, plus the zero point."""
    SUMS = 1
    """The sums themselves, int32."""
    FLOATS = 2
    """float32: the sum times its row's scale."""


C_PREFIXES = {Out: "OUT"}
"""Prefixes of the members' names in C."""
