"""Packing of pruned matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onnxruntime_ep_sparse_kernels.pack import pack

VALUES = st.sampled_from([0.0, 0.0, 0.0, -0.0, 1.5, -2.0, 1e-45, np.inf, np.nan])


@st.composite
def problems(draw):
    """A matrix, the bounds of its K blocks (empty ones too), the height of its row groups."""
    mr = draw(st.sampled_from([1, 2, 4]))
    rows, depth = mr * draw(st.integers(0, 5)), draw(st.integers(0, 12))
    weight__mk = draw(arrays(np.float32, (rows, depth), elements=VALUES.map(np.float32)))
    inner = draw(st.lists(st.integers(0, depth), max_size=4))
    return weight__mk, np.array([0, *sorted(inner), depth], np.int64), mr


def unpack(row_start__bg, k__n, value__nr, shape):
    """The dense matrix again."""
    mr = value__nr.shape[1]
    weight__mk = np.zeros(shape, np.float32)
    for row_start__g in row_start__bg:
        for g in range(len(row_start__g) - 1):
            for j in range(row_start__g[g], row_start__g[g + 1]):
                weight__mk[g * mr : (g + 1) * mr, k__n[j]] = value__nr[j]
    return weight__mk


@given(problems())
def test_round_trip(problem):
    """Unpacking gives the matrix back; NaN counts as a value, -0.0 as zero."""
    weight__mk, bounds, mr = problem
    np.testing.assert_array_equal(unpack(*pack(weight__mk, bounds, mr), weight__mk.shape), weight__mk)


@given(problems())
def test_order(problem):
    """Every entry stands in its block and group, columns ascend within, and each holds at least one nonzero."""
    weight__mk, bounds, mr = problem
    row_start__bg, k__n, value__nr = pack(weight__mk, bounds, mr)
    kept = (weight__mk.reshape(len(weight__mk) // mr, mr, weight__mk.shape[1]) != 0).any(axis=1)
    assert row_start__bg.shape == (len(bounds) - 1, len(weight__mk) // mr + 1)
    place = 0
    for b, row_start__g in enumerate(row_start__bg):
        for g in range(len(kept)):
            columns = bounds[b] + np.flatnonzero(kept[g, bounds[b] : bounds[b + 1]])
            assert row_start__g[g] == place
            place += len(columns)
            assert list(k__n[row_start__g[g] : place]) == list(columns)
        assert row_start__g[-1] == place
    assert len(k__n) == len(value__nr) == place


@pytest.mark.parametrize(("rows", "bounds", "mr"), [(5, (0, 8), 4), (4, (0, 7), 1), (4, (0, 9), 4)])
def test_misfit(rows, bounds, mr):
    """Rows that are no multiple of the group, bounds that do not end with K."""
    with pytest.raises(ValueError, match=f"{rows}x8 weights do not fit row groups of {mr}"):
        pack(np.ones((rows, 8), np.float32), np.array(bounds, np.int64), mr)
