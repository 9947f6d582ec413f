"""Goes through the layers of a model in order, and prunes each on the inputs that the pruned layers before it give it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from .batches import Data
from .layers import Layer, rows_at_once
from .masks import Masks
from .methods import WITHOUT_FIT, Method, fitted, fitted_at_once, kept_already, refitted, scored
from .patterns import Choice, Pattern, choices
from .problem import Problem
from .report import LayerReport, OutputQuality, Quality
from .selection import Selected
from .source import Changes, Source
from .statistics import Columns, Statistics, statistics_of
from .store import Store
from .streams import Stream
from .workers import Workers

ROWS_PER_INPUT = 64
"""Rows of a convolution's columns that are wanted for each of its K inputs: more positions of each image, where images are few."""
LEAST_POSITIONS = 16
"""Positions of each image that are taken in any case, if it has so many."""

BESIDES = 32 << 20
"""Bytes for one batch in its session, its columns, and what libraries keep."""

Progress = Callable[[int, int, str], None]
"""A function that is called with how many layers are done, how many there are, and what comes next."""
Plan = Mapping[str, float]
"""The sparsity of each layer by its name."""


@dataclass(frozen=True)
class Setting:
    """Data that all passes over a model share.

    `solving_bytes` is how much memory a layer may take while it is solved, `store_bytes` how much the values between layers may.
    """

    source: Source
    selected: Selected
    method: Method
    pattern: Pattern
    data: Data
    workers: Workers
    solving_bytes: int
    store_bytes: int
    seed: int
    progress: Progress


