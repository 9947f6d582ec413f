"""Packing on several threads, on fewer than wanted, and on none."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from onnxruntime_ep_sparse.program import parallel
from onnxruntime_ep_sparse.program.parallel import LARGE, parallel_map
from onnxruntime_ep_sparse_kernels import pack
from support.making import examples, model_of, noise, pruned
from support.promises import cpu_session, owned_session

SIZES = st.lists(st.sampled_from([1, LARGE - 1, LARGE, 4 * LARGE]), max_size=12)


class FewThreads:
    """In place of Thread: only the first `count` can be started."""

    def __init__(self, count):
        self.left = count

    def __call__(self, **arguments):
        thread = threading.Thread(**arguments)
        if self.left == 0:
            thread.start = self.refuse
        self.left = max(self.left - 1, 0)
        return thread

    @staticmethod
    def refuse():
        raise RuntimeError("can't start new thread")


@examples(60)
@given(sizes=SIZES, threads=st.integers(1, 5), startable=st.integers(0, 4))
def test_all_results_in_order(sizes, threads, startable):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "Thread", FewThreads(startable))
        done = []
        works = [(size, lambda i=i: (done.append(i), i)[1]) for i, size in enumerate(sizes)]
        assert parallel_map(threads, works) == list(range(len(sizes)))
        assert sorted(done) == list(range(len(sizes)))


@pytest.mark.parametrize("startable", [0, 1, 4])
@pytest.mark.parametrize("failing", [0, 3, 7])
def test_errors_are_raised(monkeypatch, startable, failing):
    """Wherever the work runs that fails."""
    monkeypatch.setattr(parallel, "Thread", FewThreads(startable))

    def work(i):
        if i == failing:
            raise ValueError("bad weight")
        return i

    with pytest.raises(ValueError, match="bad weight"):
        parallel_map(4, [(LARGE, lambda i=i: work(i)) for i in range(8)])


def test_no_work_of_compile_needs_threads_or_mappings(monkeypatch):
    """A session is made where no thread can be started and no memory can be mapped, with the same bits."""
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(3)]
    model = model_of(nodes, {"x0": ["n", 512]}, ["x3"], {f"w{i}": pruned(rng, (512, 512)) / 16 for i in range(3)})
    feeds = {"x0": noise(rng, 4, 512)}
    (usual,) = owned_session(model, {"threads": "3"}).run(None, feeds)

    def no_mapping(*arguments):
        raise OSError(12, "Cannot allocate memory")

    for startable in (0, 1):
        monkeypatch.setattr(parallel, "Thread", FewThreads(startable))
        monkeypatch.setattr(pack, "mmap", no_mapping)
        np.testing.assert_array_equal(owned_session(model, {"threads": "3"}).run(None, feeds)[0], usual)
    np.testing.assert_allclose(usual, cpu_session(model).run(None, feeds)[0], atol=1e-4)


def test_session_while_the_interpreter_ends(fresh):
    """In a thread that goes on after the main thread has ended, and at exit."""
    code = """
import atexit, threading, time
import numpy as np
import onnxruntime
import onnxruntime_ep_sparse as sparse
from onnx import TensorProto, helper, numpy_helper
sparse.register()
rng = np.random.default_rng(0)
weights = [numpy_helper.from_array((rng.random((512, 512)) > 0.9).astype(np.float32), f"w{i}") for i in range(3)]
info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 512]) for name in ("x0", "x3")]
nodes = [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(3)]
graph = helper.make_graph(nodes, "g", info[:1], info[1:], weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
def work(place):
    time.sleep(0.3 * (place == "thread"))
    options = {"policy": "always", "threads": "2"}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=[(sparse.EP_NAME, options)], enable_fallback=0)
    print(place, session.run(None, {"x0": np.ones((1, 512), np.float32)})[0].shape, flush=True)
atexit.register(work, "exit")
threading.Thread(target=work, args=["thread"]).start()
"""
    assert fresh(code).stdout == "thread (1, 512)\nexit (1, 512)\n"
