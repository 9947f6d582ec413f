"""The graph that reaches select() against the ONNX model it was read from."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.graph.ir import FLOAT, INT64, Value
from onnxruntime_ep_sparse.ort import _plugin


@pytest.fixture
def seen(monkeypatch):
    """The graphs that select() is shown; `seen.look` is called with each while its constants can be loaded."""

    class Seen(list):
        def look(self, graph):
            pass

    graphs = Seen()
    select = _plugin.select

    def spy(graph, options):
        graphs.append(graph)
        graphs.look(graph)
        return select(graph, options)

    monkeypatch.setattr(_plugin, "select", spy)
    return graphs


def info(name, shape, kind=TensorProto.FLOAT):
    """A typed graph input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def make(nodes, inputs, outputs, initializers=(), functions=()):
    """Serialised model of one graph."""
    graph = helper.make_graph(nodes, "main", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions).SerializeToString()


def test_nodes_values_and_attributes(session, seen):
    """Names, types, symbolic and unknown dimensions, scalars, omitted inputs, and each kind of attribute."""
    nodes = [
        helper.make_node("Clip", ["x", "", "high"], ["c"], name="clip"),
        helper.make_node("LeakyRelu", ["c"], ["l"], name="leaky", alpha=0.25),
        helper.make_node("MaxPool", ["l"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 1], auto_pad="SAME_UPPER", ceil_mode=1),
        helper.make_node("Scaler", ["x"], ["s"], name="scaler", domain="ai.onnx.ml", offset=[0.5], scale=[2.0]),
    ]
    high = info("high", [])
    session(make(nodes, [info("x", ["batch", 3, None, 8]), high], [info("p", None), info("s", None)]))
    (graph,) = seen
    by_name = {node.name: node for node in graph.nodes}
    assert [node.index for node in graph.nodes] == [0, 1, 2, 3]
    assert by_name["clip"].inputs == ("x", "", "high")
    assert by_name["leaky"].attributes == {"alpha": 0.25}
    pool = by_name["pool"].attributes
    assert (pool["kernel_shape"], pool["strides"], pool["auto_pad"], pool["ceil_mode"]) == ((2, 2), (2, 1), "SAME_UPPER", 1)
    assert (by_name["scaler"].domain, by_name["scaler"].attributes) == ("ai.onnx.ml", {"offset": (0.5,), "scale": (2.0,)})
    assert by_name["pool"].since_version == 12
    assert graph.values["x"] == Value("x", FLOAT, ("batch", 3, None, 8))
    assert graph.values["high"] == Value("high", FLOAT, ())
    assert (graph.inputs, set(graph.outputs), graph.is_subgraph) == (("x", "high"), {"p", "s"}, False)
    assert graph.producer["p"].name == "pool"
    assert {node.name for node in graph.consumers["x"]} == {"clip", "scaler"}


def test_constants(session, seen):
    """Every numeric type arrives with its values, during the call and no longer."""
    arrays = {
        "weights": np.arange(600, dtype=np.float32).reshape(20, 30),
        "few": np.array([1, 2], np.float32),
        "scalar": np.array(3, np.float32),
        "indices": np.array([0, 1], np.int64),
        "none": np.zeros((0,), np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["a"]),
        helper.make_node("Add", ["a", "scalar"], ["b"]),
        helper.make_node("Gather", ["b", "indices"], ["c"]),
        helper.make_node("ReduceSum", ["c", "indices"], ["y"], keepdims=0),
        helper.make_node("ReduceSum", ["x", "none"], ["z"], noop_with_empty_axes=1),
        helper.make_node("Concat", ["few", "w"], ["v"], axis=0),
    ]
    read = {}
    seen.look = lambda graph: read.update({name: graph.load(name).copy() for name in graph.constant_names})
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    session(make(nodes, [info("x", [4, 20]), info("w", ["n"])], [info("y", None), info("z", None), info("v", None)], initializers))
    graph = seen[-1]
    assert {"weights", "few"} <= set(read)
    for name in set(read) & set(arrays):
        assert read[name].dtype == arrays[name].dtype
        assert np.array_equal(read[name], arrays[name])
    assert graph.values["weights"] == Value("weights", FLOAT, (20, 30))
    assert graph.values["indices"].dtype == INT64
    with pytest.raises(RuntimeError, match="the ONNX Runtime call that showed this graph is over"):
        graph.load("weights")


