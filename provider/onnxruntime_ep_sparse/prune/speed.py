"""How fast a pruned model is: what its layers are expected to take, what was measured, and how many zeros a speed-up needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..diagnostics.explain import FUSED, expected, explain
from ..diagnostics.step_times import step_times
from ..measure.protocol import Measurement, measure
from ..options import EP_NAME
from ..ort.registration import register
from ..ort.sessions import make_session, ownership
from .allocation import Cost, Costs
from .impose import impose, saved
from .report import WITHIN, Speed
from .sequential import Plan, Progress, Setting
from .source import Changes

PAIRS, BUDGET_S = 30, 10.0
"""Of the measurement that is reported."""
SEARCH_PAIRS, SEARCH_BUDGET_S = 20, 4.0
"""Of each measurement while the sparsity for a speed-up is searched."""
LEAST_ZEROS, MOST_ZEROS = 0.2, 0.98
"""Between these sparsities it is searched."""
TRIES = 7
CORRECTIONS = 4
LEAST_STEP = 0.005
"""Sparsities nearer to each other than this are not told apart by a measurement."""
NEAR = 0.02
"""The search ends when the measured speed-up differs from the one that was asked for by at most this share."""
ATTEMPTS = 3
"""How often a measurement is made at most, if its control says that other work disturbed it: wrong times mislead the search."""
STEP_RUNS = 15


LayerTimes = Mapping[str, tuple[float | None, float | None]]
"""By the names of layers, how many ms they are expected to take: `LayerReport.cpu_ms` and `.ms`."""


class Bench:
    """Measures changed models, each in a temporary file, on the calibration batch of median size; open dimensions get its sizes."""

    def __init__(self, setting: Setting, threads: int) -> None:
        register()
        self._setting, self._threads = setting, threads
        data = setting.data
        self.feeds = data.batches[sorted(data.calibration, key=data.batches.sizes.__getitem__)[len(data.calibration) // 2]]
        declared = setting.source.inputs
        self._sizes = {
            d: size
            for name, array in self.feeds.items()
            for d, size in zip(declared[name].shape, array.shape, strict=False)
            if isinstance(d, str)
        }
        """The sizes of the open dimensions of the inputs in a run, by their names."""

    def speed_up(self, plan: Plan) -> float:
        """Return how many times as fast the model is with zeros by this plan, whatever the other weights are: 1 if nothing is taken."""
        with saved(self._with_zeros(plan), self._sizes) as path:
            ratio = self._measured(path, SEARCH_PAIRS, SEARCH_BUDGET_S).speed_up
        return 1.0 if ratio is None else ratio.median

    def judge(self, changes: Changes, asked: float | None) -> tuple[Speed, LayerTimes]:
        """Return the speed of a pruned model, and by their names what its layers are expected to take: `cpu_ms`, `ms`."""
        with saved(changes, self._sizes) as path:
            result = self._measured(path, PAIRS, BUDGET_S)
            session = make_session(path, EP_NAME, None, self._threads, silent=True)
            decisions = explain(session)
            del session
        owned_open = result.ownership.owned
        if owned_open and self._sizes:  # open sizes make a difference only to nodes that are taken
            with saved(changes, {}) as path:
                owned_open = ownership(make_session(path, EP_NAME, None, self._threads, silent=True)).owned
        nodes = self._setting.source.nodes
        names = {name: layer.name for layer in self._setting.selected.pruned for name in (layer.name, nodes[layer.index].name) if name}
        known = {d.name.removesuffix(FUSED): (d.cpu_ms, d.ms) for d in decisions}
        speed = Speed(
            shapes={name: array.shape for name, array in self.feeds.items()},
            threads=self._threads,
            owned=result.ownership.owned,
            sizes=self._sizes,
            owned_open=owned_open,
            nodes=result.ownership.nodes,
            speed_up=result.speed_up,
            valid=result.valid,
            cpu_ms=result.cpu.latency.p50_ms if result.cpu else None,
            ms=result.sparse.latency.p50_ms if result.sparse else None,
            expected=expected(decisions),
            asked=asked,
        )
        return speed, {layer: known[name] for name, layer in names.items() if name in known}

    def costs(self, sparsities: Iterable[float]) -> Costs:
        """Return the milliseconds of each layer by the share of its weights that it keeps: measured steps, the median of some runs.

        A layer that is not one step costs by its weights, as much as the others do on average.
        """
        points = sorted(1 - sparsity for sparsity in sparsities)
        layers = self._setting.selected.pruned
        found: dict[str, list[float]] = {layer.name: [] for layer in layers}
        for kept in points:
            with saved(self._with_zeros({layer.name: 1 - kept for layer in layers}), self._sizes) as path:
                times = self._step_ms(path)
            for layer in layers:
                found[layer.name] += [times[layer.name]] if layer.name in times else []
        known = [layer for layer in layers if len(found[layer.name]) == len(points)]
        total = sum(layer.size for layer in known)
        means = [sum(found[layer.name][at] for layer in known) / max(total, 1) for at in range(len(points))] if known else points
        result = {}
        for layer in layers:
            ms = found[layer.name] if layer in known else [layer.size * mean for mean in means]
            rising = np.maximum.accumulate(ms)
            result[layer.name] = Cost(tuple(points), tuple(float(each) for each in rising))
        return result

    def _step_ms(self, path: Path) -> dict[str, float]:
        """Return the median time of the step of each node, by its name."""
        session = make_session(path, EP_NAME, {"policy": "always", "profile": "1"}, self._threads, silent=True)
        session.run(None, self.feeds)
        before = step_times(session)
        samples: dict[str, list[float]] = {}
        for _ in range(STEP_RUNS):
            session.run(None, self.feeds)
            after = step_times(session)
            for step, earlier in zip(after, before, strict=True):
                samples.setdefault(step.name.split(" + ")[0].removesuffix(FUSED), []).append(step.since(earlier).ms)
            before = after
        return {name: float(np.median(values)) for name, values in samples.items()}

    def _measured(self, path: Path, pairs: int, budget_s: float) -> Measurement:
        return undisturbed(lambda: measure(path, self.feeds, None, self._threads, pairs=pairs, budget_s=budget_s, memory=False))

    def _with_zeros(self, plan: Plan) -> Changes:
        """Return the model with the smallest weights of each layer zero: it is as fast as one that is pruned with care."""
        setting = self._setting
        layers = ((layer, plan[layer.name], setting.pattern) for layer in setting.selected.pruned)
        return impose(setting.source, layers, by_row=setting.method.by_row)


def undisturbed(measured: Callable[[], Measurement]) -> Measurement:
    """Measure until the control is valid, at most ATTEMPTS times; return the last one, or that whose control is nearest to 1 if none is."""
    nearest: tuple[float, Measurement] | None = None
    for _ in range(ATTEMPTS):
        result = measured()
        if result.control is None or result.valid:
            return result
        away = abs(result.control.median - 1)
        if nearest is None or away < nearest[0]:
            nearest = away, result
    assert nearest is not None
    return nearest[1]


class Search:
    """Finds plans with which a model is `speedup` times as fast. `measured` returns how many times as fast a plan makes it."""

    def __init__(self, layers: Sequence[str], speedup: float, measured: Callable[[Plan], float], progress: Progress) -> None:
        self._layers, self._speedup, self._measured, self._progress = layers, speedup, measured, progress
        self._time: dict[float, float] = {}

    def sparsity(self) -> float:
        """Return the sparsity of all layers. Times between two sparsities are taken for a line.

        ValueError if the largest sparsity is too slow.
        """
        wanted = 1 / self._speedup
        if self._try(MOST_ZEROS) * (1 - WITHIN) > wanted:
            best = f"with {MOST_ZEROS:.0%} zeros the model is {1 / self._time[MOST_ZEROS]:.2f} times as fast"
            raise ValueError(f"speedup {self._speedup:g} cannot be reached: {best}")
        self._try(LEAST_ZEROS)
        for _ in range(TRIES):
            if abs(wanted / self._time[self._nearest] - 1) <= NEAR:
                break
            low = max((each for each, time in self._time.items() if time > wanted), default=LEAST_ZEROS)
            high = min((each for each, time in self._time.items() if time <= wanted and each > low), default=MOST_ZEROS)
            if high - low < LEAST_STEP or self._time[low] <= wanted:
                break
            share = (self._time[low] - wanted) / (self._time[low] - self._time[high])
            self._try(low + (high - low) * min(max(share, 0.1), 0.9))
        return self._nearest

    def as_fast(self, plan: Plan) -> Plan:
        """Return a plan with more or fewer zeros in all layers, so that it is as fast as was asked for."""
        tried: list[tuple[Plan, float]] = []
        for _ in range(CORRECTIONS):
            tried.append((plan, self._measured(plan)))
            if min(abs(factor / self._speedup - 1) for _, factor in tried) <= NEAR:
                break
            plan = self.next_plan(tried)
        return min(tried, key=lambda each: abs(1 / each[1] - 1 / self._speedup))[0]

    def next_plan(self, tried: Sequence[tuple[Plan, float]]) -> Plan:
        """Return a plan that should be as fast as was asked for, by plans and how many times as fast they made the model.

        After one, all layers keep more or fewer weights in proportion; after more, the line through the two nearest ones is followed.
        """
        wanted = 1 / self._speedup
        (first, factor), *others = sorted(tried, key=lambda each: abs(1 / each[1] - wanted))
        time = 1 / factor
        other = next(((plan, 1 / factor) for plan, factor in others if abs(1 / factor - time) > NEAR * wanted / 2), None)
        if other is None:
            kept = 1 - sum(first.values()) / len(first)
            scale = min(max(1 + (wanted - time) / self._slope / kept, 0.5), 1.5)
            moved = {name: 1 - scale * (1 - sparsity) for name, sparsity in first.items()}
        else:
            share = min(max((wanted - time) / (other[1] - time), -1.0), 2.0)
            moved = {name: sparsity + share * (other[0][name] - sparsity) for name, sparsity in first.items()}
        return {name: min(max(sparsity, 0.0), MOST_ZEROS) for name, sparsity in moved.items()}

    @property
    def _slope(self) -> float:
        """Return how much time a share of weights takes, between the fast and the slow sparsity that are nearest to what was asked for."""
        high = min(each for each, time in self._time.items() if time <= self._time[self._nearest])
        slower = [each for each in self._time if each < high and self._time[each] > self._time[high]]
        low, fast = (max(slower), high) if slower else (LEAST_ZEROS, MOST_ZEROS)
        return max((self._time[low] - self._time[fast]) / (fast - low), 0.1)

    @property
    def _nearest(self) -> float:
        return min(self._time, key=lambda each: abs(self._time[each] - 1 / self._speedup))

    def _try(self, sparsity: float) -> float:
        """Measure a sparsity of all layers, and return the time relative to the CPU provider's."""
        self._progress(len(self._time), TRIES + 2, f"speed-up with {sparsity:.0%} zeros")
        self._time[sparsity] = 1 / self._measured(dict.fromkeys(self._layers, sparsity))
        return self._time[sparsity]
