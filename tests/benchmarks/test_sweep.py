"""The sweep judges points by its rule, does each once, and loses nothing when a process ends."""

import json
import os
import sys
from dataclasses import asdict

import numpy as np
import onnx
import pytest
import sweep
from sweep import NETS, Point

from onnxruntime_ep_sparse.models import BUILDERS

POINTS = [Point("mlp_policy", zeros, threads, batch) for zeros in (0.0, 0.9) for threads in (1, 2) for batch in (1, 3)]
OTHER = Point("lstm", 0.9, 1, 1)
KEY = {"commit": "a", "cpu": "b"}


def ratio(value, high=None):
    """A measured ratio."""
    return {"median": value, "low": value - 0.1, "high": value + 0.1 if high is None else high, "confidence": 0.95, "pairs": 8}


def line(point, screening=1.5, highs=(), **others):
    """The line of a point that was timed, with repeats whose intervals have these upper ends."""
    repeats = [ratio(high - 0.02, high) for high in highs]
    timed = {
        "owned": 5,
        "nodes": 5,
        "screening": ratio(screening),
        "repeats": repeats,
        "control": ratio(1.0),
        "error": 1e-6,
        "agrees": True,
        "predicted": None,
    }
    return {"point": asdict(point), **timed, **others}


def nothing(point):
    """The line of a point of which nothing is taken."""
    return {"point": asdict(point), "owned": 0, "nodes": 5}


@pytest.mark.parametrize(
    ("found", "fails", "value"),
    [
        (line(OTHER), False, 1.5),
        (nothing(OTHER), False, None),
        (line(OTHER, 0.9, (0.95, 0.96, 0.98)), False, 0.94),
        (line(OTHER, 0.9, (0.95, 0.96, 0.969)), True, 0.94),
        (line(OTHER, error=1e-3, agrees=False), True, 1.5),
        ({"point": asdict(OTHER), "died": -11}, True, None),
    ],
)
def test_verdict(found, fails, value):
    """Under 0.97 three times, other results, a dead process."""
    assert bool(sweep.failure(found)) is fails
    assert sweep.speed_up(found) == pytest.approx(value)
    assert sweep.outcome(found).startswith("FAILS: ") is fails


def test_document():
    """It has the middle one of the repeats with its interval, and no figures where nothing was taken."""
    lines = [line(OTHER, 0.9, (0.95, 0.96, 0.98), predicted=1.25), nothing(POINTS[0])]
    found = {Point(**entry["point"]): {**entry, "machine": KEY} for entry in lines}
    document = sweep.document(found, [OTHER, *POINTS])
    assert json.loads(sweep.written(document)) == document
    first, second = document["tables"][0]["rows"]
    assert (first["model"], first["speedup"], first["low"], first["high"], first["predicted"]) == ("lstm", 0.94, 0.84, 0.96, 1.25)
    assert document["machines"] == [KEY]
    assert (second["model"], second["speedup"], second["predicted"], second["owned"]) == ("mlp_policy", None, None, 0)


def test_all_points():
    """The number that the nets, zeros, batches and threads make; images have at most 8."""
    points = sweep.points_of(list(NETS), sweep.ZEROS, sweep.SEQUENCES, sweep.THREADS)
    assert len(points) == len(set(points)) == (9 * 3 + 5 * 4) * 7 * 2
    assert max(point.batch for point in points if point.model == "unet") == 8
    assert NETS.keys() <= BUILDERS.keys()


def test_results_are_kept(tmp_path):
    """Those of this build and machine; the last of a point; a line that was cut off counts for nothing and spoils no other."""
    path = tmp_path / "results.jsonl"
    assert sweep.read(path, KEY) == {}
    sweep.append(path, {"machine": {**KEY, "commit": "old"}, **line(OTHER)})
    sweep.append(path, {"machine": KEY, **line(POINTS[0], 1.1)})
    with path.open("ab") as file:
        file.write(b'{"machine": {"com')
    sweep.append(path, {"machine": KEY, **line(POINTS[1])})
    sweep.append(path, {"machine": KEY, **line(POINTS[0], 1.2)})
    found = sweep.read(path, KEY)
    assert found.keys() == set(POINTS[:2])
    assert sweep.speed_up(found[POINTS[0]]) == 1.2


