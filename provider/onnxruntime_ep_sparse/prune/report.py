"""The report of pruning a model: layer by layer, and to its results on data that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..diagnostics.explain import Expected
from ..measure.agreement import class_axis
from ..timing import Ratio
from .left_out import Skipped

WITHIN = 0.05
"""A speed-up is reached if the measured one is not lower by more than this share."""


@dataclass(frozen=True)
class LayerReport:
    """A pruned layer. `samples` is the number of rows that its K `inputs` were seen with; `refitted` says whether that sufficed.

    `cpu_ms` is how long the CPU provider is expected to take for it in a run, `ms` how long it is expected to take now; both are None where
    the provider takes nothing or nothing was timed. `error` is what is left of the difference to the dense layer's results on held-out
    data: its square over the variance of the dense results. 0 means none, 1 the error of a constant. It is None if nothing was held out.
    """

    name: str
    op_type: str
    weight: str
    shape: tuple[int, ...]
    size: int
    zeros: int
    inputs: int
    samples: int
    refitted: bool
    error: float | None
    cpu_ms: float | None = None
    ms: float | None = None

    @property
    def sparsity(self) -> float:
        """Return the share of zeros."""
        return self.zeros / self.size

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields as keys, and `sparsity`."""
        return {**asdict(self), "sparsity": self.sparsity}


@dataclass(frozen=True)
class OutputQuality:
    """An output of the pruned model beside the dense one's, over held-out samples.

    `cosine` is the mean of the samples'. `error` is the square of the difference over the variance of the dense results. `kl` is the mean
    Kullback-Leibler divergence of the classes, in nats, and `top1` the share of positions with the same largest class; both are None
    where the output is not a classifier's.
    """

    name: str
    cosine: float
    error: float
    kl: float | None
    top1: float | None


@dataclass(frozen=True)
class Speed:
    """The pruned model with this provider against the CPU provider, by the protocol of `measure`, under the policy `auto`.

    `shapes` are those of the inputs in a run, and `sizes` those of the model's open dimensions, which are fixed for it. `owned` of `nodes`
    nodes are the provider's, `owned_open` where these stay open. If it has none, nothing is timed: `speed_up`, `cpu_ms` and `ms` (medians)
    are None, and `owned_open` is 0. `valid` says whether the CPU provider against itself was within 3 % of 1. `expected` is what the
    cost model says, None where the provider takes nothing. `asked` is the speed-up that was asked for, if one was.
    """

    shapes: dict[str, tuple[int, ...]]
    threads: int
    owned: int
    nodes: int
    speed_up: Ratio | None
    valid: bool
    cpu_ms: float | None
    ms: float | None
    expected: Expected | None
    asked: float | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    owned_open: int = 0

    @property
    def reached(self) -> bool | None:
        """Return whether the speed-up that was asked for was reached within 5 %, None if none was."""
        return None if self.asked is None else self.factor >= (1 - WITHIN) * self.asked

    @property
    def factor(self) -> float:
        """Return the speed-up, 1 where the provider takes nothing."""
        return self.speed_up.median if self.speed_up else 1.0

    @property
    def off(self) -> float:
        """Return the share by which the speed-up differs from the one that was asked for, 0 if none was."""
        return abs(self.factor / self.asked - 1) if self.asked else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields and `reached` as keys."""
        return {**asdict(self), "reached": self.reached}

    def sentence(self) -> str:
        """Return the speed in plain words."""
        if self.speed_up is None:
            return f"It is not faster: this provider takes none of its {self.nodes} nodes."
        interval = f"[{self.speed_up.low:.2f}, {self.speed_up.high:.2f}]"
        asked = "" if self.reached is None else f", {self.asked:g} was asked for" if self.reached else f", NOT the {self.asked:g} asked for"
        doubt = "" if self.valid else " (the machine was not quiet)"
        taken = f"which takes {self.owned} of {self.nodes} nodes"
        inputs = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in self.shapes.items())
        return f"With this provider, {taken}, it is {self.speed_up.median:.2f} {interval} times as fast on {inputs}{asked}{doubt}."

    def warning(self) -> str | None:
        """Return what to do where fewer nodes are taken while dimensions stay open, None if that is not so."""
        if self.owned_open >= self.owned:
            return None
        fixed = ", ".join(f"{name!r}: {size}" for name, size in self.sizes.items())
        left = f"it takes {self.owned_open} of {self.nodes} nodes while the model leaves sizes open"
        return f"the speed is measured with fixed sizes ({fixed}); {left}: SessionOptions.add_free_dimension_override_by_name fixes them"


@dataclass(frozen=True)
class Report:
    """The whole result. `warnings` are sentences. `outputs` is empty if nothing was held out, `speed` is None if it was not measured.

    `allocation` says how zeros were spread over the layers.
    """

    method: str
    pattern: str
    allocation: str
    samples: int
    held_out: int
    layers: tuple[LayerReport, ...]
    skipped: tuple[Skipped, ...]
    outputs: tuple[OutputQuality, ...]
    warnings: tuple[str, ...] = field(default=())
    speed: Speed | None = None

    @property
    def zeros(self) -> int:
        """Return the number of zeros in all pruned layers."""
        return sum(layer.zeros for layer in self.layers)

    @property
    def size(self) -> int:
        """Return the number of weights of all pruned layers."""
        return sum(layer.size for layer in self.layers)

    @property
    def cosine(self) -> float | None:
        """Return the lowest cosine of an output, None if nothing was held out."""
        return min((output.cosine for output in self.outputs), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields and properties as keys."""
        return {
            **asdict(self),
            "layers": [layer.to_dict() for layer in self.layers],
            "speed": self.speed and self.speed.to_dict(),
            "zeros": self.zeros,
            "size": self.size,
            "cosine": self.cosine,
            "sentence": self.sentence(),
        }

    def sentence(self) -> str:
        """Return what is left of the model, and how fast it is, in plain words."""
        return " ".join(self.sentences())

    def sentences(self) -> list[str]:
        """Return the sentences of `sentence()`: what is left of the model, and how fast it is, if that is known."""
        return [self._left(), *([self.speed.sentence()] if self.speed else [])]

    def _left(self) -> str:
        share = f"{self.zeros / self.size:.1%} of {self.size:,} weights in {len(self.layers)} layers are zero"
        if self.cosine is None:
            return f"{share}; nothing was held out, so what is left of the model is not known."
        known = [output for output in self.outputs if output.top1 is not None]
        agreement = [f"{each.top1:.1%} have the same largest class{f' in {each.name}' if len(known) > 1 else ''}" for each in known]
        words = "; ".join(
            [f"on {self.held_out} held-out samples the results have cosine {self.cosine:.3f} with the dense model's", *agreement]
        )
        return f"{share}; {words}."