class Pass:
    """One pass over the layers, in the order of the nodes. `changes`, `masks`, `reports`, `outputs`, `warnings` are the result.

    `refitted` has the names of the layers that were fitted to their new inputs without getting zeros.
    """

    def __init__(self, setting: Setting, plan: Plan) -> None:
        """Prepare a pass. `plan` has the sparsity of each pruned layer by its name; the dense ones may be fitted, but get no zeros.

        ValueError if shared weights would need different masks.
        """
        selected = setting.selected
        self.setting, self.source, self.data, self.classes = setting, setting.source, setting.data, selected.classes
        self.plan, self.method, self.pattern = plan, setting.method, setting.pattern
        self.workers, self.seed, self.progress = setting.workers, setting.seed, setting.progress
        dense = selected.dense if self.method.refits else []
        self.layers = sorted([*selected.pruned, *dense], key=lambda layer: (layer.index, layer.slot))
        self.changes = Changes(self.source)
        self.masks = Masks()
        self.reports: list[LayerReport] = []
        self.outputs: list[OutputQuality] = []
        self.warnings: list[str] = []
        self.refitted: set[str] = set()
        self._sparse_before: list[str] = []
        self._sharing = _shared(selected.pruned, plan, self.method)
        watched = {layer.x for layer in self.layers} | set(self.source.outputs)
        store = Store(setting.store_bytes)
        self.dense_stream = Stream(Changes(self.source), self.data.batches, watched, self.workers, store)
        self.pruned_stream = Stream(self.changes, self.data.batches, watched, self.workers, store)
        self._known: tuple[object, Statistics, list[Problem]] | None = None

    def run(self) -> None:
        """Prune all layers, then judge the result."""
        total = len(self.layers) + 1
        for number, layer in enumerate(self.layers):
            self.progress(number, total, layer.name)
            if layer.name not in self.plan and not self._may_be_refitted(layer):
                continue
            for stream in (self.dense_stream, self.pruned_stream):
                if not stream.has(layer.needs):
                    stream.advance(layer.index)
            if layer.name in self.plan:
                self.prune_layer(layer)
            else:
                self._refit(layer)
        self._known = None
        self._warn()
        self.progress(total - 1, total, "held-out samples")
        if self.data.held_out:
            self._judge()
        self.progress(total, total, "")

    def _warn(self) -> None:
        """Add warnings about layers that differ from what was asked for. ValueError if the method fits weights and no layer is fitted."""
        few = [report for report in self.reports if not report.refitted] if self.method.fit is not None else []
        if few:
            names = _some([f"{report.name!r} ({report.samples} samples for {report.inputs} inputs)" for report in few])
            more = f"{max(report.inputs / max(report.samples, 1) for report in few):.1f} times the data would do for all"
            if len(few) == len(self.reports):
                raise ValueError(f"no layer has enough samples to be fitted: {names}; {more}, or use method wanda or magnitude")
            self.warnings.append(f"{len(few)} of {len(self.reports)} layers have too few samples to be refitted: {names}; {more}")
        if self._sparse_before:
            names = _some([repr(name) for name in self._sparse_before])
            count = f"{len(self._sparse_before)} of {len(self.reports)} layers"
            self.warnings.append(f"{count} have as many zeros as asked for, or more, already: {names}; they keep exactly their zeros")

    def _may_be_refitted(self, layer: Layer) -> bool:
        """Return whether a dense layer is fitted: its inputs are no longer the dense ones, and its weight is its own."""
        fits = needed_memory(layer, self.method) <= self.setting.solving_bytes
        return bool(self.reports) and fits and self.source.only_reader(layer.weight) == layer.index

    def _refit(self, layer: Layer) -> None:
        """Fit the weights of a dense layer to the inputs that it gets now."""
        statistics, problems = self._knowledge(layer)
        if statistics.rows < layer.inputs:
            return
        dense__gmk = layer.matrices(self.source.array(layer.weight))
        rows = _fitted_at_once(layer, self.method)
        # zeros that there are stay: someone pruned the layer before
        fitted__gmk = np.stack([refitted(problem, each, each != 0, rows) for problem, each in zip(problems, dense__gmk, strict=True)])
        name, delta__gm = self._put(layer, statistics, dense__gmk, fitted__gmk)
        self.masks.add_fitted(name, layer.restored(dense__gmk), self.changes.constants[name], delta__gm.astype(np.float32))
        self.refitted.add(layer.name)

    def prune_layer(self, layer: Layer) -> None:
        """Choose the zeros of a layer, and fit the other weights if the method does and there are enough samples."""
        statistics, problems = self._knowledge(layer)
        method = self.method
        if method.fit is not None and statistics.rows < layer.inputs:
            method = WITHOUT_FIT
        dense__gmk = layer.matrices(self.source.array(layer.weight))
        pruned__gmk, kept__gmk = np.empty_like(dense__gmk), np.empty(dense__gmk.shape, np.bool_)
        by_row = layer.by_row and method.by_row
        chosen = choices(self.pattern, self.plan[layer.name], layer.shape__gmk, layer.run, by_row)
        already = self._kept_already(layer, dense__gmk, chosen)
        for group, (choice, there) in enumerate(zip(chosen, already, strict=True)):
            if method.fit is None:
                squares__k = statistics.squares__gk[group].astype(np.float32)
                kept__gmk[group] = scored(method, dense__gmk[group], squares__k, choice) if there is None else there
                pruned__gmk[group] = np.where(kept__gmk[group], dense__gmk[group], 0)
            elif there is None:
                pruned__gmk[group], kept__gmk[group] = fitted(method, problems[group], dense__gmk[group], choice)
            else:
                kept__gmk[group] = there
                pruned__gmk[group] = refitted(problems[group], dense__gmk[group], there, _fitted_at_once(layer, method))
        if method.fit is None:
            delta__gm = np.zeros(dense__gmk.shape[:2])
            name = self._put_weight(layer, pruned__gmk)
        else:
            name, delta__gm = self._put(layer, statistics, dense__gmk, pruned__gmk)
        kept = layer.restored(kept__gmk)
        if name not in self.masks:  # layers that share a weight have the same mask
            self.masks.add(name, kept, layer.restored(dense__gmk), self.changes.constants[name], delta__gm.astype(np.float32))
        self.reports.append(
            LayerReport(
                name=layer.name,
                op_type=layer.op_type,
                weight=name,
                shape=kept.shape,
                size=kept.size,
                zeros=kept.size - int(np.count_nonzero(kept)),
                inputs=layer.inputs,
                samples=statistics.rows,
                refitted=method.fit is not None,
                error=self._error(layer, dense__gmk, pruned__gmk, delta__gm) if self.data.held_out else None,
            )
        )

    def _kept_already(self, layer: Layer, dense__gmk: NDArray[np.float32], chosen: Sequence[Choice]) -> Sequence[NDArray[np.bool_] | None]:
        """Return the mask of each matrix if the dense weight has the zeros that are asked for already, None for each if it does not."""
        found: list[NDArray[np.bool_]] = []
        for dense__mk, choice in zip(dense__gmk, chosen, strict=True):
            kept__mk = kept_already(dense__mk, choice)
            if kept__mk is None:
                return [None] * len(chosen)
            found.append(kept__mk)
        self._sparse_before.append(layer.name)
        return found

    def _put(
        self, layer: Layer, statistics: Statistics, dense__gmk: NDArray[np.float32], fitted__gmk: NDArray[np.float32]
    ) -> tuple[str, NDArray[np.float64]]:
        """Give a layer fitted weights, and its bias what the mean of its results has lost. Return the weight's name, and the latter."""
        delta__gm = np.zeros(dense__gmk.shape[:2])
        if layer.bias is not None:
            delta__gm = np.einsum("gmk,gk->gm", dense__gmk, statistics.dense_mean__gk)
            delta__gm -= np.einsum("gmk,gk->gm", fitted__gmk, statistics.mean__gk)
            layer.bias.add(self.changes, delta__gm)
        return self._put_weight(layer, fitted__gmk), delta__gm

    def _put_weight(self, layer: Layer, weight__gmk: NDArray[np.float32]) -> str:
        """Give a layer other weights, and return the name of the constant."""
        data = layer.restored(weight__gmk)
        return self.changes.set_input(layer.index, layer.slot, layer.weight, data, self._sharing.get(layer.weight, ()))

    def _knowledge(self, layer: Layer) -> tuple[Statistics, list[Problem]]:
        """Return the statistics of a layer and a problem for each of its matrices, those of the layer before if its inputs are the same."""
        key = layer.x, layer.geometry, layer.bias is None
        if self._known is None or self._known[0] != key:
            self._known = None
            fits = self.method.fit is not None and self._rows(layer) >= layer.inputs
            needed = needed_memory(layer, self.method if fits else WITHOUT_FIT)
            if needed > self.setting.solving_bytes:
                raise ValueError(f"memory is too little: layer {layer.name!r} needs {needed / 1e6:.0f} MB; give more, or skip the layer")
            columns = self._columns(layer, self.data.calibration)
            statistics = statistics_of(
                columns, self.workers, most=rows_at_once(layer.shape__gmk), matrices=fits, centred=layer.bias is not None
            )
            problems = []
            if statistics.hessian__gkk is not None and statistics.difference__gkk is not None:
                problems = [Problem(h, d, self.workers) for h, d in zip(statistics.hessian__gkk, statistics.difference__gkk, strict=True)]
            self._known = key, statistics, problems
        return self._known[1:]

    def _rows(self, layer: Layer) -> int:
        """Return how many rows `_columns` yields for calibration."""
        most = self._positions(layer)
        return sum(layer.rows(self.pruned_stream.site(layer.index, batch), most) for batch in self.data.calibration)

    def _positions(self, layer: Layer) -> int:
        """Return at most how many positions of an image are seen."""
        return max(ceil(ROWS_PER_INPUT * layer.inputs / (self.data.samples - self.data.held_out_samples)), LEAST_POSITIONS)

    def _columns(self, layer: Layer, batches: Sequence[int]) -> Iterator[Columns]:
        """Yield the inputs of a layer in both streams, the same rows of both."""
        most = self._positions(layer)
        for batch in batches:
            sites = [stream.site(layer.index, batch) for stream in (self.dense_stream, self.pruned_stream)]
            seed = self.seed, layer.index, batch
            yield from zip(*(layer.columns(site, np.random.default_rng(seed), most) for site in sites), strict=True)

    def _error(
        self, layer: Layer, dense__gmk: NDArray[np.float32], pruned__gmk: NDArray[np.float32], delta__gm: NDArray[np.float64]
    ) -> float:
        """Return the squared error of a layer's results on held-out data, relative to the variance of the dense results."""
        wrong, squares, rows = 0.0, 0.0, 0
        sums__gm = np.zeros(delta__gm.shape)
        for x_dense__grk, x_pruned__grk in self._columns(layer, self.data.held_out):
            rows += x_dense__grk.shape[1]
            for group, delta__m in enumerate(delta__gm):
                y_dense = self.workers.product(x_dense__grk[group], dense__gmk[group].T).astype(np.float64)
                y_pruned = self.workers.product(x_pruned__grk[group], pruned__gmk[group].T) + delta__m
                wrong += float(((y_pruned - y_dense) ** 2).sum())
                squares += float((y_dense**2).sum())
                sums__gm[group] += y_dense.sum(axis=0)
        variance = squares - float((sums__gm**2).sum()) / max(rows, 1)
        return wrong / variance if variance > 0 else float(wrong > 0)

    def _judge(self) -> None:
        """Compare the results of both models on the held-out data."""
        found = {name: Quality(name, name in self.classes) for name in self.source.outputs}
        for stream in (self.dense_stream, self.pruned_stream):
            stream.go_on_with(self.data.held_out)
            stream.advance(len(self.source.nodes))
        for name, quality in found.items():
            for batch in self.data.held_out:
                quality.add_if_numbers(self.dense_stream[name][batch], self.pruned_stream[name][batch], by_sample=self.data.by_sample)
        self.outputs = [quality.result() for quality in found.values() if quality.any]


