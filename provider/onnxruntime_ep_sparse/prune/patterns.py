"""The one table of patterns of zeros, and which weights a pattern keeps by their scores.

Weights are matrices (M, K): M outputs, K inputs. The inputs of a convolution are ordered tap by tap, `run` channels each, so that
neighbours in a pattern are neighbouring channels of one tap.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

UNSTRUCTURED, N_OF_M = "unstructured", "N:M"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Blocks of `outputs` x `inputs` weights are zero together; with `kept`, that many of `inputs` neighbours stay instead."""

    name: str
    outputs: int = 1
    inputs: int = 1
    kept: int | None = None

    @property
    def sparsity(self) -> float | None:
        """Return the share of zeros that the pattern implies, or None where it can be chosen."""
        return None if self.kept is None else 1 - self.kept / self.inputs


PATTERNS = {row.name: row for row in (Pattern(UNSTRUCTURED), Pattern("4x1", outputs=4), Pattern("1x4", inputs=4), Pattern(N_OF_M))}
"""Rows by their names. `N:M` stands for all pairs of numbers: of every M consecutive inputs, N stay."""


def pattern_of(name: str) -> Pattern:
    """Return the pattern of a name, such as "4x1" or "2:4". ValueError if there is none."""
    pair = re.fullmatch(r"(\d+):(\d+)", name)
    if pair:
        kept, inputs = map(int, pair.groups())
        if not 0 < kept < inputs:
            raise ValueError(f"pattern {name}: N of every M consecutive inputs stay, so 0 < N < M")
        return replace(PATTERNS[N_OF_M], name=name, inputs=inputs, kept=kept)
    if name not in PATTERNS or name == N_OF_M:
        raise ValueError(f"unknown pattern {name!r}; there are {', '.join(PATTERNS)}, such as 2:4")
    return PATTERNS[name]


@dataclass(frozen=True, slots=True)
class Choice:
    """How many blocks of a matrix (M, K) become zero, and where they may be.

    `zeros` is the number of blocks. Where the pattern says `kept`, that decides instead. With `by_row`, all rows of blocks get about
    the same number.
    """

    pattern: Pattern
    zeros: int
    run: int
    by_row: bool = False

    @property
    def makes_zeros(self) -> bool:
        """Return whether any weight becomes zero; none does where each tap has no more inputs than stay."""
        return self.zeros > 0 if self.pattern.kept is None else self.run > self.pattern.kept

    def kept(self, score__mk: NDArray[np.float32], share: float = 1.0) -> NDArray[np.bool_]:
        """Return which weights stay (True), those with the highest scores; `share` of the zeros are made."""
        return self._kept(score__mk, round(self.zeros * share), self.run)

    def of_rows(self, begin: int, end: int, rows: int) -> Choice:
        """Return the choice for some of `rows` rows, with their share of the zeros; they cut no block."""
        before, until, all_blocks = (-(-row // self.pattern.outputs) for row in (begin, end, rows))
        return replace(self, zeros=self.zeros * until // all_blocks - self.zeros * before // all_blocks)

    def kept_columns(self, score__mc: NDArray[np.float32], begin: int, columns: int) -> NDArray[np.bool_]:
        """Return `kept` for the columns from `begin` on alone, with their share of the zeros. The whole matrix has `columns` columns.

        The columns are part of one tap, or whole taps; they cut no block.
        """
        before, until, all_blocks = (self._blocks(end) for end in (begin, begin + score__mc.shape[1], columns))
        zeros = round(self.zeros * until / all_blocks) - round(self.zeros * before / all_blocks)
        return self._kept(score__mc, zeros, min(self.run, score__mc.shape[1]))

    def _blocks(self, columns: int) -> int:
        """Return the number of blocks, side by side, in the first `columns` columns."""
        taps, rest = divmod(columns, self.run)
        return taps * -(-self.run // self.pattern.inputs) + -(-rest // self.pattern.inputs)

    def _kept(self, score__mk: NDArray[np.float32], zeros: int, run: int) -> NDArray[np.bool_]:
        pattern = self.pattern
        if pattern.kept is not None:
            return _largest_of_neighbours(score__mk, pattern.kept, pattern.inputs, run)
        if pattern.outputs == pattern.inputs == 1:
            return _largest(score__mk, zeros, self.by_row)
        kept__rc = _largest(block_sums(score__mk, pattern, run), zeros, self.by_row)
        rows, columns = score__mk.shape
        taps = columns // run
        kept__mc = np.repeat(kept__rc, pattern.outputs, axis=0)[:rows]
        kept__mtr = np.repeat(kept__mc.reshape(rows, taps, -1), pattern.inputs, axis=2)[:, :, :run]
        return kept__mtr.reshape(rows, columns)


def choices(pattern: Pattern, sparsity: float, shape__gmk: Sequence[int], run: int, by_row: bool) -> list[Choice]:
    """Return a choice for each of G matrices (G, M, K) of a layer, so that together round(sparsity * blocks) blocks become zero."""
    groups, rows, columns = shape__gmk
    blocks = -(-rows // pattern.outputs) * (columns // run) * -(-run // pattern.inputs)
    return [Choice(pattern, int(zeros), run, by_row) for zeros in _apportioned(round(sparsity * groups * blocks), groups)]


def block_sums(values__mk: NDArray[np.float32], pattern: Pattern, run: int) -> NDArray[np.float32]:
    """Return the sums over the blocks of a pattern. Blocks at the ends of the outputs, and of each tap, may be smaller."""
    rows, columns = values__mk.shape
    taps = columns // run
    down, across = -(-rows // pattern.outputs), -(-run // pattern.inputs)
    padded = np.zeros((down * pattern.outputs, taps, across * pattern.inputs), np.float32)
    padded[:rows, :, :run] = values__mk.reshape(rows, taps, run)
    sums = padded.reshape(down, pattern.outputs, taps, across, pattern.inputs).sum(axis=(1, 4))
    return sums.reshape(down, taps * across)


def _apportioned(total: int, parts: int) -> NDArray[np.int64]:
    """Return `parts` whole numbers that differ by at most one and add up to `total`."""
    ends = np.arange(parts + 1) * total // parts
    return np.diff(ends)


def _largest(score__mk: NDArray[np.float32], zeros: int, by_row: bool) -> NDArray[np.bool_]:
    """Return True but for the `zeros` smallest scores."""
    kept = np.ones(score__mk.shape, np.bool_)
    if by_row:
        counts = _apportioned(zeros, len(score__mk))
        for count in np.unique(counts[counts > 0]):
            rows = np.flatnonzero(counts == count)
            kept[rows[:, None], np.argpartition(score__mk[rows], count - 1, axis=1)[:, :count]] = False
    elif zeros:
        kept.reshape(-1)[np.argpartition(score__mk, zeros - 1, axis=None)[:zeros]] = False
    return kept


def _largest_of_neighbours(score__mk: NDArray[np.float32], count: int, inputs: int, run: int) -> NDArray[np.bool_]:
    """Return True for the `count` largest scores of every `inputs` neighbours of a tap; the last ones of a tap may be fewer."""
    rows, columns = score__mk.shape
    padded = np.full((rows, columns // run, -(-run // inputs) * inputs), -1, np.float32)
    padded[:, :, :run] = score__mk.reshape(rows, -1, run)
    ranks = np.argsort(np.argsort(-padded.reshape(rows, -1, inputs), axis=2, kind="stable"), axis=2)
    kept = (ranks < count).reshape(padded.shape)[:, :, :run]
    return np.ascontiguousarray(kept).reshape(rows, columns)
