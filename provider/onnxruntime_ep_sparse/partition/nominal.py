"""Shapes at which a region is measured: open dimensions get a nominal size, batches and rows several ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..graph.ir import BYTES, FLOAT, Graph, printable, shape_of, type_name
from ..ops import costs
from ..ops.table import row_for
from .verdict import UnmeasuredError

COUNTS = (1, 8, 128)
"""Numbers of rows, or of items of a batch, where that is open."""
SEQUENCE_RANK = 3


@dataclass(frozen=True, slots=True)
class Sizes:
    """Shapes of a region's inputs, by name; `count` is what stands for an open number of rows or items (`unit`), else None."""

    count: int | None
    unit: str
    shapes: dict[str, tuple[int, ...]]


def sizes_of(region: Graph) -> list[Sizes]:
    """Return the shapes at which `region` is to be measured: one for each of COUNTS, or one in all if no such dimension is open.

    Dimensions of one name have one size. Where inputs have an open number of tokens, one sequence of so many rows stands for a batch. The
    sequences of a recurrent node have `NOMINAL_TIMES` times. UnmeasuredError if an input is not float32: random
    values would not suit it.
    """
    for name in region.inputs:
        if region.values[name].dtype not in (FLOAT, *BYTES):
            raise UnmeasuredError(f"its input {printable(name)!r} is {type_name(region.values[name].dtype)}")
    unit = next((_unit(region, name, axis) for name, axis in _open(region) if _unit(region, name, axis)), "")
    counts = COUNTS if unit else (None,)
    return [Sizes(count, unit, _shapes(region, count)) for count in counts]


def _open(region: Graph) -> Iterator[tuple[str, int]]:
    """Yield the name and the axis of every open dimension of the inputs."""
    for name in region.inputs:
        yield from ((name, axis) for axis, size in enumerate(shape_of(region, name)) if not isinstance(size, int))


def _unit(region: Graph, name: str, axis: int) -> str:
    """Return what an open dimension counts, or "" if it has one nominal size."""
    rank, times = len(shape_of(region, name)), _axis_of_times(region, name)
    if times is not None:
        return "item" if axis == 1 - times else ""
    if rank < SEQUENCE_RANK:
        return "row"
    if _has_sequences(region):
        return "row" if axis > 0 else ""
    return "item" if axis == 0 else ""


def _has_sequences(region: Graph) -> bool:
    """Return whether an input of three dimensions has an open second one: tokens, whose number other inputs and products share."""
    shapes = [shape_of(region, name) for name in region.inputs if _axis_of_times(region, name) is None]
    return any(len(shape) == SEQUENCE_RANK and not isinstance(shape[1], int) for shape in shapes)


def _axis_of_times(region: Graph, name: str) -> int | None:
    """Return the axis that holds the times if a recurrent node reads the input as its sequences, else None."""
    for node in region.consumers.get(name, ()):
        row = row_for(node)
        if row is not None and row.role == "recurrent" and node.inputs[0] == name:
            return 1 if node.attributes.get("layout") else 0
    return None


def _shapes(region: Graph, count: int | None) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all inputs with `count` for what a unit counts."""
    named: dict[str, int] = {}
    shapes = {name: list(shape_of(region, name)) for name in region.inputs}
    for name, axis in _open(region):
        shape = shapes[name]
        size = _nominal(region, name, axis) if not _unit(region, name, axis) else count
        symbol = shape[axis]
        shape[axis] = named.setdefault(symbol, size) if isinstance(symbol, str) and size is not None else size
    return {name: tuple(size for size in shape if isinstance(size, int)) for name, shape in shapes.items()}


def _nominal(region: Graph, name: str, axis: int) -> int:
    """Return the size of an open dimension that counts no unit."""
    if axis == _axis_of_times(region, name):
        return costs.NOMINAL_TIMES
    if axis == 0:
        return costs.NOMINAL_BATCH
    return costs.NOMINAL_SPATIAL if len(shape_of(region, name)) > SEQUENCE_RANK else costs.NOMINAL_ROWS
