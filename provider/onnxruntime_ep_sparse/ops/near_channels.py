"""LRN: normalization by the channels that stand near each other."""

from __future__ import annotations

from .. import reasons
from ..graph.ir import Graph, Node, attribute_of, number_of, shape_of
from ..program.builder import Builder
from ..program.enums import StepKind
from ..program.kinds.near_channels import MOST_NEAR, NormalizeNear
from ..program.steps import Step
from ..reasons import Finding
from . import costs
from .row import OpRow


def _can_run(graph: Graph, node: Node) -> Finding | None:
    rank, size = len(shape_of(graph, node.inputs[0])), int(attribute_of(node, "size", 0))
    if rank != 4:
        return reasons.UNSUPPORTED_RANK(rank=rank, supported=4)
    if size % 2 == 0 or not 0 < size <= MOST_NEAR:  # ONNX Runtime refuses even sizes
        return reasons.UNSUPPORTED_ATTRIBUTE(name="size", value=size)
    return None


def _lower(builder: Builder, node: Node) -> None:
    size = int(attribute_of(node, "size", 1))
    alpha, beta, bias = (number_of(node, name, number) for name, number in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    normalize = NormalizeNear(size, alpha, beta, bias)
    builder.step(Step(StepKind.NORMALIZE_NEAR, builder.value(node.inputs[0]), builder.value(node.outputs[0]), spec=normalize))


ROWS = (OpRow("LRN", "neighbour", _can_run, _lower, "images of two dimensions", estimate=costs.work_of("normalized")),)
