"""Shapes at which regions are measured."""

import pytest

from onnxruntime_ep_sparse.graph.ir import FLOAT, INT32, Graph, Node, Value
from onnxruntime_ep_sparse.ops import costs
from onnxruntime_ep_sparse.partition.nominal import COUNTS, sizes_of
from onnxruntime_ep_sparse.partition.verdict import UnmeasuredError


def region(shapes, op="Add", dtype=FLOAT, **attributes):
    """A node that reads inputs of these shapes."""
    values = {name: Value(name, dtype, shape) for name, shape in {**shapes, "y": (1,)}.items()}
    node = Node(0, "", op, "", 14, tuple(shapes), ("y",), attributes)
    return Graph((node,), values, frozenset(), {}.__getitem__, tuple(shapes), ("y",))


TIMES, ROWS, SPATIAL = costs.NOMINAL_TIMES, costs.NOMINAL_ROWS, costs.NOMINAL_SPATIAL
SHAPES = {
    "images": ({"x": ("n", 3, "h", "w")}, "item", lambda n: {"x": (n, 3, SPATIAL, SPATIAL)}),
    "images and their squeezed ones": ({"x": (None, 3, 9, 9), "s": (None, 3)}, "item", lambda n: {"x": (n, 3, 9, 9), "s": (n, 3)}),
    "rows": ({"x": ("n", 64)}, "row", lambda n: {"x": (n, 64)}),
    "columns": ({"x": (64, None)}, "row", lambda n: {"x": (64, n)}),
    "signals": ({"x": ("n", 3, "t")}, "item", lambda n: {"x": (n, 3, ROWS)}),
    "a batch of fixed sequences": ({"x": ("n", 16, 64)}, "item", lambda n: {"x": (n, 16, 64)}),
    "tokens": ({"x": ("n", "t", 64)}, "row", lambda n: {"x": (1, n, 64)}),
    "tokens, heads and rows": (
        {"h": ("n", 12, None, 64), "x": ("n", None, 768), "r": (None, 768)},
        "row",
        lambda n: {"h": (1, 12, n, 64), "x": (1, n, 768), "r": (n, 768)},
    ),
    "one name": ({"x": ("n", 64), "y2": (64, "n")}, "row", lambda n: {"x": (n, 64), "y2": (64, n)}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_open_dimensions(name):
    """Batches and rows get several sizes, all else its nominal one; inputs fit each other."""
    shapes, unit, expected = SHAPES[name]
    sizes = sizes_of(region(shapes))
    assert [size.count for size in sizes] == [*COUNTS]
    assert [size.shapes for size in sizes] == [expected(count) for count in COUNTS]
    assert {size.unit for size in sizes} == {unit}


@pytest.mark.parametrize(("layout", "axes"), [(0, ("t", "n")), (1, ("n", "t"))])
def test_sequences_of_recurrent_nodes(layout, axes):
    """Their number is open, their length nominal."""
    graph = region({"x": (*axes, 32)}, "LSTM", **({"layout": 1} if layout else {}))
    expected = [(TIMES, n, 32) if layout == 0 else (n, TIMES, 32) for n in COUNTS]
    assert [size.shapes["x"] for size in sizes_of(graph)] == expected


def test_fixed_shapes():
    """Are measured as they are, once, and so are those of which no batch or rows are open."""
    (size,) = sizes_of(region({"x": (2, 3, 9, 9)}))
    assert (size.count, size.shapes) == (None, {"x": (2, 3, 9, 9)})
    (size,) = sizes_of(region({"x": (2, 3, "h", 9)}))
    assert (size.count, size.shapes) == (None, {"x": (2, 3, SPATIAL, 9)})


def test_inputs_that_mean_something():
    """Random whole numbers would not do."""
    with pytest.raises(UnmeasuredError, match="its input 'x' is int32"):
        sizes_of(region({"x": ("n",)}, dtype=INT32))
