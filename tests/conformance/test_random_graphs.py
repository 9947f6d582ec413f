"""Differential test: random graphs on our provider and on the CPU provider. `ORT_SPARSE_TEST_EXAMPLES=100` tries thousands of others."""

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

import onnxruntime_ep_sparse as sparse
from support.making import examples, model_of, noise
from support.promises import assert_close, cpu_session, exact, make_session
from support.random_graphs import RandomGraph

QUIET = {"session.intra_op.allow_spinning": "0"}
REFUSALS = (Fail, InvalidArgument, RuntimeException)
PRODUCTS = {"Conv", "MatMul", "Gemm", "LSTM", "GRU", "RNN"}


def left(session, model):
    """Products with a weight that our provider has left and should have with `policy=always`.

    A MatMul of two values has no weight: it is taken as a neighbour. ONNX Runtime makes operators of a GroupNormalization that no provider
    takes, and then knows the rank of no value behind it.
    """
    excuses = {"rank-unknown"} if any(node.op_type == "GroupNormalization" for node in model.graph.node) else set()
    products = [node for node in sparse.explain(session) if node.op_type in PRODUCTS and not node.taken]
    return [node for node in products if node.code not in excuses and (node.shape is not None or node.code != "not-adjacent")]


@pytest.mark.parametrize("policy", ["always", "auto"])
@examples(150)
@given(seed=st.integers(0, 2**32 - 1))
def test_equal_to_the_cpu_provider(policy, seed):
    graph = RandomGraph(seed)
    model, rng, threads = graph.model(), graph.rng, 1 + seed % 3
    theirs = cpu_session(model, threads=threads, entries=QUIET)
    ours = make_session(model, {"policy": policy}, threads=threads, entries=QUIET)
    if policy == "always":
        assert left(ours, model) == []
    named = [bool(size.dim_param) for size in model.graph.input[0].type.tensor_type.shape.dim]
    other = [size + is_named * rng.integers(3) for size, is_named in zip(graph.shape, named, strict=True)]
    for shape in (graph.shape, other, graph.shape):
        feeds = {"x": noise(rng, *shape)}
        try:
            expected = theirs.run(None, feeds)
        except REFUSALS:  # a node fits some sizes only
            assert shape != graph.shape
            with pytest.raises(REFUSALS):
                ours.run(None, feeds)
            continue
        try:
            results = ours.run(None, feeds)
        except REFUSALS:  # ONNX Runtime's convolutions in blocks of channels do not check how many channels the input has
            assert shape != graph.shape
            with pytest.raises(ValueError, match="Shape inconsistencies"):
                exact(model, feeds)
            continue
        for i, (y, y_ort) in enumerate(zip(results, expected, strict=True)):
            assert_close(y, y_ort, lambda i=i, feeds=feeds: exact(model, feeds)[i])


def test_the_measure_can_fail():
    """Beyond 1e-4 of the largest, and further from the exact values than twice what the CPU provider is."""
    y_ort = np.array([1.0, 1e-3], np.float32)
    for error, in_float64, wrong in (
        (9e-5, None, False),
        (2e-4, None, True),
        (2e-4, y_ort + 2e-4, False),
        (2e-4, y_ort - 1e-4, True),
        (np.nan, None, True),
        (np.nan, y_ort, True),
    ):
        given_ = None if in_float64 is None else lambda y64=in_float64: y64
        with pytest.raises(AssertionError, match="an error of") if wrong else nullcontext():
            assert_close(y_ort + np.float32(error), y_ort, given_)


def test_exact_outputs_of_tensors_within_nodes():
    third = helper.make_tensor("third", TensorProto.FLOAT, [1], [1 / 3])
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["thirds"], value=third),
        helper.make_node("Add", ["x", "thirds"], ["y"]),
    ]
    (y,) = exact(model_of(nodes, {"x": [2]}, ["y"], {}), {"x": np.zeros(2, np.float32)})
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, np.float64(np.float32(1 / 3)))
