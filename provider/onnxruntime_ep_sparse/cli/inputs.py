"""Inputs for a run of a model: random ones, or those of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..models.inputs import check_feeds, inputs_for, load_arrays, shape_words
from .common import UsageError


def feeds_for(
    session: Any, batch: int | None = None, shapes: list[str] | None = None, file: str | None = None, seed: int = 0
) -> dict[str, NDArray]:
    """Return inputs for a session: those of the npz `file`, or random ones. UsageError if they do not fit the model."""
    if file is not None:
        if batch is not None or shapes:
            raise UsageError("the arrays of --inputs have shapes already: leave out --batch and --shape")
        return _from_file(session, file)
    given = shapes_for(session, shapes)
    for i in session.get_inputs():
        if batch is not None and i.name not in given and i.shape and isinstance(i.shape[0], int) and i.shape[0] != batch:
            raise UsageError(f"--batch {batch}: the model fixes the first dimension of {i.name} to {i.shape[0]}")
    try:
        return inputs_for(session, batch=batch or 1, shapes=given, seed=seed)
    except ValueError as error:
        raise UsageError(f"{error}: give --inputs") from None


def shapes_for(session: Any, shapes: list[str] | None) -> dict[str, tuple[int, ...]]:
    """Return the shapes of `--shape NAME=1x3x224x224`. UsageError if they do not fit the model. A name may contain `=`."""
    declared = {i.name: tuple(i.shape) for i in session.get_inputs()}
    given = {}
    for text in shapes or ():
        name, equals, dimensions = text.rpartition("=")
        parts = dimensions.split("x") if dimensions else []
        if not equals or not name or not all(part.isdecimal() for part in parts):
            raise UsageError(f"--shape {text!r}: expected NAME=1x3x224x224")
        if name not in declared:
            raise UsageError(f"--shape: the model has no input {name!r}, its inputs are {', '.join(declared)}")
        given[name] = tuple(map(int, parts))
        if len(given[name]) != len(declared[name]) or any(
            isinstance(d, int) and d != g for d, g in zip(declared[name], given[name], strict=True)
        ):
            raise UsageError(f"--shape: {name} is {shape_words(declared[name])} in the model, not {shape_words(given[name])}")
    return given


def open_sizes_for(session: Any, batch: int | None, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Return the sizes that `--batch` and `--shape` give to named dimensions which the model leaves open."""
    sizes: dict[str, int] = {}
    for i in session.get_inputs():
        given = shapes.get(i.name, (batch,) if batch is not None else ())
        sizes |= {d: int(size) for d, size in zip(i.shape, given, strict=False) if isinstance(d, str)}
    return sizes


def _from_file(session: Any, file: str) -> dict[str, NDArray]:
    try:
        arrays = load_arrays(Path(file), "arrays")
        check_feeds(arrays, session.get_inputs(), file)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return {i.name: arrays[i.name] for i in session.get_inputs()}
