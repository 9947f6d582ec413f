"""Packing of pruned matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onnxruntime_ep_sparse_kernels.isa import APART, SHARED, STRIP
from onnxruntime_ep_sparse_kernels.pack import alike_rows, compress, pack

VALUES = st.sampled_from([0.0, 0.0, 0.0, -0.0, 1.5, -2.0, 1e-45, np.inf, np.nan])


@st.composite
def problems(draw):
    """A matrix, the bounds of its K blocks (empty ones too), the kind of its row groups."""
    rows, depth = draw(st.integers(0, 70)), draw(st.integers(0, 12))
    weight__mk = draw(arrays(np.float32, (rows, depth), elements=VALUES.map(np.float32)))
    inner = draw(st.lists(st.integers(0, depth), max_size=4))
    return weight__mk, np.array([0, *sorted(inner), depth], np.int64), draw(st.sampled_from([APART, SHARED]))


def entries(packed):
    """(block, group, its rows, its entries' columns of shape (n, mr), their values) for every group."""
    row_start__bg, row__bgr, k__nc, value__nr = packed
    k__nr = np.broadcast_to(k__nc, value__nr.shape)
    for b, row_start__g in enumerate(row_start__bg):
        for g in range(len(row_start__g) - 1):
            inside = slice(row_start__g[g], row_start__g[g + 1])
            yield b, g, row__bgr[b, g], k__nr[inside], value__nr[inside]


@given(problems())
def test_round_trip(problem):
    """Unpacking gives the matrix back; NaN counts as a value, -0.0 as zero."""
    weight__mk, bounds, mr = problem
    unpacked = np.zeros_like(weight__mk)
    for _, _, rows, k__nr, value__nr in entries(pack(compress(weight__mk), bounds, mr)):
        for r, row in enumerate(rows):
            kept = value__nr[:, r] != 0
            unpacked[row, k__nr[kept, r]] = value__nr[kept, r]
    np.testing.assert_array_equal(unpacked, weight__mk)


@given(problems())
def test_orders_of_memory(problem):
    """A matrix that lies column by column, or with gaps, has the nonzeros of one that lies row by row."""
    weight__mk = problem[0]
    gaps = np.full((2 * len(weight__mk), 3 * weight__mk.shape[1]), 7, np.float32)
    gaps[::2, ::3] = weight__mk
    expected = compress(weight__mk)
    for other in (np.asfortranarray(weight__mk), gaps[::2, ::3], gaps.T[::3, ::2].T):
        found = compress(other)
        assert (found.rows, found.depth) == (expected.rows, expected.depth) == weight__mk.shape
        for ours, theirs in zip(found[2:], expected[2:], strict=True):
            np.testing.assert_array_equal(ours, theirs)


@given(problems())
def test_order(problem):
    """Blocks have every row once, within its strip; entries stand in their block with columns in order, and none is there for nothing."""
    weight__mk, bounds, mr = problem
    packed = pack(compress(weight__mk), bounds, mr)
    groups = -(-len(weight__mk) // mr)
    assert packed[0].shape == (len(bounds) - 1, groups + 1)
    rows__b = packed[1].reshape(len(bounds) - 1, -1)
    for rows in rows__b:
        assert sorted(rows[: len(weight__mk)]) == list(range(len(weight__mk)))
        assert all(rows[i] // STRIP == min(i, len(weight__mk) - 1) // STRIP for i in range(len(rows)))
        assert set(rows[len(weight__mk) :]) <= set(rows[len(weight__mk) - 1 : len(weight__mk)])
    place = 0
    for b, g, rows, k__nr, value__nr in entries(packed):
        assert packed[0][b, g] == place
        place += len(k__nr)
        nonzero = weight__mk[rows, bounds[b] : bounds[b + 1]] != 0
        expected = nonzero.sum(axis=1).max() if mr == APART else np.count_nonzero(nonzero.any(axis=0))
        assert len(k__nr) == expected
        for r in range(mr):
            own = np.count_nonzero(nonzero[r]) if mr == APART else len(k__nr)
            assert (np.diff(k__nr[:own, r].astype(int)) > 0).all()
            assert (value__nr[own:, r] == 0).all()
            assert ((k__nr[:, r] >= bounds[b]) & (k__nr[:, r] < bounds[b + 1])).all()
    assert len(packed[2]) == len(packed[3]) == place


@given(problems(), st.randoms(use_true_random=False))
def test_given_order(problem, random):
    """Rows that share columns stand in the order that was asked for, the same in every block, and unpacking gives the matrix back."""
    weight__mk, bounds, _ = problem
    rows = list(range(len(weight__mk)))
    random.shuffle(rows)
    packed = pack(compress(weight__mk), bounds, SHARED, np.array(rows, np.int32))
    assert all(list(order[: len(rows)]) == rows for order in packed[1].reshape(len(bounds) - 1, -1))
    unpacked = np.zeros_like(weight__mk)
    for _, _, own, k__nr, value__nr in entries(packed):
        for r, row in enumerate(own):
            kept = value__nr[:, r] != 0
            unpacked[row, k__nr[kept, r]] = value__nr[kept, r]
    np.testing.assert_array_equal(unpacked, weight__mk)


def test_alike_rows():
    """Rows in fours that are alike come first, those without companions last; there is no order where few are alike."""
    kind = np.array([3, 0, 1, 0, 2, 1, 0, 1, 0, 1])
    weight__mk = np.array([[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0]], np.float32)[kind]
    assert alike_rows(compress(weight__mk)).tolist() == [1, 3, 6, 8, 2, 5, 7, 9, 0, 4]
    assert alike_rows(compress(np.eye(16, dtype=np.float32))) is None
    assert alike_rows(compress(weight__mk[:3])) is None


def test_groups_of_equal_length():
    """Rows of different length do not wait for each other."""
    weight__mk = np.zeros((STRIP, 8), np.float32)
    weight__mk[::2] = 1
    _, _, k__nc, _ = pack(compress(weight__mk), np.array([0, 8], np.int64), APART)
    assert k__nc.size == np.count_nonzero(weight__mk)


@pytest.mark.parametrize(("bounds", "mr", "message"), [((0, 7), 2, "blocks that end at 7 do not fit 4x8"), ((0, 8), 1, "no kernels with")])
def test_misfit(bounds, mr, message):
    """Bounds that do not end with K, groups that no kernel takes."""
    with pytest.raises(ValueError, match=message):
        pack(compress(np.ones((4, 8), np.float32)), np.array(bounds, np.int64), mr)
