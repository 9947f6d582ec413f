"""Products with an activation, and more, in one node, as files hold them that ONNX Runtime has saved optimized."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .. import reasons
from ..graph.ir import Graph, Node, attribute_of
from ..program.steps import Activation
from ..reasons import Finding
from .activations import IN_CONV, IN_GEMM, UNCHANGED, activated, activation_of, work_within
from .channels import ChannelPlan, Flow
from .costs import Estimate, Setting, combined
from .row import MICROSOFT, OpRow

Of = Callable[[Graph, Node], Node | Finding]


def _unknown(name: str) -> Finding:
    return reasons.UNSUPPORTED_ATTRIBUTE(name="activation", value=name)


def conv_activation(graph: Graph, node: Node) -> Node | Finding:
    """Return the activation of a FusedConv as a node of its own, or the reason why it cannot run."""
    name, numbers = attribute_of(node, "activation", ""), attribute_of(node, "activation_params", ())
    if name == "":
        return replace(node, op_type=UNCHANGED, domain="", inputs=node.outputs, attributes={})
    if name not in IN_CONV:
        return _unknown(name)
    if len(numbers) != len(IN_CONV[name]):
        return reasons.MISMATCHED(what=f"activation_params of {len(numbers)} numbers", other=name)
    return replace(node, op_type=name, domain="", inputs=node.outputs, attributes=dict(zip(IN_CONV[name], numbers, strict=True)))


def gemm_activation(graph: Graph, node: Node) -> Node | Finding:
    """Return the activation of a FusedGemm as a node of its own, or the reason why it cannot run."""
    name = attribute_of(node, "activation", "")
    if name not in IN_GEMM:
        return _unknown(name)
    prefix = "activation_"
    numbers = {key.removeprefix(prefix): value for key, value in node.attributes.items() if key.startswith(prefix)}
    return replace(node, op_type=name, domain="", inputs=node.outputs, attributes=numbers)


def fused_can_run(plain: Callable[[Graph, Node], Finding | None], of: Of, graph: Graph, node: Node) -> Finding | None:
    """Return None if the product and its activation can run, else the reason."""
    finding = plain(graph, node)
    if finding is not None:
        return finding
    activation = of(graph, node)
    if isinstance(activation, Finding):
        return activation
    found = activation_of(graph, activation)
    return found if isinstance(found, Finding) else None


def activation_within(graph: Graph, node: Node, of: Of) -> Activation:
    """Return the activation of a fused product that can run."""
    found = of(graph, node)
    assert isinstance(found, Node)
    activation = activation_of(graph, found)
    assert isinstance(activation, Activation)
    return activation


def fused_channels(plain: Callable[[Flow, Node], ChannelPlan | None], of: Of, flow: Flow, node: Node) -> ChannelPlan | None:
    """Follow channels through the product and its activation."""
    plan = plain(flow, node)
    channels = flow.channels.get(node.outputs[0])
    if plan is not None and channels is not None:
        value__c = activated(channels.value__c, activation_within(flow.graph, node, of))
        channels.known__c &= np.isfinite(value__c)
        channels.value__c[:] = value__c
    return plan


def fused_estimate(plain: Callable[[Setting, Node], Estimate], of: Of, setting: Setting, node: Node) -> Estimate:
    """Return the work of the product with that of its activation."""
    estimate, activation = plain(setting, node), of(setting.graph, node)
    assert isinstance(activation, Node)
    ort, ours = work_within(activation.op_type, math.prod(setting.sizes(node.outputs[0])))
    return replace(estimate, ort=combined(estimate.ort, ort), ours=combined(estimate.ours, ours))


def fused_row(plain: OpRow, op_type: str, note: str, **changes: object) -> OpRow:
    """Return the row of a product of com.microsoft that is a `plain` one and more."""
    return replace(plain, op_type=op_type, domains=MICROSOFT, first_version=1, note=note, **changes)  # type: ignore[arg-type]  # fields of OpRow
