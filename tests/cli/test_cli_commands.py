"""What each command prints, writes and exits with, on models that it can use."""

import json
import logging
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import measure, options
from onnxruntime_ep_sparse.cli import given
from onnxruntime_ep_sparse.ort import region_timer
from onnxruntime_ep_sparse.reasons import ADVICE


def test_check(cli):
    """It passes here, and tells what there is."""
    text = cli("check").out
    assert "self-test Conv" in text
    assert text.splitlines()[-1] == "PASS"
    document = cli("check", "--json", "-").document
    assert document["passed"]
    assert document["versions"]["onnxruntime"] == ort.__version__
    assert document["versions"]["onnxruntime-ep-sparse"] == sparse.__version__
    assert document["isa"]["chosen"] in document["isa"]["available"]
    assert set(document["isa"]["available"]) <= set(document["isa"]["compiled"])
    assert 1 <= document["cores"]["usable"] <= len(document["cores"]["affinity"])
    assert sparse.EP_NAME in [device["provider"] for device in document["devices"]]
    assert [(test["operator"], test["owned"], test["passed"]) for test in document["self_test"]] == [
        ("Conv", True, True),
        ("MatMul", True, True),
    ]


def test_check_honours_the_environment(cli, monkeypatch):
    """The instruction set that ORT_SPARSE_ISA names is the one chosen."""
    monkeypatch.setenv("ORT_SPARSE_ISA", "baseline")
    assert cli("check", "--json", "-").document["isa"]["chosen"] == "baseline"


@pytest.mark.parametrize(("variable", "value", "words"), [("ISA", "z80", "not valid"), ("POLICY", "sometimes", "not valid")])
def test_check_fails(cli, monkeypatch, variable, value, words):
    """A wrong environment variable is found by the self-test, not by a traceback."""
    monkeypatch.setenv(f"ORT_SPARSE_{variable}", value)
    document = cli("check", "--json", "-", expect=1).document
    assert not document["passed"]
    assert words in document["self_test"][0]["message"]
    assert cli("check", expect=1).out.splitlines()[-1] == "FAIL"


def test_check_without_our_node(cli, monkeypatch):
    """A provider that takes nothing has failed its test."""
    make = measure.make_session
    monkeypatch.setattr(measure, "make_session", lambda model, provider, given=None, threads=0: make(model, measure.CPU))
    assert "did not take the node" in cli("check", expect=1).out


@pytest.mark.parametrize("command", ["analyze", "compile"])
def test_measured_regions_are_shown(cli, sparse_model, tmp_path, monkeypatch, command):
    """Which region is measured, among the steps; afterwards nobody listens. The times are made up."""
    monkeypatch.setattr(region_timer, "_known", type(region_timer._known)())
    monkeypatch.setattr(region_timer, "alternate", lambda *sessions, **rest: (np.full((6, 1), 2e-3), np.full((6, 1), 1e-3)))
    log = logging.getLogger("onnxruntime_ep_sparse")
    before = (list(log.handlers), log.level)
    target = [tmp_path / "out.onnx"] if command == "compile" else []
    lines = cli(command, sparse_model, *target, "--option", "policy=measure").err.splitlines()
    (first,) = [i for i, line in enumerate(lines) if line == "policy=measure: region 1 of 1, 5 nodes"]
    assert lines[first + 1].startswith("policy=measure: region 1 of 1: 2.00x ONNX Runtime's CPU provider (1 against 2 ms at 1 item; ")
    assert (list(log.handlers), log.level) == before


def test_analyze(cli, sparse_model):
    """The table and the document say the same as explain()."""
    text = cli("analyze", sparse_model).out
    assert "95.0%" in text
    assert "128x64x3x3" in text
    document = cli("analyze", sparse_model, "--option", "policy=always", "--json", "-").document
    assert [node["name"] for node in document["nodes"]] == ["conv", "product"]
    conv = document["nodes"][0]
    assert conv["op_type"] == "Conv"
    assert conv["shape"] == [128, 64, 3, 3]
    assert conv["sparsity"] == pytest.approx(0.95, abs=1e-4)
    assert conv["taken"] is True
    assert conv["reason"]
    assert conv["macs"] == 28 * 28 * 128 * 64 * 9
    totals = document["totals"]
    assert totals["nodes"] == totals["nodes_taken"] == 5
    assert totals["regions"] == 1
    assert totals["pruned_nodes"] == totals["pruned_nodes_taken"] == 2
    assert totals["macs"] == conv["macs"] + 128 * 100
    assert totals["macs_taken_share"] == 1
    assert totals["macs_zero_share"] == pytest.approx(0.95, abs=1e-3)


