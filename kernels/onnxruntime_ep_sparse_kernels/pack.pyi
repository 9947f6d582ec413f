from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

class Compressed(NamedTuple):
    rows: int
    depth: int
    start__m: NDArray[np.int64]
    k__n: NDArray[np.uint32]
    value__n: NDArray[np.float32]

def ends_soon() -> None: ...
def compress(weight__mk: NDArray[np.float32]) -> Compressed: ...
def at_places(rows: int, depth: int, places: NDArray[np.int64], values: NDArray[np.float32]) -> Compressed: ...
def transpose(matrix: Compressed) -> Compressed: ...
def common_columns(matrix: Compressed, step: int) -> tuple[int, int]: ...
def pack(
    matrix: Compressed, bounds: NDArray[np.int64], mr: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint32], NDArray[np.float32]]: ...
