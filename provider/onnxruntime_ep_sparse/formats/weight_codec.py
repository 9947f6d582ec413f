"""Encodes one weight as its nonzeros, and an index of bytes that says where they are.

`values` holds the elements that are not zero, in row-major order, bit for bit. Weights are float32, int8 or uint8. In those of integers the
most frequent number takes the place of zero, because it is the zero point where a weight was pruned. `index` is, in little-endian order:

    bytes        content
    0 to 3       "ORTS"
    4            version of this layout, 1
    5            form of the list of nonzeros: 1 bitmask, 2 gaps
    6            form of the rest: 0 nothing, 1 and 2 the list of negative zeros as bitmask or gaps, 3 one number
    7            rank, at most 8
    8 to 11      CRC-32 of all other bytes of `index` followed by those of `values`
    12 to 19     bytes of the list of nonzeros
    20 to ...    the shape, 8 bytes per dimension
    then         the list of nonzeros: their places among all elements
    rest         float32: the list of negative zeros: their places among all zeros. Weights multiplied by a mask have many.
                 integers: the number that all other elements have, 1 byte

bitmask: one bit per element, the first element in the lowest bit of the first byte, spare bits 0: 1/8 byte per element.
gaps: for each listed element, the number of other elements between it and the listed one before, as one byte. 255 stands for 255 others and
no listed element, so longer gaps take several bytes. Elements after the last listed one are written the same way, as far as they fill whole
255s.
The smaller form is used: gaps if less than 1/8 is listed. Each byte describes at most 255 elements, so a small index cannot ask for much
memory.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..framed import Frame
from ..graph.nonzeros import Nonzeros
from ._gaps import after_gaps

VERSION = 1
MAX_RANK = 8
NONE, MASK, GAPS, NUMBER = 0, 1, 2, 3
SKIP = 255
FRAME = Frame(b"ORTS", VERSION, before="BBBB", after="Q", what="compressed weight")
NEGATIVE_ZERO = np.uint32(0x80000000)
INTEGERS = (np.dtype(np.int8), np.dtype(np.uint8))


def encode(weight: NDArray) -> tuple[NDArray, NDArray[np.uint8]]:
    """Return `values` (of the weight's element type) and `index` (uint8) of a weight, both of one dimension.

    ValueError if the weight is not float32, int8 or uint8, or has more than 8 dimensions.
    """
    if weight.dtype in INTEGERS:
        return _encode_integers(weight)
    if weight.dtype != np.float32:
        raise ValueError(f"the weight is {weight.dtype}, only float32, int8 and uint8 can be compressed")
    flat = np.ascontiguousarray(weight).reshape(-1)
    places = np.flatnonzero(flat)
    values = flat[places]
    return values, index_of(values, places, weight.shape, np.flatnonzero(flat.view(np.uint32)[flat == 0]))


def most_frequent(weight: NDArray) -> int:
    """Return the number that most elements of a weight of 8-bit integers have, the least of several; 0 for a weight without elements."""
    counts = np.bincount(np.ascontiguousarray(weight).reshape(-1).view(np.uint8), minlength=256)
    return int(np.argmax(counts).astype(np.uint8).view(weight.dtype)) if weight.size else 0


def _encode_integers(weight: NDArray) -> tuple[NDArray, NDArray[np.uint8]]:
    number = np.array([most_frequent(weight)], weight.dtype)
    flat = np.ascontiguousarray(weight).reshape(-1)
    places = np.flatnonzero(flat != number)
    values = flat[places]
    return values, _index_of(values, places, weight.shape, NUMBER, number.view(np.uint8))


def index_of(
    values: NDArray[np.float32], places: NDArray[np.int64], shape: tuple[int, ...], negative_zeros: NDArray[np.int64] | None = None
) -> NDArray[np.uint8]:
    """Return the index of float32 `values` at these ascending `places` in row-major order.

    All other elements are zeros; `negative_zeros` are places among these.
    """
    form, rest = NONE, np.empty(0, np.uint8)
    if negative_zeros is not None and negative_zeros.size:
        form, rest = _encode_places(negative_zeros, math.prod(shape) - len(places))
    return _index_of(values, places, shape, form, rest)


def _index_of(
    values: NDArray, places: NDArray[np.int64], shape: tuple[int, ...], form_rest: int, rest: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    if len(shape) > MAX_RANK:
        raise ValueError(f"the weight has {len(shape)} dimensions, at most {MAX_RANK} can be compressed")
    form, listed = _encode_places(places, math.prod(shape))
    head = FRAME.pack(form, form_rest, len(shape), listed.size) + struct.pack(f"<{len(shape)}Q", *shape)
    index = np.concatenate([np.frombuffer(head, np.uint8), listed, rest])
    FRAME.sign(index.data, values.data)
    return index


def decode(values: NDArray, index: NDArray[np.uint8]) -> NDArray:
    """Return the weight. ValueError with the first error found in `values` or `index`."""
    parts, places = _decoded(values, index)
    if values.dtype in INTEGERS:
        weight = np.full(math.prod(parts.shape), parts.rest.view(values.dtype)[0])
        weight[places] = values
        return weight.reshape(parts.shape)
    zeros = math.prod(parts.shape) - len(places)
    return _scattered(values, places, parts.shape, _decode_places(parts.form_rest, parts.rest, zeros) if parts.form_rest else None)


def nonzeros_of(values: NDArray[np.float32], index: NDArray[np.uint8]) -> Nonzeros:
    """Return a float32 weight by its nonzeros. ValueError as of `decode`, and for a scalar."""
    parts, places = _decoded(values, index)
    if not parts.shape:
        raise ValueError("the weight has no dimensions")
    return Nonzeros.at(places, np.ascontiguousarray(values), parts.shape)


def _decoded(values: NDArray, index: NDArray[np.uint8]) -> tuple[_Parts, NDArray[np.int64]]:
    """Return the parts of an index that fits `values`, and the places of these."""
    if values.dtype not in (np.float32, *INTEGERS) or values.ndim != 1:
        raise ValueError(f"values are {values.dtype} of {values.ndim} dimensions, not float32, int8 or uint8 of one")
    parts = _Parts.of(index)
    if (parts.form_rest == NUMBER) != (values.dtype in INTEGERS):
        raise ValueError(f"the index is of a weight of another element type than {values.dtype}")
    FRAME.check(np.ascontiguousarray(index).data, np.ascontiguousarray(values).data)
    places = _decode_places(parts.form, parts.listed, math.prod(parts.shape))
    if len(places) != len(values):
        raise ValueError(f"the index lists {len(places)} nonzeros, there are {len(values)} values")
    return parts, places


def shape_of(index: NDArray[np.uint8]) -> tuple[int, ...]:
    """Return the shape in the head of `index`; the lists are not read. ValueError as of `decode`."""
    return _Parts.of(index).shape


def _scattered(
    values: NDArray[np.float32], places: NDArray[np.int64], shape: tuple[int, ...], negative_zeros: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Return the weight of this shape with `values` at `places`, and zeros of which some are negative."""
    bits = np.zeros(math.prod(shape), np.uint32)
    if negative_zeros is not None and negative_zeros.size:
        is_zero = np.ones(bits.size, bool)
        is_zero[places] = False
        signs = np.zeros(bits.size - len(places), np.uint32)
        signs[negative_zeros] = NEGATIVE_ZERO
        bits[is_zero] = signs
    bits[places] = values.view(np.uint32)
    return bits.view(np.float32).reshape(shape)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts of an index."""

    form: int
    form_rest: int
    shape: tuple[int, ...]
    listed: NDArray[np.uint8]
    rest: NDArray[np.uint8]

    @classmethod
    def of(cls, index: NDArray[np.uint8]) -> _Parts:
        """Split an index into its parts. ValueError if its head is invalid or its parts do not fit into it."""
        if index.dtype != np.uint8 or index.ndim != 1:
            raise ValueError(f"the index is {index.dtype} of {index.ndim} dimensions, not uint8 of one")
        form, form_rest, rank, size = FRAME.unpack(index[: FRAME.head.size].tobytes())
        if form not in (MASK, GAPS) or form_rest not in (NONE, MASK, GAPS, NUMBER):
            raise ValueError(f"the index has lists of the unknown forms {form} and {form_rest}")
        if rank > MAX_RANK:
            raise ValueError(f"the weight has {rank} dimensions, at most {MAX_RANK} are supported")
        begin = FRAME.head.size + 8 * rank
        more = {NONE: 0, NUMBER: 1}.get(form_rest)
        if begin + size > index.size or (more is not None and begin + size + more != index.size):
            raise ValueError(f"the index has {index.size} bytes, its head says {begin + size + (more or 0)}")
        shape = struct.unpack(f"<{rank}Q", index[FRAME.head.size : begin].tobytes())
        return cls(form, form_rest, shape, index[begin : begin + size], index[begin + size :])


# lists of places


def _encode_places(places: NDArray[np.int64], size: int) -> tuple[int, NDArray[np.uint8]]:
    """Encode ascending places in `size` elements in the smaller form. Return form and bytes."""
    if len(places) < _mask_bytes(size):
        gaps = _gaps_of(places, size)
        if gaps.size < _mask_bytes(size):
            return GAPS, gaps
    bits = np.zeros(size, np.uint8)
    bits[places] = 1
    return MASK, np.packbits(bits, bitorder="little")


def _decode_places(form: int, listed: NDArray[np.uint8], size: int) -> NDArray[np.int64]:
    """Return the ascending places. ValueError if the list does not describe `size` elements."""
    return (_masked if form == MASK else _after_gaps)(listed, size)


def _gaps_of(places: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """Return the gaps before `places`, and whole SKIPs after the last."""
    gap__listed = np.diff(np.append(places, size), prepend=-1) - 1
    # each gap ends in one byte below SKIP, except the one after the last listed element
    end__listed = np.cumsum(gap__listed // SKIP + 1) - 1
    gaps = np.full(end__listed[-1], SKIP, np.uint8)
    gaps[end__listed[:-1]] = gap__listed[:-1] % SKIP
    return gaps


def _after_gaps(gaps: NDArray[np.uint8], size: int) -> NDArray[np.int64]:
    places, end = after_gaps(np.ascontiguousarray(gaps))
    if not 0 <= size - end < SKIP:
        raise ValueError(f"the gaps describe {end} elements, there are {size}")
    return places


def _mask_bytes(size: int) -> int:
    return -(-size // 8)


def _masked(mask: NDArray[np.uint8], size: int) -> NDArray[np.int64]:
    if mask.size != _mask_bytes(size):
        raise ValueError(f"the bitmask has {mask.size} bytes, {size} elements need {_mask_bytes(size)}")
    if size % 8 and mask[-1] >> size % 8:
        raise ValueError("the bitmask has bits after its last element")
    return np.flatnonzero(np.unpackbits(mask, count=size, bitorder="little"))