def test_overridable_initializers_are_not_constant(session, seen):
    """An initializer that is a graph input too may change with every run."""
    weights = numpy_helper.from_array(np.ones((3, 4), np.float32), "w")
    session(make([helper.make_node("MatMul", ["x", "w"], ["y"])], [info("x", [2, 3]), info("w", [3, 4])], [info("y", None)], [weights]))
    (graph,) = seen
    assert "w" not in graph.constant_names
    assert graph.constant("w") is None


def test_control_flow(session, seen):
    """Bodies of If are marked, see constants and values from around them, and the node that has them reads those values."""
    weights = numpy_helper.from_array(np.arange(64, dtype=np.float32).reshape(8, 8), "w")

    def body(op):
        """`op` of the outer value and the outer constant."""
        return helper.make_graph([helper.make_node(op, ["a", "w"], [f"{op}_out"], name=op)], "body", [], [info(f"{op}_out", None)])

    nodes = [
        helper.make_node("Sigmoid", ["x"], ["a"]),
        helper.make_node("If", ["flag"], ["y"], name="choice", then_branch=body("MatMul"), else_branch=body("Add")),
    ]
    loaded = []
    seen.look = lambda graph: loaded.append(graph.load("w").copy()) if graph.is_subgraph else None
    ours = session(make(nodes, [info("x", [8, 8]), info("flag", [], TensorProto.BOOL)], [info("y", None)], [weights]), {"policy": "always"})
    inner = [graph for graph in seen if graph.is_subgraph]
    (outer,) = [graph for graph in seen if not graph.is_subgraph]
    assert {graph.nodes[0].op_type for graph in inner} == {"MatMul", "Add"}
    assert all("w" in graph.constant_names and "a" in graph.values for graph in inner)
    assert all(np.array_equal(array, np.arange(64).reshape(8, 8)) for array in loaded)
    assert "a" in next(node for node in outer.nodes if node.op_type == "If").implicit_inputs
    assert [node.op_type for node in outer.consumers["a"]] == ["If"]
    decisions = {decision.name: decision for decision in sparse.explain(ours)}
    assert {"MatMul", "Add", "choice"} <= set(decisions)
    assert not any(decisions[name].taken for name in ("MatMul", "Add", "choice"))
    x = np.random.default_rng(0).random((8, 8), np.float32)
    assert np.allclose(ours.run(None, {"x": x, "flag": np.array(False)})[0], 1 / (1 + np.exp(-x)) + np.arange(64).reshape(8, 8))


def test_nodes_of_another_provider(session, seen, model_bytes):
    """A node that nobody has yet has no provider's name."""
    session(model_bytes)
    assert {node.ep_name for node in seen[0].nodes} == {""}


def test_external_data(session, seen, model, tmp_path):
    """Weights in a file beside the model are read from there."""
    expected = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    read = {}
    seen.look = lambda graph: read.update({name: graph.load(name).copy() for name in graph.constant_names})
    session(str(tmp_path / "m.onnx"))
    assert set(read) == set(expected)
    assert all(np.array_equal(read[name], expected[name]) for name in expected)


def test_missing_external_data(session, model, tmp_path):
    """A missing file fails with a message that names it, whoever asks for it first."""
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    (tmp_path / "m.data").unlink()
    with pytest.raises(Exception, match=r"m\.data"):
        session(str(tmp_path / "m.onnx"), {"policy": "always"})


def test_unloadable_constant(session, seen, model, tmp_path):
    """A constant that cannot be loaded any more raises in Python."""
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    raised = []

    def look(graph):
        (tmp_path / "m.data").unlink(missing_ok=True)
        for name in sorted(graph.constant_names):
            with pytest.raises(RuntimeError) as fault:
                graph.load(name)
            raised.append(str(fault.value))

    seen.look = look
    with pytest.raises(Exception, match=r"m\.data"):
        session(str(tmp_path / "m.onnx"), {"policy": "always"})
    assert raised
    assert all("m.data" in message for message in raised)


def test_functions_are_seen_inlined(session, seen):
    """A model-local function ends up as its nodes."""
    function = helper.make_function(
        "local", "twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    graph = helper.make_graph([helper.make_node("twice", ["x"], ["y"], domain="local")], "main", [info("x", [2])], [info("y", None)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=[function]).SerializeToString()
    ours = session(model)
    assert [node.op_type for node in seen[-1].nodes] == ["Add"]
    assert [decision.op_type for decision in sparse.explain(ours)] == ["Add"]
