"""Differential test: windows of every form on our provider and on the CPU provider, also those that the CPU provider refuses.

A node is declined with a reason, or it gives the CPU provider's shape and values, or both refuse it. Edge rules are the point: pads of
auto_pad, windows larger than the image, images and batches of size 0, attributes of a wrong length.
"""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from onnxruntime.capi import onnxruntime_pybind11_state as states

import onnxruntime_ep_sparse as sparse
from support.making import examples, model_of, noise, pruned
from support.promises import assert_close, assignment, cpu_session, make_session

REFUSALS = (states.Fail, states.InvalidArgument, states.RuntimeException, states.EPFail)
CHANNELS = 4
WINDOWS = ["Conv", "MaxPool", "AveragePool"]
AUTO_PADS = [None, None, None, "NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER", "SAME", "valid"]
SIZES = st.one_of(st.integers(0, 5), st.integers(0, 24))
OPSETS = [7, 8, 10, 11, 12, 17, 18, 19, 20, 22]
ROUNDING = {"MaxPool": 10, "AveragePool": 10}
DILATED = {"Conv": 1, "MaxPool": 10, "AveragePool": 19}
"""The opsets from which on an operator has `ceil_mode` and `dilations`."""


@st.composite
def attributes(draw, op, kernel, opset):
    """Attributes of a node of this operator, now and then too many or too few numbers."""
    rank = len(kernel)
    given_ = {"kernel_shape": kernel} if op != "Conv" or draw(st.booleans()) else {}
    auto_pad = draw(st.sampled_from(AUTO_PADS))
    if auto_pad is not None:
        given_["auto_pad"] = auto_pad
    for name, length, numbers, since in (
        ("strides", rank, st.integers(1, 5), 1),
        ("dilations", rank, st.integers(1, 4), DILATED[op]),
        ("pads", 2 * rank, st.integers(0, draw(st.sampled_from([0, 1, 3, 5]))), 1),
    ):
        if opset >= since and draw(st.booleans()):
            given_[name] = [draw(numbers) for _ in range(length + draw(st.sampled_from([0] * 30 + [-1, 1])))]
    if opset >= ROUNDING.get(op, 99) and draw(st.booleans()):
        given_["ceil_mode"] = 1
    if op == "AveragePool" and draw(st.booleans()):
        given_["count_include_pad"] = 1
    return {name: value for name, value in given_.items() if value != []}


@st.composite
def windows(draw, op):
    """(model, inputs of several runs) of one node, behind a product by the identity where it has no weight of its own."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    opset, rank = draw(st.sampled_from(OPSETS)), draw(st.sampled_from([1, 2, 2, 3]))
    kernel = [draw(st.integers(1, 4)) for _ in range(rank)]
    own = draw(attributes(op, kernel, opset))
    shapes = [[draw(st.sampled_from([1, 1, 2, 0])), CHANNELS, *(draw(SIZES) for _ in range(rank))] for _ in range(3)]
    declared = ["n", CHANNELS, *(f"s{i}" for i in range(rank))]
    if op == "Conv":
        own["group"] = draw(st.sampled_from([1, 1, 2, CHANNELS]))
        outputs = draw(st.sampled_from([CHANNELS, 2 * CHANNELS]))
        weights = {"w": pruned(rng, (outputs, CHANNELS // own["group"], *kernel), 0.3)}
        nodes = [helper.make_node("Conv", ["x", "w"], ["y"], **own)]
    else:
        # the product fixes the last size or the one before, so that the other ones may be 0
        axis = draw(st.sampled_from([-1, -2]))
        size = max(1, shapes[0][axis])
        if axis < -rank:
            size = CHANNELS
        for shape in (*shapes, declared):
            shape[axis] = size
        weights = {"e": np.eye(size, dtype=np.float32)}
        nodes = [helper.make_node("MatMul", ["x", "e"][:: -1 if axis == -2 else 1], ["p"]), helper.make_node(op, ["p"], ["y"], **own)]
    if draw(st.booleans()):
        shapes, declared = shapes[:1], shapes[0]
    return model_of(nodes, {"x": declared}, ["y"], weights, opset=opset), [noise(rng, *shape) for shape in shapes]


def attempt(call):
    """The result, or None if ONNX Runtime refuses."""
    try:
        return call()
    except REFUSALS:
        return None


def assert_equal(op, case):
    """Declined with a reason, the same shape and values, or refused by both. Returns whether the node is ours, None if both refuse it."""
    model, inputs = case
    theirs, ours = (attempt(partial(make, model, threads=1)) for make in (cpu_session, make_session))
    assert (theirs is None) == (ours is None)
    if theirs is None:
        return None
    is_ours = (sparse.EP_NAME, op) in assignment(ours)
    assert is_ours or all(decision.reason for decision in sparse.explain(ours))
    for x in inputs:
        expected, y = (attempt(partial(session.run, None, {"x": x})) for session in (theirs, ours))
        assert (expected is None) == (y is None), (x.shape, sparse.explain(ours))
        if expected is not None:
            assert_close(y[0], expected[0])
            assert op != "MaxPool" or np.array_equal(y[0], expected[0])
    return is_ours


@pytest.mark.slow
@pytest.mark.parametrize("op", WINDOWS)
def test_equal_to_the_cpu_provider(op):
    """Most windows that the CPU provider runs are taken."""
    taken = {True: 0, False: 0, None: 0}

    @examples(600)
    @given(windows(op))
    def check(case):
        taken[assert_equal(op, case)] += 1

    check()
    assert taken[True] > taken[False]
