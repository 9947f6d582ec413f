"""Products of two values that a run computes. Their C side is `runtime/_pair_product.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..enums import StepKind
from ..limits import MAX_RANK
from ..steps import Step
from .row import Constants, Ranks, SecondOperand, StepKindRow, require

if TYPE_CHECKING:
    from ..verify import Values


@dataclass(frozen=True, slots=True)
class PairProduct:
    """x times r as in ONNX's MatMul, of x and r with their dimensions in the orders `x_order` and `r_order`, () as they are.

    The result then gets its dimensions in the order `y_order`. Each order leaves the last dimension in one of the last two places; that of
    the result leaves it in its place.
    """

    x_order: tuple[int, ...] = ()
    r_order: tuple[int, ...] = ()
    y_order: tuple[int, ...] = ()


def is_order(order: tuple[int, ...], rank: int, places: int) -> bool:
    """Return whether these are the dimensions of such a rank in another order, the last of them in one of the last `places`."""
    return not order or (sorted(order) == list(range(rank)) and rank - 1 in order[-places:])


def _verify(step: Step, x: int, r: int | None, values: Values) -> int:
    spec: PairProduct = step.spec
    assert r is not None
    require(2 <= r <= MAX_RANK, f"the second operand has {r} dimensions, 2 to {MAX_RANK} are expected")
    for order, rank, places in ((spec.x_order, x, 2), (spec.r_order, r, 2), (spec.y_order, max(x, r), 1)):
        require(is_order(order, rank, places), f"the order {order[:9]} of {rank} dimensions")
    return max(x, r)


def _separable(step: Step, constants: Constants, ranks: Ranks) -> bool:
    """Return whether both operands have the batch, which is not one of their matrices' dimensions."""
    spec: PairProduct = step.spec
    x, r = ranks.get(step.x), ranks.get(step.r)
    first = all(order[:1] in ((), (0,)) for order in (spec.x_order, spec.r_order, spec.y_order))
    return first and x is not None and x == r and x > 2 and step.x not in constants and step.r not in constants


PAIR_PRODUCT = StepKindRow(
    StepKind.PAIR_PRODUCT, PairProduct, _verify, second=SecondOperand.REQUIRED, ranks=(2, MAX_RANK), separable=_separable
)
