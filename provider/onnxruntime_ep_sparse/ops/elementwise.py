"""Activations and binary operators."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.elementwise import Act, Op

from ..graph.ir import Graph, Node, shape_of
from ..program.enums import StepKind
from ..program.steps import Activation, Step

if TYPE_CHECKING:
    from ..program.builder import Builder


def _constant_floats(graph: Graph, name: str) -> NDArray[np.float32] | None:
    array = graph.constant(name)
    return array if array is not None and array.dtype == np.float32 else None


def activation_of(graph: Graph, node: Node) -> Activation | str:
    """The activation a unary node computes, or the reason why it cannot run."""
    alpha, beta = node.attributes.get("alpha"), node.attributes.get("beta")
    match node.op_type:
        case "Relu":
            return Activation(Act.CLAMP, 0.0, math.inf)
        case "Clip":
            return _clip(graph, node)
        case "LeakyRelu":
            return Activation(Act.LEAKY_RELU, _number(alpha, 0.01))
        case "HardSigmoid":
            return Activation(Act.HARD_SIGMOID, _number(alpha, 0.2), _number(beta, 0.5))
        case "Elu":
            return Activation(Act.ELU, _number(alpha, 1.0), 1.0)
        case "Selu":
            gamma = _number(node.attributes.get("gamma"), 1.0507010221481323)
            return Activation(Act.ELU, gamma * _number(alpha, 1.6732631921768188), gamma)
        case "ThresholdedRelu":
            return Activation(Act.THRESHOLDED_RELU, _number(alpha, 1.0))
        case "Gelu":
            return Activation(Act.GELU_TANH if node.attributes.get("approximate") == "tanh" else Act.GELU_ERF)
        case "QuickGelu":
            return Activation(Act.SILU, _number(alpha, 1.702))
        case "Silu":
            return Activation(Act.SILU, 1.0)
    return Activation(_SIMPLE[node.op_type])


_SIMPLE = {
    "Sigmoid": Act.SIGMOID,
    "HardSwish": Act.HARD_SWISH,
    "Tanh": Act.TANH,
    "Erf": Act.ERF,
    "Abs": Act.ABS,
    "Neg": Act.NEG,
    "Sqrt": Act.SQRT,
    "Exp": Act.EXP,
    "Softplus": Act.SOFTPLUS,
    "Softsign": Act.SOFTSIGN,
}


def _number(value, default: float) -> float:
    return default if value is None else float(value)


def _clip(graph: Graph, node: Node) -> Activation | str:
    limits = [_number(node.attributes.get("min"), -math.inf), _number(node.attributes.get("max"), math.inf)]
    for i, name in enumerate(node.inputs[1:3]):
        if name:
            array = _constant_floats(graph, name)
            if array is None or array.size != 1:
                return "min and max are not constant"
            limits[i] = float(array.reshape(-1)[0])
    if math.isnan(limits[0]) or math.isnan(limits[1]):
        return "min or max is NaN"
    # ONNX: min above max gives max everywhere, which is what clamping to low first and high last does
    return Activation(Act.CLAMP, limits[0], limits[1])


def _activation_can_run(graph: Graph, node: Node) -> str | None:
    activation = activation_of(graph, node)
    return activation if isinstance(activation, str) else None


def _activation_lower(builder: Builder, node: Node) -> None:
    activation = activation_of(builder.graph, node)
    assert isinstance(activation, Activation)
    builder.activate(node, activation)


BINARY = {"Add": Op.ADD, "Sub": Op.SUB, "Mul": Op.MUL, "Div": Op.DIV, "Max": Op.MAX, "Min": Op.MIN}


def _binary_can_run(graph: Graph, node: Node) -> str | None:
    if len(node.inputs) != 2:
        return f"{len(node.inputs)} operands: two are supported"
    if all(graph.is_constant(name) for name in node.inputs):
        return "both operands are constant"
    return None


def _binary_lower(builder: Builder, node: Node) -> None:
    builder.binary(node, BINARY[node.op_type])


def _square_can_run(graph: Graph, node: Node) -> str | None:
    exponent = graph.constant(node.inputs[1])
    if exponent is None or exponent.size != 1 or exponent.item() != 2:
        return "exponents other than 2 are not supported"
    return None if exponent.ndim <= len(shape_of(graph, node.inputs[0])) else "the exponent has more dimensions than the base"


def _square_lower(builder: Builder, node: Node) -> None:
    x = builder.value(node.inputs[0])
    builder.step(Step(StepKind.BINARY, x, builder.value(node.outputs[0]), x, op=Op.MUL))
