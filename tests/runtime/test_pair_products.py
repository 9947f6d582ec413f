"""Products of two values called from numpy, on every set of kernels: any sizes, orders of dimensions and numbers of workers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxruntime_ep_sparse.graph.ir import FLOAT, Node, Value
from onnxruntime_ep_sparse.ops.pairs import ORDERED
from onnxruntime_ep_sparse.ops.row import FUSED
from support.making import examples, noise
from support.programs import EVERY_SET, graph_of, program_of
from support.promises import EPS


def pair(ranks, **attributes):
    """The graph of a product of x and r of these ranks."""
    graph = graph_of([], {name: (None,) * rank for name, rank in zip("xr", ranks, strict=True)})
    node = Node(0, "", ORDERED, FUSED, 0, ("x", "r"), ("y",), attributes)
    return replace(graph, nodes=(node,), values={**graph.values, "y": Value("y", FLOAT, (None,) * max(ranks))})


def check(y, x, r):
    """Within the error of a chain of multiply-adds."""
    exact = x.astype(np.float64) @ r.astype(np.float64)
    allowed = 4 * EPS * np.sqrt(max(x.shape[-1], 1)) * (np.abs(x).astype(np.float64) @ np.abs(r).astype(np.float64))
    assert y.shape == exact.shape
    assert (np.abs(y - exact) <= allowed).all()


SHAPES = [
    ((1, 4, 128, 64), (1, 4, 64, 128)),
    ((2, 3, 7, 5), (5, 9)),
    ((5, 9), (2, 1, 9, 3)),
    ((3, 1, 1, 64), (1, 4, 64, 225)),
    ((1, 225), (225, 64)),
    ((130, 1100), (1100, 33)),
    ((2, 5, 300), (2, 300, 1100)),
    ((4, 0), (0, 3)),
    ((0, 4), (4, 3)),
]
"""One row and many, blocks of depth and of columns, slices that end early, broadcast matrices, nothing."""


@EVERY_SET
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_shapes(isa, shapes):
    """The exact product, and the same bits on any number of workers."""
    x, r = (noise(np.random.default_rng(i), *shape) for i, shape in enumerate(shapes))
    results = [program_of(pair((x.ndim, r.ndim)), isa, workers).run(x, r)[0] for workers in (1, 3)]
    check(results[0], x, r)
    assert np.array_equal(*results)


def orders(rank, places):
    """Orders of so many dimensions, the last of them in one of the last places."""
    return st.permutations(range(rank)).map(tuple).filter(lambda order: rank - 1 in order[-places:])


@st.composite
def cases(draw):
    """Sizes of the batch, rows, depth and columns, and three orders."""
    rank = draw(st.integers(2, 4))
    sizes = [draw(st.integers(1, 3)) for _ in range(rank - 2)] + [draw(st.integers(1, 70)) for _ in range(3)]
    return sizes, draw(orders(rank, 2)), draw(orders(rank, 2)), draw(orders(rank, 1))


@EVERY_SET
@examples(30)
@given(cases(), st.integers(1, 3))
def test_orders(isa, case, workers):
    """Operands and results in other orders, and a factor."""
    (*batch, m, k, n), *given_orders = case
    x, r = noise(np.random.default_rng(0), *batch, m, k), noise(np.random.default_rng(1), *batch, k, n)
    stored = [np.ascontiguousarray(a.transpose(np.argsort(order))) for a, order in zip((x, r), given_orders, strict=False)]
    attributes = dict(zip(("x_order", "r_order", "y_order"), given_orders, strict=True))
    (y,) = program_of(pair((x.ndim, r.ndim), **attributes, alpha=0.5), isa, workers).run(*stored)
    check(y.transpose(np.argsort(given_orders[2])) * 2, x, r)


@EVERY_SET
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 40])
def test_a_factor_of_deep_products(isa, rows):
    """Of several blocks of depth: the sum is multiplied once, by the bits of a product without a factor."""
    x, r = noise(np.random.default_rng(0), rows, 1100), noise(np.random.default_rng(1), 1100, 37)
    scaled, plain = (program_of(pair((2, 2), x_order=(0, 1), alpha=alpha), isa).run(x, r)[0] for alpha in (0.3, 1.0))
    assert np.array_equal(scaled, np.float32(0.3) * plain)
    check(plain, x, r)


def test_sizes_that_do_not_fit():
    """They are named."""
    program = program_of(pair((3, 3)), next(iter(EVERY_SET.args[1])))
    with pytest.raises(RuntimeError, match="4 columns times 5 rows"):
        program.run(np.zeros((1, 3, 4), np.float32), np.zeros((1, 5, 2), np.float32))
    with pytest.raises(RuntimeError, match="dimensions 2 and 3 do not broadcast"):
        program.run(np.zeros((2, 3, 4), np.float32), np.zeros((3, 4, 2), np.float32))
