from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

class Csr(NamedTuple):
    rows: int
    depth: int
    start__m: NDArray[np.int64]
    k__n: NDArray[np.uint32]
    value__n: NDArray[np.float32]

def use_own_pages() -> None: ...
def compress(weight__mk: NDArray[np.float32]) -> Csr: ...
def at_places(rows: int, depth: int, places: NDArray[np.int64], values: NDArray[np.float32]) -> Csr: ...
def transpose(matrix: Csr) -> Csr: ...
def common_columns(matrix: Csr, step: int) -> tuple[int, int]: ...
def pack(
    matrix: Csr, bounds: NDArray[np.int64], mr: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint32], NDArray[np.float32]]: ...