def test_analyze_names_patterns(cli, sparse_model):
    """Which share of the multiplications each layer has, and each pattern of zeros; a line says so where layers have blocks."""
    result = cli("analyze", "model:mobilenet_v1:0.2:block4", "--batch", "1", "--json", "-")
    nodes, totals = result.document["nodes"], result.document["totals"]
    assert sum(totals["patterns"].values()) == pytest.approx(1)
    assert totals["patterns"]["4x1 blocks"] > 0.9
    for pattern, share in totals["patterns"].items():
        assert sum(node["macs_share"] or 0 for node in nodes if node["pattern"] == pattern) == pytest.approx(share)
    line = f"patterns by MACs: 4x1 blocks {totals['patterns']['4x1 blocks']:.1%}, dense "
    assert line in cli("analyze", "model:mobilenet_v1:0.2:block4", "--batch", "1").out
    assert "patterns by MACs" not in cli("analyze", sparse_model).out


def test_analyze_all(cli, sparse_model):
    """Every node, with the reason, its code and what to do about it."""
    nodes = cli("analyze", sparse_model, "--all", "--json", "-").document["nodes"]
    assert {node["op_type"] for node in nodes} == {"Conv", "Relu", "GlobalAveragePool", "Flatten", "MatMul"}
    assert all(node["reason"] and ADVICE[node["code"]] == node["advice"] for node in nodes)


def test_analyze_says_why_not(cli, dense_model):
    """A dense model: nothing taken, a reason and the option that overrides it."""
    text = cli("analyze", dense_model).out
    assert "takes 0 of 5 nodes" in text
    assert "(override: min_sparsity)" in text
    document = cli("analyze", dense_model, "--json", "-").document
    assert document["totals"]["macs_taken_share"] == 0
    assert not any(node["taken"] for node in document["nodes"])


def test_analyze_batch_and_unnamed_nodes(cli, saved, chain):
    """MACs scale with the batch, and are found by the weight's shape where a node has no name."""
    path = saved(chain(0.95, names=("", "", "")))
    one, three = (cli("analyze", path, "--batch", n, "--json", "-").document["totals"]["macs"] for n in (1, 3))
    assert three == 3 * one
    assert cli("analyze", path, "--shape", "x=3x64x28x28", "--json", "-").document["totals"]["macs"] == three


def test_analyze_expects_times(cli, sparse_model, dense_model):
    """Milliseconds of both providers for every node, whose sums are those of the model; of a model that is left none."""
    result = cli("analyze", sparse_model, "--all", "--json", "-")
    expected, nodes = result.document["expected"], result.document["nodes"]
    for key in ("cpu_ms", "ms"):
        assert sum(node[key] for node in nodes) == pytest.approx(expected[key])
    assert expected["speedup"] == pytest.approx(expected["cpu_ms"] / expected["ms"])
    assert expected["speedup"] > 1  # by the table of rates: nothing is timed
    assert f"{expected['speedup']:.2f} times as fast" in cli("analyze", sparse_model).out
    assert cli("analyze", dense_model, "--json", "-").document["expected"] is None
    assert "times as fast" not in cli("analyze", dense_model).out


def test_analyze_expects_more_of_a_batch(cli, saved, chain):
    """--batch and --shape set the sizes of open dimensions."""
    path = saved(chain(0.95))
    one, three = (cli("analyze", path, "--batch", n, "--json", "-").document["expected"]["cpu_ms"] for n in (1, 3))
    assert three > 1.5 * one
    assert cli("analyze", path, "--shape", "x=3x64x28x28", "--json", "-").document["expected"]["cpu_ms"] == three


