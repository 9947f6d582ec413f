"""Damage to bytes, as pure functions of a random generator and the bytes. They know nothing of what the bytes mean."""

from collections.abc import Callable

import numpy as np

WIDTHS = (1, 2, 4, 8)
HOSTILE = (0, 1, 2, 7, 8, 127, 128, 254, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
"""Numbers around which lengths, counts and offsets go wrong."""
MAX_DAMAGES = 4


def truncated(rng: np.random.Generator, data: bytes) -> bytes:
    """The beginning."""
    return data[: rng.integers(len(data) + 1)]


def flipped(rng: np.random.Generator, data: bytes) -> bytes:
    """One other bit."""
    changed = bytearray(data)
    if changed:
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def overwritten(rng: np.random.Generator, data: bytes) -> bytes:
    """A hostile number of 1 to 8 bytes, little-endian, in place of what stood there."""
    number = hostile(rng)
    at = int(rng.integers(len(data) + 1))
    return (data[:at] + number + data[at + len(number) :])[: len(data)]


def inserted(rng: np.random.Generator, data: bytes) -> bytes:
    """A hostile number more."""
    at = rng.integers(len(data) + 1)
    return data[:at] + hostile(rng) + data[at:]


def cut_out(rng: np.random.Generator, data: bytes) -> bytes:
    """A piece less."""
    begin, end = sorted(rng.integers(len(data) + 1, size=2))
    return data[:begin] + data[end:]


def spliced(rng: np.random.Generator, data: bytes) -> bytes:
    """A piece of the data copied to another place of them, over what stood there."""
    begin, end = sorted(rng.integers(len(data) + 1, size=2))
    at = rng.integers(len(data) + 1)
    return (data[:at] + data[begin:end] + data[at + end - begin :])[: len(data)]


def hostile(rng: np.random.Generator) -> bytes:
    """A number of HOSTILE, or one beside it, in 1 to 8 bytes, little-endian."""
    number = HOSTILE[rng.integers(len(HOSTILE))] + int(rng.integers(-1, 2))
    width = WIDTHS[rng.integers(len(WIDTHS))]
    return (number % 2 ** (8 * width)).to_bytes(width, "little")


MUTATIONS: tuple[Callable[[np.random.Generator, bytes], bytes], ...] = (truncated, flipped, overwritten, inserted, cut_out, spliced)


def mutated(rng: np.random.Generator, data: bytes) -> bytes:
    """The data with 1 to MAX_DAMAGES damages."""
    for _ in range(rng.integers(1, MAX_DAMAGES + 1)):
        data = MUTATIONS[rng.integers(len(MUTATIONS))](rng, data)
    return data
