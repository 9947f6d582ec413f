"""Factories of sessions: sent to other processes, sized to their CPUs, called by several threads, with errors that say what to do."""

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import cpus
from onnxruntime_ep_sparse.ort import registration
from support.promises import owned_session

ALWAYS = {"policy": "always"}

WORKERS = """\
import concurrent.futures, multiprocessing, pickle, sys
import numpy as np
import onnxruntime_ep_sparse as sparse

def outputs(factory, x):
    first, second = factory(), factory()
    assert first.get_providers()[0] == sparse.EP_NAME
    assert np.array_equal(first.run(None, {"x": x})[0], second.run(None, {"x": x})[0])
    return first.run(None, {"x": x})[0]

if __name__ == "__main__":
    model, method, called = sys.argv[1:]
    factory = sparse.SessionFactory(model, {"policy": "always"}, threads=2, require_owned=True)
    x = np.random.default_rng(1).standard_normal((2, 16, 12, 12)).astype(np.float32)
    here = factory() if called == "called" else None
    expected = here.run(None, {"x": x})[0] if here else None
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        results = [result.result(timeout=100) for result in [pool.submit(outputs, factory, x) for _ in range(4)]]
    if expected is None:
        expected = outputs(factory, x)
    assert all(np.array_equal(result, expected) for result in results)
    assert np.array_equal((here or factory()).run(None, {"x": x})[0], expected)
"""


def intra_op_threads(session):
    """The number of threads that a session has been created with."""
    return session.get_session_options().intra_op_num_threads


def cut_for(session):
    """The numbers of threads for which its steps are cut; the session needs `profile=1`."""
    return {step.threads for step in sparse.step_times(session)}


def test_same_results_as_a_plain_session(model_bytes, model_file, x):
    """From a path, from bytes, for one thread and two: the bits of a session that was made without a factory."""
    (expected,) = owned_session(model_bytes).run(None, {"x": x})
    for model in (model_bytes, model_file, str(model_file)):
        for threads in (1, 2):
            session = sparse.SessionFactory(model, ALWAYS, threads, require_owned=True)()
            assert session.get_providers() == [sparse.EP_NAME, "CPUExecutionProvider"]
            assert np.array_equal(session.run(None, {"x": x})[0], expected)


def test_each_call_makes_a_session(model_bytes):
    """Sessions of one factory have nothing to do with each other."""
    factory = sparse.SessionFactory(model_bytes)
    assert factory() is not factory()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickled(model_bytes, model_file, x, monkeypatch, protocol):
    """A pickled factory is the same factory, with an absolute path or with the bytes."""
    monkeypatch.chdir(model_file.parent)
    for model in (model_file.name, model_bytes):
        factory = sparse.SessionFactory(model, {**ALWAYS, "min_sparsity": 0.5}, 2, require_owned=True)
        copy = pickle.loads(pickle.dumps(factory, protocol))
        assert vars(copy) == vars(factory)
        assert copy.options == {"policy": "always", "min_sparsity": "0.5"}
        assert np.array_equal(copy().run(None, {"x": x})[0], factory().run(None, {"x": x})[0])
    assert sparse.SessionFactory(model_file.name).model == str(model_file)


def test_pickled_by_cloudpickle(model_bytes, x):
    """Ray and Spark pickle by cloudpickle, also what a function of the driver closes over."""
    cloudpickle = pytest.importorskip("cloudpickle", reason="needs cloudpickle: pip install cloudpickle")
    factory = sparse.SessionFactory(model_bytes, ALWAYS)
    work = pickle.loads(cloudpickle.dumps(lambda: factory().run(None, {"x": x})[0]))
    assert np.array_equal(work(), factory().run(None, {"x": x})[0])


def test_small_repr(model_bytes, model_file):
    """The bytes of a model are not shown."""
    assert repr(sparse.SessionFactory(model_bytes, ALWAYS, 2)) == (
        f"SessionFactory(<{len(model_bytes)} bytes>, {{'policy': 'always'}}, threads=2, require_owned=False)"
    )
    assert repr(str(model_file)) in repr(sparse.SessionFactory(model_file))


