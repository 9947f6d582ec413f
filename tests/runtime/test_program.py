"""Compiled programs as a whole, called from numpy: batches, shapes and their errors, plans."""

import re

import numpy as np
import pytest
from onnx import helper

from onnxruntime_ep_sparse import options, pipeline
from onnxruntime_ep_sparse.graph.ir import FLOAT, Graph, Node, Value
from onnxruntime_ep_sparse.runtime import _arenas
from support.making import model_of, noise, pruned
from support.programs import EVERY_SET, Conv, graph_of, program_of
from support.promises import cpu_session, owned_session


@EVERY_SET
@pytest.mark.parametrize("zeros", [0, 0.8])
def test_batch(isa, zeros):
    """An image gives the same bits alone and in any batch, in one as well that runs in slices; the last slice may be shorter."""
    rng = np.random.default_rng(3)
    constants = {"w": pruned(rng, (40, 3, 1, 1), zeros), "v": pruned(rng, (2, 40, 3, 3), zeros)}
    nodes = [
        ("Conv", ("x", "w"), "a", (None, 40, None, None), {}),
        ("Conv", ("a", "v"), "y", (None, 2, None, None), {"pads": (1, 1, 1, 1)}),
    ]
    graph = graph_of(nodes, {"x": ("n", 3, "h", "w")}, constants)
    assert pipeline.lower_to_spec(graph, isa).separable
    program = program_of(graph, isa, workers=3)
    x = noise(rng, 11, 3, 120, 150)
    (whole,) = program.run(x)
    for i in range(len(x)):
        assert program.run(x[i : i + 1])[0].tobytes() == whole[i].tobytes()
    assert program.run(x[:0])[0].shape == (0, 2, 120, 150)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 7, 5, 5), "input has 7 channels, the weights expect 8"),
        ((8, 5, 5), "input 0 has 3 dimensions, 4 expected"),
        ((1, 8, 5, 5, 5), "input 0 has 5 dimensions, 4 expected"),
        ((1, 8, 2, 5), "the window is larger than the padded input"),
        ((1,) * 9, "input 0 has 9 dimensions, at most 8 are supported"),
    ],
)
def test_wrong_shape(shape, message):
    """The reason is in the error, and the program goes on with the next input."""
    conv = Conv(6, 8, (3, 3))
    program = pipeline.lower(conv.graph, options.parse({}))
    for _ in range(2):
        with pytest.raises(RuntimeError, match=re.escape(message)):
            program.run(np.zeros(shape, np.float32))
        conv.check(program, noise(np.random.default_rng(6), 1, 8, 5, 5))


def test_wrong_operands():
    """Products, additions and broadcasts that do not fit each other."""
    rng = np.random.default_rng(7)
    graph = graph_of(
        [("MatMul", ("x", "w"), "p", (2, "m", 4), {}), ("Add", ("p", "z"), "y", (2, "m", 4), {})],
        {"x": (None, "m", 6), "z": (None, None, None)},
        {"w": pruned(rng, (2, 6, 4))},
    )
    program = pipeline.lower(graph, options.parse({}))
    for x, z, message in (
        ((2, 5, 7), (2, 5, 4), "MatMul input does not fit weights with K = 6"),
        ((3, 5, 6), (2, 5, 4), "MatMul batch dimensions 3 and 2 do not broadcast"),
        ((2, 5, 6), (2, 3, 4), "dimensions 5 and 3 do not broadcast"),
    ):
        with pytest.raises(RuntimeError, match=message):
            program.run(noise(rng, *x), noise(rng, *z))
    with pytest.raises(ValueError, match="2 inputs expected: x, z"):
        program.run(noise(rng, 2, 5, 6))


def test_many_shapes():
    """More shapes than a program remembers, each of them twice, sizes going up and down."""
    conv = Conv(6, 8, (3, 3), pads=(1, 1, 1, 1), relu=True)
    program = pipeline.lower(conv.graph, options.parse({"threads": "3"}))
    rng = np.random.default_rng(8)
    sizes = [(int(h), int(w)) for h, w in rng.integers(1, 60, (40, 2))]
    first = {size: noise(rng, 1, 8, *size) for size in sizes}
    results = {size: conv.check(program, x) for size, x in first.items()}
    for size in (*sizes[::-1], *sizes[:3] * 2):
        assert program.run(first[size])[0].tobytes() == results[size].tobytes()


