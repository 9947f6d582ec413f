"""Registering, sessions and their end, and what happens when something is wrong."""

import gc
import os
import shutil
import subprocess
import sys
import threading
import warnings

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.ort import _plugin, _region, registration

ALWAYS = {"policy": "always"}


def reference(model, x):
    """What the CPU provider computes."""
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"], enable_fallback=0).run(None, {"x": x})[0]


def close(ours, theirs):
    """Equal up to the rounding of differently ordered sums."""
    return np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


def test_names():
    """The helpers that the packaging convention of providers asks for."""
    assert sparse.get_ep_name() == sparse.EP_NAME == "SparseExecutionProvider"
    assert sparse.get_ep_names() == [sparse.EP_NAME]
    assert os.path.isabs(sparse.get_library_path())
    assert os.path.samefile(sparse.get_library_path(), _plugin.__file__)


def test_one_cpu_device_with_our_version():
    """ONNX Runtime sees one device, and on it the version of the wheel."""
    (device,) = [d for d in onnxruntime.get_ep_devices() if d.ep_name == sparse.EP_NAME]
    assert device.device.type == onnxruntime.OrtHardwareDeviceType.CPU
    assert device.ep_metadata["version"] == sparse.__version__


def test_import_changes_nothing(fresh):
    """Importing the package, or its measurements, imports neither onnxruntime nor onnx and registers nothing."""
    for module in ("onnxruntime_ep_sparse", "onnxruntime_ep_sparse.measure"):
        fresh(f"import sys, {module}; assert not {{'onnx', 'onnxruntime'}} & sys.modules.keys()")
    fresh("import onnxruntime_ep_sparse as s, onnxruntime as o; assert s.EP_NAME not in o.get_available_providers()")


