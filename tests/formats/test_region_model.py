"""Regions as models of their own: the same results, whatever operators and names."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxruntime_ep_sparse.formats import region_model
from onnxruntime_ep_sparse.formats.region_model import model_of
from onnxruntime_ep_sparse.graph.ir import FLOAT, INT64, Graph, Node, Value, subgraph
from onnxruntime_ep_sparse.ort import region_timer
from onnxruntime_ep_sparse.partition.verdict import UnmeasuredError
from support.making import model_of as whole_model
from support.making import noise, pruned
from support.programs import graph_of
from support.promises import assert_close, cpu_session, exact, make_session, owned_session
from support.random_graphs import RandomGraph


@pytest.fixture
def regions(monkeypatch):
    """Return the models of all regions that `policy=measure` would time in a model."""

    def found(model):
        made = []

        class Recorder:
            def __init__(self, options):
                pass

            def __call__(self, region, sizes, seconds):
                made.append((region, model_of(region)))
                raise UnmeasuredError("it is only looked at")

        monkeypatch.setattr(region_timer, "RegionTimer", Recorder)
        make_session(model, {"policy": "measure", "min_sparsity": "0"})
        return made

    return found


def is_connected(graph):
    """Return whether the nodes of an ONNX graph hang together by values that they make and read."""
    pieces = []
    for node in graph.node:
        names = {*node.input, *node.output} - {item.name for item in (*graph.input, *graph.initializer)}
        near = [piece for piece in pieces if piece & names]
        pieces = [piece for piece in pieces if not piece & names] + [names.union(*near)]
    return len(pieces) == 1


def test_random_graphs(regions):
    """Every region is a valid model that is ours as a whole; a graph that is one region gives the results of the original.

    Where a region gives back the node that its parts read, only those with products are ours in a model of their own.
    """
    whole = 0
    for seed in range(80):
        graph = RandomGraph(seed)
        model = graph.model()
        for region, made in regions(model):
            # ONNX Runtime's own operator, though in ONNX's domain
            if not any(node.op_type == "SimplifiedLayerNormalization" for node in made.graph.node):
                onnx.checker.check_model(made, full_check=True)
            if not is_connected(made.graph):
                continue
            ours = owned_session(made)
            outputs = [output.name for output in model.graph.output]
            if region.inputs != ("x",) or sorted(region.outputs) != sorted(outputs):
                continue
            whole += 1
            x = noise(graph.rng, *graph.shape)
            expected = dict(zip(outputs, cpu_session(model).run(None, {"x": x}), strict=True))
            for session in (ours, cpu_session(made)):
                for name, got in zip(region.outputs, session.run(None, {"t0": x}), strict=True):
                    at = outputs.index(name)
                    assert_close(got, expected[name], lambda model=model, x=x, at=at: exact(model, {"x": x})[at])
    assert whole >= 15


def chain(names="abc"):
    """x -> MatMul -> Relu -> y, with these names and an open number of rows."""
    x, a, y = names
    weight = pruned(np.random.default_rng(0), (8, 4), 0.5)
    nodes = [("MatMul", (x, "weight"), a, ("rows", 4), {}), ("LeakyRelu", (a,), y, ("rows", 4), {"alpha": 0.5})]
    graph = graph_of(nodes, {x: ("rows", 8)}, {"weight": weight}, (y,))
    return replace(graph, nodes=tuple(replace(node, since_version=version) for node, version in zip(graph.nodes, (13, 16), strict=True)))


def test_names_do_not_matter():
    """Equal regions give equal bytes; other weights, attributes and shapes give others."""
    data = model_of(chain()).SerializeToString(deterministic=True)
    assert model_of(chain(("\udcff", "a\0b", "ü"))).SerializeToString(deterministic=True) == data
    graph = chain()
    other = [
        replace(graph, load=lambda name: np.ones((8, 4), np.float32)),
        replace(graph, nodes=(graph.nodes[0], replace(graph.nodes[1], attributes={"alpha": 0.25}))),
        replace(graph, nodes=(graph.nodes[0], replace(graph.nodes[1], op_type="Elu"))),
        replace(graph, values={**graph.values, "a": Value("a", FLOAT, (3, 8))}),
        subgraph(graph, {0}),
    ]
    assert data not in [model_of(changed).SerializeToString(deterministic=True) for changed in other]


def test_opset():
    """The highest version of an operator, which all others have there; each domain has its own."""
    assert [(entry.domain, entry.version) for entry in model_of(chain()).opset_import] == [("", 16)]
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("QuickGelu", ["a"], ["y"], domain="com.microsoft", alpha=1.5)]
    values = {name: Value(name, FLOAT, ("n", 8)) for name in "xay"} | {"w": Value("w", FLOAT, (8, 8))}
    weights = {"w": pruned(rng, (8, 8), 0.5)}
    made = (
        Node(0, "", "MatMul", "", 13, ("x", "w"), ("a",), {}),
        Node(1, "", "QuickGelu", "com.microsoft", 1, ("a",), ("y",), {"alpha": 1.5}),
    )
    model = model_of(Graph(made, values, frozenset(weights), weights.__getitem__, ("x",), ("y",)))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 13), ("com.microsoft", 1)]
    x = noise(rng, 3, 8)
    original = whole_model(nodes, {"x": ["n", 8]}, ["y"], weights, domains=["com.microsoft"])
    assert_close(cpu_session(model).run(None, {"t0": x})[0], cpu_session(original).run(None, {"x": x})[0])


def test_what_cannot_be_written(monkeypatch):
    """Says why: attributes that are tensors or graphs, and more constants than a message holds."""
    graph = chain()
    attributes = replace(graph, nodes=(replace(graph.nodes[0], attributes={"value": None}), graph.nodes[1]))
    with pytest.raises(ValueError, match="the attribute 'value' of a MatMul is not a number or text"):
        model_of(attributes)
    monkeypatch.setattr(region_model, "MAX_BYTES", 8 * 4 * 4 - 1)
    with pytest.raises(ValueError, match="its constants have more than"):
        model_of(graph)
    monkeypatch.setattr(region_model, "MAX_BYTES", 8 * 4 * 4)
    assert model_of(graph).graph.initializer


def test_missing_operands_and_empty_lists():
    """Optional inputs that are left out stay so; an empty list is left out, since its type is not known."""
    values = {"x": Value("x", FLOAT, ("n", 3, 8, 8)), "sizes": Value("sizes", INT64, (4,)), "y": Value("y", FLOAT, ("n", 3, 16, 16))}
    node = Node(0, "", "Resize", "", 19, ("x", "", "", "sizes"), ("y",), {"mode": "nearest", "axes": ()})
    sizes = {"sizes": np.array([1, 3, 16, 16], np.int64)}
    model = model_of(Graph((node,), values, frozenset(sizes), sizes.__getitem__, ("x",), ("y",)))
    assert list(model.graph.node[0].input) == ["t0", "", "", "t2"]
    assert [attribute.name for attribute in model.graph.node[0].attribute] == ["mode"]
    assert cpu_session(model).run(None, {"t0": np.ones((1, 3, 8, 8), np.float32)})[0].shape == (1, 3, 16, 16)
