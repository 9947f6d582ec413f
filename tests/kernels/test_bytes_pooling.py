"""Pooling kernels for bytes of every set against numpy: equal in every element."""

import numpy as np
import pytest

from onnxruntime_ep_sparse_kernels import call_bytes
from support.byte_steps import max_of_windows
from support.kernel_sets import BYTE_SETS, byte_table_of

WINDOWS = {
    "2x2/2": ((2, 2), (2, 2), (0, 0), (1, 1)),
    "3x3/2": ((3, 3), (2, 2), (1, 1), (1, 1)),
    "5x5/1": ((5, 5), (1, 1), (2, 2), (1, 1)),
    "dilated": ((2, 3), (1, 2), (1, 2), (3, 2)),
    "3x2/3": ((3, 2), (2, 3), (1, 1), (1, 1)),
    "beside the image": ((2, 2), (1, 1), (8, 8), (9, 9)),
}


@pytest.mark.parametrize("row", BYTE_SETS, ids=lambda row: row.name)
@pytest.mark.parametrize("name", WINDOWS)
def test_max_pool(row, name):
    """Widths around those of vectors; windows that overlap the padding, and those that have nothing but padding."""
    rng = np.random.default_rng(1)
    for i, width in enumerate((5, 16, 20, 31, 33, 64, 65, 70, 130, 259)):
        x = rng.integers(0, 256, (3 + 2 * i, width)).astype(np.uint8).view((np.uint8, np.int8)[i & 1])
        kernel, strides, pads, dilations = WINDOWS[name]
        y = call_bytes.max_pool(byte_table_of(row), x, kernel, strides, pads, dilations)
        np.testing.assert_array_equal(y, max_of_windows(x[None, None], kernel, strides, (*pads, *pads), dilations)[0, 0])
