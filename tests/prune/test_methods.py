"""Methods: exact zeros, better than cruder ones, and a refit that is the least-squares solution."""

import numpy as np
import pytest

from onnxruntime_ep_sparse.prune import methods
from onnxruntime_ep_sparse.prune.methods import METHODS, fitted, kept_already, refitted, scored
from onnxruntime_ep_sparse.prune.patterns import block_sums, choices, pattern_of
from onnxruntime_ep_sparse.prune.problem import DAMPING, Problem, factor
from onnxruntime_ep_sparse.prune.refit import refit
from onnxruntime_ep_sparse.prune.workers import Workers

ROWS, OUTPUTS, INPUTS = 4000, 24, 96


@pytest.fixture
def workers():
    with Workers(2) as pool:
        yield pool


def inputs_of(rng, inputs=INPUTS):
    """Correlated inputs of different sizes in the dense stream, and others of the pruned one."""
    dense = rng.standard_normal((ROWS, inputs)) @ rng.standard_normal((inputs, inputs)) * rng.uniform(0.1, 3, inputs)
    return dense, dense + 0.2 * dense.std() * rng.standard_normal(dense.shape)


def moments(dense, pruned):
    hessian = pruned.T @ pruned / ROWS
    return hessian.astype(np.float32), (dense.T @ pruned / ROWS - hessian).astype(np.float32)


def loss(weight, target, dense, pruned):
    return float(((pruned @ weight.T - dense @ target.T) ** 2).mean())


def prune(name, weight, dense, pruned, choice, workers):
    if METHODS[name].fit is None:
        kept = scored(METHODS[name], weight, (pruned**2).mean(axis=0).astype(np.float32), choice)
        return np.where(kept, weight, 0), kept
    return fitted(METHODS[name], Problem(*moments(dense, pruned), workers), weight, choice)


