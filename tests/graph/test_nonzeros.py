"""A weight by its nonzeros says what the dense one says, and is packed to the same bytes, on any number of threads."""

import threading

import numpy as np
import pytest

from onnxruntime_ep_sparse.formats.weight_codec import encode, nonzeros_of
from onnxruntime_ep_sparse.ops.channels import alive
from onnxruntime_ep_sparse.partition.sparsity import zeros_of
from onnxruntime_ep_sparse.program.parallel import LARGE, parallel_map
from onnxruntime_ep_sparse_kernels.pack import compress
from support.making import PATTERNS, pruned

SHAPES = ((40, 24), (24, 16, 3, 3), (12, 30, 5), (1, 7), (9, 1))


def both(shape, pattern, seed=0):
    """A weight, dense and by its nonzeros."""
    weight = pruned(np.random.default_rng(seed), shape, 0.8, pattern)
    return weight, nonzeros_of(*encode(weight))


def equal(some, other):
    """Whether two compressed matrices are the same bytes."""
    return all(np.array_equal(a, b) for a, b in zip(some, other, strict=True))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", SHAPES)
def test_same_rows(shape, pattern):
    """What is packed of either is the same, also the other way round."""
    weight, nonzeros = both(shape, pattern)
    assert nonzeros.shape == weight.shape
    assert nonzeros.size == weight.size
    assert equal(nonzeros.rows, compress(weight.reshape(len(weight), -1)))
    if weight.ndim == 2:
        assert nonzeros.T.shape == weight.T.shape
        assert equal(nonzeros.T.rows, compress(weight.T))
        assert equal(nonzeros.T.T.rows, compress(weight))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", SHAPES)
def test_same_channels(shape, pattern):
    """Outputs and channels that hold anything, of all of the other kind and of some."""
    weight, nonzeros = both(shape, pattern)
    weight__mct = weight.reshape(*shape[:2], -1)
    rng = np.random.default_rng(1)
    for axis, dense in ((1, weight__mct), (0, weight__mct.swapaxes(0, 1))):
        others = len(dense)
        assert np.array_equal(nonzeros.alive(axis), alive(dense))
        for among in (np.ones(others, bool), np.zeros(others, bool), rng.random(others) < 0.3):
            assert np.array_equal(nonzeros.alive(axis, among), alive(dense, among))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("shape", "axis"), [((40, 24), 0), ((40, 24), -1), ((600, 8), 1), ((600, 8), 0), ((24, 16, 3, 3), 0)])
def test_same_zeros(shape, axis, pattern):
    """Sparsity and pattern."""
    weight, nonzeros = both(shape, pattern)
    assert zeros_of(nonzeros, axis) == zeros_of(weight, axis)


@pytest.mark.parametrize("shape", SHAPES)
def test_scaled(shape):
    """By row; what becomes zero is no nonzero any more, and a factor that makes zeros something else is refused."""
    weight, nonzeros = both(shape, "unstructured")
    factor = np.random.default_rng(2).standard_normal(len(weight)).astype(np.float32)
    factor[0] = 0
    factor[-1] = 1e-45
    scaled = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    assert equal(nonzeros.scaled(factor).rows, compress(scaled.reshape(len(weight), -1)))
    factor[0] = np.inf
    assert nonzeros.scaled(factor) is None


def test_special_values():
    """NaN is a nonzero; -0.0, and a zero that the index lists, are none."""
    weight = np.zeros((4, 5), np.float32)
    weight[1, 2], weight[2, 0], weight[3, 4] = np.nan, -0.0, np.inf
    rows = nonzeros_of(*encode(weight)).rows
    assert rows.k__n.tolist() == [2, 4]
    assert rows.start__m.tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_parallel_map(threads):
    """Results stand in order, large works and small ones, and no thread is left."""
    before = threading.active_count()
    works = [(LARGE * (i % 3), lambda i=i: i * i) for i in range(40)]
    assert parallel_map(threads, works) == [i * i for i in range(40)]
    assert parallel_map(threads, []) == []
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("bad", [0, 17, 39])
def test_parallel_map_raises(threads, bad):
    """What a work raises, whoever did it, and no thread is left."""

    def work(i):
        if i == bad:
            raise ValueError(f"work {i}")

    before = threading.active_count()
    with pytest.raises(ValueError, match=f"work {bad}"):
        parallel_map(threads, [(LARGE, lambda i=i: work(i)) for i in range(40)])
    assert threading.active_count() == before
