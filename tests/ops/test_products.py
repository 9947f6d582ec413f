"""The accuracy promise of every product, over random shapes, attributes, patterns of zeros, threads and instruction sets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import onnxruntime_ep_sparse_kernels as kernels
from support.making import PATTERNS, examples, model_of, noise, pruned
from support.products import ZEROS, convolutions, gemms, matmuls
from support.promises import assert_accurate, cpu_session, exact, magnitude, owned_session

OPTIONS = st.fixed_dictionaries({"isa": st.sampled_from(kernels.available_isas()), "threads": st.sampled_from(["1", "2", "3", "4"])})


def assert_promise(model, feeds_of_runs, depth, options):
    """One session of ours keeps the promise for all these inputs, one run after the other."""
    ours = owned_session(model, options, threads=int(options["threads"]), regions=1)
    theirs = cpu_session(model, threads=1)
    for feeds in feeds_of_runs:
        (y,), (y_ort,) = ours.run(None, feeds), theirs.run(None, feeds)
        assert_accurate(y, y_ort, exact(model, feeds)[0], magnitude(model, feeds)[0], depth)


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


@st.composite
def large(draw):
    """Products deep and wide enough for several blocks, tiles, items and row chunks."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    zeros, pattern = draw(ZEROS), draw(st.sampled_from(PATTERNS))
    if draw(st.booleans()):
        m, c, size, kernel = draw(st.sampled_from([(64, 96, 31, 3), (200, 130, 14, 1), (96, 192, 7, 3), (40, 16, 60, 5), (257, 520, 7, 1)]))
        weight = pruned(rng, (m, c, kernel, kernel), zeros, pattern)
        node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[kernel // 2] * 4, strides=[draw(st.integers(1, 2))] * 2)
        shape = (draw(st.integers(1, 3)), c, size, size)
    else:
        m, c, n = draw(st.sampled_from([(512, 1024, 1), (300, 2000, 5), (768, 768, 33), (1000, 512, 1), (33, 3000, 130)]))
        weight = pruned(rng, (m, c), zeros, pattern)
        node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
        shape = (n, c)
    model = model_of([node], {"x": shape}, ["y"], {"w": weight, "b": noise(rng, m)})
    return model, [{"x": noise(rng, *shape)}], weight[0].size


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
