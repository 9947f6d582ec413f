"""`policy=measure` in sessions: what is owned follows from what was measured, whatever that was. No test says how fast anything is."""

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import cache_folder
from onnxruntime_ep_sparse.formats import region_model
from onnxruntime_ep_sparse.ort import region_timer
from onnxruntime_ep_sparse.partition import verdict
from support.making import model_of, noise, pruned
from support.promises import assert_close, assignment, cpu_session, make_session

MEASURE = {"policy": "measure"}
ALL = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
FASTER, SLOWER = 2.0, 0.5


def net(seed=0, rows="n", zeros=0.95):
    """Two regions of a product and an activation, with an operator between them that is not ours."""
    rng = np.random.default_rng(seed)
    make = helper.make_node
    nodes = [
        make("MatMul", ["x", "w1"], ["a"], "first"),
        make("Relu", ["a"], ["b"], "relu"),
        make("Atan", ["b"], ["c"], "cos"),
        make("MatMul", ["c", "w2"], ["d"], "second"),
        make("Tanh", ["d"], ["y"], "tanh"),
    ]
    return model_of(nodes, {"x": [rows, 256]}, ["y"], {"w1": pruned(rng, (256, 192), zeros), "w2": pruned(rng, (192, 64), zeros)})


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch):
    """Nothing has been measured or said in this process."""
    monkeypatch.setattr(region_timer, "_known", type(region_timer._known)())
    monkeypatch.setattr(cache_folder, "_said", set())


class Times:
    """In place of turns of two sessions: times with the ratios that the test wants, one after the other."""

    def __init__(self, *ratios, ms=1.0):
        self.ratios, self.shapes, self.seconds = list(ratios), [], ms / 1e3

    def __call__(self, theirs, ours, feeds, **rest):
        """Note the shapes of the inputs, which both sessions can run."""
        for session in (theirs, ours):
            session.run(None, feeds)
        self.shapes += [array.shape for array in feeds.values()]
        return np.full((6, 1), self.ratios.pop(0) * self.seconds), np.full((6, 1), self.seconds)


@pytest.fixture
def times(monkeypatch):
    """Let the test say what is measured."""

    def told(*ratios, **rest):
        made = Times(*ratios, **rest)
        monkeypatch.setattr(region_timer, "alternate", made)
        return made

    return told


def by_name(session):
    """The decisions, which say the same as ONNX Runtime's account."""
    decisions = sparse.explain(session)
    owned = sorted(op for provider, op in assignment(session) if provider == sparse.EP_NAME)
    assert sorted(decision.op_type for decision in decisions if decision.taken) == owned
    return {decision.name: decision for decision in decisions}


def test_what_is_faster_is_owned():
    """Measured in earnest: each node is taken if its figures say so; results are right either way."""
    model = net()
    session = make_session(model, {**MEASURE, "measure_budget_ms": "60000"}, threads=1)
    for decision in by_name(session).values():
        if decision.code == "measured-faster":
            assert decision.taken
            assert float(decision.reason.split()[1].rstrip("x")) >= 1.0
        else:
            assert not decision.taken
            assert decision.code == ("unsupported-operator" if decision.op_type == "Atan" else "measured-slower")
    for rows in (1, 5, 130):
        feeds = {"x": noise(np.random.default_rng(1), rows, 256)}
        assert_close(session.run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])


def test_one_wins_and_one_loses(times):
    """At all sizes, where rows are open; a size at which a region loses ends its measurement."""
    told = times(FASTER, FASTER, FASTER, FASTER, SLOWER)
    made = by_name(make_session(net(), MEASURE))
    assert {name for name, decision in made.items() if decision.taken} == {"first", "relu"}
    assert made["relu"].reason == (
        "measured: 2.00x ONNX Runtime's CPU provider (1 against 2 ms at 1 row; 1 against 2 ms at 8 rows; 1 against 2 ms at 128 rows)"
    )
    assert made["tanh"].code == "measured-slower"
    assert "0.50x to 2.00x" in made["tanh"].reason
    assert made["tanh"].reason.endswith("1 against 0.5 ms at 8 rows)")
    assert told.shapes == [(1, 256), (8, 256), (128, 256), (1, 192), (8, 192)]


