"""BatchNormalization and LayerNormalization."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.elementwise import Op

from .. import reasons
from ..graph.ir import Graph, Node, attribute_of, number_of, shape_of
from ..program.builder import Builder
from ..program.enums import StepKind
from ..program.kinds.elementwise import Binary
from ..program.kinds.normalize import Normalize
from ..program.steps import Step
from ..reasons import Finding
from . import costs
from .channels import ChannelPlan, Flow
from .row import OpRow


def _batchnorm_can_run(graph: Graph, node: Node) -> Finding | None:
    for name, supported in (("training_mode", 0), ("spatial", 1)):
        if bool(attribute_of(node, name, supported)) != supported:
            return reasons.UNSUPPORTED_ATTRIBUTE(name=name, value=node.attributes[name])
    for name, operand in zip(("scale", "B", "input_mean", "input_var"), node.inputs[1:5], strict=False):
        if not graph.is_constant(operand):
            return reasons.PARAMETER_NOT_CONSTANT(name=name)
    shape = shape_of(graph, node.inputs[0])
    if len(shape) < 2:
        return reasons.UNSUPPORTED_RANK(rank=len(shape), supported="2 and more")
    for name, operand in zip(("scale", "B", "input_mean", "input_var"), node.inputs[1:5], strict=False):
        if shape_of(graph, operand) != shape[1:2]:  # of channels by a name, it would broadcast at run time
            return reasons.MISMATCHED(what=f"input {name}", other="the channels")
    return None


@np.errstate(all="ignore")  # as ONNX Runtime does
def _batchnorm_of(graph: Graph, node: Node) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return factor and offset, (C,) each, by which a BatchNormalization changes its channels."""
    scale, offset, mean, variance = (graph.load(name).astype(np.float64) for name in node.inputs[1:5])
    factor = scale / np.sqrt(variance + number_of(node, "epsilon", 1e-5))
    return factor, offset - mean * factor


def _batchnorm_lower(builder: Builder, node: Node) -> None:
    factor, offset = _batchnorm_of(builder.graph, node)
    shape = (-1,) + (1,) * (len(shape_of(builder.graph, node.inputs[0])) - 2)
    scaled = builder.new_value()
    x, y = builder.value(node.inputs[0]), builder.value(node.outputs[0])
    builder.step(Step(StepKind.BINARY, x, scaled, builder.constant(factor.reshape(shape)), spec=Binary(Op.MUL)))
    builder.step(Step(StepKind.BINARY, scaled, y, builder.constant(offset.reshape(shape)), spec=Binary(Op.ADD)))


def _batchnorm_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    x = flow.channels.get(node.inputs[0])
    if x is None or x.axis != 1:
        return None
    factor__c, offset__c = _batchnorm_of(flow.graph, node)
    sliced = tuple((i, 0, node.outputs[0]) for i in range(1, 5))
    return flow.same(node, node.inputs[0], x.known__c, x.value__c * factor__c + offset__c, sliced=sliced)


def _layer_norm_can_run(graph: Graph, node: Node) -> Finding | None:
    shape = shape_of(graph, node.inputs[0])
    if not shape or int(attribute_of(node, "axis", -1)) not in (-1, len(shape) - 1):
        return reasons.UNSUPPORTED_AXES(supported="the last")
    if int(attribute_of(node, "stash_type", 1)) != 1:
        return reasons.UNSUPPORTED_ATTRIBUTE(name="stash_type", value=node.attributes["stash_type"])
    weights = [(name, operand) for name, operand in zip(("Scale", "B"), node.inputs[1:], strict=False) if operand]
    for name, operand in weights:
        if not graph.is_constant(operand):
            return reasons.PARAMETER_NOT_CONSTANT(name=name)
    for name, operand in weights:
        if shape[-1] == 0 or shape_of(graph, operand) != shape[-1:]:
            return reasons.MISMATCHED(what=f"input {name}", other="the last dimension")
    return None


def _layer_norm_lower(builder: Builder, node: Node) -> None:
    scale = builder.floats(node.inputs[1])
    bias = builder.floats(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros_like(scale)
    x, y = builder.value(node.inputs[0]), builder.value(node.outputs[0])
    epsilon = number_of(node, "epsilon", 1e-5)
    builder.step(Step(StepKind.NORMALIZE, x, y, builder.constant(np.stack([scale, bias])), spec=Normalize(epsilon)))


ROWS = (
    OpRow(
        "BatchNormalization",
        "neighbour",
        _batchnorm_can_run,
        _batchnorm_lower,
        "inference with constant statistics",
        first_version=7,
        channels=_batchnorm_channels,
        estimate=costs.work_of("added"),
    ),
    OpRow(
        "LayerNormalization",
        "neighbour",
        _layer_norm_can_run,
        _layer_norm_lower,
        "over the last dimension, constant weights",
        estimate=costs.work_of("normalized"),
    ),
)
