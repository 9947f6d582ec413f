"""Whether a program that comes from a file may be run: all that the C side relies upon, which `pipeline.py` gives by construction.

Here stand the numbers of values and their ranks; the rows of `kinds/table.py` check the data of each kind of step: windows, tables of taps,
packed weights, cells. The shapes of the inputs are checked when a plan is made, in C, which relies upon the ranks found here.
"""

from __future__ import annotations

import math
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from . import numbers
from .enums import ElementType
from .kinds.row import SecondOperand, require
from .kinds.table import ROWS, is_separable, made_of_constants
from .limits import MAX_RANK, MAX_SIZE
from .steps import Numbers, ProgramSpec, Step

VALUES_PER_PART = 16
"""Numbers of values that a step, input or constant may stand for: fused nodes leave some unused."""


def check(program: ProgramSpec) -> None:
    """ValueError that names the first step and what is wrong with it."""
    values = Values(program)
    require(not any(step.completes for step in program.steps[:1]), "a first step that completes another")
    waiting = list(reversed(program.computed))
    for i, (step, after) in enumerate(zip_longest(program.steps, program.steps[1:])):
        values.index = i
        try:
            _compute(waiting, i, values)
            _check_step(step, values)
            _check_addition(step, after)
        except ValueError as error:
            raise ValueError(f"step {i} ({step.name[:80]}): {error}") from None
    _compute(waiting, len(program.steps), values)
    require(not waiting, "numbers out of order")
    require(values.contents.isdisjoint(values.read), "contents of an input that steps read")
    outputs = list(program.outputs.values())
    require(all(v in values.made for v in outputs) and len(set(outputs)) == len(outputs), "outputs that no step makes, or twice the same")
    if program.separable:
        origins = numbers.origins_of(program.computed, values.constants)
        cut = all(is_separable(step, values.constants, values.ranks, origins) for step in program.steps)
        cut = cut and made_of_constants(program.steps, values.constants).isdisjoint(outputs)
        require(cut and numbers.all_separable(program.computed, outputs), "the batch cannot be cut")


