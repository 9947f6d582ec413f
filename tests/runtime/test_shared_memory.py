"""Sessions of the same weights have them once, and the memory of their runs; the last of them gives it back."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import helper

from onnxruntime_ep_sparse.program.enums import StepKind
from onnxruntime_ep_sparse.program.kinds.elementwise import Binary
from onnxruntime_ep_sparse.program.steps import Activation, ProgramSpec, Step
from onnxruntime_ep_sparse.runtime import _arenas
from onnxruntime_ep_sparse.runtime import _weight_store as _shared
from onnxruntime_ep_sparse.runtime._program import Program
from onnxruntime_ep_sparse_kernels.elementwise import Act, Op
from support.kernel_sets import SETS, table_of
from support.making import model_of, noise, pruned
from support.promises import cpu_session, owned_session

SHAPES = {"w1": (64, 16, 3, 3), "w2": (48, 64, 1, 1), "w3": (96, 48)}
CALLERS = 8


def model(seed, changed=None):
    """Two convolutions and a classifier, 80 % zeros; `changed` scales the weights of that name."""
    rng = np.random.default_rng(seed)
    weights = {name: pruned(rng, shape, 0.8) for name, shape in SHAPES.items()}
    if changed:
        weights[changed] *= 2
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "w3"], ["y"], transB=1),
    ]
    return model_of(nodes, {"x": ["n", 16, "h", "w"]}, ["y"], weights).SerializeToString()


MODEL = model(0)
FEEDS = {"x": noise(np.random.default_rng(1), 1, 16, 14, 14)}


def run(session):
    """The result's bits."""
    return session.run(None, FEEDS)[0].view(np.int32)


@pytest.fixture(autouse=True)
def nothing_left():
    """What a test's sessions have goes with them."""
    gc.collect()
    before = _shared.held(), _arenas.held()
    yield
    gc.collect()
    assert (_shared.held(), _arenas.held()) == before


def test_weights_are_there_once():
    """A second session adds nothing, neither when it is made nor when it runs; a classifier's second layout is shared like the first."""
    first = owned_session(MODEL, threads=1)
    bits = run(first)
    held = _shared.held(), _arenas.held()
    more = [owned_session(MODEL, threads=1) for _ in range(3)]
    assert all(np.array_equal(run(session), bits) for session in more)
    assert (_shared.held(), _arenas.held()) == held


def test_the_first_may_go():
    """Sessions live on when the one that packed their weights is gone."""
    first = owned_session(MODEL, threads=1)
    bits = run(first)
    second = owned_session(MODEL, threads=1)
    del first
    gc.collect()
    assert np.array_equal(run(second), bits)
    third = owned_session(MODEL, threads=1)
    del second
    gc.collect()
    assert np.array_equal(run(third), bits)


def test_bytes_are_what_was_packed():
    """Of each weight at least its nonzeros, of all together not much more."""
    before = _shared.held()[1]
    session = owned_session(MODEL, threads=1)
    nonzeros = 0.2 * sum(np.prod(shape) for shape in SHAPES.values())
    assert 6 * nonzeros < _shared.held()[1] - before < 10 * nonzeros
    del session


@pytest.mark.parametrize("changed", SHAPES)
def test_other_weights_are_others(changed):
    """Of a model that differs in one weight, the rest is shared, and each session computes its own."""
    before = _shared.held()[1]
    first = owned_session(MODEL, threads=1)
    one = _shared.held()[1] - before
    other = model(0, changed)
    second = owned_session(other, threads=1)
    assert one < _shared.held()[1] - before < 2 * one
    for session, source in ((first, MODEL), (second, other)):
        np.testing.assert_allclose(session.run(None, FEEDS)[0], cpu_session(source).run(None, FEEDS)[0], rtol=1e-4, atol=1e-4)
    assert not np.array_equal(run(first), run(second))


def test_threads_create_run_and_release():
    """Sessions of two models come and go in many threads: always the right bits."""
    models = MODEL, model(2)
    expected = [run(owned_session(source, threads=1)) for source in models]

    def work(caller):
        right = True
        for i in range(6):
            which = (caller + i) % 2
            right = right and np.array_equal(run(owned_session(models[which], threads=1)), expected[which])
        return right

    with ThreadPoolExecutor(CALLERS) as pool:
        assert all(pool.map(work, range(CALLERS)))


def test_sessions_that_run_in_turn_have_one_arena():
    """Of any number of sessions; runs at the same time have one each."""
    before = _arenas.held()[0]
    sessions = [owned_session(MODEL, threads=1) for _ in range(4)]
    for session in sessions:
        run(session)
    assert _arenas.held()[0] - before == 1


def test_more_blocks_than_buckets():
    """Programs with many thousands of different constants: each keeps its own bytes, equal ones are there once, and all of them go."""
    before = _shared.held()
    constants = {i: np.array([i, i % 7], np.float32) for i in range(1, 10001)}
    steps = (Step(StepKind.ACTIVATE, 0, 10001, activation=Activation(Act.TANH)),)
    spec = ProgramSpec(10003, {"x": 0}, {"y": 10001}, constants, steps)
    last = (*steps, Step(StepKind.BINARY, 9999, 10002, 10000, spec=Binary(Op.SUB)))
    programs = [Program(spec, table_of(SETS[-2]), 1) for _ in range(2)]
    assert 10000 <= _shared.held()[0] - before[0] < 10100
    second = Program(ProgramSpec(10003, {"x": 0}, {"y": 10001, "z": 10002}, constants, last), table_of(SETS[-2]), 1)
    assert second.run(np.zeros((2,), np.float32))[1].tolist() == [-1, (9999 % 7) - (10000 % 7)]
    assert 10000 <= _shared.held()[0] - before[0] < 10100
    del programs, second
    gc.collect()
    assert _shared.held() == before
