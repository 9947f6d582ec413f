"""The steps of regions in ONNX Runtime's own profile."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import helper

import onnxruntime_ep_sparse as sparse
from support.making import model_of, noise, pruned
from support.promises import ALWAYS

SIZE = 256


def net(first="up", second="down"):
    """x -> MatMul -> Relu -> MatMul -> y, 90 % zeros."""
    rng = np.random.default_rng(0)
    weights = {"a": pruned(rng, (SIZE, SIZE)), "b": pruned(rng, (SIZE, SIZE))}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["c"], first),
        helper.make_node("Relu", ["c"], ["d"], "relu"),
        helper.make_node("MatMul", ["d", "b"], ["y"], second),
    ]
    return model_of(nodes, {"x": ["n", SIZE]}, ["y"], weights)


@pytest.fixture
def profiled(tmp_path):
    """Make a session that profiles, as any program does."""

    def make(model, threads=1):
        options = onnxruntime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(tmp_path / "profile")
        options.intra_op_num_threads = threads
        providers = [(sparse.EP_NAME, ALWAYS), "CPUExecutionProvider"]
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers, enable_fallback=0)

    return make


def events_of(text):
    """The regions and the steps of a profile."""
    events = json.loads(text)
    ours = [event for event in events if event["args"].get("provider") == sparse.EP_NAME]
    return [e for e in ours if e["cat"] == "Node"], [e for e in ours if e["cat"] == "Kernel" and "kind" in e["args"]]


def test_profile_of_a_program(profiled):
    """`enable_profiling` is all that it takes. After the end of the profile, runs go on without."""
    session = profiled(net())
    x = {"x": noise(np.random.default_rng(1), 8, SIZE)}
    before = session.run(None, x)[0]
    regions, steps = events_of(Path(session.end_profiling()).read_text())
    assert len(regions) == 1
    assert [step["name"] for step in steps] == ["up + Relu", "down"]
    assert [step["args"]["kind"] for step in steps] == ["product", "product"]
    assert {step["args"]["threads"] for step in steps} == {"1"}
    assert session.run(None, x)[0].tobytes() == before.tobytes()


def test_concurrent_runs(profiled):
    """Each step lies in the event of its own region, in the same thread."""
    session = profiled(net())
    x = {"x": noise(np.random.default_rng(1), 8, SIZE)}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: session.run(None, x), range(40)))
    regions, steps = events_of(Path(session.end_profiling()).read_text())
    assert (len(regions), len(steps)) == (40, 80)
    for region in regions:
        inside = [
            step["name"]
            for step in steps
            if step["tid"] == region["tid"] and region["ts"] <= step["ts"] and step["ts"] + step["dur"] <= region["ts"] + region["dur"]
        ]
        assert inside[:2] == ["up + Relu", "down"]


def test_end_of_a_session(profiled, tmp_path):
    """A session that is released writes its profile, with the steps."""
    session = profiled(net())
    session.run(None, {"x": noise(np.random.default_rng(1), 8, SIZE)})
    del session
    (file,) = tmp_path.glob("profile*")
    assert len(events_of(file.read_text())[1]) == 2


def test_names(profiled):
    """Whatever the names of nodes, the profile is JSON: ONNX Runtime 1.25 writes the texts of events as they are."""
    session = profiled(net('a "name" \\ é\n', ""))
    session.run(None, {"x": noise(np.random.default_rng(1), 8, SIZE)})
    assert [step["name"] for step in events_of(Path(session.end_profiling()).read_text())[1]] == ["a 'name' / é  + Relu", "y"]


def test_two_regions(profiled):
    """Around a node of the CPU provider, each region has its own step, in its own event."""
    rng = np.random.default_rng(0)
    weights = {"a": pruned(rng, (SIZE, SIZE)), "b": pruned(rng, (SIZE, SIZE))}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["c"], "up"),
        helper.make_node("Atan", ["c"], ["d"], "between"),
        helper.make_node("MatMul", ["d", "b"], ["y"], "down"),
    ]
    session = profiled(model_of(nodes, {"x": [8, SIZE]}, ["y"], weights))
    session.run(None, {"x": noise(rng, 8, SIZE)})
    regions, steps = events_of(Path(session.end_profiling()).read_text())
    assert [step["name"] for step in steps] == ["up", "down"]
    for region, step in zip(regions, steps, strict=True):
        assert region["ts"] <= step["ts"] <= step["ts"] + step["dur"] <= region["ts"] + region["dur"]


def test_failed_run(profiled):
    """The profile goes on after a run that has failed."""
    session = profiled(net())
    with pytest.raises(Exception, match="x"):
        session.run(None, {"x": noise(np.random.default_rng(1), 8, SIZE + 1)})
    session.run(None, {"x": noise(np.random.default_rng(1), 8, SIZE)})
    assert len(events_of(Path(session.end_profiling()).read_text())[1]) == 2