def test_bench(cli, sparse_model, tmp_path):
    """Steps on stderr, tables on stdout, and a document that has all of it."""
    path = tmp_path / "bench.json"
    options = ("--option", "policy=always", "--batch", 2, "--threads", 1, "--pairs", 6, "--no-memory")
    result = cli("bench", sparse_model, *options, "--json", path)
    assert "CPU provider against itself" in result.err
    for word in ("A/A ratio", "speed-up", "agreement", "p50 ms", "p90 ms", "create ms", "5 of 5 nodes"):
        assert word in result.out
    document = json.loads(path.read_text())
    assert document["schema"] == 1
    assert document["command"] == "bench"
    assert document["inputs"] == {"x": {"shape": [2, 64, 28, 28], "dtype": "float32"}}
    assert document["options"] == {"policy": "always"}
    assert document["threads"] == 1
    assert document["batch"] == 2
    assert document["agrees"] is True
    assert document["speed_up"]["pairs"] == 6
    assert document["sparse"]["memory_mb"] is None
    assert document["environment"]["onnxruntime"] == ort.__version__
    assert "both providers in turn" in document["steps_s"]


@pytest.mark.slow
def test_bench_per_step(cli, sparse_model):
    """A row for every step in the order in which they run, sums of each kind, and the same in the document; 3 of 128 channels are dead."""
    arguments = ("bench", sparse_model, "--option", "policy=always", "--threads", 1, "--pairs", 6, "--no-memory", "--per-step")
    result = cli(*arguments)
    assert all(step in result.err for step in ("time every step", "FMA peak of one core"))
    rows = [line.split() for line in result.out.splitlines()]
    assert [row[:2] for row in rows if row and row[0].isdecimal()] == [
        ["0", "product"],
        ["1", "reduce"],
        ["2", "reshape"],
        ["3", "product"],
    ]
    assert "64->125 3x3/1, 95 % zeros" in " ".join(rows[next(i for i, row in enumerate(rows) if row[:1] == ["0"])])
    assert {row[0]: row[1] for row in rows if row and row[0] in ("product", "reduce", "reshape", "all")} == {
        "product": "2",
        "reduce": "1",
        "reshape": "1",
        "all": "4",
    }
    document = cli(*arguments, "--json", "-").document
    profile = document["per_step"]
    assert profile["threads"] == 1
    assert profile["peak_gflops"] > 0
    steps = profile["steps"]
    assert [step["index"] for step in steps] == [0, 1, 2, 3]
    assert {step["runs"] for step in steps} == {profile["runs"]}
    assert sum(step["ms"] for step in steps) <= profile["wall_ms"]
    assert steps[0]["dense_macs"] == profile["runs"] * 125 * 64 * 9 * 28 * 28
    assert steps[0]["gflops"] == pytest.approx(2 * steps[0]["macs"] / steps[0]["ns"])
    assert steps[0]["of_peak"] == pytest.approx(steps[0]["gflops"] / profile["peak_gflops"])
    assert profile["kinds"]["product"]["ns"] == steps[0]["ns"] + steps[3]["ns"]
    assert "per_step" not in cli(*arguments[:-1], "--json", "-").document


def test_bench_per_step_of_a_model_that_is_left_alone(cli, dense_model):
    """There are no steps of ours, and nothing fails for it that did not before."""
    assert "per_step" not in cli("bench", dense_model, "--per-step", "--json", "-", expect=1).document


def test_bench_says_when_pairs_were_fewer(cli, sparse_model):
    """The budget ends a measurement early, openly."""
    arguments = ("bench", sparse_model, "--option", "policy=always", "--budget", 0, "--no-memory")
    assert f"{measure.LEAST_PAIRS} pairs instead of 30" in cli(*arguments).out
    document = cli(*arguments, "--json", "-").document
    assert (document["requested_pairs"], document["speed_up"]["pairs"]) == (30, measure.LEAST_PAIRS)


def test_bench_without_a_node_has_no_speed_up(cli, dense_model):
    """It says so, and fails."""
    text = cli("bench", dense_model, expect=1).out
    assert "no speed-up to measure" in text
    assert "A/A" not in text
    assert cli("bench", dense_model, "--json", "-", expect=1).document["speed_up"] is None


def test_compare(cli, sparse_model):
    """Both agree, and the document says how well."""
    assert cli("compare", sparse_model, "--option", "policy=always", "--require-owned").out.splitlines()[-1] == "ok"
    document = cli("compare", sparse_model, "--option", "policy=always", "--batch", 3, "--json", "-").document
    assert document["ok"]
    assert document["ownership"]["owned"] == 5
    (output,) = document["outputs"]
    assert output["output"] == "y"
    assert output["shape"] == [3, 100]
    assert output["argmax"] == 1
    assert output["max_relative"] <= 1e-4
    assert output["cosine"] == pytest.approx(1)


