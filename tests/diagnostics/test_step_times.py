"""Time and work of every step: exact where it can be counted, bounded by the clock where not."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
from onnx import helper

import onnxruntime_ep_sparse as sparse
import onnxruntime_ep_sparse_kernels as kernels
from support.making import model_of, noise, pruned
from support.promises import make_session, owned_session

PROFILED = {"profile": "1"}


def alive(rng, shape, sparsity=0.9):
    """Pruned weights [M, C/group, ...] without a dead channel, which would be folded away."""
    weight = pruned(rng, shape, sparsity)
    for m in range(max(shape[:2])):
        weight[m % shape[0], m % shape[1]] = 1
    return weight


def chain():
    """Steps of most kinds, a grouped and a depthwise convolution and a product with a batch of matrices among them."""
    rng = np.random.default_rng(0)
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w1"], ["a"], name="first", pads=[1] * 4, strides=[2, 1]),
        make("Add", ["a", "c"], ["b"], name="bias"),
        make("Relu", ["b"], ["d"], name="relu"),
        make("Conv", ["d", "w2"], ["e"], name="depthwise", pads=[1] * 4, group=18),
        make("Conv", ["e", "w3"], ["f"], name="grouped", group=3),
        make("Concat", ["f", "d"], ["g"], name="concat", axis=1),
        make("MatMul", ["g", "w4"], ["h"], name="matrices"),
        make("GlobalMaxPool", ["h"], ["i"], name="pool"),
        make("Reshape", ["i", "s"], ["y"], name="reshape"),
    ]
    weights = {"w1": alive(rng, (18, 5, 3, 3)), "w2": noise(rng, 18, 1, 3, 3), "w3": alive(rng, (9, 6, 1, 1), 0.5)}
    weights |= {"w4": pruned(rng, (27, 13, 7), 0.7), "c": noise(rng, 18, 1, 1), "s": np.array([-1, 27])}
    return model_of(nodes, {"x": ["n", 5, "h", 13]}, ["y"], weights), weights


MODEL, WEIGHTS = chain()


def step(steps, name):
    """The one step of that name."""
    (found,) = [s for s in steps if s.name == name]
    return found


def test_work_is_exact():
    """Multiply-adds and bytes of every step, summed over runs of several shapes, also where a batch runs in slices."""
    session = owned_session(MODEL, PROFILED, regions=1)
    assert {s.runs for s in sparse.step_times(session)} == {0}
    sizes = [(1, 13), (4, 21), (2, 1)]
    for n, height in sizes:
        session.run(None, {"x": noise(np.random.default_rng(1), n, 5, height, 13)})
    steps = sparse.step_times(session)
    assert [s.index for s in steps] == list(range(len(steps)))
    assert {s.runs for s in steps} == {len(sizes)}
    assert len({s.region for s in steps}) == 1
    rows = sum(n * ((height - 1) // 2 + 1) for n, height in sizes)
    pixels = rows * 13
    first, depthwise, grouped = (step(steps, name) for name in ("first + Relu", "depthwise", "grouped"))
    assert [s.kind for s in (first, depthwise, grouped)] == ["product", "depthwise", "product"]
    assert first.description.startswith("5->18 3x3/2x1, ")
    zeros = 100 * (1 - np.count_nonzero(WEIGHTS["w3"]) / WEIGHTS["w3"].size)
    assert (depthwise.description, grouped.description) == ("18->18 3x3/1", f"18->9 1x1/1, {zeros:.0f} % zeros")
    assert (first.macs, first.dense_macs) == (np.count_nonzero(WEIGHTS["w1"]) * pixels, WEIGHTS["w1"].size * pixels)
    for counted, both in (("macs", np.count_nonzero), ("dense_macs", np.size)):
        assert getattr(depthwise, counted) + getattr(grouped, counted) == sum(both(WEIGHTS[w]) for w in ("w2", "w3")) * pixels
    s = step(steps, "matrices")
    assert s.description.startswith("27 times 13->7, ")
    assert (s.macs, s.dense_macs) == (np.count_nonzero(WEIGHTS["w4"]) * rows, WEIGHTS["w4"].size * rows)
    assert s.moved_bytes == 4 * 27 * (pixels + 7 * rows)
    assert [t.kind for t in steps if t.name == "concat"] == ["concat", "concat"]
    assert (step(steps, "pool").description, step(steps, "pool").macs) == ("max", 0)
    assert step(steps, "reshape").moved_bytes == 0


@pytest.mark.parametrize("isa", kernels.available_isas())
def test_images_are_brought_into_another_order(isa):
    """A step that reads images in another order than they stand moves them once more; the last one only writes its result in that order."""
    rng = np.random.default_rng(0)
    channels, size = (4, 32, 32, 4, 4), 256
    names = ["x", "a", "b", "c", "y"]
    nodes = [helper.make_node("Conv", [names[i], f"w{i}"], [names[i + 1]], name=f"conv{i}", pads=[1] * 4) for i in range(4)]
    weights = {f"w{i}": alive(rng, (channels[i + 1], channels[i], 3, 3), 0.8) for i in range(4)}
    session = owned_session(model_of(nodes, {"x": [1, 4, size, size]}, ["y"], weights), PROFILED | {"isa": isa}, regions=1)
    session.run(None, {"x": noise(rng, 1, 4, size, size)})
    steps = sparse.step_times(session)
    moved = [s.moved_bytes // (4 * size * size) for s in steps]
    assert moved == [2 * 4 + 4 + 32, 32 + 32, 32 + 4, 4 + 4]


def test_steps_that_run_together():
    """A depthwise convolution and the pointwise one behind it run band by band: each has its own time and work, what is between them is not
    moved."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "d"], ["a"], name="depthwise", group=32, pads=[1] * 4),
        helper.make_node("Conv", ["a", "w"], ["y"], name="pointwise"),
    ]
    weights = {"d": noise(rng, 32, 1, 3, 3), "w": alive(rng, (24, 32, 1, 1))}
    session = owned_session(model_of(nodes, {"x": [1, 32, 256, 256]}, ["y"], weights), PROFILED, regions=1)
    session.run(None, {"x": noise(rng, 1, 32, 256, 256)})
    depthwise, pointwise = sparse.step_times(session)
    assert (depthwise.within_next, pointwise.within_next) == (1, 0)
    assert depthwise.ns > 0
    assert pointwise.ns > 0
    assert depthwise.macs == 32 * 9 * 256 * 256
    assert pointwise.macs == np.count_nonzero(weights["w"]) * 256 * 256
    assert (depthwise.moved_bytes, pointwise.moved_bytes) == (4 * 32 * 256 * 256, 4 * 24 * 256 * 256)
    assert depthwise.since(depthwise).within_next == 0