def test_fixed_shapes_are_measured_as_they_are(times):
    """And fixed dimensions are those that ONNX Runtime was told."""
    told = times(FASTER, SLOWER)
    make_session(net(rows=17), MEASURE)
    assert told.shapes == [(17, 256), (17, 192)]
    told = times(FASTER, SLOWER)
    chosen = onnxruntime.SessionOptions()
    chosen.add_free_dimension_override_by_name("n", 23)
    providers = [(sparse.EP_NAME, MEASURE), "CPUExecutionProvider"]
    onnxruntime.InferenceSession(net().SerializeToString(), chosen, providers=providers, enable_fallback=0)
    assert told.shapes == [(23, 256), (23, 192)]


def test_sessions_inside(times, monkeypatch):
    """Both have the threads of the hint and do not spin; ours takes everything and measures nothing, whatever the environment says."""
    asked = []
    make = region_timer.make_session

    def made(model, provider, options, threads, **rest):
        session = make(model, provider, options, threads, **rest)
        entry = session.get_session_options().get_session_config_entry("session.force_spinning_stop")
        asked.append((provider, threads, session.get_session_options().intra_op_num_threads, entry, options))
        return session

    monkeypatch.setattr(region_timer, "make_session", made)
    monkeypatch.setenv("ORT_SPARSE_POLICY", "measure")
    monkeypatch.setenv("ORT_SPARSE_PROFILE", "1")
    times(FASTER, FASTER)
    providers = [(sparse.EP_NAME, {"threads": "3"}), "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(net(rows=4).SerializeToString(), providers=providers, enable_fallback=0)
    assert sum(decision.taken for decision in sparse.explain(session)) == 4
    ours = {"policy": "always", "isa": "auto", "profile": "0", "cache_dir": ""}
    assert asked == [("CPUExecutionProvider", 3, 3, "1", None), (sparse.EP_NAME, 3, 3, "1", ours)] * 2
    assert len(sparse.step_times(session)) > 0


def test_the_process_remembers(times):
    """A second session of the same content measures nothing; other weights, threads, instruction sets and budgets do."""
    times(FASTER, SLOWER)
    first = sparse.explain(make_session(net(rows=4), MEASURE))
    assert sparse.explain(make_session(net(rows=4), MEASURE)) == first
    assert sparse.explain(make_session(net(rows=4), {**MEASURE, "measure_budget_ms": "10000"})) == first
    for model, options in ((net(1, 4), {}), (net(rows=5), {}), *((net(rows=4), {key: value}) for key, value in OTHERS)):
        told = times(SLOWER, SLOWER)
        assert not any(decision.taken for decision in sparse.explain(make_session(model, {**MEASURE, **options})))
        assert not told.ratios


OTHERS = [("threads", "7"), ("isa", "baseline"), ("measure_budget_ms", "9999")]


def test_memory_is_bounded(times, monkeypatch):
    """The verdict that was used longest ago is forgotten."""
    monkeypatch.setattr(region_timer, "REMEMBERED", 3)
    for seed in (0, 1):
        times(FASTER, FASTER)
        make_session(net(seed, 4), MEASURE)
    assert len(region_timer._known) == 3
    told = times(FASTER)
    make_session(net(1, 4), MEASURE)
    assert len(told.ratios) == 1


# the folder


def entries(folder):
    """The verdicts there, beside which are the packed regions."""
    return sorted(path.name for path in folder.glob("*.verdict"))


def test_the_folder_keeps_verdicts(times, tmp_path):
    """For another process: nothing is measured again, even without a budget."""
    folder = tmp_path / "new" / "cache"
    options = {**MEASURE, "cache_dir": str(folder)}
    times(FASTER, SLOWER)
    first = sparse.explain(make_session(net(rows=4), options))
    assert len(entries(folder)) == 2
    region_timer._known.clear()
    times()
    assert sparse.explain(make_session(net(rows=4), options)) == first
    assert len(entries(folder)) == 2


def test_what_the_process_remembers_goes_into_the_folder(times, tmp_path):
    """Although it was measured without one."""
    times(FASTER, SLOWER)
    make_session(net(rows=4), MEASURE)
    make_session(net(rows=4), {**MEASURE, "cache_dir": str(tmp_path)})
    assert len(entries(tmp_path)) == 2


def test_damaged_entries_are_replaced(times, tmp_path):
    """Whatever stands there: it is measured again, and written."""
    options = {**MEASURE, "cache_dir": str(tmp_path)}
    times(FASTER, FASTER)
    make_session(net(rows=4), options)
    whole = {path: path.read_bytes() for path in tmp_path.glob("*.verdict")}
    for damage in (lambda data: data[:-1], lambda data: b"", lambda data: data.replace(b"2.0", b"9.0"), lambda data: os.urandom(64)):
        for path, data in whole.items():
            path.write_bytes(damage(data))
        region_timer._known.clear()
        told = times(SLOWER, SLOWER)
        assert not any(decision.taken for decision in sparse.explain(make_session(net(rows=4), options)))
        assert not told.ratios
        assert all(verdict.restored(path.read_bytes()).times[0].ratio == SLOWER for path in whole)


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (region_timer, "__version__", "9.9.9"),
        (onnxruntime, "__version__", "1.99.0"),
        (region_timer, "cpu_model", lambda: "another CPU"),
    ],
)
def test_verdicts_of_others_do_not_count(times, tmp_path, monkeypatch, place, name, value):
    """Another version of ours or of ONNX Runtime, another CPU: measured anew, beside the older ones."""
    options = {**MEASURE, "cache_dir": str(tmp_path)}
    times(FASTER, FASTER)
    make_session(net(rows=4), options)
    region_timer._known.clear()
    told = times(SLOWER, SLOWER)
    monkeypatch.setattr(place, name, value)
    assert not any(decision.taken for decision in sparse.explain(make_session(net(rows=4), options)))
    assert not told.ratios
    assert len(entries(tmp_path)) == 4


