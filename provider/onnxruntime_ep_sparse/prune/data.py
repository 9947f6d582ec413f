"""Reads the data that pruning is calibrated with: the one table of readers, and what they share.

Samples come in a random order of the seed, so that neither the calibration nor the held-out part is what a sorted file begins with; only
a function's own order is kept. A text is never padded where the model allows that: padding would enter the statistics.

A model whose inputs go right into a recurrent node counts times along their first axis. There a sample is a whole run of it: a file of
arrays has one, or several along one more axis in front.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..files import shown
from ..models.inputs import Input, check_feeds, inputs_for, load_arrays
from .images import SUFFIXES, ImageOptions
from .texts import encoded

Feeds = dict[str, NDArray]
BATCH = 32
"""Samples that are run at once where the model does not fix their number."""
RANDOM_SAMPLES = 128


@dataclass(frozen=True, slots=True)
class Request:
    """The request of a reader: for which inputs, how many samples at most, and the options of some readers.

    `sequences` says that the first axis of the inputs counts times, not samples.
    """

    inputs: Sequence[Input]
    samples: int | None = None
    seed: int = 0
    image: str | None = None
    tokenizer: str | None = None
    sequences: bool = False

    @property
    def fixed(self) -> int | None:
        """Return the number of samples that the model takes at once, if it says so."""
        return next((max(i.shape[0], 1) for i in self.inputs if i.shape and isinstance(i.shape[0], int)), None)

    @property
    def batch(self) -> int:
        """Samples of a feed."""
        return self.fixed or BATCH

    def order(self, count: int, file: int | None = None) -> NDArray[np.intp]:
        """Return the numbers of the samples to use of `count`, in a random order. Each `file` of several has an order of its own."""
        seed = self.seed if file is None else (self.seed, file)
        return np.random.default_rng(seed).permutation(count)[: self.samples]


@dataclass(frozen=True, slots=True)
class Reader:
    """A form of DATA: how people write it, which texts have it, the option that only it has, and how it is read."""

    form: str
    matches: Callable[[str], bool]
    read: Callable[[str, Request], Iterator[Feeds]]
    option: str | None = None


def feeds_of(data: str, request: Request) -> Iterator[Feeds]:
    """Yield the feeds that `data` names, as the first reader reads it whose form it has.

    ValueError where it has no form, cannot be read or does not fit the inputs of the model; ImportError where a package is missing.
    """
    reader = next((row for row in READERS if row.matches(data)), None)
    if reader is None:
        missing = not Path(data).exists() and not re.search(r"\s", data)
        words = "there is no such file or folder" if missing else "this is not a form of data"
        raise ValueError(f"{shown(data)}: {words}; give {', '.join(row.form for row in READERS[:-1])} or {READERS[-1].form}")
    for option in {row.option for row in READERS if row.option}:
        if getattr(request, option) is not None and option != reader.option:
            raise ValueError(
                f"--{option} is for {next(row.form for row in READERS if row.option == option)}, and the data are {reader.form}"
            )
    return _some(reader.read(data, request), data)


def _some(feeds: Iterator[Feeds], data: str) -> Iterator[Feeds]:
    """Yield feeds. ValueError if there is none."""
    empty = True
    for each in feeds:
        empty = False
        yield each
    if empty:
        raise ValueError(f"{shown(data)}: there is no sample, or fewer than the model takes at once")


def _sequences(arrays: Feeds, request: Request, where: str) -> list[Feeds]:
    """Return the runs that arrays have, one or those along one more axis in front. ValueError if they do not fit the model."""
    ranks = {i.name: len(i.shape) + 1 for i in request.inputs}
    if {name: array.ndim for name, array in arrays.items()} != ranks:
        check_feeds(arrays, request.inputs, where)
        return [arrays]
    if len({len(array) for array in arrays.values()}) > 1:
        raise ValueError(f"{where}: the first axis of every array must be the samples, and its lengths differ")
    runs = [dict(zip(arrays, each, strict=True)) for each in zip(*arrays.values(), strict=True)]
    for run in runs[:1]:
        check_feeds(run, request.inputs, where)
    return runs


def _batches(arrays: Feeds, request: Request) -> Iterator[Feeds]:
    """Yield arrays of samples in parts that the model takes. Samples beyond a multiple of a number that the model fixes are not used."""
    count = len(next(iter(arrays.values())))
    for first in range(0, count - count % (request.fixed or 1), request.batch):
        yield {name: array[first : first + request.batch] for name, array in arrays.items()}


# random numbers


def _random(_: str, request: Request) -> Iterator[Feeds]:
    warnings.warn(
        "random data say nothing about the inputs that the model will see: the pruned weights are at most as good as those of --method "
        "magnitude on real tasks; give some hundred real samples",
        stacklevel=2,
    )
    count = request.samples or RANDOM_SAMPLES
    if request.sequences:
        yield from (inputs_for(request.inputs, batch=BATCH, seed=request.seed + number) for number in range(count))
        return
    for number in range(-(-count // request.batch)):
        size = request.fixed or min(request.batch, count - number * request.batch)
        yield inputs_for(request.inputs, batch=size, seed=request.seed + number)


# arrays


def _feeds(arrays: Feeds, where: str, request: Request, order: Callable[[int], NDArray[np.intp]]) -> tuple[int, Iterator[Feeds]]:
    """Return how many samples of some arrays are used, and feeds of them. `order` returns their numbers for the number of all.

    ValueError if they do not fit the model.
    """
    if request.sequences:
        runs = _sequences(arrays, request, where)
        chosen = order(len(runs))
        return len(chosen), (runs[number] for number in chosen)
    check_feeds(arrays, request.inputs, where, samples=True)
    chosen = order(len(next(iter(arrays.values()))))
    return len(chosen), _batches({name: array[chosen] for name, array in arrays.items()}, request)


def _first(most: int | None, count: int) -> NDArray[np.intp]:
    """Return the numbers of the first samples of `count`, at most so many."""
    return np.arange(count)[:most]


def _file_of_arrays(data: str, request: Request) -> Iterator[Feeds]:
    arrays = load_arrays(Path(data), "arrays")
    yield from _feeds(arrays, shown(data), request, request.order)[1]


def _folder_of_arrays(data: str, request: Request) -> Iterator[Feeds]:
    files = sorted(Path(data).glob("*.npz"))
    left = request.samples
    for number in np.random.default_rng(request.seed).permutation(len(files)):
        arrays = load_arrays(files[number], "arrays")
        order = partial(replace(request, samples=left).order, file=int(number))
        used, feeds = _feeds(arrays, shown(files[number]), request, order)
        yield from feeds
        if left is not None:
            left -= used
            if left <= 0:
                return


# images


def _images_in(data: str) -> list[Path]:
    return sorted(path for path in Path(data).iterdir() if path.suffix.lower() in SUFFIXES)


def _folder_of_images(data: str, request: Request) -> Iterator[Feeds]:
    files = _images_in(data)
    options = ImageOptions.of(request.image or "", request.inputs)
    chosen = [files[number] for number in request.order(len(files))]
    for first in range(0, len(chosen), request.batch):
        arrays = {options.name: np.stack([options.read(path) for path in chosen[first : first + request.batch]])}
        check_feeds(arrays, request.inputs, f"the images with --image {request.image or ''}", samples=True)
        yield from _batches(arrays, request)


# texts


def _texts(data: str, request: Request) -> Iterator[Feeds]:
    if request.tokenizer is None:
        raise ValueError(f"{shown(data)} is text: give the model's tokenizer too, as --tokenizer tokenizer.json")
    try:
        lines = [line for line in Path(data).read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise ValueError(f"cannot read {shown(data)}: {error.strerror}") from None
    except UnicodeError:
        raise ValueError(f"cannot read {shown(data)}: it is not UTF-8 text") from None
    chosen = [lines[number] for number in request.order(len(lines))]
    feeds = [part for same in encoded(chosen, Path(request.tokenizer), request.inputs) for part in _batches(same, request)]
    for each in feeds[:1]:
        check_feeds(each, request.inputs, shown(data), samples=True)
    for number in np.random.default_rng(request.seed).permutation(len(feeds)):
        yield feeds[number]


# a function


def _function(data: str, request: Request) -> Iterator[Feeds]:
    module, _, name = data.partition(":")
    with _working_folder():
        try:
            function = getattr(importlib.import_module(module), name)
        except AttributeError:
            raise ValueError(f"{data}: the module {module} has no function {name}") from None
        except Exception as error:
            raise ValueError(f"{data}: cannot import {module}: {type(error).__name__}: {error}") from None
        try:
            feeds = iter(function())
        except Exception as error:
            raise ValueError(f"{data}: {type(error).__name__}: {error}") from None
        left = request.samples
        while left is None or left > 0:
            try:
                each = {key: np.asarray(value) for key, value in next(feeds).items()}
            except StopIteration:
                return
            except Exception as error:
                raise ValueError(f"{data}: {type(error).__name__}: {error}") from None
            used, parts = _feeds(each, data, request, partial(_first, left))
            yield from parts
            if left is not None:
                left -= used


@contextlib.contextmanager
def _working_folder() -> Iterator[None]:
    """Let modules in the working folder be imported, as `python` does."""
    sys.path.insert(0, "")
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove("")


READERS = (
    Reader("random", lambda data: data == "random", _random),
    Reader("FILE.npz", lambda data: data.endswith(".npz") and not Path(data).is_dir(), _file_of_arrays),
    Reader("a folder of .npz files", lambda data: Path(data).is_dir() and any(Path(data).glob("*.npz")), _folder_of_arrays),
    Reader("a folder of images", lambda data: Path(data).is_dir() and bool(_images_in(data)), _folder_of_images, "image"),
    Reader("FILE.txt", lambda data: data.endswith(".txt") and not Path(data).is_dir(), _texts, "tokenizer"),
    Reader("pkg.module:function", lambda data: bool(re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", data)), _function),
)
"""The one table of readers, in the order in which they are asked; all of the command line's help and messages follow from it."""
