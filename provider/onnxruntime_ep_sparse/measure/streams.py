"""Throughput of sessions that several callers use at once, in blocks that take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..timing import LEAST_PAIRS

BLOCK_S = 0.25
"""Seconds of a block: the callers of one session run until these are over, then those of the next session."""
LEAST_RUNS = 4
"""Runs of each caller in a block, at least."""


@dataclass(frozen=True)
class Load:
    """A session under load: `rates` has the runs per second of all callers together, one per block, and `seconds` the time of each run."""

    rates: NDArray[np.float64]
    seconds: NDArray[np.float64]


def streams_in_turn(
    sides: Sequence[tuple[Any, Mapping[str, NDArray]]],
    streams: int,
    *,
    pairs: int = 30,
    budget_s: float = 60.0,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Load]:
    """Let `streams` callers use each session at once, one session after the other, block by block; return the load of each.

    There are `pairs` blocks of each session, or as many as `budget_s` seconds allow, but at least `LEAST_PAIRS`.
    """
    with ThreadPoolExecutor(streams) as callers:
        for session, feeds in sides:  # a warm-up: each caller gets memory of its own
            _block(callers, streams, session, feeds, 0.0)
        began = time.perf_counter()
        warm = [_block(callers, streams, session, feeds, BLOCK_S) for session, feeds in sides]
        count = max(int(min(pairs, budget_s / (time.perf_counter() - began))), min(LEAST_PAIRS, pairs))
        rates = np.empty((len(sides), count))
        seconds: list[list[float]] = [[] for _ in warm]
        for pair in range(count):
            for side, (session, feeds) in enumerate(sides):
                rates[side, pair], times = _block(callers, streams, session, feeds, BLOCK_S)
                seconds[side] += times
            progress((pair + 1) / count)
    return [Load(rate, np.asarray(times)) for rate, times in zip(rates, seconds, strict=True)]


def _block(
    callers: ThreadPoolExecutor, streams: int, session: Any, feeds: Mapping[str, NDArray], seconds: float
) -> tuple[float, list[float]]:
    """Return the runs per second of one block, and the time of each run."""
    end = time.perf_counter() + seconds

    def call() -> list[float]:
        times: list[float] = []
        before = time.perf_counter()
        while len(times) < LEAST_RUNS or before < end:
            session.run(None, feeds)
            now = time.perf_counter()
            times.append(now - before)
            before = now
        return times

    done = [caller.result() for caller in [callers.submit(call) for _ in range(streams)]]
    # each caller by its own time: the last runs of a block end at different times
    return sum(len(times) / sum(times) for times in done), [each for times in done for each in times]