@pytest.mark.parametrize("pattern", ["unstructured", "4x1", "1x4", "2:4", "1:3"])
def test_zeros_and_order(pattern, workers):
    """All methods make the exact number of zeros; the error falls from magnitude to Wanda, SparseGPT and ADMM."""
    rng = np.random.default_rng(0)
    dense, pruned = inputs_of(rng)
    weight = rng.standard_normal((OUTPUTS, INPUTS)).astype(np.float32)
    row = pattern_of(pattern)
    (choice,) = choices(row, row.sparsity or 0.5, (1, OUTPUTS, INPUTS), 32, False)
    losses = {}
    for name in METHODS:
        result, kept = prune(name, weight, dense, pruned, choice, workers)
        assert result.dtype == np.float32
        assert (result[~kept] == 0).all()
        share = row.kept / row.inputs if row.kept else 0.5
        if row.kept and 32 % row.inputs:
            share = (32 // row.inputs * row.kept + min(32 % row.inputs, row.kept)) / 32
        assert np.count_nonzero(result) == round(share * weight.size)
        zero_blocks = block_sums((~kept).astype(np.float32), row, 32)
        if row.kept is None:
            assert set(np.unique(zero_blocks)) <= {0, row.outputs * row.inputs}
        losses[name] = loss(result, weight, dense, pruned)
    assert losses["admm"] < losses["sparsegpt"] < losses["wanda"]
    assert losses["admm"] < losses["magnitude"]


def test_refit_is_least_squares(workers):
    """With enough steps, the kept weights of each row are those of a damped least-squares solution in double precision."""
    rng = np.random.default_rng(1)
    dense, pruned = inputs_of(rng, 12)
    weight = rng.standard_normal((5, 12)).astype(np.float32)
    kept = rng.random(weight.shape) < 0.5
    problem = Problem(*moments(dense, pruned), workers)
    result = problem.unscaled(refit(problem, np.zeros_like(weight), kept, problem.target(weight)))
    hessian = pruned.T @ pruned / ROWS
    damping = DAMPING * np.diagonal(hessian).mean() * np.eye(12)
    right = weight @ (dense.T @ pruned / ROWS + damping)
    for row in range(len(weight)):
        free = np.flatnonzero(kept[row])
        expected = np.linalg.solve((hessian + damping)[np.ix_(free, free)], right[row, free])
        np.testing.assert_allclose(result[row, free], expected, rtol=2e-3, atol=2e-3)
    assert (result[~kept] == 0).all()


def test_target(workers):
    """Equal streams leave the dense weights; another stream gives the damped least-squares solution."""
    rng = np.random.default_rng(2)
    dense, pruned = inputs_of(rng, 20)
    weight = rng.standard_normal((5, 20)).astype(np.float32)
    same = Problem(*moments(dense, dense), workers)
    np.testing.assert_allclose(same.unscaled(same.target(weight)), weight, atol=1e-5)
    problem = Problem(*moments(dense, pruned), workers)
    hessian = pruned.T @ pruned / ROWS
    damping = DAMPING * np.diagonal(hessian).mean() * np.eye(20)
    expected = np.linalg.solve(hessian + damping, (weight @ (dense.T @ pruned / ROWS + damping)).T).T
    np.testing.assert_allclose(problem.unscaled(problem.target(weight)), expected, atol=1e-3)


def test_inverses(workers):
    """SparseGPT's factor is upper triangular, and its square is the inverse; ADMM's inverse is that of a raised diagonal."""
    problem = Problem(*moments(*inputs_of(np.random.default_rng(3), 9)), workers)
    upper = problem.inverse_factor__kk
    assert (np.tril(upper, -1) == 0).all()
    np.testing.assert_allclose(upper.T @ upper @ problem.hessian__kk, np.eye(9), atol=1e-3)
    for added in (1.0, 0.5):
        np.testing.assert_allclose(problem.inverse(added) @ (problem.hessian__kk + added * np.eye(9)), np.eye(9), atol=1e-4)


@pytest.mark.parametrize("pattern", ["unstructured", "4x1", "2:4"])
@pytest.mark.parametrize("name", ["admm", "sparsegpt"])
def test_in_parts(name, pattern, workers, monkeypatch):
    """Where rows do not depend on each other, a large matrix is fitted part by part, with the same number of zeros, as well."""
    rng = np.random.default_rng(6)
    dense, pruned = inputs_of(rng, 32)
    weight = rng.standard_normal((600, 32)).astype(np.float32)
    (choice,) = choices(pattern_of(pattern), 0.5, weight[None].shape, 32, True)
    results = [prune(name, weight, dense, pruned, choice, workers)]
    monkeypatch.setattr(methods, "MOST_NUMBERS", 256 * 32)
    results.append(prune(name, weight, dense, pruned, choice, workers))
    assert [(~kept).sum() for _, kept in results] == [9600, 9600]
    losses = [loss(result, weight, dense, pruned) for result, _ in results]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_known_mask_in_parts(share, workers):
    """The weights of a known mask are the same, but for rounding, however many rows are fitted at once; without zeros they are W*."""
    rng = np.random.default_rng(8)
    dense, pruned = inputs_of(rng, 32)
    weight = rng.standard_normal((600, 32)).astype(np.float32)
    kept = rng.random(weight.shape) < share
    problem = Problem(*moments(dense, pruned), workers)
    expected = problem.unscaled(problem.target(weight))
    if share < 1:
        expected = problem.unscaled(refit(problem, problem.scaled(weight), kept, problem.target(weight)))
    for rows in (256, 600):
        result = refitted(problem, weight, kept, rows)
        assert (result[~kept] == 0).all()
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pattern", ["unstructured", "4x1", "2:4"])
def test_kept_already(pattern):
    """Zeros that suffice are all that there will be; a dense matrix has enough only where no zero is asked for."""
    weight = np.random.default_rng(7).standard_normal((OUTPUTS, INPUTS)).astype(np.float32)
    row = pattern_of(pattern)
    none, some = (choices(row, sparsity, (1, OUTPUTS, INPUTS), run, True)[0] for sparsity, run in ((0.0, 2), (0.5, 32)))
    assert kept_already(weight, some) is None
    assert kept_already(weight, none).all()
    kept = some.kept(np.abs(weight))
    np.testing.assert_array_equal(kept_already(np.where(kept, weight, 0), some), kept)
    zero = np.argwhere(~kept)[0]
    kept[tuple(zero)] = True
    assert kept_already(np.where(kept, weight, 0), some) is None


def test_factor_of_a_singular_matrix():
    """Rounding may make second moments indefinite: then the diagonal is raised."""
    a = np.random.default_rng(4).standard_normal((3, 40)).astype(np.float32)
    hessian = a.T @ a
    hessian[np.diag_indices(40)] -= np.float32(1e-5)
    lower = np.tril(factor(hessian))
    np.testing.assert_allclose(lower @ lower.T, hessian, atol=0.01 * np.abs(hessian).max())


def test_inputs_that_are_always_zero(workers):
    """Inputs without a value, even all of them, give finite weights."""
    rng = np.random.default_rng(5)
    dense, pruned = inputs_of(rng, 16)
    for zero in (slice(3, 9), slice(None)):
        dense[:, zero] = pruned[:, zero] = 0
        weight = rng.standard_normal((8, 16)).astype(np.float32)
        (choice,) = choices(pattern_of("unstructured"), 0.5, weight[None].shape, 16, True)
        for name in METHODS:
            result, _ = prune(name, weight, dense, pruned, choice, workers)
            assert np.isfinite(result).all()
