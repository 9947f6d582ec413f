import numpy as np
from numpy.typing import NDArray

def pack(
    weight__mk: NDArray[np.float32], bounds: NDArray[np.int64], mr: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint32], NDArray[np.float32]]: ...
