"""How fast a pruned model is: what its layers are expected to take, what was measured, and how many zeros a speed-up needs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..diagnostics.explain import Expected, expected, explain
from ..diagnostics.step_times import step_times
from ..measure.protocol import Measurement, measure
from ..options import EP_NAME
from ..ort.registration import register
from ..ort.sessions import make_session
from ..timing import Ratio
from .allocation import Cost, Costs
from .methods import METHODS, scored
from .patterns import choices
from .pruned import save
from .sequential import Plan, Setting
from .source import Changes

PAIRS, BUDGET_S = 30, 10.0
"""Of the measurement that is reported."""
SEARCH_PAIRS, SEARCH_BUDGET_S = 10, 3.0
"""Of each measurement while the sparsity for a speed-up is searched."""
LEAST_ZEROS, MOST_ZEROS = 0.2, 0.98
"""Between these sparsities it is searched."""
TRIES = 7
NEAR = 0.02
"""The search ends when the measured speed-up differs from the one that was asked for by at most this share."""
WITHIN = 0.05
"""A speed-up is reached if the measured one is not lower by more than this share."""
STEP_RUNS = 15


@dataclass(frozen=True)
class LayerTime:
    """Milliseconds that a layer is expected to take: with the CPU provider, and as it is run now."""

    cpu_ms: float
    ms: float


@dataclass(frozen=True)
class Speed:
    """The pruned model with this provider against the CPU provider, by the protocol of `measure`, under the policy `auto`.

    `shapes` are those of the inputs of a run. `owned` of `nodes` nodes are the provider's; if it has none, nothing is timed, and `speed_up`,
    `control`, `cpu_ms` and `ms` (medians) are None. `asked` is the speed-up that was asked for, if one was. `valid` says whether the CPU
    provider against itself was within 3 % of 1. `expected` is what the cost model says, None where the provider takes nothing.
    """

    shapes: dict[str, tuple[int, ...]]
    threads: int
    owned: int
    nodes: int
    speed_up: Ratio | None
    control: Ratio | None
    valid: bool
    cpu_ms: float | None
    ms: float | None
    expected: Expected | None
    asked: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the speed-up that was asked for was reached within 5 %, None if none was."""
        return None if self.asked is None else self.speed_up is not None and self.speed_up.median >= (1 - WITHIN) * self.asked

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields and `reached` as keys."""
        return {**asdict(self), "reached": self.reached}

    def sentence(self) -> str:
        """Return the speed in plain words."""
        taken = f"{self.owned} of {self.nodes} nodes are this provider's"
        if self.speed_up is None:
            return f"The pruned model is no faster: none of its {self.nodes} nodes is taken."
        interval = f"[{self.speed_up.low:.2f}, {self.speed_up.high:.2f}]"
        asked = "" if self.reached is None else f", {self.asked:g} was asked for" if self.reached else f", NOT the {self.asked:g} asked for"
        doubt = "" if self.valid else "; the machine was not quiet"
        return f"It is {self.speed_up.median:.2f} {interval} times as fast as with the CPU provider{asked}: {taken}{doubt}."


class Bench:
    """Measures changed models, each in a temporary file, on the calibration batch of median size."""

    def __init__(self, setting: Setting, threads: int) -> None:
        register()
        self._setting, self._threads = setting, threads
        batches = [setting.data.batches[number] for number in setting.data.calibration]
        self.feeds = sorted(batches, key=lambda batch: sum(array.nbytes for array in batch.values()))[len(batches) // 2]

    def speed_up(self, plan: Plan) -> float:
        """Return how many times as fast the model is with zeros by this plan, whatever the other weights are: 1 if nothing is taken."""
        with _saved(self._with_zeros(plan)) as path:
            ratio = self._measured(path, SEARCH_PAIRS, SEARCH_BUDGET_S).speed_up
        return 1.0 if ratio is None else ratio.median

    def judge(self, changes: Changes, asked: float | None) -> tuple[Speed, dict[str, LayerTime]]:
        """Return the speed of a pruned model, and what its layers are expected to take, by their names."""
        with _saved(changes) as path:
            result = self._measured(path, PAIRS, BUDGET_S)
            session = make_session(path, EP_NAME, None, self._threads, self._sizes(), silent=True)
            decisions = explain(session)
            del session
        names = {
            name: layer.name
            for layer in self._setting.selected.pruned
            for name in (layer.name, self._setting.source.nodes[layer.index].name)
        }
        times = {
            names[d.name]: LayerTime(d.cpu_ms, d.ms) for d in decisions if d.name in names and d.cpu_ms is not None and d.ms is not None
        }
        sides = (None, None) if result.cpu is None or result.sparse is None else (result.cpu.latency.p50_ms, result.sparse.latency.p50_ms)
        speed = Speed(
            {name: array.shape for name, array in self.feeds.items()},
            self._threads,
            result.ownership.owned,
            result.ownership.nodes,
            result.speed_up,
            result.control,
            result.valid,
            *sides,
            expected(decisions),
            asked,
        )
        return speed, times

    def costs(self, sparsities: Iterable[float]) -> Costs:
        """Return the milliseconds of each layer by the share of its weights that it keeps: measured steps, the median of some runs.

        A layer that is not one step costs by its weights, as much as the others do on average.
        """
        points = sorted(1 - sparsity for sparsity in sparsities)
        layers = self._setting.selected.pruned
        found: dict[str, list[float]] = {layer.name: [] for layer in layers}
        for kept in points:
            with _saved(self._with_zeros({layer.name: 1 - kept for layer in layers})) as path:
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
                samples.setdefault(step.name.split(" + ")[0], []).append(step.since(earlier).ms)
            before = after
        return {name: float(np.median(values)) for name, values in samples.items()}

    def _measured(self, path: Path, pairs: int, budget_s: float) -> Measurement:
        return measure(path, self.feeds, None, self._threads, pairs=pairs, budget_s=budget_s, memory=False)

    def _sizes(self) -> dict[str, int]:
        """Return the sizes of the open dimensions of the inputs in a run, by their names."""
        declared = self._setting.source.inputs
        return {
            d: size
            for name, array in self.feeds.items()
            for d, size in zip(declared[name].shape, array.shape, strict=False)
            if isinstance(d, str)
        }

    def _with_zeros(self, plan: Plan) -> Changes:
        """Return the model with the smallest weights of each layer zero: it is as fast as one that is pruned with care."""
        setting, magnitude = self._setting, METHODS["magnitude"]
        changes = Changes(setting.source)
        for layer in setting.selected.pruned:
            dense__gmk = layer.matrices(setting.source.array(layer.weight))
            by_row = layer.by_row and setting.method.by_row
            options = choices(setting.pattern, plan[layer.name], layer.shape__gmk, layer.run, by_row)
            nothing__k = np.ones(layer.inputs, np.float32)
            kept__gmk = np.stack([scored(magnitude, matrix, nothing__k, each) for matrix, each in zip(dense__gmk, options, strict=True)])
            changes.set_input(layer.index, layer.slot, layer.weight, layer.restored(np.where(kept__gmk, dense__gmk, np.float32(0))))
        return changes


@contextmanager
def _saved(changes: Changes) -> Iterator[Path]:
    """Give the path of a temporary file with a changed model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        save(changes, path)
        yield path


