"""Expected times and break-evens: what must hold for every operator, on every instruction set and for any number of threads."""

from dataclasses import replace
from itertools import pairwise

import pytest

from onnxruntime_ep_sparse.graph.ir import FLOAT, Graph, Node, Value
from onnxruntime_ep_sparse.ops import integer_products, rates
from onnxruntime_ep_sparse.ops import table as ops
from onnxruntime_ep_sparse.ops.costs import FEW_ROWS, NOMINAL_BATCH, Estimate
from onnxruntime_ep_sparse.partition.cost import DENSE, MARGIN, Density, Prices, kernels_work, rates_of
from onnxruntime_ep_sparse_kernels.isa import ISAS
from support.nodes import C, one_node

CASES = {
    "conv": ("Conv", [(1, 64, 56, 56), (C, 64, 64, 3, 3)], (1, 64, 56, 56), {}),
    "conv 1x1": ("Conv", [(1, 256, 14, 14), (C, 1024, 256, 1, 1)], (1, 1024, 14, 14), {}),
    "conv on 7x7": ("Conv", [(1, 512, 7, 7), (C, 512, 512, 3, 3), (C, 512)], (1, 512, 7, 7), {}),
    "conv of one pixel": ("Conv", [(1, 512, 1, 1), (C, 128, 512, 1, 1)], (1, 128, 1, 1), {}),
    "conv of few pixels": ("Conv", [(1, 512, 2, 2), (C, 128, 512, 1, 1)], (1, 128, 2, 2), {}),
    "conv of open sizes": ("Conv", [("n", 16, "h", "w"), (C, 32, 16, 3, 3)], ("n", 32, None, None), {}),
    "conv of a batch": ("Conv", [(16, 16, 30, 30), (C, 32, 16, 3, 3)], (16, 32, 28, 28), {"strides": (1, 1)}),
    "conv 1-D": ("Conv", [(2, 80, 1500), (C, 384, 80, 3)], (2, 384, 1500), {}),
    "conv 1-D, open": ("Conv", [("n", 80, "t"), (C, 384, 80, 3)], ("n", 384, "t"), {}),
    "conv 3-D": ("Conv", [(1, 8, 8, 16, 16), (C, 16, 8, 3, 3, 3)], (1, 16, 8, 16, 16), {}),
    "conv far dilated": ("Conv", [(1, 64, 17, 17), (C, 64, 64, 3, 3)], (1, 64, 17, 17), {"dilations": (12, 12), "pads": (12,) * 4}),
    "depthwise": ("Conv", [(1, 128, 28, 28), (C, 128, 1, 3, 3)], (1, 128, 28, 28), {"group": 128}),
    "grouped": ("Conv", [(1, 128, 28, 28), (C, 256, 32, 3, 3)], (1, 256, 28, 28), {"group": 4}),
    "gemm": ("Gemm", [(32, 1024), (C, 1024, 4096), (C, 4096)], (32, 4096), {}),
    "gemm transB": ("Gemm", [(1, 2048), (C, 1000, 2048), (C, 1000)], (1, 1000), {"transB": 1}),
    "gemm of open rows": ("Gemm", [("n", 768), (C, 3072, 768)], ("n", 3072), {"transB": 1}),
    "gemm, weight on the left": ("Gemm", [(C, 300, 200), (200, 50)], (300, 50), {}),
    "gemm transA": ("Gemm", [(C, 200, 300), (200, "n")], (300, "n"), {"transA": 1}),
    "matmul": ("MatMul", [(128, 768), (C, 768, 3072)], (128, 3072), {}),
    "matmul of open rows": ("MatMul", [("n", 768), (C, 768, 3072)], ("n", 3072), {}),
    "matmul of open sequences": ("MatMul", [("n", "t", 768), (C, 768, 768)], ("n", "t", 768), {}),
    "matmul of 8 rows": ("MatMul", [(8, 512), (C, 512, 512)], (8, 512), {}),
    "matmul of a vector": ("MatMul", [(512,), (C, 512, 512)], (512,), {}),
    "matmul by a vector": ("MatMul", [(20, 512), (C, 512)], (20,), {}),
    "matmul on the left": ("MatMul", [(C, 64, 32), (4, 32, 100)], (4, 64, 100), {}),
    "matmul of a batch of weights": ("MatMul", [(4, 10, 64), (C, 4, 64, 32)], (4, 10, 32), {}),
    "einsum": ("Einsum", [("n", "t", 768), (C, 768, 768)], ("n", "t", 768), {"equation": "ntk,km->ntm"}),
    "transposed conv": ("ConvTranspose", [(1, 64, 28, 28), (C, 64, 32, 4, 4)], (1, 32, 59, 59), {"strides": (2, 2)}),
    "lstm": ("LSTM", [(50, 1, 256), (C, 1, 1024, 256), (C, 1, 1024, 256)], (50, 1, 1, 256), {}),
    "lstm, open": ("LSTM", [("t", "n", 650), (C, 1, 2600, 650), (C, 1, 2600, 650)], ("t", 1, "n", 650), {}),
    "gru both ways": ("GRU", [(100, 4, 128), (C, 2, 1536, 128), (C, 2, 1536, 512)], (100, 2, 4, 512), {}),
    "rnn, batch first": ("RNN", [("n", 20, 64), (C, 1, 96, 64), (C, 1, 96, 96)], ("n", 20, 1, 96), {"layout": 1}),
    "relu": ("Relu", [(1, 64, 56, 56)], (1, 64, 56, 56), {}),
    "gelu": ("Gelu", [("n", "t", 3072)], ("n", "t", 3072), {}),
    "add": ("Add", [("n", 64, "h", "w"), ("n", 64, "h", "w")], ("n", 64, "h", "w"), {}),
    "pool": ("MaxPool", [(1, 64, 56, 56)], (1, 64, 28, 28), {"kernel_shape": (2, 2)}),
    "norm": ("LayerNormalization", [("n", 128, 768), (C, 768), (C, 768)], ("n", 128, 768), {}),
    "transpose": ("Transpose", [("n", 128, 12, 64)], ("n", 12, 128, 64), {}),
    "reshape": ("Reshape", [(1, 512, 7, 7), (C, 2)], (1, 25088), {}),
    "flatten": ("Flatten", [(1, 512, 7, 7)], (1, 25088), {}),
    "squeeze": ("Squeeze", [(1, 512, 1, 1), (C, 2)], (1, 512), {}),
    "concat": ("Concat", [(1, 32, 8, 8), (1, 64, 8, 8)], (1, 96, 8, 8), {"axis": 1}),
}
"""Operator, shapes of its inputs, shape of its output, attributes."""


