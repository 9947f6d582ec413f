"""Reductions, global pools among them, and Softmax. Their C side is `runtime/_reduce.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxruntime_ep_sparse_kernels.elementwise import Act, Op

from ..enums import ElementType, StepKind
from ..limits import MAX_RANK
from ..steps import BYTES, Step
from .quantized import ENTRIES
from .row import Constants, Ranks, StepKindRow, require, same_rank

if TYPE_CHECKING:
    from ..verify import Values


@dataclass(frozen=True, slots=True)
class Reduce:
    """Elements along the `axes` as one number: each by the function `before` (POWER squares), joined by `op` (ADD or MAX), then `after`.

    `mean` divides the sum by the number of elements. With `keeps`, the axes stay as 1. With `takes_empty`, no elements give 0, and -Inf
    as the largest. x may be bytes, of which `zero` is taken before they are added up to a float: exactly, while it stays within 2^24.
    """

    axes: tuple[int, ...]
    op: Op
    before: Act = Act.NONE
    after: Act = Act.NONE
    mean: bool = False
    keeps: bool = True
    takes_empty: bool = False
    zero: float = 0.0


@dataclass(frozen=True, slots=True)
class Softmax:
    """Softmax along `axis`, its logarithm where `is_log`; with `flattens`, along all axes from that one on together.

    `masks`: along the last axis, where -Inf alone gives zeros, as attention defines it for a position that may see none.
    """

    axis: int
    flattens: bool = False
    is_log: bool = False
    masks: bool = False


def _verify_reduce(step: Step, x: int, r: int | None, values: Values) -> int:
    reduce: Reduce = step.spec
    require(len(set(reduce.axes)) == len(reduce.axes), "axes that are there twice")
    require(all(0 <= axis < x for axis in reduce.axes), f"axes {reduce.axes[:9]} of {x} dimensions")
    require(reduce.op in (Op.ADD, Op.MAX), f"a reduction by {reduce.op.name}")
    return x if reduce.keeps else x - len(reduce.axes)


def _check_reduce(step: Step, values: Values) -> None:
    reduce: Reduce = step.spec
    values.expect_type(step.y, ElementType.FLOAT32)
    if values.type_of(step.x) in BYTES:
        require(reduce.op == Op.ADD and reduce.before == Act.NONE, "a reduction of bytes that is not a sum")
        require(-(ENTRIES // 2) <= reduce.zero < ENTRIES, f"the zero point {reduce.zero}")
    else:
        values.expect_type(step.x, ElementType.FLOAT32)


def _separable_reduce(step: Step, constants: Constants, ranks: Ranks) -> bool:
    reduce: Reduce = step.spec
    return 0 not in reduce.axes


def _describe_reduce(step: Step) -> str:
    reduce: Reduce = step.spec
    before = "" if reduce.before == Act.NONE else f" of {reduce.before.name.lower()}"
    return ("average" if reduce.mean else {Op.ADD: "sum", Op.MAX: "max"}[reduce.op]) + before


def _verify_softmax(step: Step, x: int, r: int | None, values: Values) -> int:
    softmax: Softmax = step.spec
    require(0 <= softmax.axis < x, f"axis {softmax.axis} of {x} dimensions")
    require(not softmax.masks or (softmax.axis == x - 1 and not softmax.is_log), "masks along another axis, or of a logarithm")
    return same_rank(step, x, r, values)


def _separable_softmax(step: Step, constants: Constants, ranks: Ranks) -> bool:
    softmax: Softmax = step.spec
    return softmax.axis >= 1


def _describe_softmax(step: Step) -> str:
    softmax: Softmax = step.spec
    return f"axis {softmax.axis}"


REDUCE = StepKindRow(
    StepKind.REDUCE, Reduce, _verify_reduce, separable=_separable_reduce, describe=_describe_reduce, check_types=_check_reduce
)
SOFTMAX = StepKindRow(
    StepKind.SOFTMAX, Softmax, _verify_softmax, ranks=(1, MAX_RANK), separable=_separable_softmax, describe=_describe_softmax
)
