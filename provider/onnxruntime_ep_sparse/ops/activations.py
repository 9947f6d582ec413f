"""Activations: one row per operator, from which its row in the table of operators and its use in recurrent nodes follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial, reduce

import numpy as np
from numpy.typing import NDArray

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels.call import activate
from onnxruntime_ep_sparse_kernels.elementwise import Act

from .. import reasons
from ..graph.ir import Graph, Node, attribute_of, input_of, number_of, shape_of
from ..program.builder import Builder
from ..program.steps import Activation
from ..reasons import Finding
from . import costs
from .channels import ChannelPlan, Flow
from .costs import Amounts, Estimate, Setting
from .row import FUSED, MICROSOFT, ONNX, OpRow, can_run_if


@dataclass(frozen=True, slots=True)
class Given:
    """A number that an attribute of the node gives, with ONNX's default; NaN if there is none."""

    attribute: str
    default: float = math.nan


class InRecurrent(Enum):
    """Whether LSTM, GRU and RNN can name an activation."""

    NO = "no"
    YES = "yes"
    WITH_NUMBERS = "only with its numbers given, because the defaults of ONNX and ONNX Runtime differ"


@dataclass(frozen=True, slots=True)
class ActivationRow:
    """One activation: the kernels' function with its two numbers, or `of`, which finds them for a node.

    `domains` is empty where only recurrent nodes know the activation. `bounded` says that every number gives a result from 0
    to 1, so that the node may scale a channel of zeros. `rate` names what it takes per element (`ops/rates.py`), and `parameters` are
    those of `OpRow`.
    """

    op_type: str
    act: Act
    alpha: float | Given = 0.0
    beta: float | Given = 0.0
    note: str = ""
    domains: tuple[str, ...] = ONNX
    in_recurrent: InRecurrent = InRecurrent.NO
    bounded: bool = False
    rate: str = "exp"
    of: Callable[[Graph, Node], Activation | Finding] | None = None
    parameters: tuple[int, ...] = ()


def activation_of(graph: Graph, node: Node) -> Activation | Finding:
    """Return the function that an activation node computes, or the reason why it cannot run."""
    row = ACTIVATIONS[node.op_type]
    if row.of is not None:
        return row.of(graph, node)
    return Activation(row.act, _number(node, row.alpha), _number(node, row.beta))


def _number(node: Node, number: float | Given) -> float:
    return number_of(node, number.attribute, number.default) if isinstance(number, Given) else number


def _clip(graph: Graph, node: Node) -> Activation | Finding:
    limits = {"min": -math.inf, "max": math.inf}
    for name, operand in zip(limits, (*node.inputs[1:], "", ""), strict=False):
        limits[name] = number_of(node, name, limits[name])
        if operand:
            array = graph.constant(operand)
            if array is None or array.dtype != np.float32 or array.size != 1 or array.ndim > 1:
                return reasons.PARAMETER_NOT_CONSTANT(name=name)
            limits[name] = float(array.reshape(-1)[0])
        if math.isnan(limits[name]):
            return reasons.PARAMETER_IS_NAN(name=name)
    # ONNX: min above max gives max everywhere, as does clamping to low first and high last
    return Activation(Act.CLAMP, limits["min"], limits["max"])


def _gelu(graph: Graph, node: Node) -> Activation | Finding:
    approximate = attribute_of(node, "approximate", "none")
    act = {"none": Act.GELU_ERF, "tanh": Act.GELU_TANH}.get(approximate)
    return reasons.UNSUPPORTED_ATTRIBUTE(name="approximate", value=approximate) if act is None else Activation(act)


BIASED = {"BiasGelu": Act.GELU_ERF, "FastGelu": Act.GELU_TANH}
"""Activations of ONNX Runtime that add a bias before, if they have a second input."""


def _biased(graph: Graph, node: Node) -> Activation | Finding:
    bias, shape = _bias_of(node), shape_of(graph, node.inputs[0])
    if bias and not graph.is_constant(bias):
        return reasons.PARAMETER_NOT_CONSTANT(name="bias")
    if bias and (not shape or shape_of(graph, bias) != shape[-1:]):
        return reasons.MISMATCHED(what="input bias", other="the last dimension")
    return Activation(BIASED[node.op_type])


MOST_POWER = 8
"""Exponents of Pow are integers up to this, either way, or 0.5."""
POWERS = f"0.5 or a constant integer from -{MOST_POWER} to {MOST_POWER}"


