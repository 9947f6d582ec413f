"""Differential test: inputs of other sizes than their names say broadcast as on the CPU provider, or both refuse them.

The CPU provider's own optimisations trust names too: it reuses memory and adds residuals within convolutions. They are off here. What ONNX
Runtime does before any provider sees the graph, such as making a Gemm of MatMul and Add, stays on.
"""

import itertools

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from onnxruntime.capi import onnxruntime_pybind11_state as states

import onnxruntime_ep_sparse as sparse
from support.making import examples, model_of, noise, pruned
from support.promises import assert_close, make_session, owned_session, session_options

REFUSALS = (states.Fail, states.InvalidArgument, states.RuntimeException, states.EPFail)
NAMES = ["a", "b", "c", "d"]
KINDS = ["MatMul", "left", "Gemm", "Conv", "depthwise"]
"""Products of a chain; `left` is a MatMul whose constant operand is the left one."""


class Products:
    """A random chain of products of one kind, with operators between them that broadcast, and inputs declared by names, or not at all."""

    def __init__(self, kind, seed):
        self.kind, self.rng = kind, np.random.default_rng(seed)
        self.features = self.choice(1, 3, 4, 8)
        self.rank = 2 if kind == "Gemm" else self.choice(3, 4) if kind in ("Conv", "depthwise") else self.choice(2, 3, 4)
        self.axis = {"MatMul": self.rank - 1, "Gemm": 1, "left": self.rank - 2}.get(kind, 1)
        declared = self.shape([NAMES[i] if self.chance(0.8) else None for i in range(self.rank)])
        if kind in ("Conv", "depthwise") and self.chance(0.6):
            declared[2:] = [5] * (self.rank - 2)
        self.inputs = {"x": declared, **{f"r{i}": list(declared) for i in range(self.integer(1, 2))}}
        if self.chance(0.2):
            self.inputs["q"] = self.shape([self.choice(*NAMES[:2]) for _ in range(self.rank)])[self.integer(0, self.rank - 1) :]
        self.nodes, self.weights, self.values = [], {}, list(self.inputs)
        y = "x"
        for _ in range(self.integer(1, 3)):
            y = self.product(y if self.chance(0.7) else self.choice("x", "r0"))
            for _ in range(self.integer(0, 2)):
                y = self.between(y)
        if self.chance(0.25):
            target = self.choice([-1, self.features], [-1, 2 * self.features], [0, -1], [-1])
            y = self.node("Reshape", [y, self.weight(np.array(target))])
        self.output = y

    def chance(self, share):
        return self.rng.random() < share

    def integer(self, least, most):
        return int(self.rng.integers(least, most + 1))

    def choice(self, *options):
        return options[self.integer(0, len(options) - 1)]

    def shape(self, sizes):
        """These sizes, but as many features as all products have."""
        return [self.features if axis == self.axis else size for axis, size in enumerate(sizes)]

    def weight(self, array):
        self.weights[name := f"w{len(self.weights)}"] = array
        return name

    def node(self, op, inputs, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [name := f"v{len(self.nodes)}"], **attributes))
        self.values.append(name)
        return name

    def product(self, x):
        f = self.features
        if self.kind in ("MatMul", "left"):
            operands = [x, self.weight(pruned(self.rng, (f, f), 0.4))]
            return self.node("MatMul", operands if self.kind == "MatMul" else operands[::-1])
        if self.kind == "Gemm":
            addends = [[], [self.choice(*self.values)], [self.weight(noise(self.rng, *self.choice([f], [1, f], [3, f], [2, 1], [1], [])))]]
            return self.node("Gemm", [x, self.weight(pruned(self.rng, (f, f), 0.4)), *self.choice(*addends)], transB=self.integer(0, 1))
        group, kernel = f if self.kind == "depthwise" else 1, self.choice(1, 3)
        weight = self.weight(pruned(self.rng, (f, f // group, *[kernel] * (self.rank - 2)), 0.4))
        return self.node("Conv", [x, weight], group=group, pads=[kernel // 2] * 2 * (self.rank - 2))

    def between(self, x):
        op = self.choice("Add", "Add", "Add", "Mul", "Relu", "constant")
        if op == "Relu":
            return self.node(op, [x])
        if op == "constant":
            sizes = self.shape([self.choice(1, 1, 2, 3) for _ in range(self.rank)])[self.integer(0, self.rank - 1) :]
            return self.node("Add", [x, self.weight(noise(self.rng, *sizes))])
        operands = [x, self.choice(*self.values)]
        return self.node(op, operands if self.chance(0.5) else operands[::-1])

    def feeds(self):
        """Inputs whose sizes are mostly those of the names, 1, or a multiple."""
        sizes = {name: self.choice(1, 1, 2, 3, 4) for name in NAMES}
        wild = self.chance(0.15)

        def size(axis, d):
            if isinstance(d, int):
                return d
            usual = sizes[d or NAMES[axis]]
            return self.choice(*range(1, 5)) if wild else self.choice(usual, usual, 1, usual)

        return {name: noise(self.rng, *itertools.starmap(size, enumerate(shape))) for name, shape in self.inputs.items()}


def plain_session(model):
    """The CPU provider without optimisations of its own."""
    options = session_options(1)
    options.enable_mem_reuse = False
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@examples(200)
@given(seed=st.integers(0, 2**32 - 1), threads=st.sampled_from([1, 3]))
def test_equal_to_the_cpu_provider(kind, seed, threads):
    """Residuals, Gemm's C, constants, batches that may run in slices: whatever the sizes are, the CPU provider's shapes and values.

    Every node is ours, but for a Gemm whose C cannot fit whatever the sizes are: the CPU provider refuses to run it.
    """
    case = Products(kind, seed)
    model = model_of(case.nodes, case.inputs, [case.output], case.weights, opset=17)
    try:
        theirs = plain_session(model)
    except REFUSALS:  # a Reshape that fits no size
        with pytest.raises(REFUSALS):
            owned_session(model)
        return
    ours = make_session(model, threads=threads)
    declined = {decision.code for decision in sparse.explain(ours) if not decision.taken}
    assert not declined or (kind == "Gemm" and {"mismatched"} <= declined <= {"mismatched", "not-adjacent"})
    for _ in range(6):
        feeds = case.feeds()
        try:
            expected = theirs.run(None, feeds)[0]
        except REFUSALS:
            with pytest.raises(REFUSALS):
                ours.run(None, feeds)
            continue
        assert_close(ours.run(None, feeds)[0], expected)