def test_times_fit_into_the_clock():
    """All steps together take no longer than the runs, and rates follow from the sums."""
    session = owned_session(MODEL, PROFILED, threads=1)
    x = noise(np.random.default_rng(1), 8, 5, 64, 13)
    session.run(None, {"x": x})
    earlier = sparse.step_times(session)
    began = time.perf_counter_ns()
    for _ in range(20):
        session.run(None, {"x": x})
    spent = time.perf_counter_ns() - began
    steps = [s.since(before) for s, before in zip(sparse.step_times(session), earlier, strict=True)]
    assert {s.runs for s in steps} == {20}
    assert 0 < sum(s.ns for s in steps) <= spent
    first = steps[0]
    assert first.ns > 0
    document = first.to_dict()
    assert document["name"] == "first + Relu"
    assert document["ms"] == pytest.approx(first.ns / 20 / 1e6)
    assert document["gflops"] == pytest.approx(2 * first.macs / first.ns)
    assert document["dense_gflops"] == pytest.approx(2 * first.dense_macs / first.ns)
    assert document["gb_s"] == pytest.approx(first.moved_bytes / first.ns)


def test_concurrent_runs_are_all_counted():
    """No run of many threads is lost, in runs or in work."""
    session = owned_session(MODEL, PROFILED, threads=2)
    x = noise(np.random.default_rng(1), 2, 5, 13, 13)
    session.run(None, {"x": x})
    one = sparse.step_times(session)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: [session.run(None, {"x": x}) for _ in range(50)], range(8)))
    for s, first in zip(sparse.step_times(session), one, strict=True):
        assert s.runs == 401
        assert (s.macs, s.dense_macs, s.moved_bytes) == (401 * first.macs, 401 * first.dense_macs, 401 * first.moved_bytes)


def test_profiles_change_no_bit():
    """The same results with and without, and every session counts for itself."""
    x = noise(np.random.default_rng(1), 3, 5, 20, 13)
    plain, profiled = owned_session(MODEL), owned_session(MODEL, PROFILED)
    other = owned_session(MODEL, PROFILED)
    (y,), (z,) = plain.run(None, {"x": x}), profiled.run(None, {"x": x})
    assert y.tobytes() == z.tobytes()
    assert {s.runs for s in sparse.step_times(profiled)} == {1}
    assert {s.runs for s in sparse.step_times(other)} == {0}


def test_several_regions():
    """Each has steps of its own, in the order of the graph."""
    rng = np.random.default_rng(0)
    make = helper.make_node
    nodes = [
        make("MatMul", ["x", "w"], ["a"], name="before"),
        make("Asinh", ["a"], ["b"], name="sin"),
        make("MatMul", ["b", "w"], ["y"], name="after"),
    ]
    session = make_session(model_of(nodes, {"x": ["n", 32]}, ["y"], {"w": pruned(rng, (32, 32))}), PROFILED)
    for _ in range(2):
        session.run(None, {"x": noise(rng, 4, 32)})
    steps = sparse.step_times(session)
    assert [(s.name, s.index, s.runs) for s in steps] == [("before", 0, 2), ("after", 0, 2)]
    assert len({s.region for s in steps}) == 2


def test_who_is_not_profiled():
    """A session made without the option, one that takes nothing, and one without the provider."""
    with pytest.raises(ValueError, match="needs a session with the provider option profile=1"):
        sparse.step_times(owned_session(MODEL))
    assert sparse.step_times(make_session(MODEL, {**PROFILED, "policy": "never"})) == []
    with pytest.raises(ValueError, match="this session has no SparseExecutionProvider"):
        sparse.step_times(onnxruntime.InferenceSession(MODEL.SerializeToString(), providers=["CPUExecutionProvider"]))
