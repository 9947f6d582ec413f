"""Calibration data as small batches: checked against the model's inputs, some of them held out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..models.inputs import check_feeds
from .recurrent_layers import GATES
from .source import Source

MOST_SAMPLES = 64
"""Samples of one batch."""
MOST_BYTES = 4 << 20
"""Bytes of the inputs of one batch, where it has more than one sample. What a piece of a model makes of them is a few times as much."""

Batch = dict[str, NDArray]


@dataclass(frozen=True)
class Data:
    """Batches for calibration, then those that are held out. `by_sample` says that the first axis of all arrays counts samples."""

    batches: list[Batch]
    calibration: range
    held_out: range
    samples: int
    held_out_samples: int
    by_sample: bool


def read(source: Source, feeds: Iterable[Mapping[str, NDArray]], samples: int | None, holdout: float, seed: int) -> Data:
    """Read at most `samples` samples, and hold out a share `holdout` of them, chosen by `seed`: at least one if the share is not 0.

    The first axis counts samples if all inputs leave its size open and none counts times there; else a feed is one sample. ValueError if
    feeds do not match the model's inputs, or there are too few.
    """
    if not 0 <= holdout < 1:
        raise ValueError(f"holdout {holdout} is not a share: 0 and more, below 1")
    if samples is not None and samples < 1:
        raise ValueError(f"samples {samples}: at least 1 is needed")
    if not source.inputs:
        raise ValueError("the model has no inputs")
    open_axis = all(each.shape and not isinstance(each.shape[0], int) for each in source.inputs.values()) and not _counts_times(source)
    checked = list(_first(_checked(source, feeds, open_axis), samples, open_axis))
    count = sum(_samples(batch, open_axis) for batch in checked)
    if not count:
        raise ValueError("there are no calibration data: the iterable yields nothing, or arrays without samples")
    held = round(holdout * count) or int(holdout > 0)
    if held >= count:
        raise ValueError(f"{count} samples are too few to hold out {holdout:g} of them: give more, or holdout 0")
    chosen = np.zeros(count, np.bool_)
    chosen[np.random.default_rng(seed).choice(count, held, replace=False)] = True
    kept: list[Batch] = []
    set_aside: list[Batch] = []
    begin = 0
    for batch in checked:
        here = chosen[begin : begin + _samples(batch, open_axis)]
        begin += len(here)
        if not open_axis:
            (set_aside if here[0] else kept).append(batch)
            continue
        kept += _pieces(batch, np.flatnonzero(~here))
        set_aside += _pieces(batch, np.flatnonzero(here))
    return Data([*kept, *set_aside], range(len(kept)), range(len(kept), len(kept) + len(set_aside)), count, held, open_axis)


def _counts_times(source: Source) -> bool:
    """Return whether an input goes right into a recurrent node, where the first axis counts times."""
    return any(node.op_type in GATES and node.input[0] in source.inputs for node in source.nodes)


def _samples(batch: Batch, open_axis: bool) -> int:
    return len(next(iter(batch.values()))) if open_axis else 1


def _first(batches: Iterable[Batch], samples: int | None, open_axis: bool) -> Iterator[Batch]:
    """Yield batches until there are `samples`, and take no more of the iterable than that needs."""
    left = samples
    for batch in batches:
        here = _samples(batch, open_axis)
        if left is not None and here > left:
            batch = {name: array[:left] for name, array in batch.items()}  # noqa: PLW2901
        if here:
            yield batch
        if left is not None:
            left -= here
            if left <= 0:
                return


def _pieces(batch: Batch, rows: NDArray[np.int64]) -> Iterator[Batch]:
    """Yield the samples `rows` of a batch, a few at a time."""
    size = sum(array.nbytes for array in batch.values()) // max(len(next(iter(batch.values()))), 1)
    most = max(1, min(MOST_SAMPLES, MOST_BYTES // max(size, 1)))
    for begin in range(0, len(rows), most):
        yield {name: np.ascontiguousarray(array[rows[begin : begin + most]]) for name, array in batch.items()}


def _checked(source: Source, feeds: Iterable[Mapping[str, NDArray]], open_axis: bool) -> Iterator[Batch]:
    inputs = list(source.inputs.values())
    for number, feed in enumerate(feeds):
        where = f"feed {number} of the data"
        if not isinstance(feed, Mapping):
            raise ValueError(f"{where} is a {type(feed).__name__}: they yield dicts from input names to arrays")
        batch = {name: np.asarray(array) for name, array in feed.items()}
        check_feeds(batch, inputs, where)
        if open_axis and len({len(array) for array in batch.values()}) > 1:
            lengths = ", ".join(f"{name}: {len(array)}" for name, array in batch.items())
            raise ValueError(f"{where}: the first axes of its arrays differ, so samples cannot be counted ({lengths})")
        for name, array in batch.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"{where}: {name} has NaN or infinity")
        yield batch