def test_formats_and_files(tmp_path):
    """Names say what is built: a net in another format, or a file with other zeros."""
    made = onnx.load_from_string(sweep.built("mlp_policy:fp16", 0.5))
    assert {tensor.data_type for tensor in made.graph.initializer} == {onnx.TensorProto.FLOAT16}
    path = tmp_path / "net.onnx"
    onnx.save(BUILDERS["mlp_policy"](0.9), path)
    weights = [onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(sweep.built(str(path), 0.5)).graph.initializer]
    assert sorted({round(1 - np.count_nonzero(w) / w.size, 2) for w in weights if w.ndim > 1}) == [0.5]
    point = Point(str(path), 0.5, 1, 1)
    assert sweep.named(point) == "net, 50% zeros, batch 1, 1 thread"
    assert sweep.points_of([str(path), "lstm:int8-dynamic"], (0.5,), (1, 17), (1,)) == [
        point,
        *(Point("lstm:int8-dynamic", 0.5, 1, batch) for batch in (1, 17)),
    ]
    (found,) = sweep.of_sessions(sweep.built(str(path), 0.9), [Point(str(path), 0.9, 1, 1)])
    assert found["owned"]
    assert not sweep.failure({**found, "repeats": []})
    assert found["agrees"]


WORKER = """if True:
    import json, os, sys
    for point in json.loads(sys.argv[1]):
        print(json.dumps({"begins": point}), flush=True)
        if point["zeros"] == 0.9 and point["threads"] == 1:
            os.abort()
        print(json.dumps({"point": point, "owned": 0, "nodes": 1}), flush=True)
"""


def worker(points):
    """A process that dies of some points."""
    return [sys.executable, "-c", WORKER, json.dumps([asdict(point) for point in points])]


def test_a_process_that_dies_costs_its_point():
    """Those before and behind it are measured, and those of other nets."""
    lines = list(sweep.in_processes([*POINTS, Point("lstm", 0.0, 1, 1)], worker, float("inf")))
    assert [Point(**found["point"]) for found in lines] == [*POINTS, Point("lstm", 0.0, 1, 1)]
    assert [found.get("died", 0) for found in lines] == [0, 0, 0, 0, -6, -6, 0, 0, 0]


def test_a_further_call_does_what_is_missing(tmp_path, capsys):
    """After the time is up nothing begins; points whose process died are tried again."""
    path = tmp_path / "results.jsonl"
    for limit, count in ((0.0, 0), (float("inf"), len(POINTS)), (float("inf"), len(POINTS) + 2)):
        sweep.sweep(path, POINTS, limit, worker)
        assert len(path.read_text().splitlines() if path.exists() else []) == count
    assert "8/8, 0 min left: mlp_policy, 90% zeros, batch 3, 2 threads: nothing taken" in capsys.readouterr().out


def test_report():
    """Cells, failures in bold, and how good the predictions are."""
    found = {
        POINTS[0]: nothing(POINTS[0]),
        POINTS[4]: line(POINTS[4], 1.5, predicted=1.8),
        POINTS[5]: line(POINTS[5], 0.9, (0.9, 0.9, 0.9), predicted=1.5, control=ratio(1.05)),
    }
    text = list(sweep.report(found, POINTS))
    assert text[0] == "| net | threads | batch | 0% zeros | 90% zeros |"
    assert text[2:6] == [
        "| mlp_policy | 1 | 1 | - | 1.50 |",
        "| mlp_policy | 1 | 3 |  | **0.88** |",
        "| mlp_policy | 2 | 1 |  |  |",
        "| mlp_policy | 2 | 3 |  |  |",
    ]
    assert text[7:] == [
        "3 of 8 points; nothing is taken in 1 of them (-).",
        "1 of 2 timed points were below 1.0 when screened. 1 points fail.",
        "The predicted speed-up is within 25% of the measured one in 1 of 2 (50%).",
        "In 1 repeated points the CPU provider differs from itself by more than 3%.",
        "- mlp_policy, 90% zeros, batch 3, 1 thread: slower: 0.880, the intervals end at 0.900, 0.900, 0.900",
    ]


def test_points_are_measured():
    """Of a net without zeros nothing is taken; a pruned one is timed and agrees."""
    wanted = [Point("mlp_policy", zeros, 1, batch) for zeros in (0.0, 0.9) for batch in (1, 17)]
    before = os.sched_getaffinity(0)
    lines = [
        found
        for zeros in (0.0, 0.9)
        for found in sweep.of_sessions(BUILDERS["mlp_policy"](zeros).SerializeToString(), [p for p in wanted if p.zeros == zeros])
    ]
    assert os.sched_getaffinity(0) == before
    assert [Point(**found["point"]) for found in lines] == wanted
    assert [bool(found["owned"]) for found in lines] == [False, False, True, True]
    assert [sweep.speed_up(found) is None for found in lines] == [True, True, False, False]
    assert all(found["error"] < 1e-5 and found["screening"]["pairs"] == sweep.SCREENING_PAIRS for found in lines[2:])