class Quality:
    """Collects an output of both models, batch by batch. `classes` says that it has an axis of classes."""

    def __init__(self, name: str, classes: bool) -> None:
        self.name, self._classes = name, classes
        self._cosines: list[float] = []
        self._wrong = self._squares = self._sum = 0.0
        self._numbers = 0
        self._kl: list[float] = []
        self._same: list[bool] = []

    def add_if_numbers(self, dense: NDArray, pruned: NDArray, *, by_sample: bool) -> None:
        """Add a batch, unless it cannot be compared: texts, nothing, or shapes that depend on the values."""
        if dense.dtype.kind in "fiub" and dense.shape == pruned.shape and dense.size:
            self.add(dense, pruned, by_sample=by_sample)

    def add(self, dense: NDArray, pruned: NDArray, *, by_sample: bool) -> None:
        """Add a batch. `by_sample` says that the first axis counts samples."""
        dense, pruned = dense.astype(np.float64), pruned.astype(np.float64)
        self._wrong += float(((pruned - dense) ** 2).sum())
        self._squares += float((dense**2).sum())
        self._sum += float(dense.sum())
        self._numbers += dense.size
        rows = (len(dense), -1) if by_sample and dense.ndim else (1, -1)
        self._cosines += [_cosine(a, b) for a, b in zip(dense.reshape(rows), pruned.reshape(rows), strict=True)]
        axis = class_axis(dense) if self._classes else None
        if axis is None:
            return
        dense, pruned = np.moveaxis(dense, axis, -1), np.moveaxis(pruned, axis, -1)
        self._same += list((dense.argmax(-1) == pruned.argmax(-1)).reshape(-1))
        log_p, log_q = _log_probabilities(dense), _log_probabilities(pruned)
        self._kl += list((np.exp(log_p) * (log_p - log_q)).sum(-1).reshape(-1))

    @property
    def any(self) -> bool:
        """Return whether there was a batch."""
        return bool(self._cosines)

    def result(self) -> OutputQuality:
        """Return the means over all batches."""
        return OutputQuality(
            self.name,
            float(np.mean(self._cosines)),
            self._error(),
            float(np.mean(self._kl)) if self._kl else None,
            float(np.mean(self._same)) if self._same else None,
        )

    def _error(self) -> float:
        variance = self._squares - self._sum**2 / self._numbers
        return self._wrong / variance if variance > 0 else float(self._wrong > 0)


def mean_error(outputs: Sequence[OutputQuality]) -> float:
    """Return the mean error of some outputs, infinity if there are none."""
    return float(np.mean([output.error for output in outputs])) if outputs else float("inf")


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else float(np.array_equal(a, b))


def _log_probabilities(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithms of probabilities along the last axis, or of what Softmax makes of other numbers."""
    if values.min(initial=0) >= 0 and np.allclose(values.sum(-1), 1, atol=1e-3):
        return np.log(np.maximum(values, 1e-12))
    shifted = values - values.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
