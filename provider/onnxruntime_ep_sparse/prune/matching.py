"""Finds which rows of parameters are which rows of a model's weights, by their content: exporters rename weights and move their rows.

An exporter writes a weight as it is or transposed, scales the rows of a convolution by the BatchNormalization that it folds, reorders the
gates of an LSTM, stacks directions, and cuts a projection into three. All of that keeps the direction of every row. So a row is known by
its signature: its projections, as a unit vector, onto a few fixed vectors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

PROJECTIONS = 8
TOLERANCE = 1e-4
"""Largest difference of two projections of one row. They are about normal, with rounding errors of some 1e-6 after a scale was folded."""
CHUNK = 1 << 22
"""Elements of a weight that are projected at a time, in float64."""

Signature = NDArray[np.float32]
"""(R, PROJECTIONS + 1): the projections of each row as a unit vector, and its norm. A row of zeros has zeros."""


def _columns(array: NDArray) -> NDArray | None:
    return array.reshape(array.shape[-2:]).T if array.ndim >= 2 and prod(array.shape[:-2]) == 1 else None


def _stacked(array: NDArray) -> NDArray | None:
    return array.reshape(-1, array.shape[-1]) if array.ndim == 3 else None


ARRANGEMENTS: dict[str, Callable[[NDArray], NDArray | None]] = {
    "rows": lambda array: array.reshape(len(array), -1),
    "columns": _columns,
    "stacked": _stacked,
}
"""The one table of ways to read a weight as rows, one per output; None where its rank does not allow it.

`rows`: Conv (O, I, taps) and Gemm with transB (O, I). `columns`: MatMul and Gemm (I, O), also with dimensions of 1 before these two.
`stacked`: LSTM and GRU (directions, gates, I).
"""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The signatures of the rows of a weight of `size` elements, by arrangement: they find the weight."""

    size: int
    signatures: Mapping[str, Signature]

    @classmethod
    def of(cls, weight: NDArray) -> Fingerprint:
        """Take the fingerprint of a weight, in every arrangement that its rank allows."""
        found = {name: arrange(weight) for name, arrange in ARRANGEMENTS.items()}
        return cls(weight.size, {name: _signature(rows) for name, rows in found.items() if rows is not None})

    def width(self, arrangement: str) -> int:
        """Return K, the elements of a row."""
        return self.size // max(len(self.signatures[arrangement]), 1)


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a parameter that are rows of a weight: `scales` times the former are the latter."""

    rows: NDArray[np.intp]
    weight: str
    arrangement: str
    weight_rows: NDArray[np.intp]
    scales: NDArray[np.float32]


def arranged(array: NDArray, arrangement: str) -> NDArray:
    """Return an array of a weight's shape by its rows (R, K)."""
    rows = ARRANGEMENTS[arrangement](array)
    if rows is None:
        raise ValueError(f"an array of rank {array.ndim} has no {arrangement}")
    return rows


def match(parameters: Mapping[str, NDArray], weights: Mapping[str, Fingerprint]) -> dict[str, list[Piece]]:
    """Return the pieces of each parameter all of whose rows are rows of `weights`.

    ValueError where a parameter fits two weights equally well, or two parameters fit the same rows, and no name decides.
    """
    widths = {of.width(arrangement) for of in weights.values() for arrangement in of.signatures}
    tables = {width: _Table(width, weights) for width in widths}
    pieces = {}
    for name, value in parameters.items():
        rows = value.reshape(len(value), -1) if value.ndim > 1 and value.size else None
        if rows is not None and rows.shape[1] in tables and (found := _pieces(name, _signature(rows), tables[rows.shape[1]])):
            pieces[name] = found
    return _claimed_once(pieces)


def uncovered(weights: Mapping[str, Fingerprint], pieces: Mapping[str, list[Piece]]) -> list[str]:
    """Return the weights not all of whose rows belong to a parameter."""
    covered: dict[tuple[str, str], int] = {}
    for piece in (piece for of in pieces.values() for piece in of):
        covered[piece.weight, piece.arrangement] = covered.get((piece.weight, piece.arrangement), 0) + len(set(piece.weight_rows.tolist()))
    return [
        name
        for name, of in weights.items()
        if all(covered.get((name, arrangement), 0) < len(rows) for arrangement, rows in of.signatures.items())
    ]


