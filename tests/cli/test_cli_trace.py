"""`trace` and `annotate`."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.helper import make_node

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.diagnostics.trace import is_step
from support.making import model_of, pruned
from support.perfetto import asked


@pytest.fixture
def net(tmp_path):
    """x -> MatMul -> Relu -> MatMul without a name -> y, 90 % zeros, large enough that both steps take a while."""
    rng = np.random.default_rng(0)
    weights = {"first": pruned(rng, (512, 1024)), "second": pruned(rng, (1024, 512))}
    nodes = [
        make_node("MatMul", ["x", "first"], ["a"], "up"),
        make_node("Relu", ["a"], ["b"], "relu"),
        make_node("MatMul", ["b", "second"], ["y"]),
    ]
    path = tmp_path / "net.onnx"
    onnx.save(model_of(nodes, {"x": ["batch", 512]}, ["y"], weights), path)
    return path


@pytest.fixture
def file(cli, net, tmp_path):
    """A trace of six runs."""
    path = tmp_path / "trace.json"
    result = cli("trace", net, "-o", path, "--batch", 512, "--threads", 1, "--runs", 6, "--option", "policy=always")
    assert "6 runs with each provider, 12 steps" in result.out
    return path


@pytest.fixture
def events(file):
    """Its events."""
    return json.loads(file.read_text())["traceEvents"]


def test_both_providers(events):
    """Each is a process with ONNX Runtime's own events of its runs."""
    names = {event["pid"]: event["args"]["name"] for event in events if event["ph"] == "M" and event["name"] == "process_name"}
    assert list(names.values()) == ["CPUExecutionProvider", sparse.EP_NAME]
    for pid, provider in names.items():
        nodes = [event for event in events if event["pid"] == pid and event.get("cat") == "Node"]
        assert {event["args"]["provider"] for event in nodes} == {provider}
        assert sum(event["name"] == "model_run" for event in events if event["pid"] == pid) == 6


def test_format(events):
    """Every event is complete, as the format of trace events has it: times are numbers of microseconds, arguments an object."""
    for event in events:
        assert event["ph"] in ("X", "M")
        assert isinstance(event["name"], str)
        assert isinstance(event["args"], dict)
        assert all(isinstance(event[key], int) for key in ("pid", "tid"))
        assert event["ph"] == "M" or (event["cat"] and all(isinstance(event[key], int) and event[key] >= 0 for key in ("ts", "dur")))


def test_steps_lie_within_their_region(events):
    """They follow each other, and add up to the time of the region, but for little."""
    regions = [event for event in events if event.get("cat") == "Node" and event["args"]["provider"] == sparse.EP_NAME]
    shares = []
    for region in regions:
        begin, end = region["ts"], region["ts"] + region["dur"]
        inside = [event for event in events if event.get("cat") == "Kernel" and begin <= event["ts"] <= end]
        steps = [event for event in inside if is_step(event)]
        assert [step["args"]["computes"].split(",")[0] for step in steps] == ["512->1024", "1024->512"]
        assert [step["name"] for step in inside][-2:] == ["up + Relu", steps[1]["name"]]
        for event, following in zip(inside, [*inside[1:], {"ts": end}], strict=True):
            assert event["ts"] + event["dur"] <= following["ts"]
            assert (event["pid"], event["tid"]) == (region["pid"], region["tid"])
        shares.append(sum(event["dur"] for event in inside) / region["dur"])
    assert max(shares) > 0.95
    for step in steps:
        work = step["args"]["work"]
        assert work["macs"] == work["nnz"] * 512
        assert work["macs"] * 9 < work["dense_macs"] == 512 * 1024 * 512
        assert work["moved_bytes"] == 4 * 512 * (512 + 1024)
        assert work["macs_per_s"] > 0
        assert step["args"]["kernel"].startswith("spmm_f32_2x")


def test_perfetto_loads_it(file, tmp_path):
    """Its own trace processor has no error, and finds the steps as slices below the region, with numbers as arguments."""
    query = """
        select s.name as name, p.name as parent, cast(extract_arg(s.arg_set_id, 'args.work.nnz') * 512 as text) as expected,
            cast(extract_arg(s.arg_set_id, 'args.work.macs') as text) as macs
        from slice s left join slice p on s.parent_id = p.id where extract_arg(s.arg_set_id, 'args.kind') is not null
        union all select name, severity, null, cast(value as text) from stats where severity in ('error', 'data_loss') and value > 0"""
    rows = asked(file, query, tmp_path / "browser")
    assert len(rows) == 12
    assert all(row["parent"].startswith(sparse.EP_NAME) and row["macs"] == row["expected"] for row in rows)


def test_annotated(cli, net, tmp_path):
    """The nodes of the copy have the decisions; without them it is the same model, and runs give the same bits."""
    copy = tmp_path / "copy.onnx"
    result = cli("annotate", net, copy, "--option", "policy=always", "--batch", 4)
    assert "takes 3 of 3 nodes" in result.out
    model, original = onnx.load(copy), onnx.load(net)
    props = [{entry.key: entry.value for entry in node.metadata_props} for node in model.graph.node]
    assert [each["ep.sparse.taken"] for each in props] == ["yes"] * 3
    assert props[0]["ep.sparse.pattern"] == "unstructured"
    assert props[0]["ep.sparse.sparsity"].startswith(("89.", "90."))
    assert props[2]["ep.sparse.reason"]
    for node in model.graph.node:
        del node.metadata_props[:]
    assert model.SerializeToString(deterministic=True) == original.SerializeToString(deterministic=True)
    x = {"x": np.random.default_rng(1).standard_normal((4, 512)).astype(np.float32)}
    results = [onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, x)[0] for path in (net, copy)]
    np.testing.assert_array_equal(*results)
    cli("annotate", copy, tmp_path / "again.onnx", "--option", "policy=never")
    again = onnx.load(tmp_path / "again.onnx").graph.node[0]
    assert [entry.value for entry in again.metadata_props if entry.key == "ep.sparse.taken"] == ["no"]


def test_annotated_with_external_data(cli, net, tmp_path):
    """They are copied too."""
    apart = tmp_path / "apart" / "model.onnx"
    apart.parent.mkdir()
    onnx.save(onnx.load(net), apart, save_as_external_data=True, location="weights.bin", size_threshold=0)
    cli("annotate", apart, tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx.data").exists()
    (tmp_path / "apart" / "weights.bin").unlink()
    sparse.explain(tmp_path / "copy.onnx")


def test_refused(cli, net, tmp_path, monkeypatch):
    """Wrong use is one line and exit code 2."""
    monkeypatch.chdir(tmp_path)
    assert "no such file" in cli("trace", "missing.onnx", expect=2).err
    assert "--output: " in cli("trace", net, "-o", net, expect=2).err
    assert "only one of them can go to stdout" in cli("trace", net, "-o", "-", "--json", "-", expect=2).err
    assert "--json: " in cli("trace", net, "-o", "t.json", "--json", "t.json", expect=2).err
    assert cli("annotate", net, net, expect=2).err.count("\n") == 1
    cli("compile", net, "compiled.onnx", "--option", "policy=always")
    assert "is a compiled model" in cli("annotate", "compiled.onnx", "copy.onnx", expect=2).err
    assert "0 steps" in cli("trace", net, "--option", "policy=never", "--runs", 1, expect=1).out