WEIGHTED = [name for name, case in CASES.items() if case[0] in ("Conv", "Gemm", "MatMul", "LSTM", "GRU", "RNN")]
SETS = [(isa, threads) for isa in ISAS for threads in (1, 2, 6)]


def prices_of(name, isa=ISAS[0], threads=1):
    """Prices of the graph of a case, and its node."""
    graph, node = one_node(*CASES[name])
    return Prices(graph, isa, threads), node


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("scale", [1, 64])
@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_work_has_a_rate(name, scale, isa):
    """Whatever cache holds what a node moves."""
    graph, node = one_node(*CASES[name])
    prices = Prices(graph, isa, 1)
    prices.setting = replace(prices.setting, weights=prices.setting.weights * scale**3, rows=scale)
    estimate = ops.row_for(node).estimate(prices.setting, node)
    known = rates_of(isa)
    assert estimate.ort.keys() <= known.ort.keys()
    for each in (estimate, estimate.second or estimate):
        assert each.ours.keys() | each.apart.keys() | each.shared.keys() | each.dense.keys() <= known.ours.keys()
    assert prices.price(estimate).ort >= 0


def test_rates_say_where_they_are_from():
    """One is there for every CPU; all rates are times."""
    assert rates.RATES.keys() <= {isa.name for isa in ISAS}
    assert ISAS[-1].name in rates.RATES
    for known in rates.RATES.values():
        assert known.cpu
        assert known.date
        assert all(len(both) == 2 and min(both) >= 0 for side in (known.ort, known.ours) for both in side.values())


