"""Moves of bytes into tiles and out of them, for every set of kernels."""

import numpy as np
import pytest

from onnxruntime_ep_sparse_kernels import call_bytes
from support.kernel_sets import BYTE_SETS, byte_table_of

SETS = [pytest.param(row, id=row.name) for row in BYTE_SETS]
WIDTH = 640
LENGTHS = (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 65, 130)
RUNS = (*((3 * i % 8, 2 * sum(LENGTHS[:i]), length) for i, length in enumerate(LENGTHS)), (-1, 1, 1), (-1, 3, 3))
"""Source or -1, target and length: around the widths of words and of vectors."""


@pytest.mark.parametrize("row", SETS)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("blocks", [False, True])
def test_runs(row, stride, blocks):
    """Runs are copied, channel after channel or four channels together; what no run names stays."""
    rng = np.random.default_rng(stride)
    for channels in (1, 4, 7):
        x__cp = rng.integers(0, 256, (channels, 420)).astype(np.uint8)
        tile = call_bytes.gather(byte_table_of(row), x__cp, RUNS, WIDTH, stride, 201, blocks)
        expected = np.full((-(-channels // 4) * 4 if blocks else channels, WIDTH), 77, np.uint8)
        if blocks:
            expected = np.zeros((4 * len(tile), WIDTH), np.uint8)
            expected[::4] = 77  # the lowest byte of an int32
            x__cp = np.concatenate([x__cp, np.repeat(x__cp[-1:], 4 * len(tile) - channels, axis=0)])
        for source, target, length in RUNS:
            part = x__cp[:, source : source + length * stride : stride] if source >= 0 else 201
            expected[:, target : target + length] = part
        found = tile.view(np.uint8).reshape(len(tile), WIDTH, 4).transpose(0, 2, 1).reshape(-1, WIDTH) if blocks else tile
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("row", SETS)
def test_rows(row):
    """Matrices are transposed both ways, whatever remains of 16 bytes and of a unit."""
    rng = np.random.default_rng(0)
    for rows, depth in ((1, 1), (3, 16), (16, 17), (33, 40), (65, 31), (130, 48)):
        x__rk = rng.integers(0, 256, (rows, depth)).astype(np.uint8)
        tile__kp = call_bytes.gather_rows(byte_table_of(row), x__rk)
        np.testing.assert_array_equal(tile__kp[:, :rows], x__rk.T)
        assert (tile__kp[:, rows:] == x__rk[-1][:, None]).all()
        np.testing.assert_array_equal(call_bytes.scatter_rows(byte_table_of(row), tile__kp, rows), x__rk)
