"""What pruning did to a model: layer by layer, and to its results on data that were held out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..measure.agreement import class_axis
from .selection import Skipped


@dataclass(frozen=True)
class LayerReport:
    """A pruned layer. `samples` is the number of rows that its K `inputs` were seen with; `refitted` says whether that sufficed.

    `error` is what is left of the difference to the dense layer's results on held-out data: its square over the variance of the dense
    results. 0 is none, 1 is that of a constant. It is None if nothing was held out.
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

    @property
    def sparsity(self) -> float:
        """The share of zeros."""
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
class Report:
    """The whole result. `warnings` are sentences. `outputs` is empty if nothing was held out."""

    method: str
    pattern: str
    samples: int
    held_out: int
    layers: tuple[LayerReport, ...]
    skipped: tuple[Skipped, ...]
    outputs: tuple[OutputQuality, ...]
    warnings: tuple[str, ...] = field(default=())

    @property
    def zeros(self) -> int:
        """The number of zeros in all pruned layers."""
        return sum(layer.zeros for layer in self.layers)

    @property
    def size(self) -> int:
        """The number of weights of all pruned layers."""
        return sum(layer.size for layer in self.layers)

    @property
    def cosine(self) -> float | None:
        """The lowest cosine of an output, None if nothing was held out."""
        return min((output.cosine for output in self.outputs), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields and properties as keys."""
        return {
            **asdict(self),
            "layers": [layer.to_dict() for layer in self.layers],
            "zeros": self.zeros,
            "size": self.size,
            "cosine": self.cosine,
            "sentence": self.sentence(),
        }

    def sentence(self) -> str:
        """Return what is left of the model, in plain words."""
        share = f"{self.zeros / self.size:.1%} of {self.size:,} weights in {len(self.layers)} layers are zero"
        if self.cosine is None:
            return f"{share}; nothing was held out, so what is left of the model is not known."
        agreement = [f"{output.top1:.1%} of the largest classes agree" for output in self.outputs if output.top1 is not None]
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
        """Whether there was a batch."""
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
