"""Measures both providers in turn on the same inputs, and the CPU provider against itself as the control.

Two sessions in one process disturb each other: the idle threads of one spin while the other computes, and the CPU provider measured against
itself can then be twice as slow. `session.force_spinning_stop` ends that; the A/A ratio of every measurement proves it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import options
from ..diagnostics.step_times import Cost, StepTime, step_times
from ..options import EP_NAME
from ..ort.sessions import CPU, Feeds, Model, Ownership, create, make_session, ownership
from ..timing import SAMPLE_S, Latency, Ratio, alternate, ratio, timed
from .agreement import Agreement, agree
from .memory import memory_of
from .peak import peak_gflops

CONTROL_TOLERANCE = 0.03
"""A measurement is valid if its A/A ratio differs from 1 by at most this."""
Progress = Callable[[str, float], None]
"""A function that is called with the name of a step and the share of it that is done, 0 when it begins and 1 when it ends."""


@dataclass(frozen=True)
class Side:
    """Measurements of one provider. `memory_mb` is None if it was not asked for or cannot be read."""

    provider: str
    latency: Latency
    creation_ms: float
    memory_mb: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields as keys."""
        return asdict(self)


@dataclass(frozen=True)
class Measurement:
    """Both providers on one model. If the sparse provider took no node, nothing is timed and the last four fields are None."""

    threads: int
    batch: int
    requested_pairs: int
    ownership: Ownership
    agreement: tuple[Agreement, ...]
    control: Ratio | None
    speed_up: Ratio | None
    cpu: Side | None
    sparse: Side | None

    @property
    def valid(self) -> bool:
        """Return whether the A/A ratio is close enough to 1 for the speed-up to be meaningful."""
        return self.control is not None and abs(self.control.median - 1) <= CONTROL_TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields as keys, and `valid`."""
        return {**asdict(self), "agreement": [a.to_dict() for a in self.agreement], "valid": self.valid}


@dataclass(frozen=True)
class Profile:
    """Times of all steps inside the regions. `wall_ms` is the mean time of `runs` runs, `peak_gflops` the FMA peak of one core."""

    threads: int
    runs: int
    wall_ms: float
    peak_gflops: float
    steps: tuple[StepTime, ...]

    @property
    def kinds(self) -> dict[str, Cost]:
        """Return the total cost of the steps of each kind, the most expensive kind first."""
        costs = {kind: Cost.total(s for s in self.steps if s.kind == kind) for kind in {s.kind for s in self.steps}}
        return dict(sorted(costs.items(), key=lambda item: (-item[1].ns, item[0])))

    def of_peak(self, cost: Cost) -> float:
        """Return the share of the FMA peak of all threads."""
        return cost.gflops / (self.peak_gflops * self.threads)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields as keys, and `kinds`. Steps and kinds have their share of the peak."""

        def entry(cost: Cost) -> dict[str, Any]:
            return {**cost.to_dict(), "of_peak": self.of_peak(cost)}

        kinds = {kind: entry(cost) for kind, cost in self.kinds.items()}
        return {**asdict(self), "steps": [entry(step) for step in self.steps], "kinds": kinds}


def measure(
    model: Model,
    feeds: Feeds,
    options: Mapping[str, object] | None = None,
    threads: int = 0,
    *,
    pairs: int = 30,
    budget_s: float = 60.0,
    memory: bool = True,
    batch: int | None = None,
    progress: Progress = lambda step, share: None,
) -> Measurement:
    """Measure the sparse provider against the CPU provider on one model, by the protocol of this module.

    `batch` is the number of items per run; by default it is the first dimension of the first input. There are fewer pairs than asked for
    if they would take longer than `budget_s` seconds: compare `requested_pairs` with `speed_up.pairs`.
    """
    if batch is None:
        batch = next((array.shape[0] for array in feeds.values() if array.ndim), 1)

    progress("create sessions", 0)
    cpu, cpu_creation = create(model, CPU, None, threads)
    progress("create sessions", 0.5)
    ours, our_creation = create(model, EP_NAME, options, threads)
    progress("create sessions", 1)

    progress("compare results", 0)
    owned = ownership(ours)
    agreement = agree([output.name for output in ours.get_outputs()], ours.run(None, feeds), cpu.run(None, feeds))
    progress("compare results", 1)
    if not owned.owned:
        return Measurement(threads, batch, pairs, owned, agreement, None, None, None, None)

    def sampled(step: str, first: Any, second: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        progress(step, 0)
        return alternate(first, second, feeds, pairs=pairs, budget_s=budget_s, progress=lambda share: progress(step, share))

    control = ratio(*sampled("CPU provider against itself", make_session(model, CPU, None, threads), cpu))
    theirs, mine = sampled("both providers in turn", cpu, ours)
    del cpu, ours

    used: list[float | None] = [None, None]
    if memory:
        progress("memory in fresh processes", 0)
        used = [memory_of(model, CPU, feeds, None, threads), memory_of(model, EP_NAME, feeds, options, threads)]
        progress("memory in fresh processes", 1)
    return Measurement(
        threads,
        batch,
        pairs,
        owned,
        agreement,
        control,
        ratio(theirs, mine),
        Side(CPU, Latency.of(theirs, batch), cpu_creation * 1e3, used[0]),
        Side(EP_NAME, Latency.of(mine, batch), our_creation * 1e3, used[1]),
    )


def profile(
    model: Model,
    feeds: Feeds,
    given: Mapping[str, object] | None = None,
    threads: int = 0,
    *,
    runs: int = 30,
    budget_s: float = 60.0,
    progress: Progress = lambda step, share: None,
) -> Profile:
    """Time every step inside the regions: `runs` runs after a warm-up, more of fast models, fewer once `budget_s` seconds are spent."""
    text = {key: str(value) for key, value in (given or {}).items()}
    progress("time every step", 0)
    session = make_session(model, EP_NAME, {**text, "profile": "1"}, threads)
    warm = [timed(session, feeds) for _ in range(3)]
    count = runs * min(math.ceil(SAMPLE_S / min(warm)), 1000)
    before = step_times(session)
    seconds: list[float] = []
    while len(seconds) < count and (not seconds or sum(seconds) < budget_s):
        seconds.append(timed(session, feeds))
        progress("time every step", len(seconds) / (count + 1))
    steps = tuple(step.since(earlier) for step, earlier in zip(step_times(session), before, strict=True))
    del session
    progress("time every step", 1)
    progress("FMA peak of one core", 0)
    peak = peak_gflops(options.isa_of(options.parse(text)))
    progress("FMA peak of one core", 1)
    return Profile(max((step.threads for step in steps), default=1), len(seconds), float(np.mean(seconds)) * 1e3, peak, steps)
