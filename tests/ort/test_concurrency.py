"""Many threads, many sessions, many runs: always the same bits, and no growth."""

import gc
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import onnxruntime
import pytest
from onnx import helper

import onnxruntime_ep_sparse as sparse
import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse.ort import _plugin
from support.making import PATTERNS, model_of, noise, pruned
from support.promises import owned_session

CALLERS = 8


def net(zeros=0.85, pattern="unstructured"):
    """Every kind of step: wide and deep enough for several tiles, K blocks, row chunks and parallel sections."""
    rng = np.random.default_rng(0)
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w1", "b1"], ["a"], pads=[1] * 4),
        make("Sigmoid", ["a"], ["g"]),
        make("Mul", ["a", "g"], ["b"]),
        make("Conv", ["b", "w2"], ["c"], pads=[1] * 4, group=64),
        make("Conv", ["c", "w3"], ["d"], strides=[2, 2]),
        make("Conv", ["d", "w4"], ["e"], pads=[1] * 4),
        make("Add", ["e", "d"], ["f"]),
        make("Relu", ["f"], ["h"]),
        make("MaxPool", ["h"], ["i"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        make("GlobalAveragePool", ["i"], ["j"]),
        make("Flatten", ["j"], ["k"]),
        make("Gemm", ["k", "w5"], ["l"], transB=1),
        make("Tanh", ["l"], ["m"]),
        make("MatMul", ["m", "w6"], ["y"]),
    ]
    shapes = {"w1": (64, 24, 3, 3), "w2": (64, 1, 3, 3), "w3": (96, 64, 1, 1), "w4": (96, 96, 3, 3), "w5": (520, 96), "w6": (520, 40)}
    weights = {name: pruned(rng, shape, zeros, pattern) / 4 for name, shape in shapes.items()}
    model = model_of(nodes, {"x": ["n", 24, "h", "w"]}, ["y", "f", "i"], weights | {"b1": noise(rng, 64)})
    return model.SerializeToString()


MODEL = net()
INPUTS = [noise(np.random.default_rng(1), n, 24, h, w) for n, h, w in ((1, 28, 28), (2, 17, 30), (1, 9, 41), (5, 12, 12))]


def same(some, others):
    """Whether two lists of outputs agree bit for bit."""
    return all(np.array_equal(a.view(np.int32), b.view(np.int32)) for a, b in zip(some, others, strict=True))


@pytest.fixture(scope="module")
def serial():
    """What one session computes alone, one run after the other."""
    session = owned_session(MODEL, regions=1)
    return [session.run(None, {"x": x}) for x in INPUTS]


def test_one_session_many_threads(serial):
    """Concurrent runs of one session, of equal and of different shapes."""
    session = owned_session(MODEL, threads=2)

    def work(caller):
        return all(same(session.run(None, {"x": INPUTS[i % 4]}), serial[i % 4]) for i in range(caller, caller + 12))

    with ThreadPoolExecutor(CALLERS) as pool:
        assert all(pool.map(work, range(CALLERS)))


def test_concurrent_first_runs(serial):
    """Every session's first runs are concurrent: nobody's plan is half made."""
    for _ in range(4):
        session = owned_session(MODEL, threads=2)
        with ThreadPoolExecutor(CALLERS) as pool:
            results = list(pool.map(lambda i, session=session: session.run(None, {"x": INPUTS[i % 4]}), range(2 * CALLERS)))
        assert all(same(result, serial[i % 4]) for i, result in enumerate(results))


def test_concurrent_eviction(serial):
    """More shapes in flight than plans are kept."""
    session = owned_session(MODEL, threads=1)
    inputs = [noise(np.random.default_rng(i), 1, 24, 6 + i, 9) for i in range(24)]
    alone = [session.run(None, {"x": x}) for x in inputs]
    with ThreadPoolExecutor(CALLERS) as pool:
        results = list(pool.map(lambda i: session.run(None, {"x": inputs[i * 7 % 24]}), range(96)))
    assert all(same(result, alone[i * 7 % 24]) for i, result in enumerate(results))
    assert same(session.run(None, {"x": INPUTS[0]}), serial[0])


def test_many_sessions(serial):
    """A session a thread, each made, run and dropped there."""

    def work(caller):
        session = owned_session(MODEL, threads=1)
        return all(same(session.run(None, {"x": INPUTS[(caller + i) % 4]}), serial[(caller + i) % 4]) for i in range(4))

    with ThreadPoolExecutor(CALLERS) as pool:
        assert all(pool.map(work, range(CALLERS)))


@pytest.mark.parametrize("hint", [1, 2, 3, 4, 16])
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_thread_counts(serial, threads, hint):
    """However many threads compute and however many the work was cut for."""
    session = owned_session(MODEL, {"threads": str(hint)}, threads=threads)
    for x, expected in zip(INPUTS, serial, strict=True):
        assert same(session.run(None, {"x": x}), expected)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("isa", kernels.available_isas())
def test_run_to_run(isa, pattern):
    """Each instruction set repeats itself, run by run, session by session, whatever the cut, for every pattern of zeros."""
    model = net(0.7, pattern)
    first = [owned_session(model, {"isa": isa, "threads": "1"}, threads=1).run(None, {"x": x}) for x in INPUTS]
    session = owned_session(model, {"isa": isa, "threads": "3"}, threads=2)
    for _ in range(2):
        assert all(same(session.run(None, {"x": x}), expected) for x, expected in zip(INPUTS, first, strict=True))


def test_totals_while_runs_go_on():
    """A profile that is asked for during runs never has less than the one before, and in the end all of it."""
    session = owned_session(MODEL, {"profile": "1"}, threads=1)
    runs, asked = 40, []
    with ThreadPoolExecutor(CALLERS) as pool:
        pending = [pool.submit(session.run, None, {"x": INPUTS[i % 4]}) for i in range(runs)]
        while not all(each.done() for each in pending):
            asked.append(sparse.step_times(session))
    asked.append(sparse.step_times(session))
    for some, more in pairwise(asked):
        assert all(a.ns <= b.ns and a.runs <= b.runs for a, b in zip(some, more, strict=True))
    assert {step.runs for step in asked[-1]} == {runs}


def test_the_library_starts_again_while_sessions_run(serial):
    """Threads register the custom operators, which starts the library once more, while others make sessions and run them."""
    session = owned_session(MODEL, threads=1)

    def work(caller):
        if caller % 2:
            for _ in range(20):
                onnxruntime.SessionOptions().register_custom_ops_library(sparse.get_library_path())
            return True
        sessions = [session, owned_session(MODEL, threads=1)]
        return all(same(each.run(None, {"x": x}), expected) for x, expected in zip(INPUTS, serial, strict=True) for each in sessions)

    with ThreadPoolExecutor(CALLERS) as pool:
        assert all(pool.map(work, range(CALLERS)))


def test_a_batch_is_its_images(serial):
    """What an image gives does not depend on its company."""
    session = owned_session(MODEL)
    x = INPUTS[3]
    for i in range(len(x)):
        assert same(session.run(None, {"x": x[i : i + 1]}), [y[i : i + 1] for y in serial[3]])


def resident():
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the system does not say how much memory a process has")
def test_no_growth():
    """Sessions that come and go, and runs of ever new shapes, leave nothing behind."""
    session = owned_session(MODEL, threads=1)

    def create():
        owned_session(MODEL, threads=1).run(None, {"x": INPUTS[0]})

    def run(i):
        session.run(None, {"x": np.zeros((1 + i % 3, 24, 4 + i % 19, 4 + i % 23), np.float32)})

    gc.collect()
    live = _plugin.live_sessions()
    for i in range(400):
        run(i)
    before = resident()
    for i in range(400, 1200):
        run(i)
    assert resident() - before < 2 << 20
    for _ in range(20):
        create()
    before = resident()
    for _ in range(60):
        create()
    gc.collect()
    assert resident() - before < 4 << 20
    assert _plugin.live_sessions() == live


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or not os.path.exists("/proc/self/statm"), reason="not glibc on Linux")
def test_dense_weights_go(fresh, tmp_path):
    """Of 64 MB of dense weights in memory, with few nonzeros, little is left once the session is there."""
    rng = np.random.default_rng(3)
    weights = {f"w{i}": pruned(rng, (1024, 1024), 0.98) for i in range(16)}
    nodes = [helper.make_node("MatMul", [f"x{i}" if i else "x", f"w{i}"], [f"x{i + 1}" if i < 15 else "y"]) for i in range(16)]
    path = tmp_path / "model.onnx"
    path.write_bytes(model_of(nodes, {"x": ["n", 1024]}, ["y"], weights).SerializeToString())
    fresh(
        """if True:
        import os, sys, onnxruntime as ort, onnxruntime_ep_sparse as sparse
        sparse.register()
        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        before = resident()
        providers = [(sparse.EP_NAME, {"policy": "always"}), "CPUExecutionProvider"]
        session = ort.InferenceSession(sys.argv[1], providers=providers, enable_fallback=0)
        assert resident() - before < 24 << 20, resident() - before
        """,
        path,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_while_a_run_is_active(fresh, tmp_path):
    """The child knows nothing of its parent's runs, which would take their share of its threads for ever."""
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL)
    fresh(
        """if True:
        import os, sys, threading, numpy as np, onnxruntime_ep_sparse as sparse
        from onnxruntime_ep_sparse.runtime import _sections
        factory = sparse.SessionFactory(sys.argv[1], {"policy": "always"}, threads=2, require_owned=True)
        session, x = factory(), np.zeros((2, 24, 20, 20), np.float32)
        ending = threading.Event()
        def work():
            while not ending.is_set():
                try:
                    session.run(None, {"x": np.zeros((2000, 24, 40, 40), np.float32)})
                except Exception as error:
                    assert "cancelled" in str(error), error
        thread = threading.Thread(target=work)
        thread.start()
        while not _sections.active_runs():
            pass
        child = os.fork()
        if child == 0:
            before = _sections.active_runs()
            factory().run(None, {"x": x})
            os._exit(0 if before == _sections.active_runs() == 0 else 1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        ending.set()
        while thread.is_alive():
            session.set_ep_dynamic_options({"cancel": "1"})
        assert code == 0 == _sections.active_runs()
        """,
        path,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_in_a_forked_child(fresh, tmp_path):
    """A child with a session of its own computes the parent's bits, with threads and while the parent's session lives."""
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL)
    fresh(
        """if True:
        import os, sys, numpy as np, onnxruntime as ort, onnxruntime_ep_sparse as sparse
        sparse.register()
        def make():
            options = ort.SessionOptions()
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
            options.intra_op_num_threads = 2
            providers = [(sparse.EP_NAME, {"policy": "always"}), "CPUExecutionProvider"]
            session = ort.InferenceSession(sys.argv[1], options, providers=providers, enable_fallback=0)
            assert {info.ep_name for info in session.get_provider_graph_assignment_info()} == {sparse.EP_NAME}
            return session
        x = np.random.default_rng(2).standard_normal((2, 24, 20, 20)).astype(np.float32)
        session = make()
        expected = session.run(None, {"x": x})
        for _ in range(2):
            child = os.fork()
            if child == 0:
                results = make().run(None, {"x": x})
                os._exit(0 if all(np.array_equal(a, b) for a, b in zip(results, expected)) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert all(np.array_equal(a, b) for a, b in zip(session.run(None, {"x": x}), expected))
        """,
        path,
    )