def _some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def needed_memory(layer: Layer, method: Method) -> int:
    """Return the bytes that a layer needs: copies of its weight, if it is fitted its matrices (K, K), and a little."""
    groups, outputs, inputs = layer.shape__gmk
    copies = BESIDES + 4 * 4 * groups * outputs * inputs
    if method.fit is None:
        return copies
    return copies + 4 * ((4 * groups + 1) * inputs**2 + 10 * _fitted_at_once(layer, method) * inputs)


def _fitted_at_once(layer: Layer, method: Method) -> int:
    """Return how many rows of each matrix of a layer are fitted at once."""
    return fitted_at_once(layer.shape__gmk[1:], by_row=layer.by_row and method.by_row)


def _shared(layers: Sequence[Layer], plan: Mapping[str, float], method: Method) -> dict[str, list[int]]:
    """Return the nodes of the layers of each weight. ValueError if one belongs to layers that want different masks."""
    by_weight: dict[str, list[Layer]] = defaultdict(list)
    for layer in layers:
        by_weight[layer.weight].append(layer)
    for weight, group in by_weight.items():
        alike = method.weights_only and len({(plan[layer.name], layer.op_type, layer.shape__gmk, layer.slot) for layer in group}) == 1
        if len(group) > 1 and not alike:
            names = ", ".join(repr(layer.name) for layer in group)
            raise ValueError(f"layers {names} share the weight {weight!r} but want different masks: skip them, or use method magnitude")
    return {weight: [layer.index for layer in group] for weight, group in by_weight.items()}
