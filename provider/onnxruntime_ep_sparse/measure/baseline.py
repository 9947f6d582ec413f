"""Compares a measurement with an earlier one, for jobs that fail when a model gets slower."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import shown
from ..timing import Ratio
from .bench import AXES, Bench
from .protocol import Measurement


@dataclass(frozen=True)
class Change:
    """The speed-up at one point, before and now. `ratio` is now over before; `low` and `high` are by the ends of both intervals."""

    batch: int
    threads: int
    streams: int
    before: float
    now: float
    ratio: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields as keys."""
        return dict(vars(self))


class Baseline:
    """The speed-ups of an earlier document of `ort-sparse bench --json`, by batch, threads and streams.

    ValueError if the file cannot be read, or is not such a document.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            document = json.loads(file.read_text())
            self._ratios = dict(_ratios(document))
        except OSError as error:
            raise ValueError(f"cannot read {shown(file)}: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ValueError(f"cannot read {shown(file)}: not a document of ort-sparse bench --json") from None
        if not self._ratios:
            raise ValueError(f"{shown(file)}: it has no speed-up, because no node was taken")

    def changes(self, found: Bench) -> list[Change]:
        """Return the change at each point. ValueError if the earlier document lacks a point, or there is no speed-up now."""
        return [self._change(point) for point in found.points]

    def _change(self, point: Measurement) -> Change:
        key = point.batch, point.threads, point.streams
        where = ", ".join(f"{axis} {value}" for axis, value in zip(AXES, key, strict=True))
        before, now = self._ratios.get(key), point.speed_up
        if before is None:
            raise ValueError(f"{shown(self.file)} has no speed-up for {where}")
        if now is None:
            raise ValueError(f"no node is taken at {where}, so there is no speed-up to compare with {shown(self.file)}")
        low, high = now.low / before.high, now.high / before.low
        return Change(*key, before.median, now.median, now.median / before.median, low, high)


def _ratios(document: Any) -> Iterator[tuple[tuple[int, int, int], Ratio]]:
    """Yield the speed-ups of a document, each with its batch, threads and streams."""
    if document["command"] != "bench":
        raise ValueError
    for point in document.get("points", [document]):
        if point["speed_up"] is not None:
            # documents of versions without streams have one caller
            yield (int(point["batch"]), int(point["threads"]), int(point.get("streams", 1))), Ratio(**point["speed_up"])
