"""DepthToSpace, SpaceToDepth and the last part of ConvTranspose. Their C side is `runtime/_shuffle.pyx`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..enums import StepKind
from ..limits import MAX_BLOCK
from ..steps import Step
from .row import StepKindRow, all_floats_or_bytes, require

if TYPE_CHECKING:
    from ..verify import Values


@dataclass(frozen=True, slots=True)
class Shuffle:
    """DepthToSpace, or SpaceToDepth where `to_depth`, by a `block` of pixels; `depth_first` is the order CRD.

    `block` has an entry per spatial dimension (1 to 3). DepthToSpace leaves out the last `crop` pixels of each dimension.
    """

    block: tuple[int, ...]
    depth_first: bool = False
    to_depth: bool = False
    crop: tuple[int, ...] = ()


def _verify(step: Step, x: int, r: int | None, values: Values) -> int:
    shuffle: Shuffle = step.spec
    require(len(shuffle.block) == x - 2, f"blocks of {len(shuffle.block)} dimensions")
    require(all(0 < n <= MAX_BLOCK for n in shuffle.block), f"blocks of {shuffle.block}")
    require(math.prod(shuffle.block) <= MAX_BLOCK**2, f"blocks of {shuffle.block}")
    require(not shuffle.crop or (len(shuffle.crop) == x - 2 and not shuffle.to_depth), "a crop that does not fit")
    require(all(0 <= n < block for n, block in zip(shuffle.crop, shuffle.block, strict=False)), f"a crop of {shuffle.crop}")
    return x


def _describe(step: Step) -> str:
    shuffle: Shuffle = step.spec
    return f"blocks of {'x'.join(map(str, shuffle.block))}"


SHUFFLE = StepKindRow(StepKind.SHUFFLE, Shuffle, _verify, ranks=(3, 5), describe=_describe, check_types=all_floats_or_bytes)