def test_a_folder_that_cannot_be_written(times, tmp_path, caplog):
    """Costs one warning, not the session."""
    (tmp_path / "file").write_text("")
    for seed in (0, 1):
        times(FASTER, FASTER)
        session = make_session(net(seed, 4), {**MEASURE, "cache_dir": str(tmp_path / "file" / "cache")})
        assert sum(decision.taken for decision in sparse.explain(session)) == 4
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "nothing can be kept there" in warnings[0]


PROCESS = """
import sys
import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.ort.registration import runtime
options = sparse.session_options({"policy": "measure", "cache_dir": sys.argv[2], "threads": "1", "measure_budget_ms": "60000"})
session = runtime().InferenceSession(sys.argv[1], options, enable_fallback=0)
print(*(decision.code for decision in sparse.explain(session)))
"""


def test_processes_at_the_same_time(fresh, saved, tmp_path):
    """Share a folder; afterwards it has one whole entry for each region, from which others decide alike."""
    path, folder = saved(net(rows=4)), tmp_path / "cache"
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: fresh(PROCESS, path, folder), range(3)))
    names = entries(folder)
    assert len(names) == 2
    assert all(verdict.restored((folder / name).read_bytes()) for name in names)
    (said,) = {fresh(PROCESS, path, folder).stdout for _ in range(2)}
    assert set(said.split()) <= {"measured-faster", "measured-slower", "unsupported-operator"}


# what cannot be measured


def test_no_time():
    """All is decided as by `auto`."""
    made = sparse.explain(make_session(net(), {**MEASURE, "measure_budget_ms": "0"}))
    estimated = sparse.explain(make_session(net(), {"policy": "auto"}))
    assert [decision.taken for decision in made] == [decision.taken for decision in estimated]
    for decision, other in zip(made, estimated, strict=True):
        words = "; not measured: the time for measuring is used up" if decision.op_type != "Atan" else ""
        assert decision.reason == other.reason + words


