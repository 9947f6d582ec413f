"""Differential test: random graphs on our provider and on the CPU provider. `ORT_SPARSE_TEST_EXAMPLES=100` tries thousands of others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

import onnxruntime_ep_sparse as sparse
from support.making import examples, noise
from support.promises import assert_close, assignment, cpu_session, make_session
from support.random_graphs import RandomGraph

QUIET = {"session.intra_op.allow_spinning": "0"}
REFUSALS = (Fail, InvalidArgument, RuntimeException)
PRODUCTS = {"Conv", "MatMul", "Gemm", "LSTM", "GRU", "RNN"}


@pytest.mark.parametrize("policy", ["always", "auto"])
@examples(150)
@given(seed=st.integers(0, 2**32 - 1))
def test_equal_to_the_cpu_provider(policy, seed):
    graph = RandomGraph(seed)
    model, rng, threads = graph.model(), graph.rng, 1 + seed % 3
    theirs = cpu_session(model, threads=threads, entries=QUIET)
    ours = make_session(model, {"policy": policy}, threads=threads, entries=QUIET)
    if policy == "always":
        assert not {op for provider, op in assignment(ours) if provider != sparse.EP_NAME} & PRODUCTS, sparse.explain(ours)
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
        for y, y_ort in zip(ours.run(None, feeds), expected, strict=True):
            assert_close(y, y_ort)
