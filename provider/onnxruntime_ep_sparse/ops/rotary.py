"""RotaryEmbedding: ONNX's, and com.microsoft's, whose inputs stand in another order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from .. import reasons
from ..graph.ir import INT64, INTEGERS, Graph, Node, attribute_of, input_of, number_of, shape_of
from ..program.builder import Builder
from ..program.enums import NumberOp, StepKind
from ..program.kinds.integers import Integers, Take
from ..program.kinds.layout import Reshape
from ..program.kinds.positions import Rotate
from ..program.steps import Step
from ..reasons import Finding
from .costs import Estimate, Setting, elementwise
from .positions import counted, whole_value
from .row import MICROSOFT, OpRow, Shape, can_run_if


@dataclass(frozen=True, slots=True)
class Places:
    """Which inputs are the cosines, the sines and the positions."""

    cosines: int
    sines: int
    positions: int


OURS, THEIRS = Places(1, 2, 3), Places(2, 3, 1)
"""Those of ONNX's operator and of com.microsoft's."""


@dataclass(frozen=True, slots=True)
class Rotary:
    """A RotaryEmbedding: the heads of values of 3 dimensions, 0 where they have a dimension of heads before that of positions."""

    heads: int
    interleaved: bool


def rotary_of(places: Places, graph: Graph, node: Node) -> Rotary | Finding:
    """Return what a RotaryEmbedding turns, or the reason why it cannot run."""
    for name, supported in (("is_packed_batching", 0), ("scale", 1.0)):
        if number_of(node, name, supported) != supported:
            return reasons.UNSUPPORTED_ATTRIBUTE(name=name, value=node.attributes[name])
    x, (cosines, sines) = shape_of(graph, node.inputs[0]), (shape_of(graph, node.inputs[n]) for n in (places.cosines, places.sines))
    positions = input_of(node, places.positions)
    pairs, given = cosines[-1] if cosines else None, int(attribute_of(node, "rotary_embedding_dim", 0))
    if len(x) not in (3, 4):
        return reasons.UNSUPPORTED_RANK(rank=len(x), supported="3 and 4")
    if len(cosines) != len(sines) or len(cosines) != (2 if positions else 3) or not isinstance(pairs, int) or pairs < 1:
        return reasons.MISMATCHED(what="the cosines or sines", other="the positions")
    heads = int(attribute_of(node, "num_heads", 0))
    if len(x) == 3 and heads < 1 and isinstance(x[2], int) and not given:
        heads = x[2] // (2 * pairs)
    channels = x[3] if len(x) == 4 else x[2] // heads if isinstance(x[2], int) and heads > 0 and x[2] % heads == 0 else None
    if not isinstance(channels, int) or (given or channels) != 2 * pairs or 2 * pairs > channels:
        return reasons.MISMATCHED(what="the cosines", other="num_heads and rotary_embedding_dim")
    if positions:
        ids = graph.values[positions]
        if ids.dtype not in INTEGERS or ids.shape is None or len(ids.shape) not in (1, 2):
            return reasons.UNSUPPORTED_RANK(rank=len(ids.shape or ()), supported="1 and 2 (of position_ids)")
        if len(ids.shape) == 1 and ids.dtype != INT64:
            return reasons.INTEGERS_ONLY(type="int32")
    return Rotary(0 if len(x) == 4 else heads, bool(attribute_of(node, "interleaved", 0)))


def turned(builder: Builder, x: int, angles: tuple[int, int], y: int, *, in_front: bool, interleaved: bool) -> None:
    """Append a step that turns x, of 4 dimensions, by angles with these cosines and sines."""
    cosine, sine = angles
    builder.step(Step(StepKind.ROTATE, x, y, cosine, spec=Rotate(sine, in_front, interleaved)))


def angles_at(builder: Builder, tables: tuple[int, int], positions: int) -> tuple[int, int]:
    """Append steps that take the cosines and sines of positions from tables, and return them."""
    rank = builder.ranks[positions] + 1
    cosine, sine = builder.new_value(rank), builder.new_value(rank)
    for table, y in zip(tables, (cosine, sine), strict=True):
        builder.step(Step(StepKind.TAKE, table, y, positions, spec=Take()))
    return cosine, sine


def _positions(builder: Builder, name: str, x: int, axis: int) -> int:
    """Return positions (batch, position), or (position,) where the node gives that of the first one only."""
    given, rank = builder.whole(name), len(shape_of(builder.graph, name))
    builder.ranks[given] = rank
    if rank == 2:
        return given
    size = builder.compute(NumberOp.SHAPE, [x], shape=(), places=(axis,))
    moved = whole_value(builder, 1)
    builder.step(Step(StepKind.INTEGERS, counted(builder, size.y), moved, given, spec=Integers(NumberOp.ADD)))
    return moved


def _lower(places: Places, builder: Builder, node: Node) -> None:
    rotary = rotary_of(places, builder.graph, node)
    assert isinstance(rotary, Rotary)
    x, result = builder.value(node.inputs[0]), builder.value(node.outputs[0])
    angles = builder.value(node.inputs[places.cosines]), builder.value(node.inputs[places.sines])
    if input_of(node, places.positions):
        positions = _positions(builder, node.inputs[places.positions], x, 1 if rotary.heads else 2)
        angles = angles_at(builder, angles, positions)
    if not rotary.heads:
        turned(builder, x, angles, result, in_front=True, interleaved=rotary.interleaved)
        return
    headed, y = builder.new_value(4), builder.new_value(4)
    builder.step(Step(StepKind.RESHAPE, x, headed, spec=Reshape((0, 0, rotary.heads, -1))))
    turned(builder, headed, angles, y, in_front=False, interleaved=rotary.interleaved)
    builder.step(Step(StepKind.RESHAPE, y, result, spec=Reshape((0, 0, -1))))


def _estimate(setting: Setting, node: Node) -> Estimate:
    return elementwise("added", math.prod(setting.sizes(node.outputs[0])))


def _implied(graph: Graph, node: Node) -> dict[str, Shape]:
    shape = graph.values[node.inputs[0]].shape
    return {} if shape is None else {node.outputs[0]: shape}


def _row(places: Places, domains: tuple[str, ...], first_version: int) -> OpRow:
    return OpRow(
        "RotaryEmbedding",
        "neighbour",
        can_run_if(partial(rotary_of, places)),
        partial(_lower, places),
        "cosines and sines of known width; scale 1",
        domains,
        parameters=(places.positions,),
        first_version=first_version,
        estimate=_estimate,
        implied=_implied,
    )


ROWS = (_row(OURS, ("", "ai.onnx"), 23),)
NAMESAKES = (_row(THEIRS, MICROSOFT, 1),)
"""Operators of another domain with the name of one of ONNX's."""
