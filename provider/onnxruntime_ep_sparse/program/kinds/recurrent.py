"""LSTM, GRU and RNN after their input projection. Their C side is `runtime/_recurrent.pyx`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..enums import Cell, ElementType, ShapeRule, StepKind
from ..limits import MAX_HIDDEN
from ..steps import Activation, Step
from .product import Product, check_product, leaves_strips, narrowed, zeros_in
from .row import StepKindRow, expect_shape, never_separable, only_floats, require

if TYPE_CHECKING:
    from ..verify import Values

GATES: dict[Cell, tuple[tuple[int, ...], ...]] = {Cell.LSTM: ((4,),), Cell.GRU: ((3,), (2, 1)), Cell.RNN: ((1,),)}
"""Gates of each phase, in every way that a cell can have."""


@dataclass(frozen=True, slots=True)
class Recurrent:
    """A recurrent node after its input projection, which is x of the step: all gates of all directions, times by sequences.

    Rows of the projection, and of `products` by R (direction by direction, phase by phase), stand in the order of `recurrent.order_of`:
    `gates` says how many a phase has. `activations` are f, g and h of each direction. `peephole__dgh` has the gates i, o, f;
    `late__dh` is the bias of R that a GRU scales by its reset gate. `couples`: f = 1 - i. The last five number values, -1 for none:
    `lengths` is int32 data, `last_h` and `last_c` are results besides y.
    """

    cell: Cell
    hidden: int
    reverse: tuple[bool, ...]
    gates: tuple[int, ...]
    products: tuple[Product, ...]
    activations: tuple[Activation, ...]
    clip: float
    peephole__dgh: NDArray[np.float32] | None
    late__dh: NDArray[np.float32] | None
    couples: bool
    batch_first: bool
    lengths: int
    initial_h: int
    initial_c: int
    last_h: int
    last_c: int


def _check_cell(cell: Recurrent) -> None:
    directions, phases, hidden = len(cell.reverse), len(cell.gates), cell.hidden
    require(
        directions in (1, 2) and cell.gates in GATES[cell.cell], f"{cell.cell.name} with gates {cell.gates[:9]} in {directions} directions"
    )
    require(0 < hidden <= MAX_HIDDEN, f"{hidden} hidden units")
    require(len(cell.activations) == 3 * directions, f"{len(cell.activations)} activations")
    require(len(cell.products) == directions * phases, f"{len(cell.products)} weights")
    require(cell.clip > 0, f"clipped to {cell.clip}")
    for i, product in enumerate(cell.products):
        check_product(product)
        require(product.scale__m is None, f"weight {i} has factors of its sums")
        require(not any(leaves_strips(group.panel) for group in product.groups), f"weight {i} has rows outside their strip")
        found = product.rule, product.m, product.channels, product.batch, product.vector_operand
        expected = ShapeRule.MATMUL_RIGHT, cell.gates[i % phases] * hidden, hidden, (), False
        require(found == expected, f"weights {found}, {expected} are expected")
    if cell.peephole__dgh is not None:
        require(cell.cell == Cell.LSTM, "peepholes are an LSTM's")
        expect_shape(cell.peephole__dgh, (directions, 3, hidden), "the peepholes")
    require((cell.late__dh is not None) == (cell.cell == Cell.GRU and phases == 1), "a late bias of another cell, or none")
    if cell.late__dh is not None:
        expect_shape(cell.late__dh, (directions, hidden), "the late bias")


def _verify(step: Step, x: int, r: int | None, values: Values) -> int:
    cell: Recurrent = step.spec
    _check_cell(cell)
    rows = len(cell.reverse) * sum(cell.gates) * cell.hidden
    require(values.last_sizes.get(step.x) == rows, f"x is not a projection to {rows} rows")
    for value, rank in ((cell.lengths, 1), (cell.initial_h, 3), (cell.initial_c, 3)):
        require(value == -1 or values.rank(value) == rank, f"value {value} does not have {rank} dimensions")
    for value in (cell.last_h, cell.last_c):
        if value != -1:
            values.define(value, 3)
    return 4


def _check_types(step: Step, values: Values) -> None:
    cell: Recurrent = step.spec
    only_floats(step, values)
    values.expect_type(cell.lengths, ElementType.INT32)
    for value in (cell.initial_h, cell.initial_c, cell.last_h, cell.last_c):
        values.expect_type(value, ElementType.FLOAT32)


def _describe(step: Step) -> str:
    cell: Recurrent = step.spec
    directions = " both ways" * (len(cell.reverse) - 1)
    zeros = 100 * zeros_in([group for product in cell.products for group in product.groups])
    return f"{cell.cell.name} {cell.hidden}{directions}, {zeros:.0f} % zeros"


def _for_lanes(cell: Recurrent, before: int, lanes: int) -> Recurrent:
    return replace(cell, products=tuple(narrowed(product, before, lanes) for product in cell.products))


RECURRENT = StepKindRow(
    StepKind.RECURRENT,
    Recurrent,
    _verify,
    ranks=(3, 3),
    separable=never_separable,
    describe=_describe,
    for_lanes=_for_lanes,
    check_types=_check_types,
)
