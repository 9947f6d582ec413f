"""Depthwise convolutions called from numpy, alone and in bands with the pointwise product after them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxruntime_ep_sparse import pipeline
from onnxruntime_ep_sparse.program.enums import StepKind
from onnxruntime_ep_sparse.runtime._program import Program
from support.kernel_sets import table_of
from support.making import examples, noise, pruned
from support.programs import EVERY_SET, Conv, graph_of, program_of

DEPTHWISE = {
    "large": (Conv(24, 24, (3, 3), group=24, zeros=0, pads=(1, 1, 1, 1)), (2, 24, 30, 300)),
    "5x5": (Conv(24, 24, (5, 5), group=24, zeros=0, pads=(2, 2, 2, 2)), (2, 24, 14, 14)),
    "stride": (Conv(24, 24, (5, 5), group=24, zeros=0, strides=(2, 2), pads=(2, 2, 2, 2)), (2, 24, 31, 33)),
    "narrow": (Conv(40, 40, (3, 3), group=40, zeros=0, pads=(1,) * 4, relu=True), (3, 40, 7, 7)),
    "narrow, stride": (Conv(70, 70, (5, 5), group=70, strides=(2, 2), pads=(2,) * 4), (2, 70, 14, 14)),
    "one column": (Conv(7, 7, (3, 3), group=7, pads=(1,) * 4), (1, 7, 40, 1)),
    "one pixel": (Conv(7, 7, (3, 3), group=7, pads=(1,) * 4), (3, 7, 1, 1)),
    "smaller than the window": (Conv(7, 7, (5, 5), group=7, pads=(2,) * 4), (3, 7, 2, 3)),
    "padding beyond a vector": (Conv(3, 3, (3, 3), group=3, pads=(5, 19, 6, 40)), (1, 3, 6, 9)),
    "no padding": (Conv(3, 3, (3, 3), group=3), (1, 3, 60, 90)),
    "uneven": (Conv(9, 9, (2, 4), group=9, strides=(3, 1), dilations=(2, 3), pads=(0, 2, 3, 1)), (2, 9, 17, 43)),
    "stride 2, any kernel": (Conv(9, 9, (3, 7), group=9, strides=(1, 2), dilations=(2, 1), pads=(2, 3, 1, 2)), (2, 9, 17, 63)),
    "stride 3": (Conv(9, 9, (3, 3), group=9, strides=(3, 3), pads=(1, 2, 1, 0)), (2, 9, 17, 63)),
    "far dilation": (Conv(6, 6, (7, 7), group=6, zeros=0, dilations=(1, 900), pads=(3, 2700) * 2), (1, 6, 9, 3000)),
    "31x31": (Conv(20, 20, (31, 31), group=20, zeros=0, pads=(15,) * 4), (1, 20, 14, 15)),
    "7x7, stride 2, two outputs a channel": (Conv(36, 18, (7, 7), group=18, zeros=0, strides=(2, 2), pads=(3,) * 4), (2, 18, 28, 29)),
    "dilated": (Conv(20, 20, (3, 3), group=20, zeros=0, dilations=(4, 4), pads=(4,) * 4), (2, 20, 61, 70)),
    "two outputs a channel": (Conv(24, 12, (3, 3), group=12, zeros=0, pads=(1,) * 4), (2, 12, 9, 20)),
    "one dimension": (Conv(12, 12, (9,), group=12, zeros=0, pads=(4, 4)), (2, 12, 100)),
    "three dimensions": (Conv(5, 5, (3, 3, 3), group=5, zeros=0, pads=(1,) * 6), (2, 5, 6, 7, 8)),
    "depth 1 of three": (Conv(5, 5, (1, 3, 3), group=5, zeros=0, strides=(2, 1, 1), pads=(1, 1, 1) * 2), (2, 5, 6, 17, 18)),
}


@EVERY_SET
@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise(isa, name):
    """One channel an output: the promised error, the same bits for any number of workers, nothing seen of the channels beside."""
    conv, shape = DEPTHWISE[name]
    spec = pipeline.lower_to_spec(conv.graph, isa)
    assert spec.steps[0].kind == StepKind.DEPTHWISE
    x = noise(np.random.default_rng(1), *shape)
    y = conv.check(Program(spec, table_of(isa), 1), x)
    for workers in range(2, 6):
        assert Program(spec, table_of(isa), workers).run(x)[0].tobytes() == y.tobytes()
    x[:, 1] = np.nan
    (poisoned,) = Program(spec, table_of(isa), 2).run(x)
    others = np.arange(y.shape[1]) * shape[1] // y.shape[1] != 1
    assert poisoned[:, others].tobytes() == y[:, others].tobytes()
    assert np.isnan(poisoned[:, ~others]).any()


@st.composite
def windows(draw):
    """(convolution, image): any rank, kernel, stride, dilation and pads; one or some outputs a channel; also images below the window."""
    rank, channels, many = (
        draw(st.sampled_from([1, 2, 2, 2, 3])),
        draw(st.sampled_from([2, 5, 16, 17, 40])),
        draw(st.sampled_from([1, 1, 2, 3])),
    )
    large = 12 if rank < 3 else 4
    kernel = tuple(draw(st.one_of(st.just(3), st.integers(1, large))) for _ in range(rank))
    strides, dilations = (tuple(draw(st.sampled_from(sizes)) for _ in range(rank)) for sizes in ([1, 1, 2, 2, 3, 5], [1, 1, 1, 2, 3, 7]))
    if draw(st.booleans()):
        kernel, strides, dilations = ((sizes[0],) * rank for sizes in (kernel, strides, dilations))
    pads = tuple(draw(st.integers(0, 2 * k)) for k in kernel * 2)
    reach = [(k - 1) * d + 1 - a - b for k, d, a, b in zip(kernel, dilations, pads, pads[rank:], strict=False)]
    image = [max(1, n) + draw(st.integers(0, 40 if rank < 3 else 6)) for n in reach]
    conv = Conv(channels * many, channels, kernel, zeros=0, group=channels, strides=strides, dilations=dilations, pads=pads)
    return conv, (draw(st.integers(1, 2)), channels, *image)


@EVERY_SET
def test_any_window(isa):
    """Every window gives the promised error, and the same bits for any number of workers and of images beside each other."""

    @examples(120)
    @given(windows())
    def check(case):
        conv, shape = case
        spec = pipeline.lower_to_spec(conv.graph, isa)
        assert spec.steps[0].kind == StepKind.DEPTHWISE
        x = noise(np.random.default_rng(1), *shape)
        y = conv.check(Program(spec, table_of(isa), 1), x)
        assert Program(spec, table_of(isa), 3).run(x)[0].tobytes() == y.tobytes()
        assert Program(spec, table_of(isa), 1).run(x[:1])[0].tobytes() == y[:1].tobytes()

    check()


FUSED_BANDS = {
    "bands": ((2, 24, 30, 23), {}),
    "rows of four": ((1, 40, 22, 70), {}),
    "one band an image": ((4, 9, 7, 7), {}),
    "too low": ((4, 9, 3, 50), {}),
    "stride": ((1, 24, 57, 40), {"strides": (2, 2)}),
    "any window": ((1, 24, 25, 40), {"dilations": (2, 1)}),
    "tanh": ((1, 24, 30, 23), {"activation": "Tanh"}),
    "residual": ((1, 24, 30, 23), {"residual": True}),
    "deep and wide": ((1, 600, 14, 14), {"m": 700}),
}


@EVERY_SET
@pytest.mark.parametrize("name", FUSED_BANDS)
def test_depthwise_with_pointwise(isa, name):
    """A depthwise convolution and the pointwise one after it give the same bits together as one by one, for any number of workers."""
    (n, c, h, w), case = FUSED_BANDS[name]
    rng = np.random.default_rng(4)
    m, stride, dilation = case.get("m", 30), case.get("strides", (1, 1)), case.get("dilations", (1, 1))
    out = [(d + 2 - 2 * k - 1) // s + 1 for d, k, s in zip((h, w), dilation, stride, strict=True)]
    window = {"group": c, "pads": (1, 1, 1, 1), "strides": stride, "dilations": dilation}
    nodes = [
        ("Conv", ("x", "dw", "db"), "d", (None, c, *out), window),
        (case.get("activation", "Relu"), ("d",), "a", (None, c, *out), {}),
        ("Conv", ("a", "pw", "pb"), "p", (None, m, *out), {}),
    ]
    inputs, last = {"x": ("n", c, h, w)}, "p"
    if "residual" in case:
        inputs["r"], last = ("n", m, *out), "s"
        nodes.append(("Add", ("p", "r"), "s", ("n", m, *out), {}))
    nodes.append(("Relu", (last,), "y", ("n", m, *out), {}))
    weights = {"dw": pruned(rng, (c, 1, 3, 3), 0), "db": noise(rng, c), "pw": pruned(rng, (m, c, 1, 1), 0.8), "pb": noise(rng, m)}
    data = [noise(rng, n, *shape[1:]) for shape in inputs.values()]
    # where the graph gives away what is between them, each step runs on its own
    expected = program_of(graph_of(nodes, inputs, weights, ("y", "a")), isa).run(*data)[0]
    for workers in (1, 2, 3):
        (y,) = program_of(graph_of(nodes, inputs, weights), isa, workers).run(*data)
        assert y.tobytes() == expected.tobytes()
    exact = Conv(c, c, (3, 3), **window)
    exact.weight, exact.bias = weights["dw"], weights["db"]
    between = np.tanh(exact.exact(data[0])[0]) if "activation" in case else np.maximum(exact.exact(data[0])[0], 0)
    final = np.einsum("mc,nchw->nmhw", weights["pw"][:, :, 0, 0].astype(np.float64), between) + weights["pb"][:, None, None]
    final = np.maximum(final + data[1] if "residual" in case else final, 0)
    assert np.abs(y - final).max() <= 1e-5 * np.abs(final).max()
