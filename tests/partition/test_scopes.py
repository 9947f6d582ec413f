"""What regions do not reach into: operators and types that are not ours, and bodies of control flow."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented

import onnxruntime_ep_sparse as sparse
from support.making import graph_of, model_of, noise, pruned
from support.promises import assert_close, assignment, cpu_session, make_session


def test_retired_operators_are_declined():
    """Operators whose old versions mean something else: Add with an axis, Reshape with its shape as attribute."""
    rng = np.random.default_rng(23)
    make = helper.make_node
    nodes = [make("MatMul", ["x", "w"], ["p"]), make("Reshape", ["p"], ["r"], shape=[4, 3])]
    model = model_of(nodes, {"x": [3, 4]}, {"r": [4, 3]}, {"w": pruned(rng, (4, 4), 0.5)}, opset=4)
    session = make_session(model)
    assert set(assignment(session)) == {(sparse.EP_NAME, "MatMul"), ("CPUExecutionProvider", "Reshape")}
    assert "version 1 of the operator is not supported, 5 is the first" in {decision.reason for decision in sparse.explain(session)}
    # ONNX Runtime has no kernel either, and says so instead of adding along the wrong axis
    add = [nodes[0], make("Add", ["p", "b"], ["y"], broadcast=1, axis=0)]
    weights = {"w": pruned(rng, (4, 3), 0.5), "b": noise(rng, 3)}
    with pytest.raises(NotImplemented, match=r"Add\(6\)"):
        make_session(model_of(add, {"x": [3, 4]}, ["y"], weights, opset=6))


@pytest.mark.parametrize("dtype", [TensorProto.DOUBLE, TensorProto.INT32])
def test_other_types_are_declined(dtype):
    """MatMul of another type stays where it was, with the reason."""
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    info = [helper.make_tensor_value_info(name, dtype, ["n", 4]) for name in "xy"]
    weight = numpy_helper.from_array(np.eye(4, dtype=kind), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], "g", info[:1], info[1:], [weight])
    session = make_session(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9))
    assert {provider for provider, _ in assignment(session)} == {"CPUExecutionProvider"}
    name = {TensorProto.DOUBLE: "float64"}.get(dtype, TensorProto.DataType.Name(dtype).lower())
    assert f"type {name} is not supported, only float32, float16 and bfloat16" in {decision.reason for decision in sparse.explain(session)}
    x = np.arange(8).reshape(2, 4).astype(kind)
    assert np.array_equal(session.run(None, {"x": x})[0], x)


def branches(rng):
    """Two graphs with a Conv each, for If: of an outer weight, and of one of their own."""
    conv = helper.make_node
    own = {"w_own": pruned(rng, (4, 4, 1, 1), 0.5)}
    return (
        graph_of([conv("Conv", ["x", "w"], ["then_y"])], {}, {"then_y": None}, {}),
        graph_of([conv("Conv", ["x", "w_own"], ["t"]), conv("Relu", ["t"], ["else_y"])], {}, {"else_y": None}, own),
    )


def test_inside_if():
    """A Conv in a branch is left to the CPU provider, with the reason; the one outside is ours."""
    rng = np.random.default_rng(19)
    then, other = branches(rng)
    nodes = [
        helper.make_node("If", ["c"], ["t"], then_branch=then, else_branch=other),
        helper.make_node("Conv", ["t", "w"], ["y"], name="outside"),
    ]
    model = model_of(nodes, {"x": ["n", 4, 5, 5]}, ["y"], {"w": pruned(rng, (4, 4, 1, 1), 0.5)})
    model.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    session = make_session(model)
    reasons = {decision.name: (decision.taken, decision.reason) for decision in sparse.explain(session) if decision.op_type == "Conv"}
    assert reasons["outside"][0]
    assert {taken for name, (taken, _) in reasons.items() if name != "outside"} == {False}
    assert any("control-flow" in reason for _, reason in reasons.values())
    assert (sparse.EP_NAME, "Conv") in assignment(session)
    theirs = cpu_session(model)
    for condition in (True, False):
        feeds = {"x": noise(rng, 2, 4, 5, 5), "c": np.array(condition)}
        assert_close(session.run(None, feeds)[0], theirs.run(None, feeds)[0])


def test_inside_loop():
    """The same in the body of a Loop."""
    rng = np.random.default_rng(20)
    body = graph_of([helper.make_node("Conv", ["v", "w"], ["v_next"])], {}, {"v_next": ["n", 4, 5, 5]}, {})
    scalars = [
        helper.make_tensor_value_info(name, kind, [])
        for name, kind in (("i", TensorProto.INT64), ("go", TensorProto.BOOL), ("go_on", TensorProto.BOOL))
    ]
    body.input.extend([*scalars[:2], helper.make_tensor_value_info("v", TensorProto.FLOAT, ["n", 4, 5, 5])])
    body.node.append(helper.make_node("Identity", ["go"], ["go_on"]))
    carried = body.output[0]
    again = onnx.ValueInfoProto()
    again.CopyFrom(carried)
    del body.output[:]
    body.output.extend([scalars[2], again])
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"], name="outside"), helper.make_node("Loop", ["trips", "", "a"], ["y"], body=body)]
    weights = {"w": pruned(rng, (4, 4, 1, 1), 0.5), "trips": np.array(3)}
    model = model_of(nodes, {"x": ["n", 4, 5, 5]}, ["y"], weights)
    session = make_session(model)
    convs = {decision.name == "outside": decision.taken for decision in sparse.explain(session) if decision.op_type == "Conv"}
    assert convs == {True: True, False: False}
    feeds = {"x": noise(rng, 2, 4, 5, 5)}
    assert_close(session.run(None, feeds)[0], cpu_session(model).run(None, feeds)[0])