def _power(graph: Graph, node: Node) -> Activation | Finding:
    exponent = graph.constant(node.inputs[1])
    if exponent is None or exponent.size != 1 or exponent.ndim > len(shape_of(graph, node.inputs[0])):
        return reasons.EXPONENT(supported=POWERS)
    n = float(exponent.reshape(()))
    if n == 0.5:
        return Activation(Act.SQRT)
    return Activation(Act.POWER, n) if n % 1 == 0 and abs(n) <= MOST_POWER else reasons.EXPONENT(supported=POWERS)


def _celu(graph: Graph, node: Node) -> Activation | Finding:
    alpha = number_of(node, "alpha", 1.0)
    if not 0 < alpha < math.inf or 1 / alpha > MOST_INVERSE:
        return reasons.UNSUPPORTED_ATTRIBUTE(name="alpha", value=alpha)
    return Activation(Act.CELU, alpha, 1 / alpha)


MOST_INVERSE = 1e30
"""At most this for the inverse of Celu's alpha, which is a float32."""


def _selu(graph: Graph, node: Node) -> Activation:
    gamma = number_of(node, "gamma", 1.0507010221481323)
    return Activation(Act.ELU, gamma * number_of(node, "alpha", 1.6732631921768188), gamma)


ACTIVATIONS: dict[str, ActivationRow] = {
    row.op_type: row
    for row in (
        ActivationRow("Relu", Act.CLAMP, 0.0, math.inf, in_recurrent=InRecurrent.YES, rate="clamp"),
        ActivationRow("LeakyRelu", Act.LEAKY_RELU, Given("alpha", 0.01), in_recurrent=InRecurrent.YES, rate="clamp"),
        ActivationRow("ThresholdedRelu", Act.THRESHOLDED_RELU, Given("alpha", 1.0), in_recurrent=InRecurrent.WITH_NUMBERS, rate="clamp"),
        ActivationRow("Elu", Act.ELU, Given("alpha", 1.0), 1.0, in_recurrent=InRecurrent.YES),
        ActivationRow("Selu", Act.ELU, of=_selu),
        ActivationRow("Softplus", Act.SOFTPLUS, in_recurrent=InRecurrent.YES),
        ActivationRow("Softsign", Act.SOFTSIGN, in_recurrent=InRecurrent.YES),
        ActivationRow("Sigmoid", Act.SIGMOID, in_recurrent=InRecurrent.YES, bounded=True),
        ActivationRow(
            "HardSigmoid",
            Act.HARD_SIGMOID,
            Given("alpha", 0.2),
            Given("beta", 0.5),
            in_recurrent=InRecurrent.YES,
            bounded=True,
            rate="clamp",
        ),
        ActivationRow("HardSwish", Act.HARD_SWISH, rate="hard_swish"),
        ActivationRow("Tanh", Act.TANH, in_recurrent=InRecurrent.YES),
        ActivationRow("ScaledTanh", Act.SCALED_TANH, Given("alpha"), Given("beta"), "", (), InRecurrent.WITH_NUMBERS),
        ActivationRow("Affine", Act.AFFINE, Given("alpha"), Given("beta"), "", (), InRecurrent.WITH_NUMBERS, rate="clamp"),
        ActivationRow("Erf", Act.ERF, rate="erf"),
        ActivationRow("Abs", Act.ABS, rate="clamp"),
        ActivationRow("Neg", Act.NEG, rate="clamp"),
        ActivationRow("Sqrt", Act.SQRT, rate="clamp"),
        ActivationRow("Exp", Act.EXP),
        *(ActivationRow(name, act, rate="erf") for name, act in (("Log", Act.LOG), ("Sin", Act.SIN), ("Cos", Act.COS))),
        ActivationRow("QuickGelu", Act.SILU, Given("alpha", 1.702), domains=MICROSOFT, rate="silu"),
        ActivationRow("Silu", Act.SILU, 1.0, note="x * sigmoid(x)", domains=(FUSED,), rate="silu"),
        ActivationRow("Swish", Act.SILU, Given("alpha", 1.0), rate="silu"),
        ActivationRow("Mish", Act.MISH, rate="silu"),
        ActivationRow("Celu", Act.CELU, note="alpha above 0", of=_celu),
        ActivationRow("Reciprocal", Act.POWER, -1.0, rate="clamp"),
        ActivationRow("Pow", Act.POWER, note=POWERS, of=_power, rate="added", parameters=(1,)),
        ActivationRow("Clip", Act.CLAMP, note="constant min and max", of=_clip, rate="clamp"),
        *(ActivationRow(name, act, note="constant bias", domains=MICROSOFT, of=_biased, rate="erf") for name, act in BIASED.items()),
        ActivationRow("Gelu", Act.GELU_ERF, note="erf and tanh forms", domains=(*ONNX, *MICROSOFT), of=_gelu, rate="erf"),
    )
}
"""Every activation, by operator."""

