"""Sparsity and pattern of constant weights."""

import numpy as np
import pytest

from onnxruntime_ep_sparse.partition.sparsity import SAMPLE, zeros_of
from support.making import pruned


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("dense", "dense"),
        ("unstructured", "unstructured"),
        ("blocks", "4x1 blocks"),
        ("2:4", "2:4"),
        ("rows", "channels"),
        ("all zero", "all zero"),
    ],
)
@pytest.mark.parametrize("shape", [(64, 32), (48, 16, 3, 3), (64, 4096)])
def test_patterns(shape, pattern, name):
    """The name of a pattern and an exact share of zeros, whatever the size."""
    weight = pruned(np.random.default_rng(4), shape, 0.6, pattern)
    zeros = zeros_of(weight)
    assert zeros.pattern == name
    assert zeros.sparsity == pytest.approx(np.mean(weight == 0), abs=1e-12)


def test_large_dense_weights_are_sampled():
    """A large weight with few zeros is not read as a whole, and its share is near the truth."""
    weight = pruned(np.random.default_rng(5), (1024, 1024), 0.1)
    zeros = zeros_of(weight)
    assert not zeros.counted
    assert zeros.sparsity == pytest.approx(0.1, abs=0.02)
    assert zeros_of(weight[:4, :SAMPLE]).counted


def test_zeros_that_a_sample_meets_in_step():
    """Whole zero columns of a wide matrix are not taken for all zeros or none."""
    weight = np.ones((2048, 512), np.float32)
    weight[:, ::2] = 0
    assert zeros_of(weight).sparsity == 0.5
