"""Points, rivals, prices and baselines of `bench`."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import measure
from onnxruntime_ep_sparse.measure import providers, streams
from onnxruntime_ep_sparse.measure.baseline import Baseline
from onnxruntime_ep_sparse.timing import Latency, quantile_interval

QUICK = {"pairs": 3, "options": {"policy": "always"}}


@pytest.mark.slow
def test_a_point_for_each_combination(sparse_model):
    """Batches outermost, then threads, then callers; each row has its intervals."""
    found = sparse.bench(sparse_model, batch=[1, 2], threads=1, streams=[1, 2], **QUICK)
    assert [(p.batch, p.threads, p.streams) for p in found.points] == [(1, 1, 1), (1, 1, 2), (2, 1, 1), (2, 1, 2)]
    assert found.agrees
    rows = found.records()
    assert [row["provider"] for row in rows[:2]] == [measure.CPU, sparse.EP_NAME]
    for row in rows:
        assert row["p50_ms_low"] <= row["p50_ms"] <= row["p50_ms_high"]
        assert row["items_per_s_low"] <= row["items_per_s"] <= row["items_per_s_high"]
        assert (row["speed_up"] is None) == (row["provider"] == measure.CPU)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [point["streams"] for point in document["points"]] == [1, 2, 1, 2]
    assert "streams 2: " in found.caption()
    assert found._repr_html_().count("<tr>") == 9


def test_one_point_has_its_fields_at_the_top(chain):
    """As documents had them before there were points; a model in memory will do."""
    document = sparse.bench(chain(0.95), seconds=0.05, threads=1, options={"policy": "always"}).to_dict()
    assert document["speed_up"]["pairs"] >= measure.LEAST_PAIRS
    assert document["requested_pairs"] is None
    assert document["inputs"]["x"]["shape"] == [1, 64, 28, 28]
    assert "points" not in document


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({"z": np.zeros((1, 64, 28, 28), np.float32)}, "feeds has z; the model's inputs are x"),
        ({"x": 1}, "x is int64, the model wants float32"),
        ({"x": np.zeros((1, 64), np.float32)}, "x has rank 2, the model wants"),
    ],
)
def test_wrong_inputs(sparse_model, feeds, words):
    """One sentence, before anything is measured."""
    for call in (sparse.bench, sparse.report, sparse.compare_nodes):
        with pytest.raises(ValueError, match=re.escape(words)):
            call(sparse_model, feeds)


def test_second_model(sparse_model, dense_model):
    """The dense file with the CPU provider, the pruned one with both: ratios are to the first file with the CPU provider."""
    found = sparse.bench(dense_model, other=sparse_model, threads=1, pairs=3)
    (point,) = found.points
    assert point.speed_up is point.sparse is None
    assert [(other.name, other.side.provider) for other in point.others] == [
        (str(sparse_model), measure.CPU),
        (str(sparse_model), sparse.EP_NAME),
    ]
    assert all(other.ratio.pairs == 3 and other.agreement for other in point.others)
    assert len(found.records()) == 3


def test_second_model_with_other_inputs(sparse_model, model_file):
    """It gets random inputs of its own, and nothing is compared."""
    (point,) = sparse.bench(sparse_model, other=model_file, threads=1, **QUICK).points
    assert [other.agreement for other in point.others] == [(), ()]


def test_provider_without_a_node_is_an_error(sparse_model):
    """Of this ONNX Runtime's other providers, Azure's takes no ordinary node: that is not measured as if it were."""
    if "AzureExecutionProvider" not in providers.available():
        pytest.skip("this onnxruntime has no other provider")
    with pytest.raises(ValueError, match="AzureExecutionProvider takes none of the 5 nodes"):
        sparse.bench(sparse_model, against="AzureExecutionProvider", **QUICK)


def test_provider_with_nodes(sparse_model, monkeypatch):
    """A stand-in that is the CPU provider under another name: it takes turns, and has a price."""
    make, own = measure.protocol.create, measure.protocol.ownership
    real = {"OtherExecutionProvider": measure.CPU}
    monkeypatch.setattr(providers, "available", lambda: [measure.CPU, sparse.EP_NAME, *real])
    monkeypatch.setattr(providers, "GPUS", {*real})
    monkeypatch.setattr(measure.protocol, "create", lambda model, provider, *rest: make(model, real.get(provider, provider), *rest))
    monkeypatch.setattr(measure.protocol, "ownership", lambda session, provider: own(session, real.get(provider, provider)))
    found = sparse.bench(sparse_model, against=list(real), prices={"cpu": 2.0, "gpu": 5.0}, threads=1, **QUICK)
    cpu, _, other = found.records()
    assert other["provider"] == "OtherExecutionProvider"
    assert other["per_money"] == pytest.approx(other["items_per_s"] * 3600 / 5)
    assert cpu["per_money"] == pytest.approx(cpu["items_per_s"] * 3600 / 2)


def test_plugin_is_found_by_its_module(monkeypatch):
    """A module as ONNX Runtime's conventions have it is registered; anything else is an error that lists the providers."""
    calls = []
    ort = SimpleNamespace(
        register_execution_provider_library=lambda name, path: calls.append((name, path)),
        get_available_providers=lambda: [measure.CPU],
        get_ep_devices=lambda: [SimpleNamespace(ep_name=name) for name, _ in calls if devices],
    )
    devices = True
    monkeypatch.setattr(providers.registration, "runtime", lambda: ort)
    module = SimpleNamespace(get_library_path=lambda: "lib.so", get_ep_name=lambda: "PluginProvider")
    monkeypatch.setattr(providers.importlib, "import_module", lambda name: module if name == "plugin" else json)
    assert providers.find("plugin") == "PluginProvider"
    assert providers.find("PluginProvider") == "PluginProvider"
    assert calls == [("PluginProvider", "lib.so")]
    devices = False
    with pytest.raises(ValueError, match="PluginProvider supports no device of this machine"):
        providers.find("plugin")
    devices = True
    with pytest.raises(ValueError, match="there is no provider 'json' here; there are CPUExecutionProvider"):
        providers.find("json")
    with pytest.raises(ValueError, match="measured anyway"):
        providers.find(measure.CPU)


