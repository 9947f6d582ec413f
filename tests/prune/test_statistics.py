"""Moments of a layer's inputs are those that double precision gives, however the rows arrive."""

import numpy as np
import pytest

from onnxruntime_ep_sparse.prune.statistics import statistics_of
from onnxruntime_ep_sparse.prune.workers import Workers


def batches(groups, sizes, inputs, mean, rng):
    mix = rng.standard_normal((inputs, inputs))
    for size in sizes:
        dense = rng.standard_normal((groups, size, inputs)) @ mix + mean
        pruned = dense + 0.3 * rng.standard_normal(dense.shape)
        yield dense.astype(np.float32), pruned.astype(np.float32)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(("groups", "inputs", "sizes"), [(1, 7, [1, 2, 3]), (3, 5, [700, 2000]), (1, 300, [2500, 1])])
def test_moments(groups, inputs, sizes, centred):
    """A mean far from zero does not spoil the second moments."""
    parts = list(batches(groups, sizes, inputs, 100.0, np.random.default_rng(0)))
    with Workers(2) as workers:
        found = statistics_of(iter(parts), workers, most=1024, matrices=True, centred=centred)
    dense, pruned = (np.concatenate(side, axis=1).astype(np.float64) for side in zip(*parts, strict=True))
    rows = dense.shape[1]
    assert found.rows == rows
    np.testing.assert_allclose(found.mean__gk, pruned.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.dense_mean__gk, dense.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.squares__gk, (pruned**2).mean(axis=1), rtol=1e-5)
    if centred:
        dense, pruned = dense - dense.mean(axis=1, keepdims=True), pruned - pruned.mean(axis=1, keepdims=True)
    hessian = pruned.transpose(0, 2, 1) @ pruned / rows
    difference = dense.transpose(0, 2, 1) @ pruned / rows - hessian
    scale = np.abs(hessian).max()
    np.testing.assert_allclose(found.hessian__gkk, hessian, atol=2e-6 * scale)
    np.testing.assert_allclose(found.difference__gkk, difference, atol=4e-6 * scale)


def test_only_what_is_asked_for():
    """Without matrices, none are made."""
    parts = list(batches(2, [9], 4, 0.0, np.random.default_rng(0)))
    with Workers(1) as workers:
        found = statistics_of(iter(parts), workers, most=1024, matrices=False, centred=True)
    assert found.hessian__gkk is None
    assert found.difference__gkk is None


def test_same_bits_for_any_number_of_threads():
    """Work is cut in the same pieces for any number of threads."""
    parts = list(batches(1, [1500], 600, 1.0, np.random.default_rng(0)))
    results = []
    for threads in (1, 3):
        with Workers(threads) as workers:
            results.append(statistics_of(iter(parts), workers, most=1024, matrices=True, centred=True).hessian__gkk)
    assert (results[0] == results[1]).all()
