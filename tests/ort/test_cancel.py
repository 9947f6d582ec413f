"""Stopping runs in progress: by the dynamic option `cancel` of their session, by `terminate` of their own options."""

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.ort import _plugin, _runs
from onnxruntime_ep_sparse.runtime import _arenas, _sections
from support.making import model_of, noise, pruned
from support.promises import assignment, cpu_session, make_session, owned_session

CANCELLED = "cancelled by the dynamic option 'cancel' of its session"
LAYERS, WIDTH = 12, 512
LONG = np.zeros((200_000, 16), np.float32)
"""An input whose run takes the better part of a minute, where it is not stopped."""
SHORT = noise(np.random.default_rng(1), 3, 16)
CALLERS = 8
ROUNDS = pytest.mark.parametrize("rounds", [40, pytest.param(200, marks=pytest.mark.slow)])


def perceptron():
    """x -> products of dense weights -> y."""
    rng = np.random.default_rng(0)
    widths = [16, *[WIDTH] * LAYERS, 8]
    weights = {f"w{i}": pruned(rng, shape, 0) / 16 for i, shape in enumerate(pairwise(widths))}
    names = ["x", *(f"x{i}" for i in range(LAYERS)), "y"]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(LAYERS + 1)]
    return model_of(nodes, {"x": ["n", 16]}, ["y"], weights).SerializeToString()


MODEL = perceptron()


def until(condition):
    """Wait for what is bound to come."""
    for _ in range(60_000):
        if condition():
            return
        time.sleep(0.001)
    raise AssertionError("it did not come within a minute")


def cancel(session):
    """Cancel the runs of a session."""
    session.set_ep_dynamic_options({"cancel": "1"})


def assert_stopped(run, message=CANCELLED):
    """The run ended with one line that says so."""
    error = run.exception(timeout=100)
    assert isinstance(error, Fail), f"the run was not stopped: {error!r}"
    assert message in str(error)
    assert "\n" not in str(error).strip()


@pytest.fixture(scope="module")
def expected():
    """What the short input gives."""
    return owned_session(MODEL).run(None, {"x": SHORT})[0]


@pytest.fixture
def callers():
    """Threads that run sessions."""
    with ThreadPoolExecutor(CALLERS) as pool:
        yield pool


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("runs", [1, CALLERS])
def test_runs_in_progress(callers, expected, threads, runs):
    """All of them end; the next runs are right, and the memory of the cancelled ones is free for them."""
    session = owned_session(MODEL, threads=threads)
    for _ in range(3):
        pending = [callers.submit(session.run, None, {"x": LONG}) for _ in range(runs)]
        until(lambda: _sections.active_runs() == runs)
        cancel(session)
        assert np.array_equal(session.run(None, {"x": SHORT})[0], expected)
        for run in pending:
            assert_stopped(run)
        assert _sections.active_runs() == 0
        assert np.array_equal(session.run(None, {"x": SHORT})[0], expected)
    assert _arenas.held()[0] <= CALLERS + 1


@ROUNDS
def test_runs_that_begin_while_cancelled_ones_end(callers, expected, rounds):
    """Threads that run again at once, over and over: a cancelled run never takes a later one with it, and results are right."""
    session = owned_session(MODEL, threads=1)
    x = np.concatenate([SHORT] * 40)

    def work(_):
        completed = cancelled = wrong = 0
        while min(completed, cancelled) * CALLERS < rounds and not wrong:
            try:
                (y,) = session.run(None, {"x": x})
            except Fail as error:
                cancelled += CANCELLED in str(error)
                wrong += CANCELLED not in str(error)
            else:
                completed += 1
                wrong += not np.array_equal(y[:3], expected)
        return wrong

    pending = [callers.submit(work, caller) for caller in range(CALLERS)]
    while not all(run.done() for run in pending):
        cancel(session)
        session.run(None, {"x": SHORT})  # begins after the call, and is never cancelled
    assert not any(run.result() for run in pending)
    assert _sections.active_runs() == 0
    assert _arenas.held()[0] <= 2 * CALLERS