def test_plugin_is_found_by_its_library(tmp_path, monkeypatch):
    """A library is registered once, by the name of its file; one that finds no device, or has no provider, is an error."""
    registered = []

    def register(name, path):
        if "broken" in name:
            raise RuntimeError("Failed to load\nlibrary")
        registered.append((name, path))

    ort = SimpleNamespace(
        register_execution_provider_library=register,
        get_available_providers=lambda: [measure.CPU],
        get_ep_devices=lambda: [SimpleNamespace(ep_name=f"{name}Provider") for name, _ in registered if name != "gpu"],
    )
    monkeypatch.setattr(providers.registration, "runtime", lambda: ort)
    for name in ("own", "gpu", "broken"):
        (tmp_path / f"{name}.so").touch()
    for _ in range(2):
        assert providers.find(str(tmp_path / "own.so")) == "ownProvider"
        with pytest.raises(ValueError, match=r"gpu\.so supports no device of this machine"):
            providers.find(str(tmp_path / "gpu.so"))
    assert [name for name, _ in registered] == ["own", "gpu"]
    with pytest.raises(ValueError, match=r"broken\.so is not a library of a provider: Failed to load library"):
        providers.find(str(tmp_path / "broken.so"))
    with pytest.raises(ValueError, match="no such file"):
        providers.find(str(tmp_path / "missing.so"))


class Waiting:
    """A session whose runs only count how many of them there are at once."""

    def __init__(self):
        self.now = self.most = 0

    def run(self, outputs, feeds):
        """Count."""
        self.now += 1
        self.most = max(self.most, self.now)
        streams.time.sleep(1e-3)
        self.now -= 1


