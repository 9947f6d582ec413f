"""Activations, products and the nodes that stand for them, for tests of regions."""

import numpy as np
from onnx import helper

from onnxruntime_ep_sparse.ops import activations
from onnxruntime_ep_sparse.ops.row import MICROSOFT, ONNX
from support.making import noise, pruned
from support.promises import assert_close, cpu_session, owned_session

OPERATORS = {name: row for name, row in activations.ACTIVATIONS.items() if set(row.domains) & {*ONNX, *MICROSOFT} and name != "BiasGelu"}
"""Activations that are one node in a file, and need no bias."""


def own_numbers(row):
    """Attributes with other numbers than the defaults."""
    return {number.attribute: 1.3 * number.default for number in (row.alpha, row.beta) if isinstance(number, activations.Given)}


ACTIVATIONS = {name: own_numbers(row) for name, row in OPERATORS.items()} | {
    "Gelu tanh": {"approximate": "tanh"},
    "Selu numbers": {"alpha": 1.5, "gamma": 1.2},
    "Silu": {},
    "Hard": {"alpha": 1 / 6, "beta": 0.5},
    "erf Gelu": {},
}
"""Every activation with its attributes. An operator's name may have a word behind it. Names that are no operators stand for several nodes:
x * Sigmoid(x), x * HardSigmoid(x), and the first of `ERF_GELUS`."""

ERF_GELUS = {
    "half last": "s = Div x root2; e = Erf s; a = Add e one; m = Mul x a; y = Mul m half",
    "half before": "s = Mul x root_half; e = Erf s; a = Add one e; m = Mul half a; y = Mul m x",
    "half of x": "h = Mul x half; s = Div x root2; e = Erf s; a = Add e one; y = Mul a h",
    "by two": "s = Div x root2; e = Erf s; a = Add e one; h = Div x two; y = Mul h a",
}
"""Gelu as exporters write it. The nodes in between have names that end in `_gelu`."""

NUMBERS = {"root2": 2**0.5, "root_half": 0.5**0.5, "one": 1, "half": 0.5, "two": 2}


def nodes_of(text, x, y):
    """Nodes of a chain from the values x to y, written like `ERF_GELUS`, and the constants it reads."""
    nodes, named = [], {"x": x, "y": y}
    for line in text.split("; "):
        output, _, op, *operands = line.split()
        inputs = [named.get(name, name if name in NUMBERS else f"{name}_gelu") for name in operands]
        nodes.append(helper.make_node(op, inputs, [named.get(output, f"{output}_gelu")]))
    return nodes, {name: np.float32(NUMBERS[name]) for node in nodes for name in node.input if name in NUMBERS}


def opset_of(name):
    """The first opset from 20 on that has an activation."""
    return 24 if name == "Swish" else 20


def activation(name, x, y):
    """Nodes of an activation, and its further constants."""
    attributes = ACTIVATIONS[name]
    if name == "Clip":
        return [helper.make_node("Clip", [x, "low", "high"], [y])], {"low": np.float32(-0.4), "high": np.float32(0.7)}
    if name in ("Silu", "Hard"):
        gate = "Sigmoid" if name == "Silu" else "HardSigmoid"
        return [helper.make_node(gate, [x], ["gate"], **attributes), helper.make_node("Mul", [x, "gate"], [y])], {}
    if name == "erf Gelu":
        return nodes_of(ERF_GELUS["half last"], x, y)
    if name == "Pow":
        return [helper.make_node("Pow", [x, "exponent"], [y])], {"exponent": np.float32(3)}
    op_type = name.split()[0]
    return [helper.make_node(op_type, [x], [y], domain=OPERATORS[op_type].domains[0], **attributes)], {}


def product(kind, x, y, rng, zeros=0.8):
    """A node, its weights and the shape of its input. Sqrt behind it wants a positive sum: see `bias`."""
    if kind == "Conv":
        node = helper.make_node("Conv", [x, f"w_{y}", f"b_{y}"], [y], pads=[1] * 4)
        return node, {f"w_{y}": pruned(rng, (12, 12, 3, 3), zeros), f"b_{y}": noise(rng, 12)}
    node = helper.make_node("Gemm", [x, f"w_{y}", f"b_{y}"], [y], transB=1)
    return node, {f"w_{y}": pruned(rng, (24, 24), zeros), f"b_{y}": noise(rng, 24)}


SHAPES = {"Conv": ["n", 12, 9, 7], "Gemm": ["n", 24]}
FEEDS = {"Conv": (2, 12, 9, 7), "Gemm": (5, 24)}


def assert_like_cpu(model, feeds, options=None, regions=1):
    """One region, as close to the CPU provider as whole nets promise."""
    session = owned_session(model, options, regions=regions)
    theirs = cpu_session(model).run(None, feeds)
    for got, wanted in zip(session.run(None, feeds), theirs, strict=True):
        assert_close(got, wanted)
    return session