BLOCKED = """
import logging, sys
import onnxruntime
import onnxruntime_ep_sparse as sparse
logging.basicConfig(stream=sys.stdout, format="LOG %(levelname)s %(message)s")
sparse.register()
{block}
def session(policy):
    providers = [(sparse.EP_NAME, {{"policy": policy}}), "CPUExecutionProvider"]
    return InferenceSession(sys.argv[1], providers=providers, enable_fallback=0)
InferenceSession = onnxruntime.InferenceSession
measured, again, auto = session("measure"), session("measure"), session("auto")
{free}
for one, other in zip(sparse.explain(measured), sparse.explain(auto), strict=True):
    assert one.taken == other.taken
    print(one.reason)
"""


@pytest.mark.parametrize(
    ("block", "free", "words"),
    [
        ("sys.modules['onnx'] = None", "", "the module onnx is missing"),
        (
            "InferenceSession = onnxruntime.InferenceSession; kept = sys.modules.pop('onnxruntime')",
            "sys.modules['onnxruntime'] = kept",
            "the module onnxruntime is not in use here, or does not have this provider",
        ),
    ],
    ids=["onnx", "onnxruntime"],
)
def test_modules_out_of_reach(fresh, saved, block, free, words):
    """Sessions decide as by `auto`, and say so once."""
    out = fresh(BLOCKED.format(block=block, free=free), saved(net(rows=4))).stdout.splitlines()
    assert [line for line in out if line.startswith("LOG")] == [f"LOG WARNING policy=measure decides like policy=auto: {words}"]
    assert [words in line for line in out if not line.startswith("LOG")] == [True, True, False, True, True]


def test_a_session_that_fails(monkeypatch):
    """Costs nothing but the measurement: the reason has the message."""

    def fails(*arguments, **rest):
        raise onnxruntime.capi.onnxruntime_pybind11_state.Fail("no memory for this")

    monkeypatch.setattr(region_timer, "make_session", fails)
    made = by_name(make_session(net(), MEASURE))
    assert made["first"].code == "not-measured"
    assert made["first"].reason.endswith("; not measured: no session of it can be created: no memory for this")


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1]), (8, [8]), (128, [128]), (5, [])])
def test_a_batch_that_the_model_does_not_fit(times, batch, sizes):
    """Is left out: exporters declare batches open that their Reshape fixes."""
    told = times(FASTER)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "product"),
        helper.make_node("Reshape", ["a", "shape"], ["y"], "reshape"),
    ]
    weights = {"w": pruned(np.random.default_rng(0), (64, 64)), "shape": np.array([batch, 64, 1], np.int64)}
    decision = by_name(make_session(model_of(nodes, {"x": ["n", 64]}, ["y"], weights), MEASURE))["product"]
    assert told.shapes == [(count, 64) for count in sizes]
    assert decision.code == ("measured-faster" if sizes else "not-measured")
    assert sizes or "it does not run at nominal shapes: " in decision.reason


def test_weights_that_cannot_be_written(monkeypatch):
    """As where they have too many bytes."""
    monkeypatch.setattr(region_model, "MAX_BYTES", 1000)
    assert "its model cannot be written: its constants have more than" in by_name(make_session(net(), MEASURE))["first"].reason


def test_a_region_that_is_not_ours_as_a_whole(monkeypatch):
    """Its time would not be ours."""
    make = region_timer.make_session
    monkeypatch.setattr(
        region_timer,
        "make_session",
        lambda model, provider, options, *rest, **more: make(model, provider, {"policy": "never"}, *rest, **more),
    )
    assert "nodes stay with the CPU provider" in by_name(make_session(net(), MEASURE))["first"].reason


# together with other things


def test_threads_at_the_same_time(tmp_path):
    """Sessions that are created at once: one measures after the other, none waits for ever, all decide alike."""
    model, options = net(rows=4), {**MEASURE, "cache_dir": str(tmp_path), "measure_budget_ms": "60000"}
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: sparse.explain(make_session(model, options, threads=1)), range(4)))
    assert all(decisions == made[0] for decisions in made)
    assert not region_timer.MEASURING.locked()