class Values:
    """The ranks of the values that are known before step `index`; every value is made once, and read only afterwards."""

    def __init__(self, program: ProgramSpec) -> None:
        inputs, constants = list(program.inputs.values()), program.all_constants
        require(len(constants) == len(program.constants) + len(program.integers), "a constant that is there twice")
        parts = len(inputs) + len(constants) + len(program.steps) + len(program.computed)
        require(0 < program.n_values <= VALUES_PER_PART * parts, f"{program.n_values} values in {parts} inputs, constants and steps")
        require(len(program.outputs) > 0, "a program without outputs")
        self.n_values = program.n_values
        self.constants: dict[int, NDArray] = constants
        self.type_of = program.type_of
        require(all(0 <= value < program.n_values for value in program.types), "an element type of a value that does not exist")
        bits = {np.dtype(program.type_of(value).bits).itemsize for value in program.constants}
        require(bits <= {4}, "constants whose elements do not have 4 bytes")
        require(all(program.type_of(value) == ElementType.INT64 for value in program.integers), "constants of int64 that are others")
        self.index = 0
        self.ranks: dict[int, int] = {}
        self.made: set[int] = set()
        self.last_sizes: dict[int, int] = {}
        """The size of the last dimension of the values that products of matrices make."""
        self.inputs = frozenset(inputs)
        self.lists: dict[int, Numbers] = {}
        """Values that are numbers of the plan."""
        self.contents: set[int] = set()
        """Inputs whose contents the plan reads."""
        self.read: set[int] = set()
        """Values whose elements steps read."""
        self.incomplete: dict[int, tuple[int, ...]] = {}
        """Results of several steps that later ones complete, with what these steps must have in common."""
        self.last_maker = {step.y: i for i, step in enumerate(program.steps)}
        require(len(program.ranks) == len(inputs), f"{len(program.ranks)} ranks of {len(inputs)} inputs")
        for value, rank in zip(inputs, program.ranks, strict=True):
            self.define(value, rank)
        for value, array in constants.items():
            require(math.prod(max(d, 1) for d in array.shape) <= MAX_SIZE, f"a constant has the shape {array.shape}")
            self.define(value, array.ndim)
        self.made.clear()

    def define(self, value: int, rank: int) -> None:
        """Record a value that was not there before; ValueError if it was, or if its rank is too large."""
        self.expect_new(value)
        require(0 <= rank <= MAX_RANK, f"value {value} has {rank} dimensions, at most {MAX_RANK} are supported")
        self.ranks[value] = rank
        self.made.add(value)

    def expect_new(self, value: int) -> None:
        """ValueError unless this is a number of a value that no step has made or begun."""
        fresh = value not in self.ranks and value not in self.incomplete
        require(fresh and 0 <= value < self.n_values, f"value {value} is made twice or does not exist")

    def begin(self, value: int, common: tuple[int, ...]) -> None:
        """Record a value that this step and later ones make, and what they have in common."""
        self.expect_new(value)
        self.incomplete[value] = common

    def completes(self, step: Step) -> bool:
        """Return whether the current step is the last that makes its result, which may then be defined."""
        if self.last_maker[step.y] != self.index:
            return False
        del self.incomplete[step.y]
        return True

    def rank(self, value: int) -> int:
        """Return the rank of a value that is read; ValueError if it is not made yet, or are truths of the plan."""
        require(value not in self.lists or self.type_of(value) != ElementType.BOOL, f"value {value} is truths of the plan")
        self.read.add(value)
        return self.rank_of_any(value)

    def rank_of_any(self, value: int) -> int:
        """Return the rank of a value; ValueError if it is not made yet."""
        require(value in self.ranks, f"value {value} is read before it is made")
        return self.ranks[value]

    def expect_type(self, value: int, element: ElementType) -> None:
        """ValueError unless a value has this element type; -1 stands for none and passes."""
        found = self.type_of(value)
        require(value == -1 or found == element, f"value {value} is {found.name.lower()}, {element.name.lower()} is expected")

    def list_of(self, value: int) -> Numbers:
        """Return numbers of the plan; ValueError if the value is something else or not made yet."""
        require(value in self.lists, f"value {value} is not numbers of the plan")
        return self.lists[value]

    def shape_of(self, value: int) -> int:
        """Return how many integers of the plan a value is; ValueError if there are other elements, or more than MAX_RANK."""
        found = self.list_of(value)
        require(self.type_of(value) == ElementType.INT64 and found.count <= MAX_RANK, f"value {value} is not a shape")
        return found.count

    def read_contents(self, value: int, rank: int) -> None:
        """Record an input whose contents the plan reads; ValueError if it is not an input, or of another rank."""
        require(value in self.inputs and self.ranks[value] == rank, f"value {value} is not an input of {rank} dimensions")
        require(value not in self.contents, f"value {value} is read twice")
        self.contents.add(value)


def _compute(waiting: list[Numbers], index: int, values: Values) -> None:
    """Verify the numbers that come before step `index`, and take them from the end of the list."""
    while waiting and waiting[-1].before == index:
        numbers.verify(waiting.pop(), values)


def _check_addition(step: Step, after: Step | None) -> None:
    """ValueError unless a step that adds its residual if it has the shape of the result is followed by one that adds it else."""
    adds = ROWS[step.kind].second == SecondOperand.ADDEND and step.r != -1
    completes = after is not None and after.completes
    require(adds == completes, "a residual without the step that adds it, or the reverse")
    if after is not None and completes:
        second = ROWS[after.kind].second
        require(second == SecondOperand.REQUIRED and (after.x, after.r) == (step.y, step.r), "another step than that adds the residual")


def _check_step(step: Step, values: Values) -> None:
    row, x = ROWS[step.kind], values.rank(step.x)
    require(row.second != SecondOperand.NONE or step.r == -1, "a second operand")
    require(row.second != SecondOperand.REQUIRED or step.r != -1, "one operand, two are expected")
    r = values.rank(step.r) if step.r != -1 else None
    require(type(step.spec) is row.spec, "data of another kind of step, or none")
    least, most = row.ranks
    require(least <= x <= most, f"x has {x} dimensions, {least if least == most else f'{least} to {most}'} are expected")
    rank = row.verify(step, x, r, values)
    row.check_types(step, values)
    if rank is None:
        return
    require(row.second != SecondOperand.ADDEND or r in (None, rank), "the addend has another rank than the result")
    values.define(step.y, rank)
