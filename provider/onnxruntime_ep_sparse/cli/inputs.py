"""The inputs a model is run with: random ones of its own signature, or those of a file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .common import UsageError

DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(int16)": np.int16,
    "tensor(uint16)": np.uint16,
    "tensor(int32)": np.int32,
    "tensor(uint32)": np.uint32,
    "tensor(int64)": np.int64,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}


def feeds_for(
    session: Any, batch: int | None = None, shapes: list[str] | None = None, file: str | None = None, seed: int = 0
) -> dict[str, NDArray]:
    """Inputs for a session: those of the npz `file`, or random ones. UsageError for what does not fit the model."""
    if file is not None:
        if batch is not None or shapes:
            raise UsageError("--inputs already has shapes: leave out --batch and --shape")
        return _from_file(session, file)
    given = shapes_for(session, shapes)
    rng = np.random.default_rng(seed)
    return {i.name: _random(i, _shape(i, batch, given.get(i.name)), rng) for i in session.get_inputs()}


def shapes_for(session: Any, shapes: list[str] | None) -> dict[str, tuple[int, ...]]:
    """`name=1x3x224x224` from the command line, as far as the model allows it. An input's name may itself hold `=`."""
    declared = {i.name: tuple(i.shape) for i in session.get_inputs()}
    given = {}
    for text in shapes or ():
        name, equals, dimensions = text.rpartition("=")
        parts = dimensions.split("x") if dimensions else []
        if not equals or not name or not all(part.isdecimal() for part in parts):
            raise UsageError(f"--shape {text}: NAME=1x3x224x224 is wanted")
        if name not in declared:
            raise UsageError(f"--shape: the model has no input {name!r}, its inputs are {', '.join(declared)}")
        given[name] = tuple(map(int, parts))
        if len(given[name]) != len(declared[name]) or any(
            isinstance(d, int) and d != g for d, g in zip(declared[name], given[name], strict=True)
        ):
            raise UsageError(f"--shape: {name} is {_words(declared[name])} in the model, not {_words(given[name])}")
    return given


def _shape(model_input: Any, batch: int | None, given: tuple[int, ...] | None) -> tuple[int, ...]:
    """What is given, else what the model fixes; an open first dimension is the batch."""
    if given is not None:
        return given
    name, shape = model_input.name, list(model_input.shape)
    if shape and not isinstance(shape[0], int):
        shape[0] = batch or 1
    elif shape and batch not in (None, shape[0]):
        raise UsageError(f"--batch {batch}: the model fixes the first dimension of {name} to {shape[0]}")
    if not all(isinstance(d, int) for d in shape):
        raise UsageError(f"{name} has open dimensions: give --shape {name}={_words(shape)} with numbers")
    return tuple(shape)


def _random(model_input: Any, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray:
    """Normal floats; integers 0 and 1, which serve as masks and as indices of any table."""
    dtype = _dtype(model_input)
    if np.issubdtype(dtype, np.floating):
        return rng.standard_normal(shape, np.float32).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)


def _dtype(model_input: Any) -> Any:
    if model_input.type not in DTYPES:
        raise UsageError(f"{model_input.name} is a {model_input.type}, which cannot be made here")
    return DTYPES[model_input.type]


def _from_file(session: Any, file: str) -> dict[str, NDArray]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive.items())
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UsageError(f"cannot read {file}: {getattr(error, 'strerror', None) or 'not an npz file of arrays'}") from None
    except Exception as error:  # a damaged archive: zipfile.BadZipFile, zlib.error
        raise UsageError(f"cannot read {file}: {error}") from None
    wanted = [i.name for i in session.get_inputs()]
    if set(arrays) != set(wanted):
        raise UsageError(f"{file} has {', '.join(arrays) or 'nothing'}; the model's inputs are {', '.join(wanted)}")
    for i in session.get_inputs():
        array = arrays[i.name]
        if array.dtype != _dtype(i):
            raise UsageError(f"{file}: {i.name} is {array.dtype}, the model wants {np.dtype(_dtype(i))}")
        declared = tuple(i.shape)
        if array.ndim != len(declared):
            raise UsageError(f"{file}: {i.name} has rank {array.ndim}, the model wants {_words(declared)}")
        if any(isinstance(d, int) and d != g for d, g in zip(declared, array.shape, strict=True)):
            raise UsageError(f"{file}: {i.name} is {_words(array.shape)}, the model wants {_words(declared)}")
    return {name: arrays[name] for name in wanted}


def _words(shape: Any) -> str:
    return "x".join("?" if d is None else str(d) for d in shape) or "a scalar"
