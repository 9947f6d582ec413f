"""Work of an operator: what must hold for each. Its prices are tested in tests/partition/test_cost.py."""

import re
from pathlib import Path

import numpy as np
import pytest

from onnxruntime_ep_sparse.graph.ir import FLOAT, Graph, Node, Value
from onnxruntime_ep_sparse.ops import costs
from onnxruntime_ep_sparse.ops import table as ops
from onnxruntime_ep_sparse.ops.costs import Setting, matrix_product, moved, shared, taps_inside
from onnxruntime_ep_sparse.program.steps import Window
from onnxruntime_ep_sparse_kernels.isa import ISAS
from support.nodes import one_node


@pytest.mark.parametrize(
    ("shape", "rows", "expected"),
    [
        ((3, 4, 5, 6), None, (3, 4, 5, 6)),
        (("n", 64, "h", None), None, (1, 64, 28, 28)),
        (("n", "t", 768), None, (1, 128, 768)),
        (("n", "t", 768), 8, (1, 128, 768)),
        (("n", 768), None, (128, 768)),
        (("n", 768), 8, (8, 768)),
        ((768, "n"), 8, (768, 8)),
        ((-1, 5), 8, (8, 5)),
        ((), None, ()),
    ],
)
def test_nominal_sizes(shape, rows, expected):
    """Numbers stand in for dimensions that are open."""
    graph, _ = one_node("Relu", [shape], shape)
    assert Setting(graph, ISAS[0], {}, rows).sizes("y") == expected


def test_symbols_have_sizes():
    """A symbol's size counts wherever the symbol stands; a number of rows that is judged comes first."""
    graph, _ = one_node("Relu", [("n", 3)], ("n", 3))
    assert Setting(graph, ISAS[0], {"n": 5}).sizes("y") == (5, 3)
    assert Setting(graph, ISAS[0], {"n": 5}, rows=2).sizes("y") == (2, 3)


def test_floats_count_by_the_cache_that_holds_them():
    """Three kinds of work: a core's own cache, the cache of all cores, memory."""
    assert [*moved("x", costs.NEAR_FLOATS)] == ["x"]
    assert [*moved("x", costs.SHARED_FLOATS)] == ["x_shared"]
    assert moved("x", costs.SHARED_FLOATS + 1) == {"x_far": costs.SHARED_FLOATS + 1}
    assert moved("x", 7, among=costs.SHARED_FLOATS + 1) == {"x_far": 7}


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("rows", [1, 4, 8, 9, 100])
def test_more_rows_are_more_work(rows, isa):
    """Of the same kind, with both providers."""
    less, more = (matrix_product(isa, 0, n, 256, 128, 256 * 128) for n in (rows, 2 * rows))
    for one, other in ((less.ort, more.ort), (less.ours, more.ours), (less.apart, more.apart), (less.shared, more.shared)):
        assert all(amount <= other[name] for name, amount in one.items() if name in other)


@pytest.mark.parametrize("seed", range(40))
def test_taps_inside_are_counted(seed):
    """Of any window, per axis, against a count one by one."""
    rng = np.random.default_rng(seed)
    kernel, stride, dilation, begin, end = (int(rng.integers(low, high)) for low, high in ((1, 6), (1, 4), (1, 5), (0, 7), (0, 7)))
    size = int(rng.integers(1, 20))
    count = (size + begin + end - (kernel - 1) * dilation - 1) // stride + 1
    if count < 1:
        return
    window = Window((kernel,), (stride,), (dilation,), (begin,), (end,))
    taps = [i * stride + k * dilation - begin for i in range(count) for k in range(kernel)]
    assert taps_inside(window, (size,), (count,)) == sum(0 <= tap < size for tap in taps)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("empty", [0, 2, 3])