def test_other_sessions_run_meanwhile(monkeypatch):
    """Runs and other creations do not wait for a measurement."""
    model = net(rows=4)
    other = make_session(model)
    inside, go_on = threading.Event(), threading.Event()

    def waits(theirs, ours, feeds, **rest):
        inside.set()
        assert go_on.wait(60)
        return Times(FASTER)(theirs, ours, feeds)

    monkeypatch.setattr(region_timer, "alternate", waits)
    thread = threading.Thread(target=make_session, args=(model, MEASURE))
    thread.start()
    assert inside.wait(60)
    other.run(None, {"x": noise(np.random.default_rng(0), 4, 256)})
    assert sum(decision.taken for decision in sparse.explain(make_session(model, {"policy": "auto"}))) > 0
    go_on.set()
    thread.join(60)
    assert not thread.is_alive()


def test_compiled_models(times, tmp_path):
    """A compiled model tells what was measured of its regions, and measures nothing again. What lost is not in it."""
    times(FASTER, SLOWER)
    source = net(rows=4)
    compiler = onnxruntime.ModelCompiler(
        sparse.session_options(MEASURE),
        source.SerializeToString(),
        embed_compiled_data_into_model=True,
        graph_optimization_level=ALL,
    )
    blob = compiler.compile_to_bytes()
    (node,) = [node for node in onnx.load_from_string(blob).graph.node if node.op_type == "EPContext"]
    figures = "measured: 2.00x ONNX Runtime's CPU provider (1 against 2 ms)"
    assert [attribute.s.decode() for attribute in node.attribute if attribute.name == "notes"] == [figures]
    times()
    for policy in ("measure", "auto"):
        session = make_session(blob, {"policy": policy})
        (compiled,) = [decision for decision in sparse.explain(session) if decision.op_type == "EPContext"]
        assert (compiled.code, compiled.reason) == ("compiled", f"compiled: by version {sparse.__version__}; {figures}")
        feeds = {"x": noise(np.random.default_rng(1), 4, 256)}
        assert_close(session.run(None, feeds)[0], cpu_session(source).run(None, feeds)[0])


def test_several_rounds(times):
    """ONNX Runtime shows a graph again after it has inlined a function: what was measured stays."""
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"], "product"), helper.make_node("Mish", ["a"], ["y"], "mish")]
    model = model_of(nodes, {"x": [4, 256]}, ["y"], {"w": pruned(rng, (256, 256))}, opset=18)
    for speed in (FASTER, SLOWER):
        region_timer._known.clear()
        told = times(speed, *[FASTER] * 8)
        made = by_name(make_session(model, MEASURE))
        assert made["product"].taken == (speed == FASTER)
        assert made["product"].code == ("measured-faster" if speed == FASTER else "measured-slower")
        assert told.shapes.count((4, 256)) == 1


def test_progress_is_logged(times, caplog):
    """Which region is measured, and what came of it."""
    times(FASTER, SLOWER)
    with caplog.at_level(logging.INFO, "onnxruntime_ep_sparse"):
        make_session(net(rows=4), MEASURE)
    assert [record.getMessage() for record in caplog.records] == [
        "policy=measure: region 1 of 2, 2 nodes",
        "policy=measure: region 1 of 2: 2.00x ONNX Runtime's CPU provider (1 against 2 ms)",
        "policy=measure: region 2 of 2, 2 nodes",
        "policy=measure: region 2 of 2: 0.50x ONNX Runtime's CPU provider (1 against 0.5 ms)",
    ]


def test_a_size_for_which_there_is_no_time(times):
    """Is left out, in view of the one before; the others decide. 9 runs of each of 0.3 s and more would take 20 s at 8 rows."""
    told = times(FASTER, SLOWER, ms=100)
    made = by_name(make_session(net(), MEASURE))
    assert told.shapes == [(1, 256), (1, 192)]
    assert made["first"].taken
    assert made["first"].reason == "measured: 2.00x ONNX Runtime's CPU provider (100 against 200 ms at 1 row)"
