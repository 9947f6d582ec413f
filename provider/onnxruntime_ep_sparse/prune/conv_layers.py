"""Layers of Conv, of one to three dimensions and any number of groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..graph.auto_pad import CONV_STRIDE_BEYOND, pads_as_defined
from .layers import Bias, Layer, Site, rows_at_once
from .source import ONNX, Source, attribute


@dataclass(frozen=True)
class ConvLayer(Layer):
    """A weight (O, C, kernel...). `pads` has those before all axes, then those after; `auto_pad` says how where it is None."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...] | None
    auto_pad: str

    by_row: ClassVar[bool] = False

    @property
    def geometry(self) -> tuple[object, ...]:
        """Return the parameters besides `x` on which the columns depend."""
        return ("conv", self.shape__gmk[0], self.kernel, self.strides, self.dilations, self.pads, self.auto_pad)

    def matrices(self, weight: NDArray) -> NDArray:
        """Return the weight as (G, M, taps * C)."""
        return np.ascontiguousarray(np.moveaxis(weight, 1, -1)).reshape(self.shape__gmk)

    def restored(self, matrices__gmk: NDArray) -> NDArray:
        """Undo `matrices`."""
        outputs = self.shape__gmk[0] * self.shape__gmk[1]
        return np.ascontiguousarray(np.moveaxis(matrices__gmk.reshape(outputs, *self.kernel, self.run), -1, 1))

    def rows(self, site: Site, most: int) -> int:
        """Return the number of positions of all images."""
        x = site.input(0)
        assert x is not None, "a Conv has an input"
        pads, rank = self._pads(x.shape[2:]), len(self.kernel)
        padded = [size + before + after for size, before, after in zip(x.shape[2:], pads[:rank], pads[rank:], strict=True)]
        free = [size - (k - 1) * d - 1 for size, k, d in zip(padded, self.kernel, self.dilations, strict=True)]
        return len(x) * min(prod(each // stride + 1 for each, stride in zip(free, self.strides, strict=True)), most)

    def columns(self, site: Site, rng: np.random.Generator, most: int) -> Iterator[NDArray[np.float32]]:
        """Yield what the kernel sees at some positions, (G, rows, taps * C): the same positions of some images."""
        x = site.input(0)
        assert x is not None, "a Conv has an input"
        step = max(rows_at_once(self.shape__gmk) // most, 1)
        for begin in range(0, len(x), step):
            yield self._columns(x[begin : begin + step], rng, most)

    def _columns(self, x: NDArray[np.float32], rng: np.random.Generator, most: int) -> NDArray[np.float32]:
        rank, groups = len(self.kernel), self.shape__gmk[0]
        axes = tuple(range(2, 2 + rank))
        extent = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        pads = self._pads(x.shape[2:])
        padded = np.pad(x, ((0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)))
        windows = sliding_window_view(padded, extent, axes)
        steps = [slice(None, None, step) for step in (1, 1, *self.strides, *self.dilations)]
        windows = windows[tuple(steps)]
        sizes = windows.shape[2 : 2 + rank]
        chosen = np.arange(prod(sizes))
        if len(chosen) > most:
            chosen = np.sort(rng.choice(len(chosen), most, replace=False))
        everything: tuple[Any, ...] = (slice(None), slice(None))
        picked = windows[everything + np.unravel_index(chosen, sizes)]  # images, channels, positions, kernel...
        images, channels = x.shape[:2]
        by_group = picked.reshape(images, groups, channels // groups, len(chosen), -1)
        return by_group.transpose(1, 0, 3, 4, 2).reshape(groups, images * len(chosen), self.inputs)

    def _pads(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Return the pads of an image of some size."""
        if self.pads is not None:
            return self.pads
        needed = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(sizes, self.strides, self.kernel, strict=True)]
        less, more = [n // 2 for n in needed], [n - n // 2 for n in needed]
        return (*less, *more) if self.auto_pad == "SAME_UPPER" else (*more, *less)


def of_conv(source: Source, index: int, name: str) -> Iterator[ConvLayer]:
    """Yield the layer of a Conv, if its weight is constant."""
    node = source.nodes[index]
    weight = node.input[1]
    if node.domain not in ONNX or not source.is_weight(weight) or source.is_constant(node.input[0]):
        return
    outputs, channels, *kernel = source.shape(weight)
    if not 1 <= len(kernel) <= 3 or not outputs * channels * prod(kernel):
        return
    groups = attribute(node, "group", 1)
    strides = attribute(node, "strides", [1] * len(kernel))
    dilations = attribute(node, "dilations", [1] * len(kernel))
    auto_pad = attribute(node, "auto_pad", b"NOTSET").decode() or "NOTSET"
    pads: tuple[int, ...] | None = tuple(attribute(node, "pads", [0] * (2 * len(kernel))))
    if auto_pad.startswith("SAME"):
        if not pads_as_defined(kernel, strides, dilations, CONV_STRIDE_BEYOND):
            return
        pads = None
    elif auto_pad == "VALID":
        pads = (0,) * (2 * len(kernel))
    constant_bias = len(node.input) < 3 or not node.input[2] or source.is_weight(node.input[2])
    yield ConvLayer(
        index,
        name,
        "Conv",
        weight,
        1,
        node.input[0],
        (groups, outputs // groups, channels * prod(kernel)),
        channels,
        Bias(index, 2, (outputs,)) if constant_bias else None,
        kernel=tuple(kernel),
        strides=tuple(strides),
        dilations=tuple(dilations),
        pads=pads,
        auto_pad=auto_pad,
    )
