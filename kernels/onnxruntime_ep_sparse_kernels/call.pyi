from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def spmm(
    capsule: object,
    mr: int,
    nv: int,
    row_start: NDArray[np.int32],
    row__gr: NDArray[np.int32],
    offset__nc: NDArray[np.uint16],
    value__nr: NDArray[np.float32],
    tile: NDArray[np.float32],
    bias__m: NDArray[np.float32] | None,
    y__mp: NDArray[np.float32],
    residual__mp: NDArray[np.float32] | None = None,
    low: float = ...,
    high: float = ...,
    finish: bool = True,
    repeat: int = 1,
) -> None: ...
def depthwise(
    capsule: object,
    x__hw: NDArray[np.float32],
    weight__kk: NDArray[np.float32],
    bias: float,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int] = ...,
    rows_per_call: int = ...,
    low: float = ...,
    high: float = ...,
) -> NDArray[np.float32]: ...
def activate(
    capsule: object,
    x: NDArray[np.float32],
    act: int,
    alpha: float = 0,
    beta: float = 0,
    residual: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]: ...
def binary(capsule: object, a: NDArray[np.float32], b: NDArray[np.float32], op: int) -> NDArray[np.float32]: ...
def widen(capsule: object, bits: NDArray[np.uint16], half: bool) -> NDArray[np.float32]: ...
def narrow(capsule: object, x: NDArray[np.float32], half: bool) -> NDArray[np.uint16]: ...