@pytest.mark.parametrize("called", ["called", "not_called"])
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_in_child_processes(model_file, tmp_path, anywhere, method, called):
    """Worker processes of every kind compute the parent's bits, whether or not the parent had a session before."""
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    command = [sys.executable, script, model_file, method, called]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=anywhere, cwd=tmp_path)
    assert process.returncode == 0, process.stderr


def test_registers_once(fresh, model_file):
    """Making or unpickling a factory loads nothing; the first call registers the provider, the second one finds it."""
    fresh(
        """if True:
        import pickle, sys, onnxruntime_ep_sparse as sparse
        factory = pickle.loads(pickle.dumps(sparse.SessionFactory(sys.argv[1])))
        assert "onnxruntime" not in sys.modules
        import onnxruntime as ort
        assert sparse.EP_NAME not in ort.get_available_providers()
        calls, register = [], ort.register_execution_provider_library
        ort.register_execution_provider_library = lambda *given: (calls.append(given), register(*given))
        sessions = factory(), factory()
        assert len(calls) == 1, calls
        """,
        model_file,
    )


def test_threads_call_at_once(model_bytes, x):
    """Eight threads make sessions with one factory and run them."""
    factory = sparse.SessionFactory(model_bytes, ALWAYS, threads=1, require_owned=True)
    (expected,) = factory().run(None, {"x": x})
    ready = threading.Barrier(8)

    def work(_):
        ready.wait(60)
        return np.array_equal(factory().run(None, {"x": x})[0], expected)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_threads_at_once_in_a_process_that_has_not_registered(fresh, model_file):
    """The first calls of a process may be concurrent."""
    fresh(
        """if True:
        import sys, onnxruntime_ep_sparse as sparse
        from concurrent.futures import ThreadPoolExecutor
        factory = sparse.SessionFactory(sys.argv[1], {"policy": "always"}, 1, require_owned=True)
        with ThreadPoolExecutor(8) as pool:
            assert len(list(pool.map(lambda _: factory(), range(8)))) == 8
        """,
        model_file,
    )


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity masks")
def test_one_cpu(fresh, model_file):
    """A worker that may use one CPU gets sessions of one thread, even if the factory came from a process with more."""
    fresh(
        """if True:
        import os, sys, onnxruntime_ep_sparse as sparse
        sparse.register()
        factory = sparse.SessionFactory(sys.argv[1], {"policy": "always", "profile": "1"})
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        before = len(os.listdir("/proc/self/task"))
        session = factory()
        assert session.get_session_options().intra_op_num_threads == 1
        assert {step.threads for step in sparse.step_times(session)} == {1}
        assert len(os.listdir("/proc/self/task")) == before
        """,
        model_file,
    )


@pytest.mark.parametrize(("quota", "threads"), [("100000 100000", 1), ("150000 100000", 2), ("300000 100000", 3), ("max 100000", 6)])
def test_quota(tmp_path, monkeypatch, model_bytes, quota, threads):
    """A container's quota, a CPU begun counting as one, says how many threads there are; without one the physical cores do."""
    for name, text in {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": quota + "\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    usable = cpus.usable
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)), raising=False)
    monkeypatch.setattr(cpus, "usable", lambda: usable(tmp_path))
    monkeypatch.setattr(cpus, "cores", lambda: 6)
    session = sparse.SessionFactory(model_bytes, {**ALWAYS, "profile": "1"})()
    assert intra_op_threads(session) == threads
    assert cut_for(session) == {threads}


def test_given_threads(monkeypatch, model_bytes):
    """A number that is given counts, whatever the process may use; the work is not cut for more threads than CPUs."""
    monkeypatch.setattr(cpus, "usable", lambda: 2)
    session = sparse.SessionFactory(model_bytes, {**ALWAYS, "profile": "1"}, np.int64(4))()
    assert intra_op_threads(session) == 4
    assert cut_for(session) == {2}


