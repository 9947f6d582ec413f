"""The speed of a model at one or several batches, numbers of threads and of callers, beside other files and providers: `bench()`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ..models.inputs import check_feeds, fitting, inputs_for
from ..options import EP_NAME
from ..ort.registration import register
from ..ort.sessions import CPU, Feeds, Model, make_session, ownership
from ..records import Record, Tabular
from .machine import environment
from .protocol import Measurement, Progress, Ratio, Rival, Side, measure
from .providers import find, price_of

HOUR_S = 3600
AXES = ("batch", "threads", "streams")
"""Points of a sweep differ in these."""
FIGURES = ("p50_ms", "p90_ms", "p99_ms", "items_per_s")

FeedsOf = Callable[[int | None], Feeds]
"""A function that returns inputs for a batch; None stands for the batch that the model or its user has fixed."""


@dataclass(frozen=True)
class Bench(Tabular):
    """The result of `bench()`: a measurement per point, in the order of the sweep.

    `model` and `other` are the names of the files, `inputs` has the shapes and types of the first point's inputs. `prices` are money per
    hour by provider or by kind of device. `environment` has the machine and the versions. `complete` is False if Ctrl-C has ended it
    early. `to_pandas()` and `to_csv()` have the rows of `records()`, which Jupyter shows as a table.
    """

    model: str
    points: tuple[Measurement, ...]
    inputs: dict[str, Any]
    options: dict[str, str]
    environment: dict[str, Any]
    prices: dict[str, float]
    other: str | None = None
    complete: bool = True

    @property
    def speed_up(self) -> Ratio | None:
        """Return the speed-up at the first point, None if no node is taken there."""
        return self.points[0].speed_up

    @property
    def valid(self) -> bool:
        """Return whether no other load on the machine has disturbed a point."""
        return all(point.valid for point in self.points)

    @property
    def agrees(self) -> bool:
        """Return whether the results of both providers are within the tolerance at every point."""
        return all(point.agrees for point in self.points)

    def sides(self, point: Measurement) -> Iterator[tuple[str, Side, Ratio | None]]:
        """Yield what was measured at a point: name of the file, figures, and how many times as fast as the first, the CPU provider."""
        if point.cpu is not None:
            yield self.model, point.cpu, None
        if point.sparse is not None:
            yield self.model, point.sparse, point.speed_up
        for other in point.others:
            yield other.name, other.side, other.ratio

    def per_money(self, side: Side) -> float | None:
        """Return the items per unit of money at the price of a provider, None if it has no price."""
        price = price_of(side.provider, self.prices) if self.prices else None
        return None if price is None else side.latency.items_per_s * HOUR_S / price

    def records(self) -> list[Record]:
        """Return a row per point and side: latencies in ms, throughput and ratio, each with the ends of its interval."""
        rows = []
        for point in self.points:
            for name, side, ratio in self.sides(point):
                row: Record = {"model": name, "provider": side.provider, **{axis: getattr(point, axis) for axis in AXES}}
                for figure in FIGURES:
                    low, high, _ = side.latency.intervals[figure]
                    row |= {figure: getattr(side.latency, figure), f"{figure}_low": low, f"{figure}_high": high}
                row |= {"best_ms": side.latency.min_ms, "runs": side.latency.runs, "create_ms": side.creation_ms, "mb": side.memory_mb}
                ends = (None, None, None) if ratio is None else (ratio.median, ratio.low, ratio.high)
                row |= dict(zip(("speed_up", "speed_up_low", "speed_up_high"), ends, strict=True))
                rows.append({**row, "per_money": self.per_money(side), "valid": point.valid, "agrees": point.agrees})
        return rows

    def caption(self) -> str:
        """Return the speed-up at each point."""
        words = []
        for point in self.points:
            where = ", ".join(f"{axis} {getattr(point, axis)}" for axis in AXES)
            found = "no node is taken" if point.speed_up is None else f"{point.speed_up.median:.3f} times as fast as {CPU}"
            words.append(f"{where}: {found}{'' if point.valid or point.control is None else ' (not valid)'}")
        return f"{self.model}. {'; '.join(words)}"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict.

        It has the fields of `Measurement` for one point, and for several of them a list `points` with these fields.
        """
        about = {"model": self.model, "other": self.other, "inputs": self.inputs, "options": self.options, "prices": self.prices}
        points = [{**point.to_dict(), "per_money": [self.per_money(side) for _, side, _ in self.sides(point)]} for point in self.points]
        found = points[0] if len(points) == 1 else {"points": points, "agrees": self.agrees, "valid": self.valid}
        return {**about, "environment": self.environment, "complete": self.complete, **found}


