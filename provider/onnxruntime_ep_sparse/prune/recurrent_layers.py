"""Layers of LSTM, GRU and RNN: the weights W of the inputs, and R of the hidden states before them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto
from scipy.special import expit

from .layers import Bias, Layer, Site
from .source import ONNX, Source, attribute

X, W, R, B, LENGTHS, INITIAL = range(6)
"""The inputs that these nodes have in common, by their numbers."""
WEIGHTS = {".W": W, ".R": R}
"""Those that are layers, by what the layer's name has after that of the node."""


@dataclass(frozen=True)
class RecurrentLayer(Layer):
    """W or R of a node, (directions, gates * H, inputs). `reverse` says so of each direction.

    `reset_first`: the reset gate of a GRU multiplies the state before R does, so that each gate is a matrix with columns of its own.
    """

    reads: tuple[str, ...]
    stored: tuple[int, ...]
    reverse: tuple[bool, ...]
    reset_first: bool

    by_row: ClassVar[bool] = True

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the values that `columns` reads."""
        return self.reads

    @property
    def geometry(self) -> tuple[object, ...]:
        """Return the parameters besides `x` on which the columns depend."""
        return (self.index, self.slot)

    def matrices(self, weight: NDArray) -> NDArray:
        """Return the weight as (G, M, K)."""
        return np.ascontiguousarray(weight).reshape(self.shape__gmk)

    def restored(self, matrices__gmk: NDArray) -> NDArray:
        """Undo `matrices`."""
        return matrices__gmk.reshape(self.stored)

    def rows(self, site: Site, most: int) -> int:
        """Return the number of times of all sequences."""
        return int(_inside(site).sum())

    def columns(self, site: Site, rng: np.random.Generator, most: int) -> Iterator[NDArray[np.float32]]:
        """Yield what the matrices are multiplied by, (G, rows, K), at all times within the lengths of the sequences."""
        x__tnk, inside__tn = _needed(site.input(X)), _inside(site)
        if self.slot == W:
            yield x__tnk[inside__tn][None]
            return
        before__dtnh = self._states_before(site, inside__tn)
        states__drh = before__dtnh[:, inside__tn]
        if not self.reset_first:
            yield states__drh
            return
        reset__drh = self._reset_gate(site, x__tnk[inside__tn], states__drh)
        yield np.stack([states__drh, states__drh, states__drh * reset__drh], axis=1).reshape(-1, *states__drh.shape[1:])

    def _states_before(self, site: Site, inside__tn: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the state that each time begins with, (directions, times, sequences, H)."""
        y__dtnh = site.output().transpose(1, 0, 2, 3)
        directions, _, sequences, hidden = y__dtnh.shape
        initial = site.input(INITIAL)
        initial__dnh = np.zeros((directions, sequences, hidden), np.float32) if initial is None else initial
        before__dtnh = np.empty_like(y__dtnh)
        last__n = np.maximum(inside__tn.sum(axis=0) - 1, 0)
        for direction, reverse in enumerate(self.reverse):
            if reverse:
                before__dtnh[direction, :-1] = y__dtnh[direction, 1:]
                before__dtnh[direction, last__n, np.arange(sequences)] = initial__dnh[direction]
            else:
                before__dtnh[direction, 1:] = y__dtnh[direction, :-1]
                before__dtnh[direction, 0] = initial__dnh[direction]
        return before__dtnh

    def _reset_gate(self, site: Site, x__rk: NDArray[np.float32], states__drh: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the reset gate of a GRU, the second of the three."""
        hidden = states__drh.shape[-1]
        gate = slice(hidden, 2 * hidden)
        w__dmk, r__dmk, bias = _needed(site.input(W)), _needed(site.input(R)), site.input(B)
        bias__dm = np.zeros((len(w__dmk), 6 * hidden), np.float32) if bias is None else bias
        shift__dm = bias__dm[:, gate] + bias__dm[:, 3 * hidden :][:, gate]
        sums = [x__rk @ w[gate].T + h @ r[gate].T + b for w, r, h, b in zip(w__dmk, r__dmk, states__drh, shift__dm, strict=True)]
        return np.stack([expit(each) for each in sums])


def _inside(site: Site) -> NDArray[np.bool_]:
    """Return which times are within the lengths of the sequences, (times, sequences)."""
    times, sequences = _needed(site.input(X)).shape[:2]
    lengths = site.input(LENGTHS)
    return np.ones((times, sequences), np.bool_) if lengths is None else np.arange(times)[:, None] < lengths


def _needed(array: NDArray | None) -> NDArray:
    assert array is not None, "these nodes have X, W and R"
    return array


def of_recurrent(source: Source, index: int, name: str) -> Iterator[RecurrentLayer]:
    """Yield the layers of W and R, each if it is constant."""
    node = source.nodes[index]
    if node.domain not in ONNX or source.is_constant(node.input[X]) or attribute(node, "layout", 0):
        return
    direction = attribute(node, "direction", b"forward")
    reverse = {b"forward": (False,), b"reverse": (True,), b"bidirectional": (False, True)}[direction]
    reset_first = node.op_type == "GRU" and not attribute(node, "linear_before_reset", 0)
    for suffix, slot in WEIGHTS.items():
        if not source.is_weight(node.input[slot]) or (slot == R and reset_first and not _usual_gates(node)):
            continue
        directions, rows, inputs = stored = source.shape(node.input[slot])
        shape = (1, directions * rows, inputs)
        if slot == R:
            groups = directions * (3 if reset_first else 1)
            shape = (groups, directions * rows // groups, inputs)
        has_bias = len(node.input) > B and node.input[B]
        part = (0, rows) if slot == W else (rows, 2 * rows)
        yield RecurrentLayer(
            index,
            f"{name}{suffix}",
            node.op_type,
            node.input[slot],
            slot,
            node.input[X],
            shape,
            inputs,
            Bias(index, B, (directions, 2 * rows), part) if not has_bias or source.is_weight(node.input[B]) else None,
            reads=tuple(each for each in node.input if each),
            stored=stored,
            reverse=reverse,
            reset_first=reset_first and slot == R,
        )


def _usual_gates(node: NodeProto) -> bool:
    """Return whether the gates of a GRU are sigmoids of sums that are not clipped, as `_reset_gate` computes them."""
    activations = attribute(node, "activations", [])
    return not attribute(node, "clip", 0.0) and all(each.lower() == b"sigmoid" for each in activations[::2])
