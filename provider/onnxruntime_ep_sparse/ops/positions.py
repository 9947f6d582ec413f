"""Positions of sequences and matrices, integers that depend on sizes alone."""

from __future__ import annotations

from ..program.builder import Builder
from ..program.enums import ElementType, NumberOp, StepKind
from ..program.kinds.integers import Range
from ..program.kinds.layout import Reshape
from ..program.steps import Step


def literal(builder: Builder, number: int) -> int:
    """Return the number of the plan that is always this one."""
    return builder.compute(NumberOp.LITERAL, shape=(), integers=(number,)).y


def whole_value(builder: Builder, rank: int) -> int:
    """Return a new value of int64."""
    value = builder.new_value(rank)
    builder.types[value] = ElementType.INT64
    return value


def counted(builder: Builder, end: int, first: int | None = None) -> int:
    """Append a step that makes the integers from `first`, 0 without, to before `end`, numbers of the plan; return its result."""
    y = whole_value(builder, 1)
    begin = literal(builder, 0) if first is None else first
    builder.step(Step(StepKind.RANGE, begin, y, spec=Range(end, literal(builder, 1))))
    return y


def as_column(builder: Builder, positions: int) -> int:
    """Append a step that puts positions into the rows of a matrix of one column, which is returned."""
    y = whole_value(builder, 2)
    builder.step(Step(StepKind.RESHAPE, positions, y, spec=Reshape(inserted=(1,))))
    return y
