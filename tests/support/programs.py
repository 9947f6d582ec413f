"""Compiled programs called from numpy: graphs, programs for any set of kernels, convolutions with their exact results."""

import numpy as np
import pytest

from onnxruntime_ep_sparse import pipeline
from onnxruntime_ep_sparse.graph.ir import FLOAT, INT64, Graph, Node, Value
from onnxruntime_ep_sparse.runtime._program import Program
from support.kernel_sets import SETS, table_of
from support.making import noise, pruned
from support.promises import EPS

EVERY_SET = pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)


def graph_of(nodes, inputs, constants=None, outputs=("y",)):
    """A graph: `nodes` are (operator, inputs, output, shape of the output, attributes)."""
    constants = constants or {}
    values = {name: Value(name, FLOAT, shape) for name, shape in inputs.items()}
    values |= {name: Value(name, FLOAT if a.dtype == np.float32 else INT64, a.shape) for name, a in constants.items()}
    values |= {output: Value(output, FLOAT, shape) for _, _, output, shape, _ in nodes}
    made = [Node(i, "", op, "", 0, tuple(x), (y,), attributes) for i, (op, x, y, _, attributes) in enumerate(nodes)]
    return Graph(tuple(made), values, frozenset(constants), constants.__getitem__, tuple(inputs), tuple(outputs))


def program_of(graph, isa, workers=1):
    """Lower for any set of kernels, those outside the package too; steps run in bands where they can."""
    return Program(pipeline.lower_to_spec(graph, isa), table_of(isa), workers, far_floats=0)


class Conv:
    """A convolution of random pruned weights, and the same in float64. `known`: whether the graph tells the image's size."""

    def __init__(self, m, c, kernel, *, zeros=0.8, group=1, known=(), seed=0, relu=False, pattern="unstructured", **attributes):
        rng = np.random.default_rng(seed)
        rank = len(kernel)
        self.weight, self.bias = pruned(rng, (m, c // group, *kernel), zeros, pattern), noise(rng, m)
        self.attributes = {"group": group, **attributes}
        self.relu = relu
        self.c = c
        shape = ("n", c, *(known or (f"d{i}" for i in range(rank))))
        nodes = [("Conv", ("x", "w", "b"), "y" if not relu else "p", (None, m, *[None] * rank), self.attributes)]
        if relu:
            nodes.append(("Relu", ("p",), "y", nodes[0][3], {}))
        self.graph = graph_of(nodes, {"x": shape}, {"w": self.weight, "b": self.bias})

    def exact(self, x):
        """y and |W||x| + |b| in float64: tap by tap."""
        kernel, rank = self.weight.shape[2:], self.weight.ndim - 2
        stride, dilation = (self.attributes.get(name, (1,) * rank) for name in ("strides", "dilations"))
        pads = self.attributes.get("pads", (0,) * 2 * rank)
        x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
        size = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(x.shape[2:], kernel, dilation, stride, strict=True)]
        group = self.attributes["group"]
        weight = self.weight.astype(np.float64).reshape(group, -1, *self.weight.shape[1:])
        x = x.reshape(len(x), group, -1, *x.shape[2:])
        results = []
        for w, values, bias in ((weight, x, self.bias), (np.abs(weight), np.abs(x), np.abs(self.bias))):
            y = np.zeros((len(x), group, weight.shape[1], *size))
            for tap in np.ndindex(*kernel):
                ends = [slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilation, size, stride, strict=True)]
                y += np.einsum("gmc,ngc...->ngm...", w[(..., *tap)], values[(..., *ends)])
            results.append(y.reshape(len(x), -1, *size) + bias.reshape(-1, *[1] * rank))
        return np.maximum(results[0], 0) if self.relu else results[0], results[1]

    def check(self, program, x):
        """Within the promised error."""
        (y,) = program.run(x)
        expected, size = self.exact(x)
        assert y.shape == expected.shape
        assert (np.abs(y - expected) <= 4 * EPS * np.sqrt(self.weight[0].size) * size).all()
        return y
