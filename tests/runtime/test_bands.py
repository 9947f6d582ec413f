"""Chains of steps that run together in bands give the same bits as the steps one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxruntime_ep_sparse import pipeline
from onnxruntime_ep_sparse.runtime._program import Program
from support.kernel_sets import table_of
from support.making import examples, noise, pruned
from support.programs import EVERY_SET, graph_of

ONE_BY_ONE = 1 << 40
"""No image has so many floats."""


class Net:
    """A chain of random steps over images, from `x` on: convolutions of any window, depthwise ones, factors of channels, activations."""

    def __init__(self, rng, steps):
        self.rng, self.nodes, self.weights, self.inputs = rng, [], {}, {}
        self.n, self.shape = int(rng.integers(1, 4)), (int(rng.integers(1, 12)), int(rng.integers(8, 60)), int(rng.integers(1, 40)))
        self.inputs["x"] = ("n", *self.shape)
        self.data = [noise(rng, self.n, *self.shape)]
        self.last = "x"
        for kind in steps:
            getattr(self, kind)()
        self.nodes.append(("Relu", (self.last,), "y", (None, *self.shape), {}))

    def add(self, op, operands, shape, attributes=None):
        name = f"v{len(self.nodes)}"
        self.nodes.append((op, (self.last, *operands), name, (None, *shape), attributes or {}))
        self.last, self.shape = name, shape

    def conv(self, m, group, kernel, strides, dilations=(1, 1), pads=None, zeros=0.5):
        pads = pads or tuple(k // 2 for k in kernel) * 2
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        size = [(self.shape[1 + i] + pads[i] + pads[2 + i] - reach[i]) // strides[i] + 1 for i in range(2)]
        if min(size) < 1:
            return
        name = f"w{len(self.nodes)}"
        self.weights |= {name: pruned(self.rng, (m, self.shape[0] // group, *kernel), zeros), f"{name}b": noise(self.rng, m)}
        self.add("Conv", (name, f"{name}b"), (m, *size), {"group": group, "pads": pads, "strides": strides, "dilations": dilations})

    def window(self):
        k = int(self.rng.choice([1, 3]))
        self.conv(int(self.rng.integers(1, 24)), 1, (k, k), (int(self.rng.integers(1, 3)),) * 2)

    def dense(self):
        """Rows share their columns: tiles of whole rows where these fill vectors."""
        self.conv(int(self.rng.integers(4, 24)), 1, (3, 3), (int(self.rng.integers(1, 3)),) * 2, zeros=0)

    def pointwise(self):
        self.conv(int(self.rng.integers(1, 40)), 1, (1, 1), (1, 1))

    def depthwise(self):
        k = int(self.rng.choice([3, 5]))
        self.conv(self.shape[0], self.shape[0], (k, k), (int(self.rng.integers(1, 3)),) * 2)

    def uneven(self):
        """Windows that may be shorter than their stride, so that no output reads some rows; other padding on each side."""
        kernel, strides, dilations = (tuple(int(n) for n in self.rng.integers(1, most, 2)) for most in (4, 5, 3))
        pads = tuple(int(self.rng.integers(0, kernel[i % 2])) for i in range(4))
        group = self.shape[0] if self.rng.random() < 0.3 else 1
        self.conv(self.shape[0] if group > 1 else int(self.rng.integers(1, 24)), group, kernel, strides, dilations, pads)

    def factor(self):
        name = f"r{len(self.nodes)}"
        self.inputs[name] = ("n", self.shape[0], 1, 1)
        self.data.append(noise(self.rng, self.n, self.shape[0], 1, 1))
        self.add("Mul", (name,), self.shape)

    def tanh(self):
        self.add("Tanh", (), self.shape)


@EVERY_SET
def test_chains(isa):
    """Any chain, any number of workers and images."""
    kinds = ("window", "dense", "pointwise", "depthwise", "factor", "tanh", "uneven")
    chained = []

    @examples(30)
    @given(st.lists(st.sampled_from(kinds), min_size=2, max_size=7), st.integers(0, 2**32 - 1))
    def check(steps, seed):
        net = Net(np.random.default_rng(seed), steps)
        spec = pipeline.lower_to_spec(graph_of(net.nodes, net.inputs, net.weights), isa)
        (expected,) = Program(spec, table_of(isa), 1, far_floats=ONE_BY_ONE).run(*net.data)
        for workers in (1, 2, 3):
            program = Program(spec, table_of(isa), workers, far_floats=0)
            (y,) = program.run(*net.data)
            assert y.tobytes() == expected.tobytes()
            chained.append(sum(place.storage == "nowhere" for place in program.places(*(x.shape for x in net.data))))

    check()
    assert max(chained) >= 3


@pytest.mark.parametrize("height", [16, 57, 224])
def test_rows_that_two_items_need(height):
    """Where the items of several workers meet, each computes what it reads: a chain of windows needs ever more rows of the steps before."""
    isa = next(iter(EVERY_SET.args[1]))
    rng = np.random.default_rng(0)
    nodes, weights, last = [], {}, "x"
    for i in range(6):
        weights[f"w{i}"] = pruned(rng, (4, 1, 5, 5), 0)
        nodes.append(("Conv", (last, f"w{i}"), f"v{i}" if i < 5 else "y", (None, 4, height, 9), {"group": 4, "pads": (2,) * 4}))
        last = f"v{i}"
    spec = pipeline.lower_to_spec(graph_of(nodes, {"x": ("n", 4, height, 9)}, weights), isa)
    x = noise(rng, 1, 4, height, 9)
    (expected,) = Program(spec, table_of(isa), 1, far_floats=ONE_BY_ONE).run(x)
    for workers in range(1, 8):
        assert Program(spec, table_of(isa), workers, far_floats=0).run(x)[0].tobytes() == expected.tobytes()


@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (1, 3), (2, 3), (2, 4), (3, 4)])
@pytest.mark.parametrize("pad", [0, 1])
def test_rows_that_no_window_reads(kernel, stride, pad):
    """Images that take several turns: windows shorter than their stride leave rows out between two turns, and so do those before them."""
    isa = next(iter(EVERY_SET.args[1]))
    rng = np.random.default_rng(0)
    height, width, channels, pad = 300, 30, 40, min(pad, kernel - 1)
    size = [(d + 2 * pad - kernel) // stride + 1 for d in (height, width)]
    weights = {"w": pruned(rng, (6, channels, kernel, kernel), 0.5), "v": pruned(rng, (channels, 1, 3, 3), 0)}
    nodes = [
        ("Conv", ("x", "v"), "a", (None, channels, height, width), {"group": channels, "pads": (1,) * 4}),
        ("Tanh", ("a",), "b", (None, channels, height, width), {}),
        ("Conv", ("b", "w"), "c", (None, 6, *size), {"pads": (pad,) * 4, "strides": (stride,) * 2}),
        ("Tanh", ("c",), "y", (None, 6, *size), {}),
    ]
    spec = pipeline.lower_to_spec(graph_of(nodes, {"x": ("n", channels, height, width)}, weights), isa)
    x = noise(rng, 2, channels, height, width)
    (expected,) = Program(spec, table_of(isa), 1, far_floats=ONE_BY_ONE).run(x)
    for workers in (1, 3):
        program = Program(spec, table_of(isa), workers, far_floats=0)
        assert program.run(x)[0].tobytes() == expected.tobytes()
        assert any(place.storage == "nowhere" for place in program.places(x.shape))


@pytest.mark.parametrize(("height", "chained"), [(64, 2), (16, 1)])
def test_images_beyond_all_caches(height, chained):
    """Chains of wide images fill the cache that workers share, unless too many rows are computed twice where their items meet."""
    isa = next(iter(EVERY_SET.args[1]))
    rng = np.random.default_rng(0)
    width, channels = 179200 // height, 16
    weights = {
        "u": pruned(rng, (channels, 3, 3, 3), 0),
        "v": pruned(rng, (channels, 1, 3, 3), 0),
        "w": pruned(rng, (8, channels, 1, 1), 0.5),
    }
    nodes = [
        ("Conv", ("x", "u"), "a", (None, channels, height, width), {"pads": (1,) * 4}),
        ("Conv", ("a", "v"), "b", (None, channels, height, width), {"group": channels, "pads": (1,) * 4}),
        ("Conv", ("b", "w"), "y", (None, 8, height, width), {}),
    ]
    spec = pipeline.lower_to_spec(graph_of(nodes, {"x": ("n", 3, height, width)}, weights), isa)
    x = noise(rng, 1, 3, height, width)
    (expected,) = Program(spec, table_of(isa), 1, far_floats=ONE_BY_ONE).run(x)
    for workers in (1, 2):
        program = Program(spec, table_of(isa), workers)
        assert program.run(x)[0].tobytes() == expected.tobytes()
    assert sum(place.storage == "nowhere" for place in program.places(x.shape)) == chained
