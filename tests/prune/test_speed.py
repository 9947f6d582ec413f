"""How many zeros a speed-up needs, and what the report says about speed."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxruntime_ep_sparse.measure.protocol import Measurement
from onnxruntime_ep_sparse.ort.sessions import Ownership
from onnxruntime_ep_sparse.prune import engine, impose
from onnxruntime_ep_sparse.prune.batches import MOST_SAMPLES
from onnxruntime_ep_sparse.prune.report import Speed
from onnxruntime_ep_sparse.prune.speed import ATTEMPTS, LEAST_ZEROS, MOST_ZEROS, Search, undisturbed
from onnxruntime_ep_sparse.timing import Ratio
from support.making import examples, model_of, noise

MODEL_SIZES = (256, 512, 512, 10)


def machine(fixed, even):
    """A model whose time falls with its zeros to a part that is `fixed`; it is as fast as with the CPU provider at `even`."""

    def measured(plan):
        sparsity = sum(plan.values()) / len(plan)
        return max(1.0, 1 / (fixed + (1 - fixed) * (1 - sparsity) / (1 - even)))

    return measured


@examples(100)
@given(st.floats(0.0, 0.4), st.floats(0.0, 0.6), st.floats(1.1, 6))
def test_search(fixed, even, speedup):
    """The sparsity that is found makes the model as fast as was asked for, or it is said that none does."""
    measured = machine(fixed, even)
    search = Search(["a", "b"], speedup, measured, lambda *progress: None)
    best = measured({"a": MOST_ZEROS})
    if best < 0.95 * speedup:
        with pytest.raises(ValueError, match=f"cannot be reached: with 98% zeros the model is {best:.2f} times as fast"):
            search.sparsity()
        return
    found = search.sparsity()
    if found == LEAST_ZEROS:
        assert measured({"a": found}) >= 0.95 * speedup
        return
    assert measured({"a": found}) == pytest.approx(speedup, rel=0.05)
    faster = search.as_fast({"a": min(found + 0.1, 0.98), "b": max(found - 0.2, 0)})
    assert measured(faster) == pytest.approx(speedup, rel=0.05)


@pytest.mark.parametrize(
    ("controls", "taken", "tries"),
    [([1.01, 1.2], 0, 1), ([1.2, 0.98, 1], 1, 2), ([1.2, 0.9, 1.3, 1], 1, 3), ([0.8, 0.7, 0.6, 1], 0, 3), ([1.5, None], 1, 2)],
)
def test_disturbed_measurements(controls, taken, tries):
    """A measurement is repeated while the CPU provider differs from itself, a few times; without a control nothing was timed."""
    ratios = [None if median is None else Ratio(median, median, median, 1, 30) for median in controls]
    results = [Measurement(1, 1, 30, Ownership(1, 1, {}), (), ratio, None, None, None) for ratio in ratios]
    coming = iter(results)
    assert undisturbed(lambda: next(coming)) is results[taken]
    assert len(list(coming)) == len(results) - tries
    assert tries <= ATTEMPTS


def feeds(rng, batch=16, count=30):
    return [{"x": noise(rng, batch, 40) @ noise(rng, 40, 256)} for _ in range(count)]


def perceptron(rng):
    from onnx import helper

    nodes, arrays, x = [], {}, "x"
    for i in range(3):
        inputs, outputs = MODEL_SIZES[i : i + 2]
        arrays |= {f"w{i}": noise(rng, inputs, outputs) / np.float32(inputs) ** 0.5, f"b{i}": noise(rng, outputs)}
        nodes.append(helper.make_node("Gemm", [x, f"w{i}", f"b{i}"], ["y" if i == 2 else f"h{i}"], name=f"fc{i}"))
        if i < 2:
            nodes.append(helper.make_node("Relu", [f"h{i}"], [f"r{i}"]))
        x = f"r{i}"
    return model_of(nodes, {"x": ["batch", 256]}, ["y"], arrays)


def test_report():
    """The report has the nodes that are taken, the measured speed-up with its interval, and expected times of the layers."""
    rng = np.random.default_rng(0)
    report = engine.prune(perceptron(rng), feeds(rng), sparsity=0.95, threads=1).report
    speed = report.speed
    assert 0 < speed.owned <= speed.nodes
    assert speed.speed_up.low <= speed.speed_up.median <= speed.speed_up.high
    assert speed.shapes == {"x": (13, 256)}  # a fifth of the samples is held out
    assert speed.cpu_ms > 0 < speed.ms
    assert speed.expected.cpu_ms > speed.expected.ms > 0
    assert all(0 < layer.ms < layer.cpu_ms for layer in report.layers)
    assert f"{speed.speed_up.median:.2f} [" in report.sentence()
    document = json.loads(json.dumps(report.to_dict()))
    assert document["speed"]["speed_up"]["pairs"] == speed.speed_up.pairs
    assert document["speed"]["reached"] is None


def test_open_sizes():
    """Where the provider takes nodes only with fixed sizes, the speed is that, and a warning says how to fix them."""
    rng = np.random.default_rng(0)
    report = engine.prune(perceptron(rng), feeds(rng, batch=51), sparsity=0.8, threads=1).report
    speed = report.speed
    assert speed.sizes == {"batch": speed.shapes["x"][0]}
    assert f"times as fast on x {speed.sizes['batch']}x256" in report.sentence()
    assert Speed(**{**vars(speed), "owned_open": speed.owned}).warning() is None
    fewer = Speed(**{**vars(speed), "owned_open": 1})
    assert f"('batch': {speed.sizes['batch']}); it takes 1 of {speed.nodes} nodes while the model leaves sizes open" in fewer.warning()
    assert engine._missed(fewer) == [fewer.warning()]


def test_nothing_is_taken(monkeypatch):
    """Too few zeros: it is said in words, layers have no expected times, and no second model is written whose sizes are open."""
    rng = np.random.default_rng(0)
    saved, save = [], impose.save
    monkeypatch.setattr(impose, "save", lambda changes, path, sizes: (saved.append(sizes), save(changes, path, sizes)))
    many_rows = feeds(rng, batch=400, count=2)
    report = engine.prune(perceptron(rng), many_rows, sparsity=0.01, method="magnitude", threads=1).report
    assert (report.speed.owned, report.speed.speed_up, report.speed.expected, report.speed.factor) == (0, None, None, 1.0)
    assert saved == [report.speed.sizes] == [{"batch": MOST_SAMPLES}]
    assert report.speed.owned_open == 0
    assert "takes none of its" in report.sentence()
    assert {(layer.cpu_ms, layer.ms) for layer in report.layers} == {(None, None)}


def test_speedup(monkeypatch):
    """Zeros are added until the model is fast enough; times come from a machine without noise."""
    rng = np.random.default_rng(0)
    measured = machine(0.1, 0.3)
    monkeypatch.setattr(engine.Bench, "speed_up", lambda bench, plan: measured(plan))
    judge = engine.Bench.judge

    def judged(bench, changes, asked):
        speed, times = judge(bench, changes, asked)
        zeros = np.mean([np.mean(changes.array(name) == 0) for name in ("w0", "w1")])
        factor = measured({"a": zeros})
        return Speed(**{**vars(speed), "speed_up": Ratio(factor, factor, factor, 1, 30)}), times

    monkeypatch.setattr(engine.Bench, "judge", judged)
    for allocation in ("uniform", None):
        report = engine.prune(perceptron(rng), feeds(rng), speedup=2.0, allocation=allocation, threads=1).report
        assert report.speed.reached
        assert report.speed.factor == pytest.approx(2, rel=0.05)
        assert "2 was asked for" in report.sentence()
    with pytest.raises(ValueError, match="speedup 50 cannot be reached"):
        engine.prune(perceptron(rng), feeds(rng), speedup=50, threads=1)


def test_costs(monkeypatch):
    """Layers cost what their steps take: more with more weights, and the larger one more. ONNX Runtime renames a MatMul with an Add."""
    from onnx import helper

    rng = np.random.default_rng(0)
    arrays = {"w0": noise(rng, 64, 1024) / 8, "b0": noise(rng, 1024), "w1": noise(rng, 1024, 64) / 32}
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["p"], name="up"),
        helper.make_node("Add", ["p", "b0"], ["q"], name="bias"),
        helper.make_node("Relu", ["q"], ["r"]),
        helper.make_node("MatMul", ["r", "w1"], ["s"], name="down"),
        helper.make_node("Softmax", ["s"], ["y"]),
    ]
    model = model_of(nodes, {"x": ["batch", "sequence", 64]}, ["y"], arrays)
    batches = [{"x": noise(rng, 4, 32, 64)} for _ in range(20)]
    report = engine.prune(model, batches, sparsity=0.9, only="up|down", threads=1, holdout=0.25).report
    assert all(layer.ms and layer.cpu_ms and layer.ms < layer.cpu_ms for layer in report.layers)
    seen = {}

    def spy(setting, sparsity, costs):
        seen.update(costs)
        return [{layer.name: sparsity for layer in setting.selected.pruned}]

    monkeypatch.setattr(engine, "ALLOCATIONS", {"spy": spy})
    measured = machine(0.1, 0.3)
    monkeypatch.setattr(engine.Bench, "speed_up", lambda bench, plan: measured(plan))
    engine.prune(model, batches, speedup=2, allocation="spy", only="up|down", threads=1, holdout=0.25, method="magnitude")
    for cost in seen.values():
        assert len(cost.kept) == 3
        assert list(cost.cost) == sorted(cost.cost)
        assert cost.cost[-1] > 1.5 * cost.cost[0] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"speedup": 1.5, "sparsity": 0.5}, "give one of them"),
        ({"speedup": 1.5, "pattern": "2:4"}, "implies a sparsity"),
        ({"speedup": 0.9}, "speedup 0.9 is not above 1"),
        ({}, "needs a sparsity"),
    ],
)
def test_wrong_use(arguments, words):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=words):
        engine.prune(perceptron(rng), feeds(rng), **arguments)
