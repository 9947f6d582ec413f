"""What quantised products write: one member per form of results.

Plain Python that imports only the standard library: setup.py imports it before anything is built.
"""

from __future__ import annotations

from enum import IntEnum


class Out(IntEnum):
    """What becomes of the int32 sums of a quantised product."""

    BYTES = 0
    """Bytes: the sum times its row's scale in float32, clamped, rounded half to even, plus the zero point."""
    SUMS = 1
    """The sums themselves, int32."""
    FLOATS = 2
    """float32: the sum times its row's scale."""


C_PREFIXES = {Out: "OUT"}
"""Prefixes of the members' names in C."""
