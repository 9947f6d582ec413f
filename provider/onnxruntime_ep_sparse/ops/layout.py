"""Operators that move elements or only change shapes: when each can be run, how it becomes steps. Rows of the table in `ops/table.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..graph.ir import Graph, Node, attribute_of, shape_of
from ..program.enums import Coordinates, Interpolation, StepKind
from ..program.limits import MAX_BLOCK, MAX_PARTS, MAX_RANK, MAX_SCALE, MAX_SIZE
from ..program.steps import Resize, Step

if TYPE_CHECKING:
    from ..program.builder import Builder


def reshape_can_run(graph: Graph, node: Node) -> str | None:
    """None if the node can be run, else the reason in words."""
    target = graph.constant(node.inputs[1])
    if target is None:
        return "the shape is not constant"
    if not all(-1 <= d <= MAX_SIZE for d in target.reshape(-1)):
        return f"dimensions below -1 or above {MAX_SIZE} are not supported"
    return f"{target.size} dimensions: at most {MAX_RANK} are supported" if target.size > MAX_RANK else None


def reshape_lower(builder: Builder, node: Node) -> None:
    """The steps of such a node."""
    target = builder.graph.constant(node.inputs[1])
    assert target is not None
    builder.step(
        Step(
            StepKind.RESHAPE,
            builder.value(node.inputs[0]),
            builder.value(node.outputs[0]),
            target=tuple(int(d) for d in target.reshape(-1)),
            allow_zero=bool(attribute_of(node, "allowzero", 0)),
        )
    )


def transpose_can_run(graph: Graph, node: Node) -> str | None:
    """None if the node can be run, else the reason in words."""
    return (
        None if sorted(permutation_of(graph, node)) == list(range(len(shape_of(graph, node.inputs[0])))) else "perm does not fit the input"
    )


def permutation_of(graph: Graph, node: Node) -> tuple[int, ...]:
    """The dimensions of a Transpose's input in the order of its output."""
    return tuple(attribute_of(node, "perm", ()) or range(len(shape_of(graph, node.inputs[0])))[::-1])


def transpose_lower(builder: Builder, node: Node) -> None:
    """The steps of such a node."""
    x, y = builder.value(node.inputs[0]), builder.value(node.outputs[0])
    builder.step(Step(StepKind.TRANSPOSE, x, y, target=permutation_of(builder.graph, node)))


def flatten_lower(builder: Builder, node: Node) -> None:
    """The steps of such a node."""
    rank = len(shape_of(builder.graph, node.inputs[0]))
    axis = int(attribute_of(node, "axis", 1))
    builder.step(
        Step(
            StepKind.RESHAPE,
            builder.value(node.inputs[0]),
            builder.value(node.outputs[0]),
            flatten_axis=axis + rank if axis < 0 else axis,
        )
    )


def axes_of(graph: Graph, node: Node) -> tuple[int, ...] | str:
    """The axes that a Squeeze takes away or an Unsqueeze brings, ascending; or the reason why it cannot run."""
    shape = shape_of(graph, node.inputs[0])
    given = node.attributes.get("axes")
    if len(node.inputs) > 1 and node.inputs[1]:
        array = graph.constant(node.inputs[1])
        if array is None:
            return "the axes are not constant"
        given = tuple(int(axis) for axis in array.reshape(-1))
    if given is None:
        if not all(isinstance(d, int) for d in shape):
            return "which dimensions are 1 is not known"
        given = tuple(axis for axis, d in enumerate(shape) if d == 1)
    assert isinstance(given, tuple)
    rank = len(shape) + (len(given) if node.op_type == "Unsqueeze" else 0)
    axes = tuple(sorted({axis % rank if rank else 0 for axis in given}))
    if not axes:
        return "there are no axes"
    return axes if len(axes) == len(given) and rank <= MAX_RANK else "the axes do not fit the input"


def axes_can_run(graph: Graph, node: Node) -> str | None:
    """None if the node can be run, else the reason in words."""
    axes = axes_of(graph, node)
    return axes if isinstance(axes, str) else None


def axes_lower(builder: Builder, node: Node) -> None:
    """The steps of such a node."""
    axes = axes_of(builder.graph, node)
    assert not isinstance(axes, str)
    step = Step(StepKind.RESHAPE, builder.value(node.inputs[0]), builder.value(node.outputs[0]))
    builder.step(replace(step, inserted=axes) if node.op_type == "Unsqueeze" else replace(step, removed=axes))


def concat_can_run(graph: Graph, node: Node) -> str | None:
    """None if the node can be run, else the reason in words."""
    if len(node.inputs) > MAX_PARTS:
        return f"{len(node.inputs)} operands: at most {MAX_PARTS} are supported"
    rank = len(shape_of(graph, node.inputs[0]))
    return None if all(len(shape_of(graph, name)) == rank for name in node.inputs) else "operands differ in rank"


def concat_lower(builder: Builder, node: Node) -> None:
    """The steps of such a node."""
    axis = int(attribute_of(node, "axis", 0))
    axis += len(shape_of(builder.graph, node.inputs[0])) if axis < 0 else 0
    parts = [builder.value(name) for name in node.inputs]
    y = builder.value(node.outputs[0])
    for i, x in enumerate(parts):
        builder.step(Step(StepKind.CONCAT, x, y, axis=axis, begins=i == 0))