def test_register_is_idempotent():
    """Again and again, from several threads too."""
    threads = [threading.Thread(target=sparse.register) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert onnxruntime.get_available_providers().count(sparse.EP_NAME) == 1


def test_register_unregister(fresh, model_file):
    """Unregistering waits for the last session, can be repeated, and registering works again."""
    fresh(
        """if True:
        import sys, onnxruntime as ort, onnxruntime_ep_sparse as sparse
        sparse.unregister()
        sparse.register()
        session = ort.InferenceSession(sys.argv[1], providers=[sparse.EP_NAME, "CPUExecutionProvider"], enable_fallback=0)
        try:
            sparse.unregister()
        except RuntimeError as error:
            assert "1 live session" in str(error), error
        else:
            raise AssertionError
        del session
        sparse.unregister()
        sparse.unregister()
        assert sparse.EP_NAME not in ort.get_available_providers()
        sparse.register()
        session = ort.InferenceSession(sys.argv[1], providers=[sparse.EP_NAME, "CPUExecutionProvider"], enable_fallback=0)
        assert session.get_providers()[0] == sparse.EP_NAME
        """,
        model_file,
    )


def test_unregister_behind_our_back(fresh, model_file):
    """ONNX Runtime lets the library go while a session lives: the session still runs, and ends in peace."""
    fresh(
        """if True:
        import sys, numpy as np, onnxruntime as ort, onnxruntime_ep_sparse as sparse
        sparse.register()
        session = ort.InferenceSession(sys.argv[1], sparse.session_options({"policy": "always"}), enable_fallback=0)
        ort.unregister_execution_provider_library(sparse.EP_NAME)
        session.run(None, {"x": np.zeros((1, 16, 12, 12), np.float32)})
        del session
        """,
        model_file,
    )


def test_before_register(fresh, model_file):
    """Without register() ONNX Runtime does not know the name."""
    process = fresh(
        """if True:
        import sys, onnxruntime as ort
        ort.InferenceSession(sys.argv[1], providers=["SparseExecutionProvider", "CPUExecutionProvider"], enable_fallback=0)
        """,
        model_file,
        expect=1,
    )
    assert "Unknown Provider Type: SparseExecutionProvider" in process.stderr


def test_path_alone(fresh, model_file):
    """The library registers by its path although nothing of the package has been imported."""
    fresh(
        """if True:
        import sys, numpy as np, onnxruntime as ort
        ort.register_execution_provider_library("any name", sys.argv[2])
        providers = [("SparseExecutionProvider", {"policy": "always"}), "CPUExecutionProvider"]
        session = ort.InferenceSession(sys.argv[1], providers=providers, enable_fallback=0)
        session.run(None, {"x": np.zeros((1, 16, 12, 12), np.float32)})
        import onnxruntime_ep_sparse as sparse
        sparse.register()
        assert ort.get_available_providers().count(sparse.EP_NAME) == 1
        """,
        model_file,
        sparse.get_library_path(),
    )


def test_a_copied_library_is_refused(fresh, tmp_path):
    """A file that is not the module Python imports says so instead of crashing."""
    copy = tmp_path / "copy.so"
    shutil.copy(sparse.get_library_path(), copy)
    process = fresh("import sys, onnxruntime as o; o.register_execution_provider_library('n', sys.argv[1])", copy, expect=1)
    assert "register get_library_path()" in process.stderr


def test_exit_with_a_live_session(fresh, model_file):
    """An interpreter that ends with sessions alive ends quietly."""
    process = fresh(
        """if True:
        import sys, numpy as np, onnxruntime as ort, onnxruntime_ep_sparse as sparse
        sparse.register()
        session = ort.InferenceSession(sys.argv[1], sparse.session_options({"policy": "always"}), enable_fallback=0)
        session.run(None, {"x": np.zeros((1, 16, 12, 12), np.float32)})
        """,
        model_file,
    )
    assert not process.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork(fresh, model_file):
    """A child made after register() makes sessions of its own; its parent's session goes on."""
    fresh(
        """if True:
        import os, sys, numpy as np, onnxruntime as ort, onnxruntime_ep_sparse as sparse
        sparse.register()
        def run():
            base = ort.SessionOptions()
            base.intra_op_num_threads = 1
            session = ort.InferenceSession(sys.argv[1], sparse.session_options({"policy": "always"}, base), enable_fallback=0)
            return session.run(None, {"x": np.ones((1, 16, 12, 12), np.float32)})[0]
        before = run()
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(run(), before) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert np.array_equal(run(), before)
        """,
        model_file,
    )


def test_threads_create_sessions(session, model_bytes, x):
    """Eight threads create, run and drop sessions at once; all compute the same."""
    results, faults = [], []

    def work():
        try:
            results.append(session(model_bytes, ALWAYS).run(None, {"x": x})[0])
        except Exception as fault:
            faults.append(fault)

    gc.collect()
    before = _plugin.live_sessions()
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert all(np.array_equal(result, results[0]) for result in results)
    gc.collect()
    assert _plugin.live_sessions() == before


@pytest.mark.parametrize(("module", "during"), [(_plugin, "select"), (_region, "lower_to_spec")], ids=["select", "lower_to_spec"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_interrupted(session, model_bytes, monkeypatch, *, module, during, error):
    """Ctrl-C, or the end of the process that a handler of signals wants, comes to whoever makes a session."""

    def interrupted(*arguments):
        raise error

    def make():
        try:
            session(model_bytes, ALWAYS)
        finally:
            for _ in range(2):  # Python looks for what is pending when it jumps back
                pass

    monkeypatch.setattr(module, during, interrupted)
    with pytest.raises(type(error)) as caught:
        make()
    assert caught.value.args == error.args


def test_result_and_assignment(session, model_bytes, x):
    """With policy=always every node is ours, in ONNX Runtime's account as well, and the result is right."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    ours = session(model_bytes, ALWAYS, sess_options=options)
    assert {info.ep_name for info in ours.get_provider_graph_assignment_info()} == {sparse.EP_NAME}
    assert close(ours.run(None, {"x": x})[0], reference(model_bytes, x))


def test_nothing_to_take(session, model_bytes, x):
    """A session in which the provider takes nothing is the CPU provider's, bit for bit."""
    ours = session(model_bytes, {"policy": "never"})
    assert not any(decision.taken for decision in sparse.explain(ours))
    assert np.array_equal(ours.run(None, {"x": x})[0], reference(model_bytes, x))


def test_fallback(model_bytes, capsys):
    """Unless enable_fallback=0, onnxruntime prints the reason and goes on with the CPU provider."""
    session = onnxruntime.InferenceSession(model_bytes, providers=[(sparse.EP_NAME, {"policy": "often"}), "CPUExecutionProvider"])
    assert session.get_providers() == ["CPUExecutionProvider"]
    printed = capsys.readouterr().out
    assert "option 'policy': 'often' is not valid" in printed
    assert "Falling back to ['CPUExecutionProvider']" in printed


def test_no_room_for_fallback(model_bytes):
    """`session.disable_cpu_ep_fallback` changes nothing in what we take: with policy=never ONNX Runtime refuses the session."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_provider(sparse.EP_NAME, {"policy": "never"})
    with pytest.raises(Exception, match="explicitly disabled"):
        onnxruntime.InferenceSession(model_bytes, options, enable_fallback=0)


@pytest.mark.parametrize("broken", [b"", b"no model", b"\x08\x08"])
def test_corrupt_model(session, broken):
    """A model that cannot be read fails as it does without the provider."""
    faults = []
    for make in (session, lambda model: onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"], enable_fallback=0)):
        try:
            make(broken)
        except Exception as fault:
            faults.append((type(fault), str(fault)))
    assert len(faults) == 2
    assert faults[0] == faults[1]


def test_a_failing_selection_leaves_the_cpu_provider(session, model_bytes, x, monkeypatch):
    """ONNX Runtime only logs a failure while nodes are offered; explain() has the reason."""

    def fail(graph, options):
        raise RuntimeError("no selection today")

    monkeypatch.setattr(_plugin, "select", fail)
    ours = session(model_bytes, ALWAYS)
    decisions = sparse.explain(ours)
    assert {decision.reason for decision in decisions} == {"not examined, RuntimeError: no selection today"}
    assert {decision.op_type for decision in decisions} == {"Conv", "Relu"}
    assert np.array_equal(ours.run(None, {"x": x})[0], reference(model_bytes, x))


def test_a_failing_lowering_fails_the_session(session, model_bytes, monkeypatch):
    """The message arrives with the fused node's name, and no session is left over."""

    def fail(*arguments):
        raise ValueError("no lowering today")

    gc.collect()
    before = _plugin.live_sessions()
    monkeypatch.setattr(_region, "lower_to_spec", fail)
    with pytest.raises(Exception, match=r"SparseExecutionProvider: SparseExecutionProvider\w+: no lowering today"):
        session(model_bytes, ALWAYS)
    gc.collect()
    assert _plugin.live_sessions() == before


def test_an_error_without_words(session, model_bytes, monkeypatch):
    """It names its type and its place."""

    def fail(*arguments):
        raise AssertionError

    monkeypatch.setattr(_region, "lower_to_spec", fail)
    with pytest.raises(Exception, match=r": AssertionError: line \d+ of test_registration.py"):
        session(model_bytes, ALWAYS)


def test_long_messages_are_cut(session, model_bytes, monkeypatch):
    """Names in models may be long."""

    def fail(*arguments):
        raise ValueError("begin" + "n" * 1_000_000 + "end")

    monkeypatch.setattr(_region, "lower_to_spec", fail)
    with pytest.raises(Exception, match=r"begin.* \.\.\. .*end") as caught:
        session(model_bytes, ALWAYS)
    assert len(str(caught.value)) < 3000


RELOAD = """if True:
    import importlib, sys
    import onnxruntime as ort
    import onnxruntime_ep_sparse as sparse
    from onnxruntime_ep_sparse.models import BUILDERS
    options = sparse.session_options({"policy": "always"})
    names = sorted((name for name in sys.modules if name.startswith("onnxruntime_ep_sparse.")), reverse=sys.argv[1] == "reverse")
    for name in names:
        importlib.reload(sys.modules[name])
    for name in ("mobilenet_v2", "lstm"):
        try:
            ort.InferenceSession(BUILDERS[name](sparsity=0.9).SerializeToString(), options)
        except Exception as error:
            assert "modules of the package were reloaded" in str(error), error
            print("refused")
    """


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_reloaded_modules(fresh, order):
    """Objects of old and new classes do not fit together: where that fails, the error says why."""
    assert fresh(RELOAD, order).stdout.splitlines()


def test_dynamic_options(session, model_bytes):
    """`ep.dynamic.` is ONNX Runtime's own, what our table does not have is a mistake, and then nothing of the same call is done."""
    ours = session(model_bytes)
    ours.set_ep_dynamic_options({"ep.dynamic.workload_type": "Default"})
    with pytest.raises(Exception, match="unknown dynamic option 'explian'; valid: 'cancel', 'explain', 'profile'"):
        ours.set_ep_dynamic_options({"explain": "token", "explian": "token"})
    with pytest.raises(KeyError):
        _plugin.take_answer("token")


def test_explain_takes_sessions_and_models(session, model, model_bytes, model_file):
    """A session, a path, bytes or a ModelProto."""
    names = ["conv_first", "relu", "conv_second"]
    for thing in (session(model_bytes), model_file, str(model_file), model_bytes, model):
        decisions = sparse.explain(thing)
        assert [decision.name for decision in decisions] == names
        assert all(decision.reason for decision in decisions)
    with pytest.raises(ValueError, match=f"has no {sparse.EP_NAME}"):
        sparse.explain(onnxruntime.InferenceSession(model_bytes, providers=["CPUExecutionProvider"], enable_fallback=0))


def test_decisions_are_plain(session, model_bytes):
    """Frozen, comparable, and JSON-ready."""
    first, *_ = sparse.explain(session(model_bytes, ALWAYS))
    assert first == sparse.NodeDecision(**first.to_dict())
    with pytest.raises(AttributeError):
        first.taken = False


@pytest.mark.parametrize("version", ["1.24.4", "0.9"])
def test_old_runtime(monkeypatch, version):
    """register() says what is needed and how to get it."""
    registration.runtime.cache_clear()
    monkeypatch.setattr(onnxruntime, "__version__", version)
    with pytest.raises(ImportError, match=f"needs onnxruntime >= 1.25, this is {version}: pip install --upgrade"):
        sparse.register()
    registration.runtime.cache_clear()


def test_new_runtime(monkeypatch):
    """A runtime newer than tested works, after one warning."""
    registration.runtime.cache_clear()
    monkeypatch.setattr(onnxruntime, "__version__", "9.1.0")
    with pytest.warns(UserWarning, match=r"tested with onnxruntime up to 1\.\d+, this is 9\.1\.0"):
        sparse.register()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sparse.register()
    registration.runtime.cache_clear()


def test_missing_runtime():
    """Without onnxruntime the package imports, and register() says what to install."""
    code = "import sys; sys.modules['onnxruntime'] = None; import onnxruntime_ep_sparse as s; s.register()"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 1
    assert "ImportError: SparseExecutionProvider needs onnxruntime: pip install" in process.stderr


def test_a_region_of_many_inputs(session):
    """Hundreds of inputs to one graph: nothing on the way has a fixed size."""
    names = [f"x{i}" for i in range(300)]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in names]
    nodes = [helper.make_node("Add", [names[0], names[1]], ["s1"])]
    nodes += [helper.make_node("Add", [f"s{i - 1}", names[i]], [f"s{i}"]) for i in range(2, 300)]
    output = helper.make_tensor_value_info("s299", TensorProto.FLOAT, [4])
    graph = helper.make_graph(nodes, "sums", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    feeds = {name: np.full(4, i, np.float32) for i, name in enumerate(names)}
    assert np.array_equal(session(model, ALWAYS).run(None, feeds)[0], np.full(4, sum(range(300)), np.float32))
