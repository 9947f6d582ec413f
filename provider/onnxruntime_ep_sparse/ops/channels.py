"""Channels of values, and how nodes link them: what the rules for dead channels in `ops` are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..graph.ir import Graph, Node, derived, shape_of, sizes_of


@dataclass(slots=True)
class Channels:
    """The channels of a value, along `axis`: the `known` ones are the finite number `value` at every position, the `needed` ones stay."""

    axis: int
    known__c: NDArray[np.bool_]
    value__c: NDArray[np.float32]
    needed__c: NDArray[np.bool_]

    @property
    def size(self) -> int:
        """Return the number of channels before any is removed."""
        return len(self.needed__c)

    @property
    def left(self) -> int:
        """Return the number of channels that stay."""
        return int(np.count_nonzero(self.needed__c))


@dataclass(frozen=True, slots=True)
class Link:
    """The channels of the operand `x`, each `times` times, are those of the node's result from `begin` on."""

    x: str
    begin: int = 0
    times: int = 1


@dataclass(slots=True)
class ChannelPlan:
    """How a node changes when channels are removed.

    Channels of operands in `links` are channels of the result. The outputs of a product `read` some channels of `x`: outputs to channels.
    `sliced` are constant inputs with an entry per channel: (index of the input, its axis, the value whose channels they are). `counted`
    are entries of integer inputs that hold the number of channels of the result: (index of the input, place); `attribute` is the
    attribute that holds it, "" if none does.
    """

    node: Node
    links: tuple[Link, ...] = ()
    x: str = ""
    read: Callable[[NDArray[np.bool_]], NDArray[np.bool_]] | None = None
    sliced: tuple[tuple[int, int, str], ...] = ()
    counted: tuple[tuple[int, int], ...] = ()
    attribute: str = ""

    @property
    def y(self) -> str:
        """Return the name of the result."""
        return self.node.outputs[0]