def test_every_operator_with_a_weight_has_a_case():
    """Products and recurrent nodes are what break-evens decide about.

    Those of com.microsoft are priced as ONNX's, and tests/ops/test_quantized.py has those of integers.
    """
    of_integers = {row.op_type for row in integer_products.ROWS}
    judged = {row.op_type for row in ops.OPS.values() if row.role in ("product", "recurrent") and "" in row.domains} - of_integers
    assert judged <= {op_type for op_type, *_ in CASES.values()}


@pytest.mark.parametrize(("isa", "threads"), SETS, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("in_blocks", [False, True])
@pytest.mark.parametrize("name", WEIGHTED)
def test_break_even_is_where_the_margin_is_reached(name, in_blocks, isa, threads):
    """From there on we win by the margin at the nominal sizes, and lose at no others; a little below we do not."""
    prices, node = prices_of(name, isa, threads)
    limit = prices.break_even(node, Density(0.3, in_blocks))
    counts = [(rows, MARGIN if rows is None else 1.0) for rows in ops.row_for(node).row_counts(prices.graph, node)]

    def wins(sparsity):
        density = Density(1 - sparsity, in_blocks)
        found = [(prices.seconds(node, rows), margin) for rows, margin in counts]
        return all(seconds.ort >= margin * seconds.ours(density) * (1 - 1e-9) for seconds, margin in found)

    if limit <= 1:
        assert all(wins(limit + (1 - limit) * part) for part in (0.0, 0.1, 0.5, 1.0))
    if 0 < limit <= 1:
        assert not wins(limit - 0.02 * (1 - limit) - 1e-6)
    if limit > 1 and ops.row_for(node).estimate(prices.setting, node).apart:
        assert not wins(1.0)


@pytest.mark.parametrize("name", WEIGHTED)
def test_blocks_cost_no_more(name):
    """Of two weights with equally many nonzeros, the one whose rows share columns is not slower."""
    prices, node = prices_of(name)
    seconds = prices.seconds(node)
    if seconds.shared is not None and seconds.shared < seconds.apart:
        assert all(seconds.ours(Density(d, True)) <= seconds.ours(Density(d)) * (1 + 1e-9) for d in (0.05, 0.3, 0.5, 0.9, 1.0))
    assert seconds.ours(DENSE) == seconds.ours(Density(1.0, True))


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("density", [0.1, 0.5, 0.7, 1.0])
def test_seconds_are_those_of_the_work(name, density):
    """What calibration fits is what decides: the price of a weight is that of the kernels' work on it."""
    prices, node = prices_of(name)
    estimate = ops.row_for(node).estimate(prices.setting, node)
    fixed = sum(prices.price(each).fixed for each in (estimate, estimate.second) if each is not None)
    for left in (Density(density), Density(density, True)):
        work = prices.price(Estimate({}, kernels_work(estimate, left)))
        assert prices.seconds(node).ours(left) == pytest.approx(fixed + work.fixed)


ROWS = (None, 1, 3, 17)
"""Numbers of rows where these are open: the nominal one and others."""


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("name", CASES)
def test_what_is_not_shared_takes_the_time_of_one_thread(name, isa):
    """With either provider, whatever the weight: a session of two threads that uses one is not priced as if it had both."""
    (one, node), (two, _) = (prices_of(name, isa, threads) for threads in (1, 2))
    for rows in ROWS:
        alone, seconds = one.seconds(node, rows), two.seconds(node, rows)
        assert not alone.ort_splits
        if not seconds.ort_splits:
            assert seconds.ort == alone.ort
        for density in (Density(share, in_blocks) for share in (0.0, 0.01, 0.1, 0.5, 1.0) for in_blocks in (False, True)):
            assert not alone.splits(density)
            if not seconds.splits(density):
                assert seconds.ours(density) == pytest.approx(alone.ours(density))


@pytest.mark.parametrize(("isa", "threads"), SETS, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("in_blocks", [False, True])
@pytest.mark.parametrize("name", WEIGHTED)
def test_more_zeros_never_cost_more(name, in_blocks, isa, threads):
    """Else a break-even would say nothing of weights with more zeros. They may only where packing changes from kernels whose rows share
    columns to others, and where so little is left that one thread does it."""
    prices, node = prices_of(name, isa, threads)
    densities = [Density(1 - percent / 100, in_blocks) for percent in range(101)]
    for rows in ROWS:
        seconds = prices.seconds(node, rows)
        steps = [each for each in (seconds, seconds.second) if each is not None]
        kinds = [(density.shares_columns, *(density.left > each.alone_to for each in steps)) for density in densities]
        pairs = [pair for pair, both in zip(pairwise(densities), pairwise(kinds), strict=True) if both[0] == both[1]]
        assert all(seconds.ours(less) <= seconds.ours(more) * (1 + 1e-9) for more, less in pairs)


def test_open_rows_ask_for_more():
    """A matrix with an open number of rows is judged by the worst of a few numbers."""
    fixed, node = prices_of("matmul")
    open_, other = prices_of("matmul of open rows")
    assert fixed.break_even(node) <= open_.break_even(other) < 1
    assert ops.row_for(other).row_counts(open_.graph, other) == (None, *FEW_ROWS)


def test_taps_beyond_the_image_cost_nothing():
    """A window of which only the middle column meets the image costs what a narrow one costs."""
    shapes = [(1, 64, 17, 17), (C, 64, 64, 3, 3)]
    far, node = one_node("Conv", shapes, (1, 64, 17, 17), {"dilations": (1, 24), "pads": (1, 24, 1, 24)})
    narrow, other = one_node("Conv", [(1, 64, 17, 17), (C, 64, 64, 3, 1)], (1, 64, 17, 17), {"pads": (1, 0, 1, 0)})
    ours = [Prices(graph, ISAS[0], 1).seconds(one).ours(Density(0.1)) for graph, one in ((far, node), (narrow, other))]
    assert ours[0] == pytest.approx(ours[1])


def streaming():
    """An LSTM of one time step whose batch is open, and stands first in X behind the times, second in its states."""
    values = {"x": (1, "b", 64), "w": (1, 512, 64), "r": (1, 512, 128), "h": (1, "b", 128), "c": (1, "b", 128), "y": (1, 1, "b", 128)}
    node = Node(0, "lstm", "LSTM", "", 14, ("x", "w", "r", "", "", "h", "c"), ("y",), {"hidden_size": 128})
    return Graph(
        (node,), {name: Value(name, FLOAT, shape) for name, shape in values.items()}, frozenset("wr"), load=None, inputs=("x", "h", "c")
    )


def test_a_symbol_has_one_size():
    """Wherever it appears: a batch is a batch in the states of a recurrent node, too."""
    prices = Prices(streaming(), ISAS[0], 1)
    assert prices.setting.open_sizes == {"b": NOMINAL_BATCH}
    assert {prices.setting.sizes(name)[axis] for name, axis in (("x", 1), ("h", 1), ("c", 1), ("y", 2))} == {NOMINAL_BATCH}


def test_a_symbol_is_what_its_longest_shape_says():
    """Tokens are (batch, sequence); only their embeddings show which of the two is which."""
    shapes = {"ids": ("b", "s"), "x": ("b", "s", 768), "image": ("b", 3, "h", "w")}
    graph = Graph((), {name: Value(name, FLOAT, shape) for name, shape in shapes.items()}, frozenset(), load=None)
    assert Prices(graph, ISAS[0], 1).setting.open_sizes == {"b": 1, "s": 128, "h": 28, "w": 28}


def test_more_threads_share_the_work():
    """Beyond two, in proportion; what is done per node stays."""
    prices = [prices_of("conv", threads=threads)[0] for threads in (2, 4)]
    node = prices[0].graph.nodes[0]
    two, four = (p.seconds(node) for p in prices)
    assert two.apart == pytest.approx(2 * four.apart)
    assert prices[0].region == prices[1].region
