"""Calibration data as small batches: checked against the model's inputs, some of them held out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ..models.inputs import check_feeds
from .source import Source, counts_times
from .store import Arrays, Store

MOST_SAMPLES = 64
"""Samples of one batch."""
MOST_BYTES = 4 << 20
"""Bytes of the inputs of one batch of several samples. The values that a piece of a model makes of them take a few times as much."""

Batch = dict[str, NDArray]


class Batches(Sequence[Batch]):
    """Batches of inputs, in memory as far as a store allows. `inputs` has their arrays by name."""

    def __init__(self, names: Iterable[str], store: Store) -> None:
        self.inputs = {name: Arrays(store) for name in names}
        self.sizes: list[int] = []
        """The bytes of each batch."""

    def append(self, batch: Batch) -> None:
        """Add a batch."""
        for name, arrays in self.inputs.items():
            arrays[len(self.sizes)] = batch[name]
        self.sizes.append(_bytes(batch))

    @overload
    def __getitem__(self, number: int) -> Batch: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Batch]: ...
    def __getitem__(self, number: int | slice) -> Batch | Sequence[Batch]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        return {name: arrays[number] for name, arrays in self.inputs.items()}

    def __len__(self) -> int:
        return len(self.sizes)


@dataclass(frozen=True)
class Data:
    """Batches for calibration and those that are held out, by their numbers. `samples` counts both.

    `by_sample` says that the first axis of all arrays counts samples.
    """

    batches: Batches
    calibration: list[int]
    held_out: list[int]
    samples: int
    held_out_samples: int
    by_sample: bool


def read(source: Source, feeds: Iterable[Mapping[str, NDArray]], samples: int | None, holdout: float, seed: int, store: Store) -> Data:
    """Read at most `samples` samples, and hold out a share `holdout` of them, at least one if that is not 0.

    They are chosen at random by `seed`, from each feed its share. The first axis counts samples if all inputs leave its size open and none
    counts times there; else a feed is one sample. ValueError if feeds do not match the model's inputs, or there are too few.
    """
    if not 0 <= holdout < 1:
        raise ValueError(f"holdout {holdout} is not a share: 0 and more, below 1")
    if samples is not None and samples < 1:
        raise ValueError(f"samples {samples}: at least 1 is needed")
    if not source.inputs:
        raise ValueError("the model has no inputs")
    times = counts_times(source.nodes, source.inputs)
    open_axis = not times and all(each.shape and not isinstance(each.shape[0], int) for each in source.inputs.values())
    rng = np.random.default_rng(seed)
    phase = rng.random()
    batches = Batches(source.inputs, store)
    kept: list[int] = []
    set_aside: list[int] = []
    count = held = 0
    for feed in _first(_checked(source, feeds, open_axis), samples, open_axis):
        here = _samples(feed, open_axis)
        count += here
        wanted = min(max(int(count * holdout + phase), 1), count - 1) if holdout else 0
        chosen = np.zeros(here, np.bool_)
        chosen[rng.choice(here, wanted - held, replace=False)] = True
        held = wanted
        for rows, numbers in ((np.flatnonzero(~chosen), kept), (np.flatnonzero(chosen), set_aside)):
            for batch in _pieces(feed, rows) if open_axis else [feed] * len(rows):
                numbers.append(len(batches))
                batches.append(batch)
    if not count:
        raise ValueError("there are no calibration data: the iterable yields nothing, or arrays without samples")
    if holdout and not held:
        words = f"{count} samples are too few to hold out {holdout:g} of them: give more, or holdout 0"
        if times:
            words += "; the inputs count times along their first axis, so a feed is one sample"
        raise ValueError(words)
    return Data(batches, kept, set_aside, count, held, open_axis)


def _samples(batch: Batch, open_axis: bool) -> int:
    return len(next(iter(batch.values()))) if open_axis else 1


def _first(batches: Iterable[Batch], samples: int | None, open_axis: bool) -> Iterator[Batch]:
    """Yield batches until there are `samples`, and take no more of the iterable than that needs."""
    left = samples
    for batch in batches:
        here = _samples(batch, open_axis)
        if here:
            yield {name: array[:left] for name, array in batch.items()} if left is not None and here > left else batch
        if left is not None:
            left -= here
            if left <= 0:
                return


def _bytes(batch: Batch) -> int:
    return sum(array.nbytes for array in batch.values())


def _pieces(batch: Batch, rows: NDArray[np.int64]) -> Iterator[Batch]:
    """Yield the samples `rows` of a batch, a few at a time."""
    size = _bytes(batch) // max(len(next(iter(batch.values()))), 1)
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
