"""ONNX's backend cases through our provider, against the checked-in list of who owns what."""

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, NotImplemented
from suite import PRODUCTS, cases, listed, masked, outcome

import onnxruntime_ep_sparse as sparse
from support.promises import assert_close, assignment, cpu_session, exact, make_session

pytestmark = pytest.mark.slow

OURS = [name for name, what in listed().items() if what == "owned" or what.startswith("shared")]


def test_the_list_is_complete():
    """A case that ONNX adds or drops has to be looked at."""
    assert set(cases()) == set(listed())


def test_every_product_is_ours():
    """Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU and RNN alone in a graph are owned unless a type of ONNX's case is not supported."""
    alone = {name for name, case in cases().items() if len(case.model.graph.node) == 1 and case.model.graph.node[0].op_type in PRODUCTS}
    assert len(alone) >= 50
    for name in alone:
        (data,) = cases()[name].data
        types = {x.dtype for name, x in data[0].items() if name != "sequence_lens"}
        supported = types <= {np.dtype(kind) for kind in (np.float32, np.float16, np.uint8, np.int8)}
        assert supported == (listed()[name] == "owned"), name


@pytest.mark.parametrize("name", listed())
def test_case(name, count):
    """The outcome is the listed one, and what we own computes what ONNX expects."""
    assert outcome(cases()[name]) == listed()[name]
    count(listed()[name].split(":")[0])


def dense(model, feeds):
    """The CPU provider's outputs, or ONNX's reference where that is too new for the model's operators, or a recurrent one's layout is 1."""
    try:
        return cpu_session(model).run(None, feeds)
    except (NotImplemented, Fail):
        return [y.astype(np.float32) for y in exact(model, feeds)]


@pytest.mark.parametrize("zeros", [0, 0.5, 0.9, 1], ids=lambda zeros: f"{zeros:.0%}")
@pytest.mark.parametrize("name", OURS)
def test_masked(name, zeros, count):
    """The products with this share of their weights masked, against the CPU provider."""
    case = cases()[name]
    model = masked(case, zeros)
    ours = make_session(model)
    owners = {provider for provider, operator in assignment(ours) if operator in PRODUCTS}
    assert owners == {sparse.EP_NAME}
    ((feeds, _),) = case.data
    for got, wanted in zip(ours.run(None, feeds), dense(model, feeds), strict=True):
        if got.dtype == np.float32:
            assert_close(got, wanted)
        else:
            np.testing.assert_array_equal(got, wanted)  # integers, maybe as the floats of the reference
    count(f"masked by {zeros:.0%}")
