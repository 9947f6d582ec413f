import numpy as np
from numpy.typing import NDArray

def after_gaps(gaps: NDArray[np.uint8]) -> tuple[NDArray[np.int64], int]: ...
