"""Several rounds of partitioning: ONNX Runtime inlines functions that nobody runs between them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import onnxruntime_ep_sparse as sparse
from support.making import examples, model_of, noise, pruned
from support.promises import assert_close, assignment, cpu_session, make_session

FUNCTIONS = {"Mish": (18, {}, ()), "Swish": (24, {}, ()), "GroupNormalization": (21, {"num_groups": 4}, ("scale", "bias"))}
"""Operators of ONNX that it defines by others, without a kernel in ONNX Runtime: the opset, attributes and further inputs."""


def model_with(links, opset, declared):
    """x -> the operators `links` -> y; a Conv has the share of zeros behind its name. Declared: the shapes between them."""
    rng = np.random.default_rng(0)
    nodes, x = [], "x"
    weights = {"scale": np.ones(16, np.float32), "bias": noise(rng, 16)}
    for i, (op, zeros) in enumerate(links):
        y = "y" if i == len(links) - 1 else f"v{i}"
        if op == "Conv":
            nodes.append(helper.make_node("Conv", [x, f"w{i}"], [y], name=f"conv{i}", pads=[1] * 4))
            weights[f"w{i}"] = pruned(rng, (16, 16, 3, 3), zeros) / 6
        else:
            _, attributes, further = FUNCTIONS.get(op, (0, {}, ()))
            nodes.append(helper.make_node(op, [x, *further], [y], name=f"{op}{i}", **attributes))
        x = y
    used = {name for node in nodes for name in node.input}
    model = model_of(nodes, {"x": [1, 16, 12, 12]}, ["y"], {name: w for name, w in weights.items() if name in used}, opset=opset)
    model.ir_version = 10
    if declared:
        infos = [helper.make_tensor_value_info(node.output[0], 1, [1, 16, 12, 12]) for node in nodes[:-1]]
        model.graph.value_info.extend(infos)
    return model


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("policy", ["auto", "always"])
@examples(12)
@given(
    links=st.lists(st.sampled_from(["Conv 0.95", "Conv 0.95", "Conv 0.0", "Relu", "function"]), min_size=1, max_size=7),
    declared=st.booleans(),
)
def test_explained_as_it_is(function, policy, links, declared):
    """What explain() calls taken is what ONNX Runtime gave to our provider, in as many regions; pruned products never come too late."""
    words = [link.replace("function", function).split() for link in links]
    model = model_with([(op, float(zeros[0]) if zeros else 0.0) for op, *zeros in words], FUNCTIONS[function][0], declared)
    session = make_session(model, {"policy": policy})
    table = sparse.explain(session)
    taken = [decision for decision in table if decision.taken]
    assert sorted(d.op_type for d in taken) == sorted(op for provider, op in assignment(session) if provider == sparse.EP_NAME)
    regions = [graph for graph in session.get_provider_graph_assignment_info() if graph.ep_name == sparse.EP_NAME]
    assert [*dict.fromkeys(d.region for d in taken)] == [*range(len(regions))]
    assert sorted(d.name for d in table if d.op_type == "Conv") == sorted(n.name for n in model.graph.node if n.op_type == "Conv")
    assert not [d for d in table if d.code == "taken-by-other" or d.op_type.startswith(sparse.EP_NAME)]
    if policy == "always":
        assert all(d.taken for d in table if d.op_type == "Conv")
    feeds = {"x": noise(np.random.default_rng(1), 1, 16, 12, 12)}
    assert_close(session.run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])


@pytest.mark.parametrize(
    ("op_type", "shape", "weights", "attributes"),
    [
        ("Conv", (2, 4, 9, 9), {"w": (8, 4, 3, 3)}, {}),
        ("Conv", (2, 4, 9), {"w": (8, 2, 3)}, {"group": 2}),
        ("Gemm", (2, 4), {"w": (4, 8)}, {}),
        ("LSTM", (5, 2, 4), {"w": (1, 32, 4), "r": (1, 32, 8)}, {"hidden_size": 8}),
    ],
)
def test_ranks_that_operators_imply(op_type, shape, weights, attributes):
    """A product runs behind an operator of which no shape is known; other ranks are refused at run time, as by the CPU provider."""
    rng = np.random.default_rng(0)
    arrays = {name: pruned(rng, sizes, 0.5) for name, sizes in weights.items()}
    product = helper.make_node(op_type, ["v", *weights], ["y"], **attributes)
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["v"]), product]
    model = model_of(nodes, {"x": shape}, ["y"], arrays)
    model.graph.input.append(helper.make_tensor_value_info("shape", 7, ["rank"]))
    session = make_session(model)
    assert (sparse.EP_NAME, op_type) in assignment(session)
    feeds = {"x": noise(rng, *shape), "shape": np.array(shape)}
    assert_close(session.run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])
    for each in (session, cpu_session(model)):
        with pytest.raises(Exception, match=r"(?i)dim|rank|shape"):
            each.run(None, {"x": feeds["x"], "shape": np.array([*shape, 1, 1])})