RECURRENT = {name.lower(): row for name, row in ACTIVATIONS.items() if row.in_recurrent is not InRecurrent.NO}
"""Those of recurrent nodes by ONNX's names in lower case: ONNX Runtime ignores case."""


IN_CONV = {
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "LeakyRelu": ("alpha",),
    "Clip": ("min", "max"),
    "HardSigmoid": ("alpha", "beta"),
    "HardSwish": (),
}
"""The activations of a FusedConv, with the names of its `activation_params` in their order."""
UNCHANGED = "Clip"
"""The activation of a FusedConv without one: it clamps nothing without bounds."""
IN_GEMM = ("Relu", "Tanh", "Sigmoid", "LeakyRelu", "Elu", "HardSigmoid", "Softplus", "Softsign", "Selu", "ThresholdedRelu")
"""The activations of a FusedGemm; their attributes begin with `activation_`."""


def work_within(op_type: str, elements: int) -> tuple[Amounts, Amounts]:
    """Return the work of an activation within a product of so many results, ONNX Runtime's and ours."""
    return costs.activation_work(ACTIVATIONS[op_type].rate, elements, free=op_type == "Relu")


def recurrent_activation(name: str, alphas: Iterator[float], betas: Iterator[float]) -> Activation | Finding:
    """Return an activation of a recurrent node, or the reason why it cannot run.

    Numbers are taken from `alphas` and `betas` only if the activation has them, in order, as in ONNX Runtime.
    """
    row = RECURRENT.get(name.lower())
    if row is None:
        return reasons.UNSUPPORTED_ATTRIBUTE(name="activations", value=name)
    numbers = []
    for number, given in ((row.alpha, alphas), (row.beta, betas)):
        if isinstance(number, Given):
            found = next(given, None if row.in_recurrent is InRecurrent.WITH_NUMBERS else number.default)
            if found is None or math.isnan(found):
                return reasons.ACTIVATION_DEFAULT(name=row.op_type)
            numbers.append(found)
        else:
            numbers.append(number)
    return Activation(row.act, *numbers)


def is_bounded(node: Node) -> bool:
    """Return whether a node is an activation with a bounded result."""
    row = ACTIVATIONS.get(node.op_type)
    return row is not None and row.bounded


def _lower(builder: Builder, node: Node) -> None:
    activation = activation_of(builder.graph, node)
    assert isinstance(activation, Activation)
    builder.activate(node, activation, _bias_of(node))


def _bias_of(node: Node) -> str:
    """Return the name of what is added before an activation, "" if there is nothing."""
    return input_of(node, 1) if node.op_type in BIASED else ""


def activated(value__c: NDArray[np.float32], activation: Activation) -> NDArray[np.float32]:
    """Return what an activation makes of some numbers."""
    return activate(kernels.table(kernels.available_isas()[0]), value__c, activation.act, activation.alpha, activation.beta)


def _channels(flow: Flow, node: Node) -> ChannelPlan | None:
    x = flow.channels.get(node.inputs[0])
    activation = activation_of(flow.graph, node)
    if x is None or not isinstance(activation, Activation):
        return None
    if _bias_of(node):
        bias__c = flow.load(_bias_of(node))
        if x.axis != flow.rank(node.inputs[0]) - 1 or bias__c.shape != x.known__c.shape:
            return None
        value__c = activated(x.value__c + bias__c, activation)
        return flow.same(node, node.inputs[0], x.known__c, value__c, sliced=((1, 0, node.outputs[0]),))
    return flow.same(node, node.inputs[0], x.known__c, activated(x.value__c, activation))


INLINED = {"Mish": ("exp", "exp", "added")}
"""Activations that ONNX Runtime has no kernel for, with the rates of the nodes that it runs in their place: Softplus, Tanh and Mul."""


def _estimate(rate: str, setting: Setting, node: Node) -> Estimate:
    estimate = costs.activation(setting, node, rate, free=node.op_type == "Relu")
    if node.op_type not in INLINED:
        return estimate
    elements = math.prod(setting.sizes(node.outputs[0]))
    works = [{"node": 1, **costs.moved(name, elements)} for name in INLINED[node.op_type]]
    return replace(estimate, ort=reduce(costs.combined, works))


ROWS = tuple(
    OpRow(
        row.op_type,
        "activation",
        can_run_if(activation_of),
        _lower,
        row.note,
        row.domains,
        parameters=row.parameters,
        channels=_channels,
        estimate=partial(_estimate, row.rate),
        blocked=row.rate in ("clamp", "hard_swish"),
    )
    for row in ACTIVATIONS.values()
    if row.domains
)