def test_no_spinning_between_runs(monkeypatch, model_bytes):
    """Idle threads leave the CPUs of the host to other workers."""
    entries = {}
    ort = registration.runtime()

    class Watched(ort.SessionOptions):
        def add_session_config_entry(self, key, value):
            entries[key] = value
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(ort, "SessionOptions", Watched)
    sparse.SessionFactory(model_bytes)()
    assert entries["session.force_spinning_stop"] == "1"


def test_require_owned(dense_model, sparse_model):
    """A model of which nothing is taken is an error of one line with the most frequent reason of its weights, if that was asked for."""
    assert sparse.SessionFactory(dense_model)().get_providers()[0] == sparse.EP_NAME
    with pytest.raises(RuntimeError) as error:
        sparse.SessionFactory(dense_model, require_owned=True)()
    decisions = [decision for decision in sparse.explain(sparse.SessionFactory(dense_model)()) if decision.shape]
    codes = [decision.code for decision in decisions]
    frequent = max(dict.fromkeys(codes), key=codes.count)
    (reason, *_) = [decision.reason for decision in decisions if decision.code == frequent]
    assert f"SparseExecutionProvider takes no node of SessionFactory({str(dense_model)!r}" in str(error.value)
    assert f"{reason} ({codes.count(frequent)} of {len(codes)} nodes" in str(error.value)
    assert "\n" not in str(error.value)
    assert sparse.SessionFactory(sparse_model, require_owned=True)()


def test_require_owned_of_nothing():
    """A model without nodes has nothing to take."""
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    empty = onnx.helper.make_model(
        onnx.helper.make_graph([], "empty", [value], [value]), ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)]
    )
    with pytest.raises(RuntimeError, match="it has no nodes"):
        sparse.SessionFactory(empty.SerializeToString(), require_owned=True)()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"options": {"polcy": "auto"}}, "unknown option 'polcy'; valid options: .*policy"),
        ({"options": {"policy": "sometimes"}}, "option 'policy': 'sometimes' is not valid; valid: .*'always'"),
        ({"options": {"min_sparsity": 2}}, "option 'min_sparsity': '2' is not valid"),
        ({"options": {"threads": 2}}, "option 'threads': give the number of threads as SessionFactory"),
        ({"threads": 0}, "threads: 0 is not valid; valid: a whole number of at least 1"),
        ({"threads": -1}, "threads: -1 is not valid"),
    ],
)
def test_wrong_arguments(arguments, message):
    """They are refused where the factory is made, in one line."""
    with pytest.raises(ValueError, match=f"^{message}") as error:
        sparse.SessionFactory("model.onnx", **arguments)
    assert "\n" not in str(error.value)


def test_wrong_types():
    """Neither a loaded model nor a fraction of a thread."""
    for model, threads in ((onnx.ModelProto(), None), (7, None), ("model.onnx", 1.5)):
        with pytest.raises(TypeError):
            sparse.SessionFactory(model, threads=threads)


def test_the_environment_counts_where_sessions_are_made(monkeypatch, model_bytes):
    """Variables of the process that makes the factory say nothing about the workers'."""
    monkeypatch.setenv("ORT_SPARSE_POLICY", "sometimes")
    factory = sparse.SessionFactory(model_bytes)
    with pytest.raises(ValueError, match="environment variable ORT_SPARSE_POLICY"):
        factory()
    monkeypatch.setenv("ORT_SPARSE_POLICY", "never")
    with pytest.raises(RuntimeError, match=r"takes no node of SessionFactory\(<"):
        sparse.SessionFactory(model_bytes, require_owned=True)()


def test_no_file_here(tmp_path):
    """A path need not exist where the factory is made; a worker without the file says so in one line."""
    factory = sparse.SessionFactory(tmp_path / "elsewhere.onnx")
    with pytest.raises(FileNotFoundError, match=r"no file '.*elsewhere\.onnx' on this host: copy it to each host") as error:
        factory()
    assert "\n" not in str(error.value)
