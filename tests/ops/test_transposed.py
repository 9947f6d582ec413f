"""ConvTranspose against the CPU provider: any rank, stride, dilation, padding, group and form of the sizes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import onnxruntime_ep_sparse_kernels as kernels
from support.making import PATTERNS, examples, model_of, noise, pruned
from support.products import ZEROS
from support.promises import assert_close, cpu_session, owned_session, reasons

OPTIONS = st.fixed_dictionaries({"isa": st.sampled_from(kernels.available_isas()), "threads": st.sampled_from(["1", "2", "3"])})


@st.composite
def transposed(draw):
    """(model, inputs of two runs) of a ConvTranspose, alone or with an activation or an addition behind it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rank = draw(st.sampled_from([1, 2, 2, 2, 3]))
    c, m, groups = draw(st.integers(1, 12)), draw(st.integers(1, 12)), draw(st.sampled_from([1, 1, 1, 2, 3]))
    if draw(st.integers(0, 5)) == 0:
        c, m, groups = 1, draw(st.integers(1, 2)), 7

    def numbers(low, high):
        return draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank))

    kernel, strides, dilations = numbers(1, 5 if rank < 3 else 3), numbers(1, 3), numbers(1, 2)
    attributes = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "group": groups}
    kind = draw(st.sampled_from(["pads", "pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID", "shape"]))
    sizes, dynamic = [numbers(4, 9), numbers(4, 9)], draw(st.booleans())
    if draw(st.booleans()):
        attributes["output_padding"] = [draw(st.integers(0, s - 1)) for s in strides]
    if kind == "pads":
        attributes["pads"] = [draw(st.integers(0, min(2, k))) for k in kernel * 2]
    elif kind == "shape":
        more = attributes.get("output_padding", [0] * rank)
        most = [s * (n - 1) + (k - 1) * d + 1 + o for s, n, k, d, o in zip(strides, sizes[0], kernel, dilations, more, strict=True)]
        attributes["output_shape"] = [max(1, size - draw(st.integers(0, 4))) for size in most]
        attributes["auto_pad"] = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER"]))
        dynamic = False
    else:
        attributes["auto_pad"] = kind
    weight = pruned(rng, (m, c * groups, *kernel), draw(ZEROS), draw(st.sampled_from(PATTERNS))).swapaxes(0, 1)
    weights = {"w": np.ascontiguousarray(weight), **({"b": noise(rng, m * groups)} if draw(st.booleans()) else {})}
    nodes = [helper.make_node("ConvTranspose", ["x", *weights], ["t"], **attributes)]
    end = draw(st.sampled_from(["", "Relu", "Sigmoid", "Add"]))
    nodes += [helper.make_node(end, ["t", "t"] if end == "Add" else ["t"], ["y"])] if end else []
    batches = [draw(st.integers(1, 3)) for _ in range(2)]
    declared = ["n", c * groups, *(f"s{i}" for i in range(rank))] if dynamic else [batches[0], c * groups, *sizes[0]]
    shapes = [(n, c * groups, *size) for n, size in zip(batches, sizes, strict=True)][: 2 if dynamic else 1]
    return model_of(nodes, {"x": declared}, ["y" if end else "t"], weights), [{"x": noise(rng, *shape)} for shape in shapes]


@examples(150)
@given(transposed(), OPTIONS)
def test_transposed(case, options):
    """Results are the CPU provider's, whose sizes and padding they follow."""
    model, runs = case
    ours, theirs = owned_session(model, options), cpu_session(model)
    for feeds in runs:
        for y, expected in zip(ours.run(None, feeds), theirs.run(None, feeds), strict=True):
            assert_close(y, expected)


def test_declines_what_onnx_runtime_refuses():
    """Padding of the output by a stride or more is left to the CPU provider, which says why it is wrong."""
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2], output_padding=[2])
    model = model_of([node], {"x": [1, 3, 8]}, ["y"], {"w": np.ones((3, 4, 3), np.float32)})
    assert reasons(model) == {"output_padding is 2: 0 to 1 is supported"}
