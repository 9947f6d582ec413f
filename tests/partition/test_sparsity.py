"""Sparsity and pattern of constant weights."""

import numpy as np
import pytest

from onnxruntime_ep_sparse.graph.nonzeros import Nonzeros
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


@pytest.mark.parametrize(("shape", "axis"), [((64, 32), 0), ((64, 32), 1), ((96, 16, 3, 3), 0), ((1024, 256), 0), ((1024, 256), 1)])
@pytest.mark.parametrize("size", [4, 8, 16])
def test_blocks_of_outputs(shape, size, axis):
    """Outputs that are zero together are found beside each other and in any order, in a dense weight and in one known by its nonzeros."""
    rng = np.random.default_rng(size)
    some = pruned(rng, (shape[0] // size, *shape[1:]), 0.7) != 0
    weight = rng.uniform(1, 2, shape).astype(np.float32) * np.repeat(some, size, axis=0)
    for order in (np.arange(len(weight)), rng.permutation(len(weight))):
        own = np.ascontiguousarray(np.moveaxis(weight[order], 0, axis))
        places = np.flatnonzero(own)
        for form in (own, Nonzeros.at(places, own.reshape(-1)[places], own.shape)):
            zeros = zeros_of(form, axis)
            assert zeros.pattern == f"{size}x1 blocks"
            assert zeros.in_blocks


def test_few_blocks_are_named():
    """Blocks gain from 20 % zeros on, so that they are looked for there; random zeros of so few are not taken for blocks."""
    rng = np.random.default_rng(3)
    for shape in ((64, 32), (1024, 256)):
        assert zeros_of(pruned(rng, shape, 0.2, "blocks")).pattern == "4x1 blocks"
        assert zeros_of(pruned(rng, shape, 0.2)).pattern == "unstructured"


def test_blocks_of_inputs():
    """Inputs that are zero together, four by four; outputs share nothing."""
    rng = np.random.default_rng(0)
    weight = np.repeat(pruned(rng, (64, 16), 0.7), 4, axis=1)
    assert zeros_of(weight).pattern == "1x4 blocks"
    assert not zeros_of(weight).in_blocks


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
