"""BatchNormalization, and normalization by the values themselves: of rows, and of groups of channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import reasons
from ..graph.ir import Graph, Node, attribute_of, input_of, number_of, shape_of
from ..program.builder import Builder
from ..program.enums import StepKind
from ..program.fusing import may_have_one_shape
from ..program.kinds.normalize import Normalize, NormalizeGroups
from ..program.steps import Step
from ..reasons import Finding
from . import costs
from .channels import ChannelPlan, Flow
from .row import MICROSOFT, ONNX, OpRow, Shape


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
    builder.scale_channels(node, np.stack([factor, offset]).astype(np.float32))


def _batchnorm_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    x = flow.channels.get(node.inputs[0])
    if x is None or x.axis != 1:
        return None
    factor__c, offset__c = _batchnorm_of(flow.graph, node)
    sliced = tuple((i, 0, node.outputs[0]) for i in range(1, 5))
    return flow.same(node, node.inputs[0], x.known__c, x.value__c * factor__c + offset__c, sliced=sliced)


@dataclass(frozen=True, slots=True)
class RowNorm:
    """A normalization of rows: the inputs of its scale and bias and of what it adds to x before, -1 if it has none.

    `centred` is false where the mean is not subtracted. `sum` is the output that is the normalized sum, -1 if there is none;
    `epsilon` is the number that a node does not give.
    """

    op_type: str
    centred: bool
    scale: int = 1
    bias: int = -1
    skip: int = -1
    addend: int = -1
    sum: int = -1
    domains: tuple[str, ...] = ONNX
    epsilon: float = 1e-5


ROW_NORMS: dict[str, RowNorm] = {
    norm.op_type: norm
    for norm in (
        RowNorm("LayerNormalization", True, bias=2),
        RowNorm("RMSNormalization", False),
        RowNorm("SimplifiedLayerNormalization", False, domains=(*ONNX, *MICROSOFT)),
        RowNorm("SkipLayerNormalization", True, 2, 3, 1, 4, 3, MICROSOFT, 1e-12),
        RowNorm("SkipSimplifiedLayerNormalization", False, 2, -1, 1, 3, 3, MICROSOFT, 1e-12),
    )
}
"""Every normalization of rows, by operator."""


def _stash(node: Node) -> Finding | None:
    """Return None if a node computes in float32, else the reason why it cannot run."""
    value = attribute_of(node, "stash_type", 1)
    return None if value == 1 else reasons.UNSUPPORTED_ATTRIBUTE(name="stash_type", value=value)


def _constant_weights(graph: Graph, node: Node, size: int | str | None, weights: dict[str, str], other: str) -> Finding | None:
    """Return None if weights, by the names of the inputs, are constant and of `size` numbers each; else the reason why not.

    Where the size is not known, a plan compares it with that of the first one. A single number would broadcast there.
    """
    for name, operand in weights.items():
        if not graph.is_constant(operand):
            return reasons.PARAMETER_NOT_CONSTANT(name=name)
    first = next((shape_of(graph, operand) for operand in weights.values()), ())
    if not isinstance(size, int) and len(first) == 1 and first != (1,):
        (size,) = first
    for name, operand in weights.items():
        if size == 0 or shape_of(graph, operand) != (size,):
            return reasons.MISMATCHED(what=f"input {name}", other=other)
    return None


def _row_norm_can_run(graph: Graph, node: Node) -> Finding | None:
    norm, shape = ROW_NORMS[node.op_type], shape_of(graph, node.inputs[0])
    if not shape or int(attribute_of(node, "axis", -1)) not in (-1, len(shape) - 1):
        return reasons.UNSUPPORTED_AXES(supported="the last")
    if norm.skip >= 0 and len(shape) not in (2, 3):  # the CPU provider refuses others at run time
        return reasons.UNSUPPORTED_RANK(rank=len(shape), supported="2 and 3")
    if finding := _stash(node):
        return finding
    read = [i for i, name in enumerate(node.outputs) if i not in (0, norm.sum) and graph.is_read(name)]
    if read:
        return reasons.EXTRA_OUTPUTS()
    places = {"Scale": norm.scale, "B": norm.bias, "bias": norm.addend}
    weights = {name: input_of(node, place) for name, place in places.items() if input_of(node, place)}
    skip = input_of(node, norm.skip)
    if skip and not may_have_one_shape(graph, node.inputs[0], skip):
        return reasons.MISMATCHED(what="input skip", other="the input")
    return _constant_weights(graph, node, shape[-1], weights, "the last dimension")


def _row_norm_lower(builder: Builder, node: Node) -> None:
    norm, graph = ROW_NORMS[node.op_type], builder.graph
    scale = builder.floats(input_of(node, norm.scale))
    bias = builder.floats(input_of(node, norm.bias)) if input_of(node, norm.bias) else np.zeros_like(scale)
    total = node.outputs[norm.sum] if 0 <= norm.sum < len(node.outputs) else ""
    total = total if graph.is_read(total) else ""
    if input_of(node, norm.skip):
        x = builder.sum(node.inputs[0], input_of(node, norm.skip), input_of(node, norm.addend), total)
    else:
        x = builder.value(node.inputs[0])
    if node.outputs[0]:
        normalize = Normalize(number_of(node, "epsilon", norm.epsilon), norm.centred)
        weights = builder.constant(np.stack([scale, bias]))
        builder.step(Step(StepKind.NORMALIZE, x, builder.value(node.outputs[0]), weights, spec=normalize))


def _same_shape(graph: Graph, node: Node) -> dict[str, Shape]:
    """Return the shape of the input for the result, or the reverse: ONNX Runtime infers none for newer normalizations."""
    shapes = {name: graph.values[name].shape for name in (node.inputs[0], node.outputs[0]) if name in graph.values}
    known = next((shape for shape in shapes.values() if shape is not None), None)
    return {} if known is None else {name: known for name, shape in shapes.items() if shape is None}


def _group_norm_can_run(graph: Graph, node: Node) -> Finding | None:
    shape = shape_of(graph, node.inputs[0])
    if len(shape) < 3:
        return reasons.UNSUPPORTED_RANK(rank=len(shape), supported="3 and more")
    if finding := _stash(node):
        return finding
    channels, groups = shape[1], int(attribute_of(node, "num_groups", 0))
    if node.op_type == "GroupNormalization" and not (groups > 0 and isinstance(channels, int) and channels % groups == 0):
        return reasons.MISMATCHED(what="num_groups", other="the channels")
    return _constant_weights(graph, node, channels, {"scale": input_of(node, 1), "B": input_of(node, 2)}, "the channels")


def _group_norm_lower(builder: Builder, node: Node) -> None:
    weights = np.stack([builder.floats(node.inputs[1]), builder.floats(node.inputs[2])])
    x, y = builder.value(node.inputs[0]), builder.value(node.outputs[0])
    normalize = NormalizeGroups(number_of(node, "epsilon", 1e-5), int(attribute_of(node, "num_groups", 0)))
    builder.step(Step(StepKind.NORMALIZE_GROUPS, x, y, builder.constant(weights), spec=normalize))


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
    *(
        OpRow(
            norm.op_type,
            "neighbour",
            _row_norm_can_run,
            _row_norm_lower,
            "over the last dimension, constant weights" + ("; of 2 and 3 dimensions" if norm.skip >= 0 else ""),
            norm.domains,
            results=max(1, norm.sum + 1),
            implied=_same_shape,
            adds=norm.skip >= 0,
            estimate=costs.work_of("normalized"),
        )
        for norm in ROW_NORMS.values()
    ),
    OpRow(
        "GroupNormalization",
        "neighbour",
        _group_norm_can_run,
        _group_norm_lower,
        "constant weights, known number of channels",
        first_version=21,
        estimate=costs.work_of("normalized"),
        implied=_same_shape,
    ),
    OpRow(
        "InstanceNormalization",
        "neighbour",
        _group_norm_can_run,
        _group_norm_lower,
        "constant weights",
        estimate=costs.work_of("normalized"),
    ),
)
