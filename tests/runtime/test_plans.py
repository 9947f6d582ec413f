"""Plans of many shapes: what they need is made once for each geometry, and callers that plan at the same time agree."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from onnxruntime_ep_sparse import pipeline
from onnxruntime_ep_sparse.graph.ir import FLOAT, Graph, Node, Value
from onnxruntime_ep_sparse.runtime import _tiles
from onnxruntime_ep_sparse.runtime._program import Program
from support.kernel_sets import SETS, table_of
from support.making import noise, pruned
from support.programs import graph_of

ISA = SETS[-2]
"""The one that every CPU has."""
KEPT = 16
"""Plans of a program, at most."""
CALLERS = 8
LANES = 16
"""A multiple of those of any set of kernels."""
WIDTHS = LANES // ISA.lanes
"""Of the tiles of LANES successive row counts."""


def one_node(op, weights, x, y, first="x", **attributes):
    """A graph of one node that reads `x`, of those dimensions, and its weights."""
    names = ("x", *weights) if first == "x" else (*weights, "x")
    return graph_of([(op, names, "y", y, attributes)], {"x": x}, weights)


def lstm(rng):
    """An LSTM of any number of times and sequences."""
    constants = {"w": pruned(rng, (1, 96, 20), 0.5), "r": pruned(rng, (1, 96, 24), 0.5)}
    values = {"x": Value("x", FLOAT, ("t", "b", 20)), "y": Value("y", FLOAT, ("t", 1, "b", 24))}
    values |= {name: Value(name, FLOAT, array.shape) for name, array in constants.items()}
    node = Node(0, "", "LSTM", "", 0, ("x", "w", "r"), ("y",), {"hidden_size": 24})
    return Graph((node,), values, frozenset(constants), constants.__getitem__, ("x",), ("y",))


def nets():
    """Name -> (graph, shapes whose tiles have few geometries). What differs is rows, columns, images or times."""
    rng = np.random.default_rng(0)
    matrix, pointwise, window = pruned(rng, (40, 24), 0.5), pruned(rng, (24, 40, 1, 1), 0.5), pruned(rng, (24, 40, 3, 3), 0.5)
    line, flat = pruned(rng, (24, 40, 3), 0.5), pruned(rng, (24, 40, 1, 3), 0.5)
    counts = range(1, KEPT)  # as many as stay
    long = [3 * LANES - i for i in counts]
    images = (None,) * 4
    return {
        "MatMul": (one_node("MatMul", {"w": matrix}, ("n", 40), (None, 24)), [(n, 40) for n in long]),
        "MatMul, sequences": (one_node("MatMul", {"w": matrix}, ("n", "s", 40), (None, None, 24)), [(1, n, 40) for n in long]),
        "MatMul, weights first": (one_node("MatMul", {"w": matrix}, (24, "n"), (40, None), "w"), [(24, n) for n in long]),
        "Gemm": (one_node("Gemm", {"w": matrix}, ("n", 40), (None, 24)), [(n, 40) for n in long]),
        "Gemm, transposed": (one_node("Gemm", {"w": matrix}, (40, "n"), (None, 24), transA=1), [(40, n) for n in long]),
        "Conv 1x1": (one_node("Conv", {"w": pointwise}, ("n", 40, "h", "w"), images), [(1, 40, 1, n) for n in long]),
        "Conv 1x1, images": (one_node("Conv", {"w": pointwise}, ("n", 40, "h", "w"), images), [(n, 40, 5, 9) for n in counts]),
        "Conv 1x3": (
            one_node("Conv", {"w": flat}, ("n", 40, "h", "w"), images, pads=[0, 1, 0, 1]),
            [(1, 40, 1, n - 2) for n in long],
        ),
        "Conv 3": (one_node("Conv", {"w": line}, ("n", 40, "t"), (None,) * 3, pads=[1, 1]), [(1, 40, n) for n in long]),
        "Conv 3x3, images": (
            one_node("Conv", {"w": window}, ("n", 40, "h", "w"), images, pads=[1] * 4),
            [(n, 40, 4, 10) for n in counts],
        ),
        "LSTM, times": (lstm(rng), [(2 * LANES + n, 1, 20) for n in counts]),
        "LSTM, sequences": (lstm(rng), [(2, LANES + n, 20) for n in counts]),
    }


NETS = nets()


@pytest.mark.parametrize("name", NETS)
def test_tables_by_geometry(name):
    """Shapes whose tiles have the same geometry share a table of offsets, whatever else differs; results are those of a fresh program."""
    graph, shapes = NETS[name]
    spec = pipeline.lower_to_spec(graph, ISA)
    products = sum(2 if step.kind.name == "RECURRENT" else 1 for step in spec.steps if step.kind.name in ("PRODUCT", "RECURRENT"))
    program = Program(spec, table_of(ISA), 1)
    before = _tiles.made()
    rng = np.random.default_rng(1)
    inputs = [noise(rng, *shape) for shape in shapes]
    results = [program.run(x)[0] for x in inputs]
    made = _tiles.made() - before
    assert made <= products * WIDTHS, f"{made} tables for {len(shapes)} shapes"
    for x, y in zip(inputs, results, strict=True):
        assert Program(spec, table_of(ISA), 1).run(x)[0].tobytes() == y.tobytes()


@pytest.mark.parametrize("name", ["MatMul", "LSTM, sequences", "Conv 3x3, images"])
def test_more_shapes_than_plans(name):
    """The plans of the shapes used last are kept, and no others."""
    graph, _ = NETS[name]
    program = Program(pipeline.lower_to_spec(graph, ISA), table_of(ISA), 1)
    shapes = [{"MatMul": (n, 40), "LSTM, sequences": (2, n, 20), "Conv 3x3, images": (1, 40, 3 + n, 10)}[name] for n in range(1, 2 * KEPT)]
    for _ in range(2):
        for shape in shapes:
            program.run(np.zeros(shape, np.float32))
            assert len(program.plans()) <= KEPT
    kept = program.plans()
    # one of the others may be that of a single slice of a batch
    assert {key for key, _ in kept} >= {(shape,) for shape in shapes[1 - KEPT :]}
    assert all(runs == 0 for _, runs in kept)


@pytest.mark.parametrize("name", NETS)
def test_same_shape_planned_at_once(name):
    """Many callers meet new shapes at the same time: one plan of each is left, nobody has it any more, and results are the same bits."""
    graph, shapes = NETS[name]
    spec = pipeline.lower_to_spec(graph, ISA)
    rng = np.random.default_rng(2)
    inputs = [noise(rng, *shape) for shape in shapes[:4]]
    alone = [Program(spec, table_of(ISA), 1).run(x)[0].tobytes() for x in inputs]
    for _ in range(8):
        program = Program(spec, table_of(ISA), 1)
        with ThreadPoolExecutor(CALLERS) as pool:
            results = list(pool.map(lambda i, program=program: program.run(inputs[i % 4])[0].tobytes(), range(4 * CALLERS)))
        assert all(result == alone[i % 4] for i, result in enumerate(results))
        kept = program.plans()
        assert max(Counter(key for key, _ in kept).values()) == 1
        assert all(runs == 0 for _, runs in kept)


def test_shapes_that_fail_leave_no_plan():
    """A shape that does not fit is refused each time, and the plans that are there stay."""
    graph, shapes = NETS["MatMul"]
    program = Program(pipeline.lower_to_spec(graph, ISA), table_of(ISA), 1)
    program.run(np.zeros(shapes[0], np.float32))
    kept = program.plans()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="MatMul input does not fit"):
            program.run(np.zeros((3, 41), np.float32))
        assert program.plans() == kept
