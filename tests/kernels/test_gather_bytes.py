"""Moves of bytes into tiles and out of them, for every set of kernels."""

import numpy as np
import pytest

from onnxruntime_ep_sparse_kernels import call_bytes
from support.kernel_sets import BYTE_SETS, byte_table_of

SETS = [pytest.param(row, id=row.name) for row in BYTE_SETS]
RUNS = ((0, 0, 1), (3, 1, 7), (20, 8, 8), (1, 16, 15), (5, 31, 16), (-1, 47, 9), (30, 56, 31), (2, 90, 65), (0, 160, 130), (-1, 290, 3))
"""Source, target and length: around the widths of words and of vectors."""


@pytest.mark.parametrize("row", SETS)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("blocks", [False, True])
def test_runs(row, stride, blocks):
    """Runs are copied, channel after channel or four channels together; what no run names stays."""
    rng = np.random.default_rng(stride)
    for channels in (1, 4, 7):
        x__cp = rng.integers(0, 256, (channels, 400)).astype(np.uint8)
        tile = call_bytes.gather(byte_table_of(row), x__cp, RUNS, 300, stride, 201, blocks)
        expected = np.full((-(-channels // 4) * 4 if blocks else channels, 300), 77, np.uint8)
        if blocks:
            expected = np.zeros((4 * len(tile), 300), np.uint8)
            expected[::4] = 77  # the lowest byte of an int32
            x__cp = np.concatenate([x__cp, np.repeat(x__cp[-1:], 4 * len(tile) - channels, axis=0)])
        for source, target, length in RUNS:
            part = x__cp[:, source : source + length * stride : stride] if source >= 0 else 201
            expected[:, target : target + length] = part
        found = tile.view(np.uint8).reshape(len(tile), 300, 4).transpose(0, 2, 1).reshape(-1, 300) if blocks else tile
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
