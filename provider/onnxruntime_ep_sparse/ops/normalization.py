"""BatchNormalization and LayerNormalization."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.elementwise import Op

from ..graph.ir import Graph, Node, attribute_of, shape_of
from ..program.enums import StepKind
from ..program.steps import Step
from .elementwise import _number

if TYPE_CHECKING:
    from ..program.builder import Builder


def _batchnorm_can_run(graph: Graph, node: Node) -> str | None:
    if attribute_of(node, "training_mode", 0):
        return "training mode is not supported"
    if not attribute_of(node, "spatial", 1):
        return "statistics for every position are not supported"
    if not all(graph.is_constant(name) for name in node.inputs[1:5]):
        return "scale and statistics are not constant"
    return None if len(shape_of(graph, node.inputs[0])) >= 2 else "the input has no channels"


def batchnorm_of(graph: Graph, node: Node) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The factor and the offset (C,) that a BatchNormalization is."""
    scale, offset, mean, variance = (graph.load(name).astype(np.float64) for name in node.inputs[1:5])
    factor = scale / np.sqrt(variance + _number(node.attributes.get("epsilon"), 1e-5))
    return factor, offset - mean * factor


def _batchnorm_lower(builder: Builder, node: Node) -> None:
    factor, offset = batchnorm_of(builder.graph, node)
    shape = (-1,) + (1,) * (len(shape_of(builder.graph, node.inputs[0])) - 2)
    scaled = builder.new_value()
    x, y = builder.value(node.inputs[0]), builder.value(node.outputs[0])
    builder.step(Step(StepKind.BINARY, x, scaled, builder.constant(factor.reshape(shape)), op=Op.MUL))
    builder.step(Step(StepKind.BINARY, scaled, y, builder.constant(offset.reshape(shape)), op=Op.ADD))


def _layer_norm_can_run(graph: Graph, node: Node) -> str | None:
    shape = shape_of(graph, node.inputs[0])
    if not shape or int(attribute_of(node, "axis", -1)) not in (-1, len(shape) - 1):
        return "only the last dimension is supported"
    if int(attribute_of(node, "stash_type", 1)) != 1:
        return "stash_type other than float32 is not supported"
    weights = [name for name in node.inputs[1:] if name]
    if not all(graph.is_constant(name) for name in weights):
        return "scale and bias are not constant"
    if shape[-1] == 0 or any(shape_of(graph, name) != shape[-1:] for name in weights):
        return "scale and bias are not of the last dimension's size"
    return None


def _layer_norm_lower(builder: Builder, node: Node) -> None:
    scale = builder.floats(node.inputs[1])
    bias = builder.floats(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros_like(scale)
    x, y = builder.value(node.inputs[0]), builder.value(node.outputs[0])
    epsilon = _number(node.attributes.get("epsilon"), 1e-5)
    builder.step(Step(StepKind.NORMALIZE, x, y, builder.constant(np.stack([scale, bias])), epsilon=epsilon))
