"""Pools: MaxPool, AveragePool and the global ones. Their C side is `runtime/_windows.pyx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..enums import StepKind
from ..limits import MAX_RANK
from ..steps import Step, Window
from ..windows import check_pool, describe_window
from .row import StepKindRow, expect_rank, require, same_rank

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


@dataclass(frozen=True, slots=True)
class GlobalPool:
    """The maximum or the mean of every channel. With `takes_empty`, the mean of no pixels is 0, as ReduceMean's in ONNX Runtime."""

    is_max: bool = False
    takes_empty: bool = False


def _verify(step: Step, x: int, r: int | None, values: Values) -> int:
    pool: Pool = step.spec
    reason = check_pool(pool.window)
    require(reason is None, str(reason))
    require(len(pool.window.kernel) <= 2, "a pool of a form that is not supported")
    return expect_rank(x, len(pool.window.kernel) + 2)


def _describe(step: Step) -> str:
    pool: Pool = step.spec
    return f"{_reduction(pool.is_max)} {describe_window(pool.window)}"


def _describe_global(step: Step) -> str:
    pool: GlobalPool = step.spec
    return _reduction(pool.is_max)


def _reduction(is_max: bool) -> str:
    return "max" if is_max else "average"


POOL = StepKindRow(StepKind.POOL, Pool, _verify, describe=_describe)
GLOBAL_POOL = StepKindRow(StepKind.GLOBAL_POOL, GlobalPool, same_rank, ranks=(3, MAX_RANK), describe=_describe_global)
