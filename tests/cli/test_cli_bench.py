"""What `bench` adds to one measurement: sweeps, callers, second files, baselines, prices, CSV; and wrong use of them."""

import csv
import io
import json
import os
from importlib import import_module

import pytest

from onnxruntime_ep_sparse.measure import protocol

QUICK = ("--option", "policy=always", "--pairs", 3, "--no-memory")


def test_sweep(cli, sparse_model, tmp_path):
    """More axes may follow the first, with or without the option; a row per point and provider."""
    for sweep in (
        ("--sweep", "batch=1,2", "threads=1,2"),
        ("--sweep", "batch=1,2 threads=1,2"),
        ("--sweep", "batch=1,2", "--sweep", "threads=1"),
    ):
        result = cli("bench", sparse_model, *sweep, *QUICK, "--json", tmp_path / "sweep.json")
    points = json.loads((tmp_path / "sweep.json").read_text())["points"]
    assert [(p["batch"], p["threads"]) for p in points] == [(1, 1), (2, 1)]
    assert "batch 2, threads 1: both providers in turn" in result.err
    assert sum("SparseExecutionProvider" in line for line in result.out.splitlines()) == 2


def test_interrupted_sweep(cli, sparse_model, monkeypatch):
    """Ctrl-C keeps the points that were complete; before the first one, there is nothing to keep."""
    points, measured = [], protocol.measure

    def until_stopped(*arguments, **rest):
        if len(points) == 2:
            raise KeyboardInterrupt
        points.append(measured(*arguments, **rest))
        return points[-1]

    monkeypatch.setattr(import_module("onnxruntime_ep_sparse.measure.bench"), "measure", until_stopped)
    command = ("bench", sparse_model, "--sweep", "batch=1,2,3", *QUICK)
    document = cli(*command, "--json", "-", expect=130).document
    assert [point["batch"] for point in document["points"]] == [1, 2]
    assert not document["complete"]
    points.pop()
    assert "stopped by Ctrl-C after 1 point of the sweep" in cli(*command, expect=130).out
    assert not cli(*command, expect=130).out


def test_streams_and_prices(cli, sparse_model):
    """The table says how many callers there were, and what an item costs."""
    text = cli("bench", sparse_model, *QUICK, "--streams", 2, "--threads", 1, "--price", "cpu=0.5").out
    assert "2 callers of each session at once" in text
    assert "items per money" in text
    assert "interval (95 %)" in text


def test_second_file_and_csv(cli, dense_model, sparse_model):
    """The file that is dense has no node of ours: that is fine where the other one has."""
    result = cli("bench", dense_model, sparse_model, "--pairs", 3, "--no-memory", "--csv", "-")
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert [(row["model"], row["provider"]) for row in rows] == [
        (str(dense_model), "CPUExecutionProvider"),
        (str(sparse_model), "CPUExecutionProvider"),
        (str(sparse_model), "SparseExecutionProvider"),
    ]
    assert all(float(row["p99_ms"]) > 0 for row in rows)
    assert "speed-up   none" in cli("bench", dense_model, sparse_model, "--pairs", 3, "--no-memory").out


def test_baseline(cli, sparse_model, tmp_path):
    """A speed-up ten times that of now, in the document of the same command."""
    old = tmp_path / "old.json"
    cli("bench", sparse_model, *QUICK, "--json", old)
    assert "ratio" in cli("bench", sparse_model, *QUICK, "--baseline", old, "--fail-under", 0.001).out
    document = json.loads(old.read_text())
    document["speed_up"] = {key: 1000 * value if key != "pairs" else value for key, value in document["speed_up"].items()}
    old.write_text(json.dumps(document))
    result = cli("bench", sparse_model, *QUICK, "--baseline", old, "--fail-under", 0.95, "--json", tmp_path / "new.json", expect=1)
    assert "times the speed-up of the baseline is below --fail-under 0.95" in result.err
    (change,) = json.loads((tmp_path / "new.json").read_text())["changes"]
    assert change["ratio"] < 0.95
    assert "a speed-up of" in cli("bench", sparse_model, *QUICK, "--fail-under", 1000, expect=1).err


WRONG = {
    "axis": (("--sweep", "depth=1"), "expected batch=1,2,4 or threads=1,2,4 or streams=1,2,4"),
    "value": (("--sweep", "batch=1,x"), "expected batch=1,2,4"),
    "zero": (("--sweep", "streams=0"), "expected batch=1,2,4"),
    "twice": (("--sweep", "batch=1", "batch=2"), "batch is given twice"),
    "three files": (("{model}", "other.onnx"), "'other.onnx' is one too many"),
    "axis without --sweep": (("batch=1",), "no such file: batch=1"),
    "no second file": (("none.onnx",), "no such file: none.onnx"),
    "seconds": (("--seconds", "0"), "expected a number above 0"),
    "price": (("--price", "cpu"), "expected NAME=NUMBER above 0"),
    "free": (("--price", "cpu=0"), "expected NAME=NUMBER above 0"),
    "provider": (("--against", "NoSuchProvider"), "there is no provider 'NoSuchProvider' here; there are"),
    "library": (("--against", "none.so"), "no such file: none.so"),
    "ours": (("--against", "SparseExecutionProvider"), "measured anyway"),
    "no baseline": (("--baseline", "none.json"), "cannot read none.json: No such file"),
    "baseline": (("--baseline", "{model}"), "not a document of ort-sparse bench --json"),
    "folder": (("--baseline", "{folder}"), "Is a directory"),
    "csv": (("--csv", "no/such/folder.csv"), "--csv: cannot write"),
    "csv over the model": (("--csv", "{model}"), "choose another name"),
    "both to stdout": (("--csv", "-", "--json", "-"), "only one of them can go to stdout"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use(cli, sparse_model, tmp_path, case):
    """One line, exit code 2, and no measurement."""
    arguments, words = WRONG[case]
    result = cli("bench", sparse_model, *(a.format(model=sparse_model, folder=tmp_path) for a in arguments), *QUICK, expect=2)
    (line,) = [line for line in result.err.splitlines() if line.startswith("ort-sparse:")]
    assert words in line
    assert not result.out


def test_full_disk(cli, sparse_model):
    """The figures stand in the table, and the error in one line."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    for option in ("--csv", "--json"):
        result = cli("bench", sparse_model, *QUICK, option, "/dev/full", expect=1)
        assert "speed-up" in result.out
        assert "ort-sparse: cannot write /dev/full: No space left on device" in result.err
