"""How far the results of a model are off when one layer alone is pruned, at a few sparsities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .layers import Layer
from .masks import Masks
from .report import Quality, mean_error
from .sequential import Pass, Setting
from .source import Changes
from .streams import Batch, Piece

MOST_SAMPLES = 100
"""Held-out samples that the errors are measured with. Their order is that of the layers, which few samples tell."""


def errors_alone(setting: Setting, sparsities: Sequence[float]) -> dict[str, list[float]]:
    """Return the error of the model's results with each layer pruned alone, at these sparsities, by the layer's name.

    The error is that of `OutputQuality`, over held-out samples, of which there must be some.
    """
    found: dict[str, list[float]] = {}
    _Alone(setting, sparsities, found.__setitem__).run()
    return found


class _Alone(Pass):
    """A pass in which every layer gets the dense inputs, and its result goes through the dense rest of the model."""

    def __init__(self, setting: Setting, sparsities: Sequence[float], tell: Callable[[str, list[float]], None]) -> None:
        super().__init__(setting, {layer.name: sparsities[0] for layer in setting.selected.pruned})
        self.pruned_stream = self.dense_stream
        self._sparsities, self._tell = sparsities, tell
        step = max(1, round(setting.data.held_out_samples / MOST_SAMPLES))
        self._judging = setting.data.held_out[::step]

    def run(self) -> None:
        """Prune each layer alone."""
        everything = Piece(Changes(self.source), self.source.nodes, self.source.outputs, self.data.batches[0])
        dense = [everything.run(self.data.batches[number]) for number in self._judging]
        for number, layer in enumerate(self.setting.selected.pruned):
            self.progress(number, len(self.setting.selected.pruned), f"{layer.name} alone")
            if not self.dense_stream.has(layer.needs):
                self.dense_stream.advance(layer.index)
            self._tell(layer.name, [self._error_alone(layer, sparsity, dense) for sparsity in self._sparsities])

    def _error_alone(self, layer: Layer, sparsity: float, dense: Sequence[Batch]) -> float:
        """Return the error with one layer pruned."""
        self.changes, self.masks, self.reports, self.warnings = Changes(self.source), Masks(), [], []
        self.plan: Mapping[str, float] = {layer.name: sparsity}
        self.prune_layer(layer)
        live = self.dense_stream.live
        nodes = self.changes.nodes[self.dense_stream.position :]
        passed = [name for name in self.source.outputs if name in live]
        made = [name for name in self.source.outputs if name not in live]
        first = self._judging[0]
        rest = Piece(self.changes, nodes, made, {name: values[first] for name, values in live.items()})
        found = {name: Quality(name, name in self.classes) for name in self.source.outputs}
        for number, expected in zip(self._judging, dense, strict=True):
            results = rest.run({name: live[name][number] for name in rest.inputs}) | {name: live[name][number] for name in passed}
            for name, quality in found.items():
                quality.add_if_numbers(expected[name], results[name], by_sample=self.data.by_sample)
        return mean_error([quality.result() for quality in found.values() if quality.any])

    def _error(self, *layer: object) -> float:
        """Leave out the error of the layer's own results."""
        return float(np.nan)