@ROUNDS
def test_memory_of_cancelled_runs(callers, expected, rounds):
    """Runs in progress, cancelled over and over, leave no memory behind."""
    session = owned_session(MODEL, threads=1)
    x = np.zeros((20_000, 16), np.float32)
    held = []
    for _ in range(rounds):
        pending = [callers.submit(session.run, None, {"x": x}) for _ in range(2)]
        until(lambda: _sections.active_runs() == 2)
        cancel(session)
        for run in pending:
            assert_stopped(run)
        held.append(_arenas.held())
    assert held[-1] <= max(held[: rounds // 4])
    assert np.array_equal(session.run(None, {"x": SHORT})[0], expected)


def test_other_sessions_go_on(callers, expected):
    """Only the session's own runs are stopped."""
    session, other = owned_session(MODEL, threads=1), owned_session(MODEL, threads=1)
    mine, others = callers.submit(session.run, None, {"x": LONG}), callers.submit(other.run, None, {"x": LONG})
    until(lambda: _sections.active_runs() == 2)
    cancel(session)
    assert_stopped(mine)
    assert not others.done()
    cancel(other)
    assert_stopped(others)


def lstm(times, batch=1):
    """A recurrent net and its input, in which one step takes nearly all of the time."""
    rng = np.random.default_rng(0)
    hidden = 256
    weights = {"w": pruned(rng, (1, 4 * hidden, 8), 0.5), "r": pruned(rng, (1, 4 * hidden, hidden), 0.2) / 16}
    nodes = [helper.make_node("LSTM", ["x", "w", "r"], ["", "y"], hidden_size=hidden)]
    return model_of(nodes, {"x": ["t", "b", 8]}, ["y"], weights), noise(rng, times, batch, 8)


@pytest.mark.parametrize("batch", [1, 40])
@pytest.mark.parametrize("threads", [1, 2])
def test_within_a_recurrent_step(callers, threads, batch):
    """Of a recurrent step that takes seconds, a cancelled run does not compute the rest of the times."""
    model, x = lstm(200_000 // (batch + 1), batch)
    session = owned_session(model, {"profile": "1"}, threads=threads)
    (expected,) = session.run(None, {"x": x[:9]})
    before = sparse.step_times(session)[0].macs
    run = callers.submit(session.run, None, {"x": x})
    until(lambda: sparse.step_times(session)[0].macs > before)  # the projection is done, the recurrent step has begun
    cancel(session)
    assert_stopped(run)
    assert np.array_equal(session.run(None, {"x": x[:9]})[0], expected)


def test_within_one_step(callers):
    """The steps behind the one in which a run is cancelled are not computed."""
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("Gemm", ["w", "x"], ["a"]), helper.make_node("Relu", ["b"], ["y"])]
    nodes.insert(1, helper.make_node("MatMul", ["v", "a"], ["b"]))
    model = model_of(nodes, {"x": [2048, "n"]}, ["y"], {"w": pruned(rng, (2048, 2048), 0), "v": pruned(rng, (4, 2048), 0)})
    session = owned_session(model, {"profile": "1"}, threads=1)
    run = callers.submit(session.run, None, {"x": np.zeros((2048, 20_000), np.float32)})
    until(lambda: _sections.active_runs() == 1)
    cancel(session)
    assert_stopped(run)
    first, *others = sparse.step_times(session)
    assert all(step.macs == 0 == step.moved_bytes for step in others)
    assert first.macs in (0, first.dense_macs)


def test_between_slices(callers):
    """A large batch runs slice by slice, and ends between two of them."""
    session = owned_session(MODEL, {"profile": "1"}, threads=1)
    run = callers.submit(session.run, None, {"x": LONG})
    until(lambda: sparse.step_times(session)[-1].macs > 0)  # the first slice is through
    cancel(session)
    assert_stopped(run)
    assert sparse.step_times(session)[0].macs < LONG.size * WIDTH


def two_regions(turns):
    """Product -> Loop of so many turns on the CPU provider -> product."""
    rng = np.random.default_rng(0)
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["more"], ["again"]), helper.make_node("Asinh", ["state"], ["next"])],
        "body",
        [value("i", TensorProto.INT64, []), value("more", TensorProto.BOOL, []), value("state", TensorProto.FLOAT, ["n", 64])],
        [value("again", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, ["n", 64])],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Loop", ["turns", "", "a"], ["b"], body=body),
        helper.make_node("MatMul", ["b", "v"], ["y"]),
    ]
    weights = {"w": pruned(rng, (64, 64)), "v": pruned(rng, (64, 64)), "turns": np.int64(turns)}
    model = model_of(nodes, {"x": ["n", 64]}, ["y"], weights)
    model.graph.value_info.append(value("b", TensorProto.FLOAT, ["n", 64]))
    return model


