"""`trace` and `annotate`."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.helper import make_node

import onnxruntime_ep_sparse as sparse
from support.making import model_of, pruned


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
def events(cli, net, tmp_path):
    """The events of a trace of six runs."""
    file = tmp_path / "trace.json"
    result = cli("trace", net, "-o", file, "--batch", 64, "--threads", 1, "--runs", 6, "--option", "policy=always")
    assert "6 runs with each provider, 12 steps" in result.out
    return json.loads(file.read_text())["traceEvents"]


def test_both_providers(events):
    """Each is a process with ONNX Runtime's own events of its runs."""
    names = {event["pid"]: event["args"]["name"] for event in events if event["ph"] == "M" and event["name"] == "process_name"}
    assert list(names.values()) == ["CPUExecutionProvider", sparse.EP_NAME]
    for pid, provider in names.items():
        nodes = [event for event in events if event["pid"] == pid and event.get("cat") == "Node"]
        assert {event["args"]["provider"] for event in nodes} == {provider}
        assert sum(event["name"] == "model_run" for event in events if event["pid"] == pid) == 6


def test_steps_lie_within_their_region(events):
    """They follow each other, and add up to the time of the region, but for little; arguments have work and nonzeros."""
    steps = [event for event in events if event.get("cat") == "Step"]
    regions = [event for event in events if event.get("cat") == "Node" and event["args"]["provider"] == sparse.EP_NAME]
    shares = []
    for region in regions:
        begin, end = region["ts"], region["ts"] + region["dur"]
        inside = sorted((step for step in steps if begin <= step["ts"] <= end), key=lambda step: step["ts"])
        assert [step["args"]["computes"].split(",")[0] for step in inside] == ["512->1024", "1024->512"]
        assert inside[0]["name"] == "up + Relu"
        for step, following in zip(inside, [*inside[1:], {"ts": end}], strict=True):
            assert step["ts"] + step["dur"] <= following["ts"] + 1e-6
            assert (step["pid"], step["tid"]) == (region["pid"], region["tid"])
            assert step["args"]["macs"] * 9 < step["args"]["dense_macs"]
            assert step["args"]["macs_per_s"] > 0
        shares.append(sum(step["dur"] for step in inside) / region["dur"])
    assert max(shares) > 0.5
    assert inside[0]["args"]["nnz"] * 64 == inside[0]["args"]["macs"]


def test_perfetto_loads_it(cli, net, tmp_path):
    """Its own trace processor finds the steps as slices below the region."""
    api = pytest.importorskip("perfetto.trace_processor", reason="needs pip install perfetto, and its program trace_processor_shell")
    file = tmp_path / "trace.json"
    cli("trace", net, "-o", file, "--batch", 64, "--threads", 1, "--runs", 3, "--option", "policy=always")
    try:
        processor = api.TraceProcessor(trace=str(file))
    except Exception as error:
        pytest.skip(f"the trace processor of Perfetto cannot be started, it may need the network: {type(error).__name__}")
    query = "select s.name, p.name as parent from slice s join slice p on s.parent_id = p.id where s.category = 'Step'"
    found = [(row.name, row.parent) for row in processor.query(query)]
    processor.close()
    assert len(found) == 6
    assert all(parent.startswith(sparse.EP_NAME) for _, parent in found)


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
