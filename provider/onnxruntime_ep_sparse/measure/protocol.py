"""Measures both providers in turn on the same inputs, and the CPU provider against itself as the control.

Two sessions in one process disturb each other: the idle threads of one spin while the other computes, and the CPU provider measured against
itself can then be twice as slow. `session.force_spinning_stop` ends that; the A/A ratio of every measurement proves it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import options
from ..diagnostics.step_times import Cost, StepTime, step_times
from ..options import EP_NAME
from ..ort.sessions import CPU, Feeds, Model, Ownership, create, make_session, ownership
from ..timing import SAMPLE_S, Latency, Ratio, in_turn, timed
from .agreement import Agreement, agree_by_name
from .memory import memory_of
from .peak import peak_gflops
from .spread import judged
from .streams import streams_in_turn

CONTROL_TOLERANCE = 0.03
"""A measurement is valid if its A/A ratio differs from 1 by at most this."""
MOST_PAIRS = 1_000_000
"""Pairs where the time is given."""
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
class Rival:
    """A contender besides both providers on the model: `provider` on `model`, called `name`, with inputs of its own or None."""

    name: str
    model: Model
    provider: str
    feeds: Feeds | None = None


@dataclass(frozen=True)
class Other:
    """Measurements of a rival. `ratio` says how many times as fast it is as the CPU provider on the first model.

    `agreement` compares its outputs with those of the CPU provider on the first model; it is empty if their names or inputs differ.
    """

    name: str
    ownership: Ownership
    side: Side
    ratio: Ratio
    agreement: tuple[Agreement, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields as keys."""
        return {**asdict(self), "agreement": [a.to_dict() for a in self.agreement]}