def bench(
    model: Any,
    feeds: Feeds | FeedsOf | None = None,
    *,
    other: Any = None,
    against: str | Sequence[str] = (),
    batch: int | Sequence[int] | None = None,
    threads: int | Sequence[int] = 0,
    streams: int | Sequence[int] = 1,
    seconds: float | None = None,
    pairs: int = 30,
    budget_s: float = 60.0,
    options: Mapping[str, object] | None = None,
    prices: Mapping[str, float] | None = None,
    memory: bool = False,
    seed: int = 0,
    names: tuple[str, str] | None = None,
    progress: Progress = lambda step, share: None,
) -> Bench:
    """Measure the speed of a model with this provider and with the CPU provider, in turn, by the protocol of `ort-sparse bench`.

    `model` is a path, bytes or an `onnx.ModelProto`. `feeds` are inputs by name, or a function that returns them for a batch; without them
    they are random, from `seed`. `other` is a second model to measure at the same time: the dense one, or one in INT8. `against` names
    other providers of ONNX Runtime, or modules with a plugin. With sequences of `batch`, `threads` or `streams` there is a point for each
    combination. `threads` 0 leaves their number to ONNX Runtime; `streams` is the number of callers that use one session at once.

    `seconds` is how long a measurement takes; without it there are `pairs` turns, fewer if they would take more than `budget_s` seconds.
    `prices` are units of money per hour, by the name of a provider or by `cpu`, `gpu`, `npu`. `memory` also measures the memory of a fresh
    process. `names` are what the two models are called in the result.

    KeyboardInterrupt ends the measurement early, and the result has the points that were complete by then; without one it is raised.
    ValueError if a provider, an option or an input is not valid; onnxruntime's exceptions for a model that it cannot load or run.
    """
    register()
    sources = [_source(model)] + ([] if other is None else [_source(other)])
    called = names or tuple(f"model {i}" if isinstance(each, bytes) else os.fspath(each) for i, each in enumerate(sources, 1))
    rivals_of = [find(name) for name in ([against] if isinstance(against, str) else against)]
    session = make_session(sources[0], CPU)
    inputs = session.get_inputs()
    batches, thread_counts, stream_counts = (_several(each) for each in (batch, threads, streams))
    given = feeds if callable(feeds) else (lambda _: feeds) if feeds is not None else None
    feeds_of = given or (lambda size: inputs_for(inputs, batch=size or 1, seed=seed))
    chosen_of = {size: fitting(feeds_of(size), session) for size in batches}
    del session
    arguments: dict[str, Any] = {"seconds": seconds, "pairs": pairs, "budget_s": budget_s, "memory": memory}
    first = chosen_of[batches[0]]
    shapes = {name: {"shape": list(x.shape), "dtype": str(x.dtype)} for name, x in first.items()}
    rivals_at = {size: [Rival(called[0], sources[0], provider) for provider in rivals_of] for size in batches}
    if len(sources) > 1:
        for size, rivals in rivals_at.items():
            rivals.extend(_second(sources[1], called[1], chosen_of[size], size, options, seed))
    wanted = list(product(batches, thread_counts, stream_counts))
    points: list[Measurement] = []
    try:
        for size, count, callers in wanted:
            at = _prefixed(progress, _words(size, count, callers) if len(wanted) > 1 else "")
            extra = {**arguments, "streams": callers, "rivals": rivals_at[size], "progress": at}
            points.append(measure(sources[0], chosen_of[size], options, count or 0, **extra))
    except KeyboardInterrupt:
        if not points:
            raise
    text = {key: str(value) for key, value in (options or {}).items()}
    other_name, complete = called[1] if len(sources) > 1 else None, len(points) == len(wanted)
    return Bench(called[0], tuple(points), shapes, text, environment(), dict(prices or {}), other_name, complete)


def _second(source: Model, name: str, feeds: Feeds, batch: int | None, options: Mapping[str, object] | None, seed: int) -> list[Rival]:
    """Return the rivals that a second model makes: both providers on it, the CPU provider alone where ours takes no node."""
    session = make_session(source, EP_NAME, options)
    inputs, owned = session.get_inputs(), ownership(session).owned
    del session
    own = None
    try:
        check_feeds(feeds, inputs, name)
    except ValueError:  # other inputs than those of the first model
        own = inputs_for(inputs, batch=batch or next((x.shape[0] for x in feeds.values() if x.ndim), 1), seed=seed)
    return [Rival(name, source, provider, own) for provider in ((CPU, EP_NAME) if owned else (CPU,))]


def _source(model: Any) -> str | bytes:
    if hasattr(model, "SerializeToString"):
        return bytes(model.SerializeToString())
    return model if isinstance(model, bytes) else os.fspath(Path(model))


def _several(given: Any) -> list[Any]:
    """Return a number or a sequence of numbers as a list."""
    return list(given) if isinstance(given, Sequence) else [given]


def _words(batch: int | None, threads: int, streams: int) -> str:
    """Return a point of a sweep in words, for the progress."""
    named = {"batch": batch, "threads": threads or None, "streams": streams if streams > 1 else None}
    return ", ".join(f"{axis} {value}" for axis, value in named.items() if value is not None)


def _prefixed(progress: Progress, words: str) -> Progress:
    """Return a function for the progress of one point of a sweep."""
    return (lambda step, share: progress(f"{words}: {step}", share)) if words else progress
