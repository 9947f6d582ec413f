"""Products with an activation, and more, in one node, as files hold them that ONNX Runtime has saved optimized."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from .. import reasons
from ..graph.ir import Graph, Node, attribute_of, input_of, shape_of
from ..program.builder import Builder, may_have_one_shape
from ..program.steps import Activation
from ..reasons import Finding
from . import matrix, windows
from .activations import ACTIVATIONS, activated, activation_of
from .channels import ChannelPlan, Flow
from .costs import Estimate, Setting, activation_work, combined
from .row import MICROSOFT, OpRow

CONV_PARAMETERS = {
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "LeakyRelu": ("alpha",),
    "Clip": ("min", "max"),
    "HardSigmoid": ("alpha", "beta"),
}
"""The activations of a FusedConv, with the names of its `activation_params` in their order."""
GEMM_ACTIVATIONS = ("Relu", "Tanh", "Sigmoid", "LeakyRelu", "Elu", "HardSigmoid", "Softplus", "Softsign", "Selu", "ThresholdedRelu")
"""The activations of a FusedGemm; their attributes begin with `activation_`."""
Of = Callable[[Graph, Node], Node | Finding]


def _unknown(name: str) -> Finding:
    return reasons.UNSUPPORTED_ATTRIBUTE(name="activation", value=name)


def _conv_activation(graph: Graph, node: Node) -> Node | Finding:
    """Return the activation of a FusedConv as a node of its own, or the reason why it cannot run."""
    name, numbers = attribute_of(node, "activation", ""), attribute_of(node, "activation_params", ())
    if name not in CONV_PARAMETERS:
        return _unknown(name)
    if len(numbers) != len(CONV_PARAMETERS[name]):
        return reasons.MISMATCHED(what=f"activation_params of {len(numbers)} numbers", other=name)
    return replace(node, op_type=name, domain="", inputs=node.outputs, attributes=dict(zip(CONV_PARAMETERS[name], numbers, strict=True)))


def _gemm_activation(graph: Graph, node: Node) -> Node | Finding:
    """Return the activation of a FusedGemm as a node of its own, or the reason why it cannot run."""
    name = attribute_of(node, "activation", "")
    if name not in GEMM_ACTIVATIONS:
        return _unknown(name)
    prefix = "activation_"
    numbers = {key.removeprefix(prefix): value for key, value in node.attributes.items() if key.startswith(prefix)}
    return replace(node, op_type=name, domain="", inputs=node.outputs, attributes=numbers)


def _can_run(plain: Callable[[Graph, Node], Finding | None], of: Of, graph: Graph, node: Node) -> Finding | None:
    """Return None if the product and its activation can run, else the reason."""
    finding = plain(graph, node)
    if finding is not None:
        return finding
    activation = of(graph, node)
    if isinstance(activation, Finding):
        return activation
    found = activation_of(graph, activation)
    return found if isinstance(found, Finding) else None


def _activation(graph: Graph, node: Node, of: Of) -> Activation:
    found = of(graph, node)
    assert isinstance(found, Node)
    activation = activation_of(graph, found)
    assert isinstance(activation, Activation)
    return activation


def _conv_can_run(graph: Graph, node: Node) -> Finding | None:
    finding = _can_run(windows.conv_can_run, _conv_activation, graph, node)
    addend = input_of(node, 3)
    if finding is None and addend and not may_have_one_shape(graph, addend, node.outputs[0]):
        return reasons.MISMATCHED(what="input Z", other="the result")
    return finding


def _conv_lower(builder: Builder, node: Node) -> None:
    activation = _activation(builder.graph, node, _conv_activation)
    builder.product(node, node.inputs[0], windows.conv_product(builder, node), residual=input_of(node, 3), activation=activation)


def _gemm_lower(builder: Builder, node: Node) -> None:
    x, product, rest = matrix.gemm_product(builder, node)
    builder.product(node, x, product, addend=rest, activation=_activation(builder.graph, node, _gemm_activation))


def _matmul_can_run(graph: Graph, node: Node) -> Finding | None:
    """Return None for a product whose constant operand alone may be transposed, else the reason."""
    finding = matrix.matmul_can_run(graph, node)
    if finding is not None:
        return finding
    for name in ("transBatchA", "transBatchB", "transA" if graph.is_constant(node.inputs[1]) else "transB"):
        if attribute_of(node, name, 0):
            return reasons.UNSUPPORTED_ATTRIBUTE(name=name, value=1)
    return matrix.check_alpha(node)


def _channels(plain: Callable[[Flow, Node], ChannelPlan | None], of: Of, flow: Flow, node: Node) -> ChannelPlan | None:
    """Follow channels through the product and its activation; not through an addition between them."""
    if node.op_type == "FusedConv" and input_of(node, 3):
        return None
    plan = plain(flow, node)
    channels = flow.channels.get(node.outputs[0])
    if plan is not None and channels is not None:
        value__c = activated(channels.value__c, _activation(flow.graph, node, of))
        channels.known__c &= np.isfinite(value__c)
        channels.value__c[:] = value__c
    return plan


def _estimate(plain: Callable[[Setting, Node], Estimate], of: Of, setting: Setting, node: Node) -> Estimate:
    """Return the work of the product with that of its activation."""
    estimate, activation = plain(setting, node), of(setting.graph, node)
    assert isinstance(activation, Node)
    elements = int(np.prod(setting.sizes(node.outputs[0])))
    ort, ours = activation_work(ACTIVATIONS[activation.op_type].rate, elements, free=activation.op_type == "Relu")
    return replace(estimate, ort=combined(estimate.ort, ort), ours=combined(estimate.ours, ours))


def _matmul_transposes(graph: Graph, node: Node) -> bool:
    """Return whether the constant operand is transposed."""
    return bool(attribute_of(node, "transB" if graph.is_constant(node.inputs[1]) else "transA", 0))


def _matmul_output_axis(graph: Graph, node: Node) -> int:
    axis, rank = matrix.matmul_output_axis(graph, node), len(shape_of(graph, node.inputs[int(graph.is_constant(node.inputs[1]))]))
    return -3 - axis if _matmul_transposes(graph, node) and rank > 1 else axis


def _matmul_estimate(setting: Setting, node: Node) -> Estimate:
    return matrix.estimate(setting, node, _matmul_transposes(setting.graph, node))


def fused_row(plain: OpRow, op_type: str, note: str, **changes: object) -> OpRow:
    """Return the row of a product of com.microsoft that is a `plain` one and more."""
    return replace(plain, op_type=op_type, domains=MICROSOFT, first_version=1, note=note, **changes)  # type: ignore[arg-type]


CONV, GEMM, MATMUL = (
    next(row for row in rows if row.op_type == name)
    for rows, name in ((windows.ROWS, "Conv"), (matrix.ROWS, "Gemm"), (matrix.ROWS, "MatMul"))
)
ROWS = (
    fused_row(
        CONV,
        "FusedConv",
        "as `Conv`, and what is added to it",
        can_run=_conv_can_run,
        lower=_conv_lower,
        channels=partial(_channels, windows.conv_channels, _conv_activation),
        estimate=partial(_estimate, windows.conv_estimate, _conv_activation),
    ),
    fused_row(
        GEMM,
        "FusedGemm",
        "as `Gemm`",
        can_run=partial(_can_run, matrix.gemm_can_run, _gemm_activation),
        lower=_gemm_lower,
        channels=partial(_channels, matrix.gemm_channels, _gemm_activation),
        estimate=partial(_estimate, matrix.gemm_estimate, _gemm_activation),
    ),
    fused_row(
        MATMUL,
        "FusedMatMul",
        "as `MatMul`; only the constant operand transposed",
        can_run=_matmul_can_run,
        channels=None,
        output_axis=_matmul_output_axis,
        estimate=_matmul_estimate,
    ),
)
