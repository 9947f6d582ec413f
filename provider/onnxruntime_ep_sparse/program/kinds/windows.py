"""Pools: MaxPool, AveragePool. Their C side is `runtime/_windows.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..enums import StepKind
from ..steps import BYTES, Step, Window
from ..windows import check_pool, describe_window
from .row import StepKindRow, all_floats_or_bytes, expect_rank, require

if TYPE_CHECKING:
    from ..verify import Values


@dataclass(frozen=True, slots=True)
class Pool:
    """A MaxPool or AveragePool with the attributes of ONNX.

    With `count_beyond_pad`, an average that counts padding also counts what its window reads beyond that.
    """

    window: Window
    is_max: bool = False
    ceil_mode: bool = False
    count_include_pad: bool = False
    count_beyond_pad: bool = False


def _verify(step: Step, x: int, r: int | None, values: Values) -> int:
    pool: Pool = step.spec
    reason = check_pool(pool.window)
    require(reason is None, str(reason))
    return expect_rank(x, len(pool.window.kernel) + 2)


def _check_types(step: Step, values: Values) -> None:
    all_floats_or_bytes(step, values)
    if values.type_of(step.y) in BYTES:
        pool: Pool = step.spec
        require(pool.is_max and len(pool.window.kernel) <= 2, "a pool of bytes that is not a MaxPool of one or two dimensions")


def _describe(step: Step) -> str:
    pool: Pool = step.spec
    return f"{'max' if pool.is_max else 'average'} {describe_window(pool.window)}"


POOL = StepKindRow(StepKind.POOL, Pool, _verify, describe=_describe, check_types=_check_types)