@pytest.mark.parametrize(
    ("weight", "x", "separable"),
    [
        ((4, 8, 16), ("n", 16, "p"), False),
        ((4, 8, 16), ("n", 4, 16, "p"), True),
        ((8, 16), ("n", 16, "p"), True),
        ((3, 4, 8, 16), ("n", 4, 16, "p"), False),
    ],
)
def test_batches_of_weights_are_not_cut(weight, x, separable):
    """Where a weight has the first dimension too, a part of the batch needs a part of the weights."""
    rank = max(len(weight), len(x))
    graph = graph_of([("MatMul", ("w", "x"), "y", (None,) * rank, {})], {"x": x}, {"w": pruned(np.random.default_rng(0), weight)})
    assert pipeline.lower_to_spec(graph, options.isa_of(options.parse({}))).separable == separable


@pytest.mark.parametrize("count", [64, 65, 300])
def test_any_number_of_inputs_and_outputs(count):
    """A region has as many as it needs: every intermediate result may be an output, and every addend an input."""
    rng = np.random.default_rng(0)
    nodes, names = [helper.make_node("MatMul", ["x", "w"], ["y0"])], [f"a{i}" for i in range(count)]
    nodes += [helper.make_node("Add", [f"y{i}", name], [f"y{i + 1}"]) for i, name in enumerate(names)]
    inputs = {name: ["n", 8] for name in ("x", *names)}
    model = model_of(nodes, inputs, [f"y{i}" for i in range(count + 1)], {"w": pruned(rng, (8, 8), 0.5)})
    session = owned_session(model, regions=1)
    for rows in (3, 1):
        feeds = {name: noise(rng, rows, 8) for name in inputs}
        for y, expected in zip(session.run(None, feeds), cpu_session(model).run(None, feeds), strict=True):
            np.testing.assert_allclose(y, expected, atol=1e-4)


class Stop:
    """A question whether to stop, which is answered with yes the n-th time alone; `asked` counts."""

    def __init__(self, n=0):
        self.n, self.asked = n, 0

    def __call__(self):
        self.asked += 1
        return self.asked == self.n


def assert_stops_everywhere(program, x, least):
    """Wherever a run is stopped, it says so, and leaves plans and arenas as they were; the next run is right."""
    (expected,) = program.run(x)
    held, stop = _arenas.held(), Stop()
    assert program.run(x, stop=stop)[0].tobytes() == expected.tobytes()
    assert stop.asked >= least
    for n in sorted({1, 2, stop.asked // 2, stop.asked - 1, stop.asked}):
        with pytest.raises(RuntimeError, match="stopped by a function"):
            program.run(x, stop=Stop(n))
        assert {runs for _, runs in program.plans()} == {0}
        assert _arenas.held() == held
        assert program.run(x)[0].tobytes() == expected.tobytes()


@pytest.mark.parametrize("workers", [1, 3])
def test_stopped_between_steps(workers):
    """In every step of every slice of a batch."""
    rng = np.random.default_rng(3)
    constants = {"w": noise(rng, 40, 3, 1, 1), "v": noise(rng, 2, 40, 3, 3)}
    nodes = [
        ("Conv", ("x", "w"), "a", (None, 40, None, None), {}),
        ("Conv", ("a", "v"), "y", (None, 2, None, None), {"pads": (1, 1, 1, 1)}),
    ]
    program = pipeline.lower(graph_of(nodes, {"x": ("n", 3, "h", "w")}, constants), options.parse({"threads": str(workers)}))
    assert_stops_everywhere(program, noise(rng, 11, 3, 120, 150), least=2 * 3)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(("batch", "times"), [(1, 20), (40, 20), (200, 5)])
def test_stopped_between_times(op, batch, times, workers):
    """In every time of a recurrent step; a yes that is taken back later still stops the run."""
    rng = np.random.default_rng(4)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    constants = {"w": pruned(rng, (1, gates * 96, 20), 0.5), "r": pruned(rng, (1, gates * 96, 96), 0.5)}
    values = {"x": Value("x", FLOAT, ("t", "b", 20)), "y": Value("y", FLOAT, ("t", 1, "b", 96))}
    values |= {name: Value(name, FLOAT, array.shape) for name, array in constants.items()}
    node = Node(0, "", op, "", 0, ("x", "w", "r"), ("y",), {"hidden_size": 96})
    graph = Graph((node,), values, frozenset(constants), constants.__getitem__, ("x",), ("y",))
    program = pipeline.lower(graph, options.parse({"threads": str(workers)}))
    assert_stops_everywhere(program, noise(rng, times, batch, 20), least=2 + times)


def test_a_question_that_fails():
    """An exception in it stops the run too."""
    program = pipeline.lower(Conv(6, 8, (3, 3)).graph, options.parse({}))
    with pytest.raises(RuntimeError, match="the function that says whether to stop has failed"):
        program.run(np.zeros((1, 8, 5, 5), np.float32), stop=lambda: 1 // 0)
