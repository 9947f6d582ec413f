"""Activations and binary operators. Their C side is `runtime/_elementwise.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxruntime_ep_sparse_kernels.elementwise import Op

from ..enums import StepKind
from ..steps import Step
from .row import Constants, Ranks, SecondOperand, StepKindRow, same_rank

if TYPE_CHECKING:
    from ..verify import Values


@dataclass(frozen=True, slots=True)
class Binary:
    """An operator of two operands, which broadcast as in ONNX. With `keeps_x`, the result has the shape of x, as C of a Gemm demands."""

    op: Op
    keeps_x: bool = False


def _verify_binary(step: Step, x: int, r: int | None, values: Values) -> int:
    return max(x, r or 0)


def separable_operands(step: Step, constants: Constants, ranks: Ranks) -> bool:
    """Return whether the batch of two operands that broadcast can be cut: both have it, or one is constant and has none."""
    x, r = constants.get(step.x), constants.get(step.r)
    if x is None and r is None:
        return step.x in ranks and ranks[step.x] == ranks.get(step.r)
    array, rank = (r, ranks.get(step.x, 0)) if x is None else (x, ranks.get(step.r, 0))
    assert array is not None
    return array.ndim < rank or (array.ndim == rank > 0 and array.shape[0] == 1)


def _describe_activation(step: Step) -> str:
    return step.activation.act.name.lower()


def _describe_binary(step: Step) -> str:
    binary: Binary = step.spec
    return binary.op.name.lower()


ACTIVATE = StepKindRow(StepKind.ACTIVATE, type(None), same_rank, describe=_describe_activation)
BINARY = StepKindRow(
    StepKind.BINARY,
    Binary,
    _verify_binary,
    second=SecondOperand.REQUIRED,
    separable=separable_operands,
    describe=_describe_binary,
)
