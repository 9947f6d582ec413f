"""The accuracy promise of every product, over random shapes, attributes, patterns of zeros, threads and instruction sets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import onnxruntime_ep_sparse_kernels as kernels
from support.making import examples, model_of, noise, pruned
from support.products import assert_promise, convolutions, gemms, large, matmuls
from support.promises import assert_accurate, cpu_session, exact, magnitude

OPTIONS = st.fixed_dictionaries({"isa": st.sampled_from(kernels.available_isas()), "threads": st.sampled_from(["1", "2", "3", "4"])})


@examples(250)
@given(convolutions(), OPTIONS)
def test_conv(case, options):
    """Any rank, stride, padding, dilation, group; with and without bias; fixed and dynamic shapes."""
    assert_promise(*case, options)


@examples(250)
@given(gemms(), OPTIONS)
def test_gemm(case, options):
    """Constant on either side, transposed or not, alpha, beta, every broadcast of C, constant or not."""
    assert_promise(*case, options)


@examples(250)
@given(matmuls(), OPTIONS)
def test_matmul(case, options):
    """Constant on either side, any ranks, broadcast batches, vectors."""
    assert_promise(*case, options)


@examples(60)
@given(large(), OPTIONS)
def test_large(case, options):
    """The same promise where K is cut into blocks and the work is shared by threads."""
    assert_promise(*case, options)


def test_the_measure_can_fail():
    """An error just beyond the promise is noticed."""
    rng = np.random.default_rng(0)
    weight = pruned(rng, (8, 64))
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [4, 64]}, ["y"], {"w": np.ascontiguousarray(weight.T)})
    feeds = {"x": noise(rng, 4, 64)}
    (y,), (y64,), (sizes,) = cpu_session(model).run(None, feeds), exact(model, feeds), magnitude(model, feeds)
    assert_accurate(y, y, y64, sizes, 64)
    wrong = y.copy()
    wrong[2, 3] += np.float32(1e-4) * max(1, abs(wrong[2, 3]))
    with pytest.raises(AssertionError, match="1 of 32 beyond the promise"):
        assert_accurate(wrong, y, y64, sizes, 64)
