"""The hash of arrays that are mostly zeros: as different as their bytes."""

import itertools

import numpy as np
import pytest

from onnxruntime_ep_sparse.formats._digest import digest
from support.making import pruned

LENGTHS = (0, 1, 2, 31, 32, 33, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 200_000)


def test_every_element_counts():
    """Each other value, also the other zero, and each other place of the same values gives another hash."""
    array = np.zeros(70, np.float32)
    array[[3, 40]] = 1, 2
    changed = [array]
    for i, value in itertools.product(range(70), (5, -0.0, np.nan, 1e-45)):
        other = array.copy()
        other[i] = value
        changed.append(other)
    changed += [np.roll(array, shift) for shift in range(1, 70)]
    assert len({digest(each) for each in changed}) == len({each.tobytes() for each in changed})


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, np.bool_, np.float64])
def test_of_bytes(dtype):
    """Equal bytes give equal hashes, whatever the shape and the order in memory; a byte more or less gives another one."""
    rng = np.random.default_rng(0)
    arrays = [pruned(rng, (length,)).astype(dtype) for length in LENGTHS]
    made = [digest(array) for array in arrays]
    assert len(set(made)) == len(LENGTHS)
    assert all(len(found) == 32 for found in made)
    assert [digest(array.copy()) for array in arrays] == made
    square = arrays[-1][:10_000].reshape(100, 100)
    assert digest(square) == digest(square.reshape(-1)) == digest(np.asfortranarray(square))


def test_ends_of_zeros_count():
    """Zeros at the end are not left out."""
    assert len({digest(np.zeros(length, np.uint8)) for length in range(300)}) == 300