def _signature(rows: NDArray) -> Signature:
    count, width = rows.shape
    # the stream of RandomState is the same in every version of numpy, and signatures are kept in files
    directions = np.random.RandomState(width % 2**32).standard_normal((width, PROJECTIONS))
    signature = np.zeros((count, PROJECTIONS + 1), np.float32)
    step = max(CHUNK // max(width, 1), 1)
    for first in range(0, count, step):
        part = rows[first : first + step].astype(np.float64)
        norms = np.sqrt((part * part).sum(axis=1))
        signature[first : first + step, :-1] = (part @ directions) / np.where(norms > 0, norms, 1)[:, None]
        signature[first : first + step, -1] = norms
    return signature


class _Table:
    """All rows of K elements of all weights, sorted by their first projection."""

    def __init__(self, width: int, weights: Mapping[str, Fingerprint]) -> None:
        fitting = [(name, way, rows) for name, of in weights.items() for way, rows in of.signatures.items() if of.width(way) == width]
        self.owners = [(name, way) for name, way, _ in fitting]
        """Weight and arrangement."""
        signature = np.concatenate([rows for _, _, rows in fitting])
        owner = np.repeat(np.arange(len(fitting)), [len(rows) for _, _, rows in fitting])
        row = np.concatenate([np.arange(len(rows)) for _, _, rows in fitting])
        order = np.argsort(signature[:, 0], kind="stable")
        self.signature, self.owner, self.row = signature[order], owner[order], row[order]

    def candidates(self, signature: Signature) -> list[dict[int, list[tuple[int, float]]]]:
        """Return for each row its candidates by owner: rows of the weight, and the scale of each, which may be negative."""
        found: list[dict[int, list[tuple[int, float]]]] = [{} for _ in signature]
        for sign in (1, -1):
            wanted = sign * signature[:, :-1]
            low = np.searchsorted(self.signature[:, 0], wanted[:, 0] - TOLERANCE)
            high = np.searchsorted(self.signature[:, 0], wanted[:, 0] + TOLERANCE)
            for index in np.flatnonzero(high > low):
                norm = float(signature[index, -1])
                if norm == 0 and sign < 0:
                    continue
                near = slice(low[index], high[index])
                same = np.abs(self.signature[near, :-1] - wanted[index]).max(axis=1) <= TOLERANCE
                same &= (self.signature[near, -1] > 0) == (norm > 0)
                for at in np.flatnonzero(same) + low[index]:
                    scale = sign * float(self.signature[at, -1]) / norm if norm else 1.0
                    found[index].setdefault(int(self.owner[at]), []).append((int(self.row[at]), scale))
        return found


def _pieces(name: str, signature: Signature, table: _Table) -> list[Piece]:
    """Return the pieces of one parameter, [] if some of its rows are rows of no weight."""
    candidates = table.candidates(signature)
    if not signature[:, -1].any() or not all(candidates):
        return []
    left, pieces = list(range(len(candidates))), []
    while left:
        votes = _votes(candidates[row] for row in left)
        rank = {owner: (count, _same_name(name, table.owners[owner][0])) for owner, count in votes.items()}
        best = max(rank, key=lambda owner: rank[owner])
        mine = [row for row in left if best in candidates[row]]
        for rival, count in _votes(candidates[row] for row in mine).items():
            if rival != best and (count, rank[rival][1]) == rank[best]:
                raise ValueError(_either(name, table.owners[best], table.owners[rival]))
        pieces.append(_piece(mine, [candidates[row][best] for row in mine], *table.owners[best]))
        left = [row for row in left if best not in candidates[row]]
    return pieces


def _votes(candidates: Iterable[Mapping[int, object]]) -> Counter[int]:
    """Return how many rows each owner fits."""
    return Counter(owner for of in candidates for owner in of)


def _either(name: str, one: tuple[str, str], other: tuple[str, str]) -> str:
    if one[0] == other[0]:
        return f"parameter {name!r} fits weight {one[0]!r} both as it is and transposed"
    return f"parameter {name!r} fits two weights with the same values, {one[0]!r} and {other[0]!r}, and neither has its name"


def _piece(rows: list[int], candidates: list[list[tuple[int, float]]], weight: str, arrangement: str) -> Piece:
    """Return the rows of one weight. Of equal rows, each is taken once, and those are preferred that go on like the rows before."""
    used: set[int] = set()
    offset, taken, scales = 0, [], []
    for row, options in zip(rows, candidates, strict=True):
        free = [option for option in options if option[0] not in used] or options
        chosen, scale = min(free, key=lambda option: (abs(option[0] - row - offset), option[0]))
        offset = chosen - row
        used.add(chosen)
        taken.append(chosen)
        scales.append(scale)
    return Piece(np.array(rows), weight, arrangement, np.array(taken), np.array(scales, np.float32))


def _claimed_once(pieces: dict[str, list[Piece]]) -> dict[str, list[Piece]]:
    """Return the pieces without the parameters that fit rows of another one which has the weight's name."""
    claims: dict[tuple[str, str, int], dict[str, None]] = {}
    for name, found in pieces.items():
        for piece in found:
            for row in piece.weight_rows.tolist():
                claims.setdefault((piece.weight, piece.arrangement, row), {})[name] = None
    dropped: set[str] = set()
    for (weight, *_), names in claims.items():
        if len(left := [name for name in names if name not in dropped]) > 1:
            named = [name for name in left if _same_name(name, weight)]
            if len(named) != 1:
                raise ValueError(
                    f"parameters {left[0]!r} and {left[1]!r} have the same values, and the name of weight {weight!r} tells neither"
                )
            dropped |= {*left} - {*named}
    return {name: found for name, found in pieces.items() if name not in dropped}


def _same_name(parameter: str, weight: str) -> bool:
    """Return whether names are equal, but for modules around one of them."""
    return f".{parameter}".endswith(f".{weight}") or f".{weight}".endswith(f".{parameter}")