def test_compare_differs(cli, sparse_model, monkeypatch):
    """An output off by a thousandth of its scale fails, unless that is allowed."""
    run = given.run

    def wrong(session, feeds, provider):
        outputs = run(session, feeds, provider)
        return [y + 1e-3 * np.abs(y).max() for y in outputs] if provider == sparse.EP_NAME else outputs

    monkeypatch.setattr("onnxruntime_ep_sparse.cli.compare.run", wrong)
    text = cli("compare", sparse_model, expect=1).out
    assert "DIFFERS" in text
    assert text.splitlines()[-1] == "FAIL"
    cli("compare", sparse_model, "--rtol-scale", 2e-3)


def test_compare_require_owned(cli, dense_model):
    """Equal because nothing was taken: fine only where nobody asks."""
    assert "CPU provider with itself" in cli("compare", dense_model).out
    cli("compare", dense_model, "--require-owned", expect=1)


@pytest.mark.slow
@pytest.mark.usefixtures("small_demo")
def test_demo(cli):
    """Both parts."""
    text = cli("demo").out
    assert "speed-up" in text
    assert "accuracy on 359 images" in text
    assert text.splitlines()[-1] == "ok"


@pytest.mark.usefixtures("small_demo")
def test_demo_document(cli):
    """Nodes of ours in both nets, and the same accuracy on both providers."""
    document = cli("demo", "--quick", "--json", "-").document
    assert document["ok"]
    assert document["resnet50"]["ownership"]["owned"] == 5
    accuracy = document["digits"]["accuracy"]
    assert accuracy[sparse.EP_NAME] == accuracy[measure.CPU]
    assert document["digits"]["agreement"]["argmax"] == 1


def test_inputs_from_a_file(cli, sparse_model, tmp_path):
    """Any batch, by the inputs' names."""
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.ones((5, 64, 28, 28), np.float32))
    assert cli("compare", sparse_model, "--inputs", path, "--json", "-").document["outputs"][0]["shape"] == [5, 100]


def test_open_dimensions(cli, saved):
    """--shape fills them in, else a sequence has 128 elements; integer inputs get numbers that serve as indices."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (int64[n, length] index, float[n, length, 4] x) => (float[n, length, 4] y) { e = Gather <axis = 0> (table, index)  y = Add (e, x) }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((2, 4), np.float32), "table"))
    path = saved(model)
    shapes = ("--shape", "index=2x7", "--shape", "x=2x7x4")
    assert cli("compare", path, *shapes, "--json", "-").document["outputs"][0]["shape"] == [2, 7, 4]
    assert cli("compare", path, "--batch", 3, "--json", "-").document["outputs"][0]["shape"] == [3, 128, 4]


def test_json_into_a_file_leaves_the_table(cli, sparse_model, tmp_path):
    """A file besides the text, stdout instead of it."""
    assert "region" in cli("analyze", sparse_model, "--json", tmp_path / "a.json").out
    assert json.loads((tmp_path / "a.json").read_text())["command"] == "analyze"


def test_as_a_program(sparse_model, tmp_path):
    """`python -m onnxruntime_ep_sparse`, its exit code and its version."""

    def run(*arguments):
        command = [sys.executable, "-m", "onnxruntime_ep_sparse", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    assert run("--version").stdout.strip() == sparse.__version__
    missing = run("analyze", tmp_path / "none.onnx")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.strip() == f"ort-sparse: no such file: {tmp_path / 'none.onnx'}"


@pytest.mark.parametrize("module", ["typer", "rich", "onnx", "onnxruntime"])
def test_without_the_extra(module):
    """The script says what to install."""
    code = f"""if True:
        import importlib.util, sys
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name == {module!r} else find(name, *rest)
        from onnxruntime_ep_sparse.__main__ import main
        main()
        """
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.strip() == f"ort-sparse needs {module}: pip install {module}"


def test_unknown_options_come_from_one_table(cli, sparse_model):
    """The error lists the valid keys."""
    error = cli("analyze", sparse_model, "--option", "speed=11", expect=2).err
    assert all(option.name in error for option in options.OPTIONS)