def test_between_regions(callers):
    """A run that is with the CPU provider when it is cancelled ends as soon as it comes to our next region."""
    session = make_session(two_regions(400_000), {"profile": "1"})
    assert [provider for provider, op in assignment(session) if op == "MatMul"] == [sparse.EP_NAME] * 2

    def cancelled_between():
        runs = [step.runs for step in sparse.step_times(session)]
        run = callers.submit(session.run, None, {"x": SHORT[:, :1].repeat(64, 1)})
        until(lambda: sparse.step_times(session)[0].runs > runs[0])
        cancel(session)
        if sparse.step_times(session)[-1].runs > runs[-1]:  # too late
            run.result()
            return False
        assert_stopped(run)
        return True

    assert any(cancelled_between() for _ in range(10))


def test_the_words_of_terminate(callers, expected):
    """RunOptions.terminate stops its run, and no other one, inside of a region too. ONNX Runtime itself looks only between its nodes."""
    session, options = owned_session(MODEL, threads=1), onnxruntime.RunOptions()
    run, other = callers.submit(session.run, None, {"x": LONG}, options), callers.submit(session.run, None, {"x": LONG})
    until(lambda: _sections.active_runs() == 2)
    options.terminate = True
    assert_stopped(run, "Exiting due to terminate flag being set to true.")
    assert not other.done()
    assert np.array_equal(session.run(None, {"x": SHORT})[0], expected)
    cancel(session)
    assert_stopped(other)
    with pytest.raises(Exception, match="terminate flag"):
        session.run(None, {"x": SHORT}, options)
    options.terminate = False
    assert np.array_equal(session.run(None, {"x": SHORT}, options)[0], expected)


def test_parallel_execution(callers):
    """Where ONNX Runtime computes nodes in other threads than the caller's, a cancelled run ends in the region that it is in."""
    options = onnxruntime.SessionOptions()
    options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    options.inter_op_num_threads = 2
    options.log_severity_level = 4
    providers = [(sparse.EP_NAME, {"policy": "always"}), "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(MODEL, options, providers=providers, enable_fallback=0)
    run = callers.submit(session.run, None, {"x": LONG})
    until(lambda: _sections.active_runs() == 1)
    cancel(session)
    assert_stopped(run)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cancel": "0"}, "dynamic option 'cancel': '0' is not valid; valid: '1'"),
        ({"cancel": ""}, "dynamic option 'cancel': '' is not valid; valid: '1'"),
        ({"cancel": "true"}, "dynamic option 'cancel': 'true' is not valid; valid: '1'"),
        ({"cancle": "1"}, "unknown dynamic option 'cancle'; valid: 'cancel', 'explain', 'profile'"),
        ({"cancel": "1", "cancle": "1"}, "unknown dynamic option 'cancle'"),
        ({"ep.sparseexecutionprovider.cancel": "1"}, "unknown dynamic option 'ep.sparseexecutionprovider.cancel'"),
        ({"explain": ""}, "dynamic option 'explain': '' is not valid; valid: a token"),
    ],
)
def test_wrong_options(callers, given, message):
    """They are refused with what is valid, and nothing is cancelled."""
    session = owned_session(MODEL, threads=1)
    run = callers.submit(session.run, None, {"x": LONG})
    until(lambda: _sections.active_runs() == 1)
    with pytest.raises(Exception, match=message):
        session.set_ep_dynamic_options(given)
    (y,) = session.run(None, {"x": SHORT})
    assert not run.done()
    cancel(session)
    assert_stopped(run)
    assert y.shape == (3, 8)


def test_nothing_to_stop(expected):
    """Without a run in progress, without a node of ours, and without the provider, the option is accepted and changes nothing."""
    session, other, plain = owned_session(MODEL), make_session(MODEL, {"policy": "never"}), cpu_session(MODEL)
    for each in (session, other, plain):
        cancel(each)
    assert np.array_equal(session.run(None, {"x": SHORT})[0], expected)
    assert np.array_equal(other.run(None, {"x": SHORT})[0], plain.run(None, {"x": SHORT})[0])


def test_runs_within_runs():
    """Operators may run sessions: cancelling one of these stops its own run. The eight outermost runs are known."""
    for runs in (1, 2, 8, 11):
        for cancelled in range(runs):
            assert _runs.stopped(runs, cancelled) == [i == cancelled < 8 for i in range(runs)]
    assert _runs.stopped(1, 0) == [True]


def test_sessions_end_after_cancelled_runs(callers):
    """Cancelled runs keep no session alive."""
    gc.collect()
    live = _plugin.live_sessions()
    for _ in range(5):
        session = owned_session(MODEL, threads=1)
        run = callers.submit(session.run, None, {"x": LONG})
        until(lambda: _sections.active_runs() == 1)
        cancel(session)
        assert_stopped(run)
        del session, run
    gc.collect()
    assert _plugin.live_sessions() == live