def test_callers_run_at_once(monkeypatch):
    """Each session has that many callers, and they are counted together."""
    monkeypatch.setattr(streams, "BLOCK_S", 0.01)
    sessions = Waiting(), Waiting()
    shares = []
    loads = streams.streams_in_turn([(each, {}) for each in sessions], 3, pairs=4, progress=shares.append)
    assert [each.most for each in sessions] == [3, 3]
    assert all(len(load.rates) == 4 and len(load.seconds) >= 4 * 3 * streams.LEAST_RUNS for load in loads)
    assert shares[-1] == 1


def test_latency_under_load():
    """Items per second come from the blocks, not from the latency."""
    latency = Latency.of(np.full(100, 0.5), 8, rates=[4.0, 6.0, 5.0])
    assert (latency.p99_ms, latency.items_per_s) == (500, 40)
    assert latency.intervals["items_per_s"][:2] == (32, 48)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_quantile_interval_covers_as_often_as_it_says(share):
    """On a skewed distribution whose quantiles are known."""
    samples = np.sort(np.random.default_rng(0).exponential(size=(2000, 700)), axis=1)
    intervals = [quantile_interval(sample, share) for sample in samples]
    true = -np.log(1 - share)
    covered = np.mean([low <= true <= high for low, high, _ in intervals])
    assert intervals[0][2] >= 0.95
    assert covered == pytest.approx(intervals[0][2], abs=0.02)


def test_quantile_interval_of_many_values():
    """Powers of two alone would overflow or vanish with so many."""
    low, high, confidence = quantile_interval(np.arange(1e6), 0.5)
    assert low == pytest.approx(5e5 - 980, abs=2)
    assert high == pytest.approx(5e5 + 980, abs=2)
    assert confidence >= 0.95


def document(tmp_path, content):
    """Return the file of a document."""
    path = tmp_path / "old.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def speed_up(median):
    """Return a speed-up as documents have it."""
    return {"median": median, "low": 0.9 * median, "high": 1.1 * median, "confidence": 0.96, "pairs": 30}


def test_baseline(tmp_path):
    """Points are found by batch, threads and callers; a document without callers had one."""
    old = {"command": "bench", "points": [{"batch": b, "threads": 2, "speed_up": speed_up(2.0)} for b in (1, 4)]}
    baseline = Baseline(document(tmp_path, old))
    now = measure.Ratio(**speed_up(3.0))
    point = measure.Measurement(2, 4, 30, measure.Ownership(1, 1, {}), (), now, now, None, None)
    found = measure.Bench("m", (point,), {}, {}, {}, {})
    (change,) = baseline.changes(found)
    assert (change.batch, change.before, change.now, change.ratio) == (4, 2.0, 3.0, 1.5)
    assert (change.low, change.high) == pytest.approx((1.5 * 0.9 / 1.1, 1.5 * 1.1 / 0.9))
    other = measure.Measurement(1, 4, 30, measure.Ownership(1, 1, {}), (), now, now, None, None)
    with pytest.raises(ValueError, match="has no speed-up for batch 4, threads 1, streams 1"):
        baseline.changes(measure.Bench("m", (other,), {}, {}, {}, {}))


@pytest.mark.parametrize("content", ["", "[", "[]", "{}", {"command": "analyze"}, {"command": "bench"}, "[" * 100000])
def test_baseline_must_be_a_document(tmp_path, content):
    """Anything else is one error."""
    with pytest.raises(ValueError, match="not a document of ort-sparse bench --json"):
        Baseline(document(tmp_path, content))


def test_baseline_without_a_speed_up(tmp_path):
    """There is nothing to compare with; nor without a file."""
    with pytest.raises(ValueError, match="it has no speed-up"):
        Baseline(document(tmp_path, {"command": "bench", "batch": 1, "threads": 1, "speed_up": None}))
    with pytest.raises(ValueError, match="No such file"):
        Baseline(tmp_path / "none.json")