def alive(weight__mct: NDArray[np.float32], among__m: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Return the channels (C,) that some output reads, of all outputs or of those `among`.

    It looks at a few outputs first, because they read most channels.
    """
    alive__c = np.zeros(weight__mct.shape[1], bool)
    begin, count = 0, 16
    while begin < len(weight__mct) and not alive__c.all():
        part = weight__mct[begin : begin + count]
        if among__m is not None and not among__m.all():
            part = part[among__m[begin : begin + count]]
        rest = np.flatnonzero(~alive__c)
        if len(rest) * 8 < len(alive__c):  # else looking at all again is quicker than picking them out
            alive__c[rest] = (part[:, rest] != 0).any(axis=0).any(axis=1)
        else:
            alive__c |= (part != 0).any(axis=0).any(axis=1)
        begin, count = begin + count, 2 * count
    return alive__c


def split(
    weight__mct: NDArray[np.float32], known__c: NDArray[np.bool_], value__c: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the weights without those of known channels, and the sum that these add to each output (M,)."""
    result__mct = weight__mct.copy()
    result__mct[:, known__c] = 0
    return result__mct, weight__mct[:, known__c].sum(axis=2, dtype=np.float64) @ value__c[known__c]


def merged(weight__mct: NDArray[np.float32], known__c: NDArray[np.bool_], value__c: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the weights with those of all known channels moved to the channel of largest value; channels of zeros lose their weights."""
    result__mct = weight__mct.copy()
    result__mct[:, known__c] = 0
    known__c = known__c & (value__c != 0)
    if known__c.any():
        place = int(np.argmax(np.where(known__c, np.abs(value__c), 0)))
        shares__c = value__c[known__c] / value__c[place]
        result__mct[:, place] = np.einsum("mct,c->mt", weight__mct[:, known__c].astype(np.float64), shares__c)
    return result__mct


@dataclass
class Flow:
    """The channels of a graph's values that rules have followed so far, and the constants that rules have made.

    A rule takes a Flow and a node. It returns the node's ChannelPlan, or None if it knows nothing of the result; then all channels of the
    operands stay.
    """

    graph: Graph
    constants: dict[str, NDArray] = field(default_factory=dict)
    channels: dict[str, Channels] = field(default_factory=dict)

    def keep(self, names: Iterable[str]) -> None:
        """Mark all channels of these values as needed."""
        for name in names:
            if name in self.channels:
                self.channels[name].needed__c[:] = True

    def load(self, name: str) -> NDArray:
        """Return a constant of the graph, or one that a rule has made."""
        return self.constants[name] if name in self.constants else self.graph.load(name)

    def rank(self, name: str) -> int:
        """Return the number of dimensions of a value."""
        return len(shape_of(self.graph, name))

    def known_of(self, name: str, axis: int, size: int) -> Channels | None:
        """Return the channels of an operand if there are `size` along `axis`; else keep all of them and return None."""
        channels = self.channels.get(name)
        if channels is not None and (channels.axis, channels.size) == (axis, size):
            return channels
        self.keep([name])
        return None

    def make(self, name: str, axis: int, known__c: NDArray[np.bool_], value__c: NDArray) -> None:
        """Record the channels of a result: `known__c` (C,) bool where `value__c` (C,) is finite."""
        value__c = np.broadcast_to(value__c, known__c.shape).astype(np.float32)
        self.channels[name] = Channels(axis, known__c & np.isfinite(value__c), value__c, np.zeros(len(known__c), bool))

    def same(self, node: Node, x: str, known__c: NDArray[np.bool_], value__c: NDArray, **plan) -> ChannelPlan:
        """Return the plan of a node whose result has the channels of `x`; `plan` holds further fields of it."""
        self.make(node.outputs[0], self.channels[x].axis, known__c, value__c)
        return ChannelPlan(node, (Link(x),), **plan)

    def constant(self, node: Node, index: int, array: NDArray) -> Node:
        """Return the node with a new constant as its input `index`."""
        inputs = [*node.inputs, *[""] * (index + 1 - len(node.inputs))]
        inputs[index] = derived(inputs[index], f"{node.index}.{index}")
        self.constants[inputs[index]] = array
        return replace(node, inputs=tuple(inputs))

    def product(
        self, node: Node, x: str, axis: int, rows: int, bias__m: NDArray | None, *, padded: bool = False, alpha: float = 1.0
    ) -> ChannelPlan:
        """Return the plan of a Conv of one group, or of a Gemm or MatMul with the weight on the right.

        `axis` is that of the channels in `x` and in the result, `rows` that of outputs in the weight, which is input 1; the bias is
        input 2. Without a bias (None: MatMul), or with padding, constants stay in one channel.
        """
        y = node.outputs[0]
        shape = sizes_of(self.graph, node.inputs[1])
        source = self.known_of(x, axis, shape[1 - rows])
        bias = np.zeros(shape[rows], np.float32) if bias__m is None else bias__m
        moves_constants = source is not None and source.known__c.any()
        nonzeros = None if moves_constants else self.graph.nonzeros(node.inputs[1])
        if nonzeros is not None:
            alive__m, read = nonzeros.alive(rows), partial(nonzeros.alive, 1 - rows)
        else:
            weight = np.moveaxis(self.load(node.inputs[1]), rows, 0)
            weight__mct = weight.reshape(*weight.shape[:2], -1)
            if source is not None and source.known__c.any():
                known__c = source.known__c.copy()
                known__c[known__c] = np.isfinite(weight__mct[:, known__c]).all(axis=(0, 2))
                value__c = source.value__c.astype(np.float64)
                if padded or bias__m is None:
                    weight__mct = merged(weight__mct, known__c, value__c)
                else:
                    weight__mct, addend__m = split(weight__mct, known__c, value__c)
                    bias = (bias + alpha * addend__m).astype(np.float32)
                    node = self.constant(node, 2, bias)
                node = self.constant(node, 1, np.moveaxis(weight__mct.reshape(weight.shape), 0, rows))
            alive__m, read = alive(weight__mct.swapaxes(0, 1)), partial(alive, weight__mct)
        self.make(y, axis, ~alive__m, bias)
        sliced = [(1, rows, y)]
        if source is not None:
            sliced.append((1, 1 - rows, x))
        if len(node.inputs) > 2 and node.inputs[2] and self.load(node.inputs[2]).size == shape[rows]:
            sliced.append((2, self.load(node.inputs[2]).ndim - 1, y))
        return ChannelPlan(node, (), x if source is not None else "", read, tuple(sliced))