def sparsity_for(speedup: float, measured: Callable[[float], float]) -> float:
    """Return the sparsity with which `measured` is nearest to a speed-up: the times between two sparsities are taken for a line.

    ValueError if the largest sparsity is too slow.
    """
    low, high = LEAST_ZEROS, MOST_ZEROS
    time = {high: 1 / measured(high)}
    wanted = 1 / speedup
    if time[high] * (1 - WITHIN) > wanted:
        raise ValueError(f"speedup {speedup:g} cannot be reached: with {high:.0%} zeros the model is {1 / time[high]:.2f} times as fast")
    time[low] = 1 / measured(low)
    for _ in range(TRIES):
        nearest = min(time, key=lambda each: abs(time[each] - wanted))
        if abs(wanted / time[nearest] - 1) <= NEAR:
            break
        low = max((each for each in time if time[each] > wanted), default=LEAST_ZEROS)
        high = min((each for each in time if time[each] <= wanted and each > low), default=MOST_ZEROS)
        if high - low < 0.005 or time[low] <= wanted:
            break
        share = (time[low] - wanted) / (time[low] - time[high])
        middle = low + (high - low) * min(max(share, 0.1), 0.9)
        time[middle] = 1 / measured(middle)
    return min(time, key=lambda each: abs(time[each] - wanted))