@dataclass(frozen=True)
class Measurement:
    """Both providers on one model, and rivals. Without a node of the sparse provider, `speed_up` and `sparse` are None.

    If there are no rivals either, nothing is timed, and `control` and `cpu` are None too. `streams` callers use each session at once; with
    more than one, ratios are those of throughputs. `requested_pairs` is None if the time was given instead.
    """

    threads: int
    batch: int
    requested_pairs: int | None
    ownership: Ownership
    agreement: tuple[Agreement, ...]
    control: Ratio | None
    speed_up: Ratio | None
    cpu: Side | None
    sparse: Side | None
    streams: int = 1
    others: tuple[Other, ...] = ()

    @property
    def valid(self) -> bool:
        """Return whether the A/A ratio is close enough to 1 for the speed-up to be meaningful."""
        return self.control is not None and abs(self.control.median - 1) <= CONTROL_TOLERANCE

    @property
    def agrees(self) -> bool:
        """Return whether there were outputs to compare, and all of them are within the tolerance."""
        return bool(self.agreement) and all(a.within() for a in self.agreement)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields as keys, `valid` and `agrees`."""
        lists = {"agreement": [a.to_dict() for a in self.agreement], "others": [other.to_dict() for other in self.others]}
        return {**asdict(self), **lists, "valid": self.valid, "agrees": self.agrees}


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
    seconds: float | None = None,
    streams: int = 1,
    rivals: Sequence[Rival] = (),
    memory: bool = True,
    turn_s: float = SAMPLE_S,
    batch: int | None = None,
    progress: Progress = lambda step, share: None,
) -> Measurement:
    """Measure the sparse provider against the CPU provider on one model, by the protocol of this module.

    `batch` is the number of items per run; by default it is the first dimension of the first input. There are fewer pairs than asked for
    if they would take longer than `budget_s` seconds: compare `requested_pairs` with `speed_up.pairs`. With `seconds` there are as many
    pairs as fit in that time. Each provider runs for at least `turn_s` seconds in its turn, unless `streams` callers use each session at
    once. All `rivals` take turns with both providers; one whose provider takes no node is an error: ValueError.
    """
    if batch is None:
        batch = next((array.shape[0] for array in feeds.values() if array.ndim), 1)
    contenders = [Rival("", model, CPU), Rival("", model, EP_NAME), *rivals]
    sides, creation_s = _sessions(contenders, feeds, options, threads, progress)

    progress("compare results", 0)
    owned = [ownership(session, each.provider) for (session, _), each in zip(sides, contenders, strict=True)]
    for each, own in zip(contenders[2:], owned[2:], strict=True):
        if not own.owned:
            raise ValueError(f"{each.provider} takes none of the {own.nodes} nodes of {each.name}, so there is nothing to measure")
    mine, reference = named_outputs(*sides[1]), named_outputs(*sides[0])
    agreement = judged(agree_by_name(mine, reference), mine, reference, model, feeds, threads)
    others = [
        agree_by_name(named_outputs(*side), reference) if each.feeds is None else () for side, each in zip(sides[2:], rivals, strict=True)
    ]
    progress("compare results", 1)
    if not owned[1].owned and not rivals:
        return Measurement(threads, batch, pairs, owned[1], agreement, None, None, None, None, streams)

    def sampled(step: str, sides: Sequence[tuple[Any, Feeds]], pairs: int, budget_s: float) -> list[Timed]:
        progress(step, 0)
        limits: dict[str, Any] = {"pairs": pairs, "budget_s": budget_s, "progress": lambda share: progress(step, share)}
        if streams == 1:
            return [Timed(times.sum(axis=1), times, None) for times in in_turn(sides, sample_s=turn_s, **limits)]
        return [Timed(1 / load.rates, load.seconds, load.rates) for load in streams_in_turn(sides, streams, **limits)]

    twin = make_session(model, CPU, None, threads)
    itself = sampled("CPU provider against itself", [(twin, feeds), sides[0]], pairs, budget_s if seconds is None else seconds)
    control = itself[0].over(itself[1])
    del twin
    running = [i for i in range(len(sides)) if i != 1 or owned[1].owned]
    step = "both providers in turn" if len(running) == 2 and not rivals else "all in turn"
    found = sampled(step, [sides[i] for i in running], *((pairs, budget_s) if seconds is None else (MOST_PAIRS, seconds)))
    times = dict(zip(running, found, strict=True))
    del sides
    memory_mb = _memory(contenders, running, feeds, options, threads, progress) if memory else {}

    def side_of(i: int) -> Side:
        latency = Latency.of(times[i].runs_s, batch, times[i].rates)
        return Side(contenders[i].provider, latency, creation_s[i] * 1e3, memory_mb.get(i))

    return Measurement(
        threads,
        batch,
        pairs if seconds is None else None,
        owned[1],
        agreement,
        control,
        times[0].over(times[1]) if 1 in times else None,
        side_of(0),
        side_of(1) if 1 in times else None,
        streams,
        tuple(Other(each.name, owned[i], side_of(i), times[0].over(times[i]), others[i - 2]) for i, each in enumerate(rivals, 2)),
    )


def _sessions(
    contenders: Sequence[Rival], feeds: Feeds, options: Mapping[str, object] | None, threads: int, progress: Progress
) -> tuple[list[tuple[Any, Feeds]], list[float]]:
    """Return for each contender its session with its inputs, and the seconds that creating the session took."""
    sides, seconds = [], []
    for number, each in enumerate(contenders):
        progress("create sessions", number / len(contenders))
        session, created = create(each.model, each.provider, options if each.provider == EP_NAME else None, threads)
        sides.append((session, feeds if each.feeds is None else each.feeds))
        seconds.append(created)
    progress("create sessions", 1)
    return sides, seconds


def _memory(
    contenders: Sequence[Rival],
    running: Sequence[int],
    feeds: Feeds,
    options: Mapping[str, object] | None,
    threads: int,
    progress: Progress,
) -> dict[int, float | None]:
    """Return the MB that a session of each contender needs in a process of its own, None where that is not known, by their places.

    Contenders that are not `running`, and those of other providers than the CPU provider and this one, are left out.
    """
    found: dict[int, float | None] = {}
    progress("memory in fresh processes", 0)
    for i in running:
        each = contenders[i]
        if each.provider in (CPU, EP_NAME):
            given = options if each.provider == EP_NAME else None
            found[i] = memory_of(each.model, each.provider, feeds if each.feeds is None else each.feeds, given, threads)
    progress("memory in fresh processes", 1)
    return found


@dataclass(frozen=True)
class Timed:
    """Times of one side in turns: seconds per turn, the seconds of all runs, and with several callers their runs per second, per turn."""

    turns_s: NDArray[np.float64]
    runs_s: NDArray[np.float64]
    rates: NDArray[np.float64] | None

    def over(self, other: Timed) -> Ratio:
        """Return how many times longer this side took than the other one: the median of the ratios of all turns."""
        return Ratio.of(self.turns_s / other.turns_s)


def named_outputs(session: Any, feeds: Feeds) -> dict[str, Any]:
    """Return the outputs of a run by their names."""
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, feeds), strict=True))


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
