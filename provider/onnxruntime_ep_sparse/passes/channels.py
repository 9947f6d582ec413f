"""Channels of values, and how nodes link them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..graph.ir import Node


@dataclass(slots=True)
class Channels:
    """The channels of a value, along `axis`: the `known` ones are the finite number `value` at every position, the `needed` ones stay."""

    axis: int
    known__c: NDArray[np.bool_]
    value__c: NDArray[np.float32]
    needed__c: NDArray[np.bool_]

    @property
    def size(self) -> int:
        """How many there are before any goes."""
        return len(self.needed__c)

    @property
    def left(self) -> int:
        """How many stay."""
        return int(np.count_nonzero(self.needed__c))


@dataclass(frozen=True, slots=True)
class Link:
    """The channels of the operand `x`, each `times` times, are those of the node's result from `begin` on."""

    x: str
    begin: int = 0
    times: int = 1


@dataclass(slots=True)
class Plan:
    """What becomes of a node when channels go.

    Channels of operands in `links` are channels of the result; of those of `x` the outputs of a product `read` some: outputs to channels.
    `sliced` are constant inputs with an entry a channel: (index of the input, its axis, the value whose channels they are); `counted`
    are entries of integer inputs that hold the number of channels of the result: (index of the input, place).
    """

    node: Node
    links: tuple[Link, ...] = ()
    x: str = ""
    read: Callable[[NDArray[np.bool_]], NDArray[np.bool_]] | None = None
    sliced: tuple[tuple[int, int, str], ...] = ()
    counted: tuple[tuple[int, int], ...] = ()

    @property
    def y(self) -> str:
        """The result."""
        return self.node.outputs[0]


def alive(weight__mct: NDArray[np.float32], among__m: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Which channels (C,) some output reads, of all outputs or of those `among`. Few of them show it for most channels."""
    alive__c = np.zeros(weight__mct.shape[1], bool)
    begin, count = 0, 16
    while begin < len(weight__mct) and not alive__c.all():
        part = weight__mct[begin : begin + count]
        if among__m is not None and not among__m.all():
            part = part[among__m[begin : begin + count]]
        rest = np.flatnonzero(~alive__c)
        if len(rest) * 8 < len(alive__c):  # else it is quicker to look at all again than to pick them out
            alive__c[rest] = (part[:, rest] != 0).any(axis=0).any(axis=1)
        else:
            alive__c |= (part != 0).any(axis=0).any(axis=1)
        begin, count = begin + count, 2 * count
    return alive__c


def split(
    weight__mct: NDArray[np.float32], known__c: NDArray[np.bool_], value__c: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The weights without those of known channels, and what these add to every output (M,)."""
    result__mct = weight__mct.copy()
    result__mct[:, known__c] = 0
    return result__mct, weight__mct[:, known__c].sum(axis=2, dtype=np.float64) @ value__c[known__c]


def merged(weight__mct: NDArray[np.float32], known__c: NDArray[np.bool_], value__c: NDArray[np.float64]) -> NDArray[np.float32]:
    """The weights with those of all known channels moved to the one of largest value: channels of zeros lose theirs."""
    result__mct = weight__mct.copy()
    result__mct[:, known__c] = 0
    known__c = known__c & (value__c != 0)
    if known__c.any():
        place = int(np.argmax(np.where(known__c, np.abs(value__c), 0)))
        shares__c = value__c[known__c] / value__c[place]
        result__mct[:, place] = np.einsum("mct,c->mt", weight__mct[:, known__c].astype(np.float64), shares__c)
    return result__mct