def test_empty_results_have_a_price(isa, groups, empty):
    """Of an empty batch, and of windows that are taller or wider than the image, in any layout: without an error."""
    for outputs in (8, 6 * groups):
        x, weight = (1, 8, 4, 4), (outputs, 8 // groups, 3, 3)
        y = tuple(0 if axis == empty else size for axis, size in enumerate((1, outputs, 2, 2)))
        window = Window((3, 3), (1, 1), (1, 1), (0, 0), (0, 0))
        estimate = costs.convolution(isa, 1000, x, weight, weight, y, window, groups)
        for work in (estimate.ort, estimate.ours, estimate.apart):
            assert all(np.isfinite(amount) and amount >= 0 for amount in work.values())


@pytest.mark.parametrize(
    ("lanes", "size", "side", "stride", "vectors"),
    [
        (8, 7, 3, 1, 1),
        (8, 14, 3, 1, 2),
        (8, 56, 3, 1, None),
        (8, 28, 3, 2, 2),
        (8, 2, 3, 1, None),
        (8, 7, 5, 1, 1),
        (8, 28, 5, 1, None),
        (16, 28, 5, 1, 2),
        (16, 56, 3, 1, 4),
        (4, 7, 3, 1, None),
        (4, 14, 3, 1, 4),
    ],
)
def test_strips_of_depthwise_convolutions(lanes, size, side, stride, vectors):
    """Small images have strips, of so many vectors per row; wide and tiny ones, and windows with too many weights, have none."""
    isa = next(isa for isa in ISAS if isa.lanes == lanes)
    out = (size - 1) // stride + 1
    window = Window((side,) * 2, (stride,) * 2, (1, 1), (side // 2,) * 2, (side // 2,) * 2)
    work = costs.depthwise(isa, (1, 24, size, size), (24, 1, side, side), (1, 24, out, out), window)
    assert work.get("depthwise_strip") == (None if vectors is None else 24 * vectors)
    assert work.get("depthwise_strip_tap") == (None if vectors is None else 24 * vectors * out * side**2)


RUNTIME = Path(__file__).parents[2] / "provider" / "onnxruntime_ep_sparse" / "runtime"


@pytest.mark.parametrize(
    ("file", "name", "expected"),
    [("_sections.pxd", "PARALLEL_FROM", costs.OUR_SPLIT), ("_recurrent.pyx", "PARALLEL_MACS", costs.OUR_CELL_SPLIT)],
)
def test_steps_are_shared_from_where_the_runtime_shares_them(file, name, expected):
    """The price of a step knows how many threads will run it."""
    assert re.findall(rf"^ +{name} = (\d+)$", (RUNTIME / file).read_text(), re.M) == [str(expected)]


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("rows", [1, 2, 3, 8, 17, 48, 128])
@pytest.mark.parametrize(("depth", "outputs"), [(64, 256), (256, 8), (256, 256), (16, 16), (1, 5000)])
def test_small_products_stay_on_one_thread(depth, outputs, rows, isa):
    """ONNX Runtime shares a product by all its multiply-adds, we share it by those of nonzeros."""
    estimate = matrix_product(isa, 0, rows, depth, outputs, depth * outputs)
    assert estimate.ort_splits == (rows * depth * outputs >= 1 << 16)
    macs = depth * outputs * rows
    padded = depth * outputs * (-(-rows // isa.lanes) * isa.lanes)
    assert costs.OUR_SPLIT / padded <= estimate.alone_to <= costs.OUR_SPLIT / macs


def test_shared_work_is_that_of_nodes_and_steps():
    """What is computed as part of another step shares that one's threads."""
    assert shared({"node": 1, "exp": 5}) == {"node": 1, "exp": 5, "section": 1}
    assert shared({"step": 1}) == {"step": 1, "section": 1}
    assert shared({"exp": 5}) == {"exp": 5}


def test_only_the_first_concat_finds_its_operands_in_place():
    """As in a dense block, whose layers each join all values before them: the first one is free, later ones copy what is there already."""
    shapes = {"x": (1, 8, 4, 4), "a": (1, 8, 4, 4), "b": (1, 8, 4, 4), "c": (1, 8, 4, 4), "y": (1, 16, 4, 4), "z": (1, 24, 4, 4)}
    makers = [Node(i, "", "Relu", "", 14, ("x",), (name,), {}) for i, name in enumerate("abc")]
    joints = [
        Node(3, "", "Concat", "", 13, ("a", "b"), ("y",), {"axis": 1}),
        Node(4, "", "Concat", "", 13, ("a", "b", "c"), ("z",), {"axis": 1}),
    ]
    values = {name: Value(name, FLOAT, shape) for name, shape in shapes.items()}
    graph = Graph((*makers, *joints), values, frozenset(), {}.__getitem__, ("x",), ("y", "z"))
    first, second = (ops.row_for(node).estimate(Setting(graph, ISAS[0], {}), node) for node in joints)
    assert first.ours == {"step": 0, "transposed": 0}
    assert second.ours == {"step": 2, "transposed": 2 * 8 * 16}
    assert second.ort["copied"] == 24 * 16