def padding_of(graph: Graph, node: Node) -> tuple[tuple[int, ...], tuple[int, ...], float] | str:
    """Elements before and after in every dimension, and what they are, of a Pad; or the reason why it cannot run."""
    if attribute_of(node, "mode", "constant") != "constant":
        return f"mode {node.attributes['mode']} is not supported"
    names = [*node.inputs[1:], "", "", ""]
    if not all(graph.is_constant(name) for name in names if name):
        return "pads and value are not constant"
    rank = len(shape_of(graph, node.inputs[0]))
    pads, value, axes = (graph.constant(name) if name else None for name in names[:3])
    chosen = [int(a) % rank for a in axes.reshape(-1)] if axes is not None else list(range(rank))
    assert pads is not None
    if rank == 0 or pads.size != 2 * len(chosen):
        return "pads do not fit the input"
    if not all(0 <= n <= MAX_SIZE for n in pads.reshape(-1)):
        return f"negative pads, and pads above {MAX_SIZE}, are not supported"
    before, after = [0] * rank, [0] * rank
    for axis, begin, end in zip(chosen, pads.reshape(2, -1)[0], pads.reshape(2, -1)[1], strict=True):
        before[axis], after[axis] = int(begin), int(end)
    return tuple(before), tuple(after), float(value.reshape(-1)[0]) if value is not None and value.size else 0.0


def pad_can_run(graph: Graph, node: Node) -> str | None:
    """None if the node can be run, else the reason in words."""
    padding = padding_of(graph, node)
    return padding if isinstance(padding, str) else None


def pad_lower(builder: Builder, node: Node) -> None:
    """The steps of such a node."""
    padding = padding_of(builder.graph, node)
    assert not isinstance(padding, str)
    before, after, value = padding
    x, y = builder.value(node.inputs[0]), builder.value(node.outputs[0])
    builder.step(Step(StepKind.PAD, x, y, before=before, after=after, fill=value))


def resize_of(graph: Graph, node: Node) -> Resize | str:
    """What a Resize does to height and width, or the reason why it cannot run."""
    shape = shape_of(graph, node.inputs[0])
    if len(shape) != 4:
        return f"{len(shape)} dimensions: 4 are supported"
    if attribute_of(node, "antialias", 0) or attribute_of(node, "exclude_outside", 0):
        return "antialias and exclude_outside are not supported"
    if attribute_of(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        return "keep_aspect_ratio_policy is not supported"
    first = node.since_version < 11
    mode = attribute_of(node, "mode", "nearest")
    reading = "version_10" if first else attribute_of(node, "nearest_mode", "round_prefer_floor")
    coordinates = "asymmetric" if first else attribute_of(node, "coordinate_transformation_mode", "half_pixel")
    reading = "linear" if mode == "linear" else reading
    if mode not in ("nearest", "linear") or reading.upper() not in Interpolation.__members__:
        return f"mode {mode} is not supported"
    if coordinates.upper() not in Coordinates.__members__:
        return f"coordinate_transformation_mode {coordinates} is not supported"
    names = [*node.inputs[1:], "", "", ""][:3]
    names = ["", names[0], ""] if first else names
    if not all(graph.is_constant(name) for name in names[1:] if name):
        return "scales or sizes are not constant"
    scales, sizes = (graph.constant(name) if name else None for name in names[1:])
    given = scales if scales is not None and scales.size else sizes
    axes = [int(a) % 4 for a in attribute_of(node, "axes", ()) or range(4)]
    if given is None or given.size != len(axes):
        return "scales or sizes do not fit the input"
    scale, size = [1.0] * 4, [-1] * 4
    for axis, number in zip(axes, given.reshape(-1), strict=True):
        if given is scales:
            scale[axis] = float(number)
        else:
            size[axis] = int(number)
        if not (1 / MAX_SCALE <= scale[axis] <= MAX_SCALE and (given is scales or (axis > 1) <= size[axis] <= MAX_SIZE)):
            return f"a scale or size of {number} is not supported"
    if any(scale[axis] != 1.0 or size[axis] not in (-1, shape[axis]) for axis in range(2)):
        return "only height and width can change"
    if coordinates == "align_corners" and any(number % 1 for number in scale):
        # ONNX spans scale * size pixels, ONNX Runtime as many as there are
        return "align_corners with a scale that is not whole is not supported"
    kinds = Interpolation[reading.upper()], Coordinates[coordinates.upper()]
    return Resize(*kinds, (scale[2], scale[3]), (size[2], size[3]))


def resize_can_run(graph: Graph, node: Node) -> str | None:
    """None if the node can be run, else the reason in words."""
    resize = resize_of(graph, node)
    return resize if isinstance(resize, str) else None


def resize_lower(builder: Builder, node: Node) -> None:
    """The steps of such a node."""
    resize = resize_of(builder.graph, node)
    assert isinstance(resize, Resize)
    builder.step(Step(StepKind.RESIZE, builder.value(node.inputs[0]), builder.value(node.outputs[0]), resize=resize))


def shuffle_can_run(graph: Graph, node: Node) -> str | None:
    """None if the node can be run, else the reason in words."""
    rank, block = len(shape_of(graph, node.inputs[0])), int(attribute_of(node, "blocksize", 1))
    if not 0 < block <= MAX_BLOCK:
        return f"blocks of {block} are not supported"
    return None if rank == 4 else f"{rank} dimensions: 4 are supported"


def shuffle_lower(builder: Builder, node: Node) -> None:
    """The steps of such a node."""
    builder.step(
        Step(
            StepKind.SHUFFLE,
            builder.value(node.inputs[0]),
            builder.value(node.outputs[0]),
            block=int(attribute_of(node, "blocksize", 1)),
            depth_first=attribute_of(node, "mode", "DCR") == "CRD",
            to_depth=node.op_type == "SpaceToDepth",
        )
    )
