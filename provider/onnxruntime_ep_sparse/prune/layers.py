"""Layers: a node's constant weight as matrices, what they are multiplied by, and where their bias is.

`operators.LAYERS` has a row for each operator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .source import Changes

MOST_ROWS = 1024
MOST_NUMBERS = 4 << 20
"""Rows of columns that are handled at once, and numbers in them."""


def rows_at_once(shape__gmk: Sequence[int]) -> int:
    """Return how many rows of a layer's columns are handled at once."""
    groups, _, inputs = shape__gmk
    return max(min(MOST_ROWS, MOST_NUMBERS // max(groups * inputs, 1)), 16)


@dataclass(frozen=True, slots=True)
class Site:
    """A node with a batch: functions that return an input by its number, None where there is none, and compute the first output."""

    input: Callable[[int], NDArray | None]
    output: Callable[[], NDArray]


@dataclass(frozen=True, slots=True)
class Bias:
    """The constant that is added to a layer's outputs: input `slot` of node `index`, or a place where one can be added.

    It gets `shape`, to which what is there must broadcast. The layer's part of it begins and ends at `part` of the last axis. The product
    counts `scale` times as much as the bias.
    """

    index: int
    slot: int
    shape: tuple[int, ...]
    part: tuple[int, int | None] = (0, None)
    scale: float = 1.0

    def add(self, changes: Changes, delta__gm: NDArray[np.float64]) -> None:
        """Add a number to each output."""
        node = changes.nodes[self.index]
        name = node.input[self.slot] if len(node.input) > self.slot else ""
        full = np.array(np.broadcast_to(changes.array(name), self.shape)) if name else np.zeros(self.shape, np.float32)
        part = full[..., slice(*self.part)]
        part += (self.scale * delta__gm).reshape(part.shape).astype(np.float32)
        changes.set_input(self.index, self.slot, f"{node.output[0]}_bias", full)


@dataclass(frozen=True)
class Layer(ABC):
    """A weight of a node. It is G matrices (M, K) of M outputs and K inputs; `shape__gmk` has these three numbers.

    The inputs are ordered so that `run` consecutive ones are channels of one tap. `x` is the value that the weight is multiplied by.
    """

    index: int
    name: str
    op_type: str
    weight: str
    slot: int
    x: str
    shape__gmk: tuple[int, int, int]
    run: int
    bias: Bias | None

    by_row: ClassVar[bool]
    """Whether all outputs get the same number of zeros."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the values that `columns` reads."""
        return (self.x,)

    @property
    def inputs(self) -> int:
        """K, the number of inputs of an output."""
        return self.shape__gmk[2]

    @property
    def size(self) -> int:
        """Return the number of weights."""
        return prod(self.shape__gmk)

    @property
    @abstractmethod
    def geometry(self) -> tuple[object, ...]:
        """Return the parameters besides `x` on which the columns depend: layers that agree in both have the same columns."""

    @abstractmethod
    def matrices(self, weight: NDArray) -> NDArray:
        """Return the weight, of the shape that ONNX has, as (G, M, K)."""

    @abstractmethod
    def restored(self, matrices__gmk: NDArray) -> NDArray:
        """Undo `matrices`."""

    @abstractmethod
    def rows(self, site: Site, most: int) -> int:
        """Return how many rows `columns` yields."""

    @abstractmethod
    def columns(self, site: Site, rng: np.random.Generator, most: int) -> Iterator[NDArray[np.float32]]:
        """Yield what the matrices are multiplied by, (G, rows, K), in parts: at most `most` rows of an image, chosen by `rng`."""
