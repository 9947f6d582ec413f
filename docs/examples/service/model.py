"""The model of the service: its sessions, what its inputs are, and the runs that prepare it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from settings import Settings

import onnxruntime_ep_sparse as sparse

Feeds = dict[str, NDArray[Any]]
FLOATS = {"float": "float32", "double": "float64"}
"""ONNX Runtime's names of types that differ from numpy's."""


class LoadError(Exception):
    """The model cannot be served: one line that says why and what to do."""


@dataclass(frozen=True)
class Input:
    """An input of the model. Sizes that are open have a name: the model's, or NAME.AXIS."""

    name: str
    dtype: np.dtype
    shape: tuple[int | str, ...]

    def sized(self, sizes: dict[str, int]) -> tuple[int, ...]:
        """Return the shape with these sizes of the open dimensions."""
        return tuple(sizes[size] if isinstance(size, str) else size for size in self.shape)


@dataclass(frozen=True)
class Model:
    """Equal sessions of one model, each for one run at a time. `batched`: the first axis of all inputs and outputs counts rows."""

    sessions: Sequence[ort.InferenceSession]
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    batched: bool
    owned: int
    nodes: int

    def open_sizes(self) -> list[str]:
        """Return the names of the open dimensions, except for that of the rows."""
        names = [size for i in self.inputs for size in i.shape[1 if self.batched else 0 :] if isinstance(size, str)]
        return list(dict.fromkeys(names))

    def feeds(self, sizes: dict[str, int], rows: int) -> Feeds:
        """Return random feeds: numbers around 0, or 0 and 1 for integers, which are valid as ids and as masks."""
        rng = np.random.default_rng(0)
        feeds = {}
        for each in self.inputs:
            shape = each.sized({**sizes, each.shape[0]: rows} if self.batched else sizes)
            drawn = rng.standard_normal(shape) if each.dtype.kind == "f" else rng.integers(0, 2, shape)
            feeds[each.name] = drawn.astype(each.dtype)
        return feeds

    def warm_up(self, settings: Settings, stopped: threading.Event) -> None:
        """Run every session with all numbers of rows and all sizes of the settings, so that no request pays for a first run.

        LoadError if a run fails, or if rows that run together change each other's results. Returns early once `stopped` is set.
        """
        names = list(settings.sizes)
        combinations = [dict(zip(names, values, strict=True)) for values in itertools.product(*settings.sizes.values())]
        most = settings.max_batch if self.batched else 1
        try:
            for sizes in combinations:
                if most > 1:
                    self._check_rows(sizes)
                for rows, session in itertools.product(range(1, most + 1), self.sessions):
                    if stopped.is_set():
                        return
                    session.run(None, self.feeds(sizes, rows))
        except LoadError:
            raise
        except Exception as error:  # ONNX Runtime's own classes
            raise LoadError(f"the warm-up fails: {one_line(error)}") from None

    def _check_rows(self, sizes: dict[str, int]) -> None:
        """Raise LoadError unless two rows give the same results together and alone."""
        session, feeds = self.sessions[0], self.feeds(sizes, 2)
        together = session.run(None, feeds)
        alone = [session.run(None, {name: array[row : row + 1] for name, array in feeds.items()}) for row in range(2)]
        for name, both, *each in zip(self.outputs, together, *alone, strict=True):
            apart = np.concatenate(each)
            if both.shape != apart.shape or not np.allclose(both, apart, rtol=1e-3, atol=1e-3 * float(np.abs(apart).max(initial=0))):
                raise LoadError(f"rows that run together change each other's {name}: start with --max-batch 1")


def load(settings: Settings) -> Model:
    """Create the sessions. LoadError if the model cannot be read, if no node is owned, or if sizes are missing."""
    try:
        factory = _factory(settings)
        sessions = [factory() for _ in range(settings.sessions)]
    except Exception as error:  # ONNX Runtime's own classes
        hint = "; --allow-unowned starts all the same" if "takes no node" in str(error) else ""
        raise LoadError(f"cannot serve {settings.model}: {one_line(error)}{hint}") from None
    first = sessions[0]
    inputs = tuple(_input(value) for value in first.get_inputs())
    names = [i.shape[0] for i in inputs if i.shape]
    elsewhere = [size for i in inputs for size in i.shape[1:]]
    results = [value.shape for value in first.get_outputs()]
    rows = len(names) == len(inputs) and all(isinstance(name, str) and name not in elsewhere for name in names)
    batched = rows and all(shape and not isinstance(shape[0], int) for shape in results)
    decisions = sparse.explain(first) if settings.provider == "sparse" else []
    owned = sum(decision.taken for decision in decisions)
    model = Model(sessions, inputs, tuple(value.name for value in first.get_outputs()), batched, owned, len(decisions))
    opened = model.open_sizes()
    if missing := [name for name in opened if name not in settings.sizes]:
        raise LoadError(f"the sizes of {', '.join(missing)} are open: say which to warm up, such as --size {missing[0]}=64,128")
    if unknown := [name for name in settings.sizes if name not in opened]:
        raise LoadError(f"--size {unknown[0]}: the model has {'the open sizes ' + ', '.join(opened) if opened else 'no open size'}")
    return model


def _factory(settings: Settings) -> Callable[[], ort.InferenceSession]:
    """Return what makes a session: of the sparse provider, or of the CPU provider with the same threads."""
    if settings.provider == "sparse":
        return sparse.SessionFactory(settings.model, settings.options, settings.threads, require_owned=not settings.allow_unowned)
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return lambda: ort.InferenceSession(settings.model, options, providers=["CPUExecutionProvider"])


def _input(value: Any) -> Input:
    """Describe an input. LoadError if it does not hold numbers."""
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    try:
        dtype = np.dtype(FLOATS.get(kind, kind))
    except TypeError:
        raise LoadError(f"input {value.name} is {value.type}: only tensors of numbers can be served") from None
    if dtype.kind not in "fiub":
        raise LoadError(f"input {value.name} is {value.type}: only tensors of numbers can be served")
    shape = tuple(f"{value.name}.{axis}" if size is None else size for axis, size in enumerate(value.shape))
    return Input(value.name, dtype, shape)


def one_line(error: BaseException) -> str:
    """Return the message of an exception without line breaks, at most 500 characters of it."""
    return " ".join(str(error).split())[:500]


def joined(parts: Sequence[Feeds]) -> Feeds:
    """Return the rows of several feeds as one."""
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def split(arrays: Sequence[NDArray[Any]], rows: Sequence[int]) -> Iterator[list[NDArray[Any]]]:
    """Yield the outputs of each part, which has so many rows."""
    start = 0
    for count in rows:
        yield [array[start : start + count] for array in arrays]
        start += count
