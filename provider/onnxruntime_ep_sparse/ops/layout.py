"""Operators that move elements or only change shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .. import reasons
from ..graph.ir import BYTES, FLOAT, INT64, Graph, Node, attribute_of, input_of, number_of, shape_of
from ..program.builder import Builder
from ..program.enums import Coordinates, Interpolation, NumberOp, PadMode, StepKind
from ..program.kinds.layout import Concat, Pad, Reshape, Transpose
from ..program.kinds.parts import BEYOND, Part
from ..program.kinds.resample import Resample
from ..program.kinds.resize import Resize
from ..program.kinds.shuffle import Shuffle
from ..program.limits import MAX_BLOCK, MAX_PARTS, MAX_RANK, MAX_SCALE, MAX_SIZE
from ..program.steps import Step
from ..reasons import Finding
from . import costs
from .axes import ascending, axis_of
from .channels import ChannelPlan, Flow, Link
from .costs import Estimate, Setting, moved
from .numbers import Dimension, computed_shape_finding, count_of, is_computed, known_numbers
from .row import ANY, MOVED, OpRow, can_run_if

CONCAT = "Concat"


def _reshape_can_run(graph: Graph, node: Node) -> Finding | None:
    target = graph.constant(node.inputs[1])
    if target is None:
        return computed_shape_finding(graph, node)
    if target.ndim != 1:
        return reasons.UNSUPPORTED_RANK(rank=target.ndim, supported="1 (of input shape)")
    for d in target:
        if not -1 <= d <= MAX_SIZE:
            return reasons.OUT_OF_RANGE(what="a dimension of the shape", value=d, low=-1, high=MAX_SIZE)
    return reasons.UNSUPPORTED_RANK(rank=target.size, supported=f"at most {MAX_RANK}") if target.size > MAX_RANK else None


def _reshape_lower(builder: Builder, node: Node) -> None:
    target, allow_zero = builder.graph.constant(node.inputs[1]), attribute_of(node, "allowzero", 0) == 1
    if target is None:
        spec = Reshape(allow_zero=allow_zero, computed=builder.list_of(node.inputs[1]).y)
    else:
        spec = Reshape(tuple(int(d) for d in target.reshape(-1)), allow_zero=allow_zero)
    x, y = builder.moved(node.inputs[0], node.outputs[0])
    builder.step(Step(StepKind.RESHAPE, x, y, spec=spec))


def _transpose_can_run(graph: Graph, node: Node) -> Finding | None:
    fits = sorted(_permutation_of(graph, node)) == list(range(len(shape_of(graph, node.inputs[0]))))
    return None if fits else reasons.MISMATCHED(what="perm", other="the input")


def _permutation_of(graph: Graph, node: Node) -> tuple[int, ...]:
    """Return the dimensions of a Transpose's input in the order of its output."""
    return tuple(attribute_of(node, "perm", range(len(shape_of(graph, node.inputs[0])))[::-1]))


def _transpose_lower(builder: Builder, node: Node) -> None:
    x, y = builder.moved(node.inputs[0], node.outputs[0])
    builder.step(Step(StepKind.TRANSPOSE, x, y, spec=Transpose(_permutation_of(builder.graph, node))))


def _flatten_can_run(graph: Graph, node: Node) -> Finding | None:
    rank, axis = len(shape_of(graph, node.inputs[0])), int(attribute_of(node, "axis", 1))
    return None if -rank <= axis <= rank else reasons.OUT_OF_RANGE(what="axis", value=axis, low=-rank, high=rank)


def _flatten_lower(builder: Builder, node: Node) -> None:
    rank = len(shape_of(builder.graph, node.inputs[0]))
    axis = int(attribute_of(node, "axis", 1))
    x, y = builder.moved(node.inputs[0], node.outputs[0])
    builder.step(Step(StepKind.RESHAPE, x, y, spec=Reshape(flatten_axis=axis + rank if axis < 0 else axis)))


def _elements_per_channel(flow: Flow, node: Node) -> int:
    """Return the number of elements that the operand's channels and all dimensions after them have per channel; 0 if it is not known."""
    x = flow.channels.get(node.inputs[0])
    if x is None or flow.rank(node.outputs[0]) < 2:
        return 0
    after = shape_of(flow.graph, node.inputs[0])[x.axis + 1 :]
    within = [d for d in after if isinstance(d, int)]
    return int(np.prod(within, dtype=np.int64)) if len(within) == len(after) else 0


def _joined(flow: Flow, node: Node, times: int, counted: tuple[tuple[int, int], ...] = ()) -> ChannelPlan:
    """Return the plan of a node that joins channels and their elements to the last dimension: flattened images, regrouped features."""
    x, y = node.inputs[0], node.outputs[0]
    channels = flow.channels[x]
    flow.make(y, flow.rank(y) - 1, channels.known__c.repeat(times), channels.value__c.repeat(times))
    return ChannelPlan(node, (Link(x, 0, times),), counted=counted)


def _reshape_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    times = _elements_per_channel(flow, node)
    if times == 0 or not flow.graph.is_constant(node.inputs[1]):
        return None
    x, last = flow.channels[node.inputs[0]], shape_of(flow.graph, node.outputs[0])[-1]
    target = [int(d) for d in flow.load(node.inputs[1]).reshape(-1)]
    copied = [i for i, d in enumerate(target) if d == 0]
    if any(i >= x.axis for i in copied) or (copied and attribute_of(node, "allowzero", 0) == 1):
        return None
    if target[-1] != x.size * times and not (target[-1] == -1 and last == x.size * times):
        return None
    return _joined(flow, node, times, ((1, -1),) if target[-1] > 0 else ())


def _flatten_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    times = _elements_per_channel(flow, node)
    if times == 0 or int(attribute_of(node, "axis", 1)) % flow.rank(node.inputs[0]) != flow.channels[node.inputs[0]].axis:
        return None
    return _joined(flow, node, times)


def _axes_of(graph: Graph, node: Node) -> tuple[int, ...] | Finding:
    """Return the axes that a Squeeze removes or an Unsqueeze inserts, ascending; or the reason why it cannot run."""
    shape = shape_of(graph, node.inputs[0])
    given = node.attributes.get("axes")
    if len(node.inputs) > 1 and node.inputs[1]:
        array = graph.constant(node.inputs[1])
        if array is None:
            return reasons.PARAMETER_NOT_CONSTANT(name="axes")
        if array.ndim > 1:
            return reasons.MISMATCHED(what="the shape of input axes", other="a list")
        given = tuple(int(axis) for axis in array.reshape(-1))
    if given is None:
        if not all(isinstance(d, int) for d in shape):
            return reasons.AXES_UNKNOWN()
        given = tuple(axis for axis, d in enumerate(shape) if d == 1)
    assert isinstance(given, tuple)
    rank = len(shape) + (len(given) if node.op_type == "Unsqueeze" else 0)
    if not given:
        return reasons.NO_AXES()
    return ascending(given, rank) if rank <= MAX_RANK else reasons.MISMATCHED(what="input axes", other="the input")


def _axes_lower(builder: Builder, node: Node) -> None:
    axes = _axes_of(builder.graph, node)
    assert not isinstance(axes, Finding)
    shape = Reshape(inserted=axes) if node.op_type == "Unsqueeze" else Reshape(removed=axes)
    x, y = builder.moved(node.inputs[0], node.outputs[0])
    builder.step(Step(StepKind.RESHAPE, x, y, spec=shape))


def _concat_can_run(graph: Graph, node: Node) -> Finding | None:
    if len(node.inputs) > MAX_PARTS:
        return reasons.UNSUPPORTED_OPERAND_COUNT(count=len(node.inputs), supported=f"at most {MAX_PARTS}")
    if not all(node.inputs):
        return reasons.UNSUPPORTED_OPERAND_COUNT(count=len([name for name in node.inputs if name]), supported="as many as are listed")
    rank = len(shape_of(graph, node.inputs[0]))
    if not all(len(shape_of(graph, name)) == rank for name in node.inputs):
        return reasons.MISMATCHED(what="the rank of an operand", other="that of the first")
    axis = axis_of(graph, node)
    return axis if isinstance(axis, Finding) else None


def _concat_lower(builder: Builder, node: Node) -> None:
    axis = axis_of(builder.graph, node)
    assert isinstance(axis, int)
    parts, y = builder.joined(node.inputs, node.outputs[0])
    for i, x in enumerate(parts):
        builder.step(Step(StepKind.CONCAT, x, y, spec=Concat(axis, begins=i == 0)))


def _concat_estimate(setting: Setting, node: Node) -> Estimate:
    """Return the work of a Concat.

    ONNX Runtime copies all operands. We copy those that cannot be made in their place: constants, inputs, what an earlier Concat has
    already, and all where an operand is not one run of the result. That takes as long as a Transpose.
    """
    graph, y = setting.graph, setting.sizes(node.outputs[0])
    axis = axis_of(graph, node)
    assert isinstance(axis, int)
    in_place = [name for name in dict.fromkeys(node.inputs) if name in graph.producer and _first_concat(graph, name) == node.index]
    free = sum(math.prod(setting.sizes(name)) for name in in_place) if math.prod(y[:axis]) == 1 else 0
    ours = {"step": len(node.inputs) - len(in_place), **moved("transposed", math.prod(y) - free)}
    return costs.without_weights({"node": 1, **moved("copied", math.prod(y))}, ours, math.prod(y))


def _first_concat(graph: Graph, name: str) -> int:
    """Return the index of the first Concat that reads a value."""
    return next(reader.index for reader in graph.consumers[name] if reader.op_type == CONCAT)


def _concat_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    rank = flow.rank(node.inputs[0])
    axis = int(attribute_of(node, "axis", 0)) % rank
    sizes = [shape_of(flow.graph, name)[axis] for name in node.inputs]
    links: list[Link] = []
    known: list[NDArray[np.bool_]] = []
    value: list[NDArray[np.float32]] = []
    for name, dimension in zip(node.inputs, sizes, strict=True):
        channels = flow.channels.get(name)
        if channels is not None and channels.axis == axis:
            links.append(Link(name, sum(len(part) for part in known)))
            known.append(channels.known__c)
            value.append(channels.value__c)
        elif isinstance(dimension, int):
            known.append(np.zeros(dimension, bool))
            value.append(np.zeros(dimension, np.float32))
        else:
            return None
    if not links:
        return None
    y = node.outputs[0]
    flow.make(y, axis, np.concatenate(known), np.concatenate(value))
    linked__c = np.zeros(flow.channels[y].size, bool)
    for link in links:
        linked__c[link.begin : link.begin + flow.channels[link.x].size] = True
    flow.channels[y].needed__c[~linked__c] = True
    flow.keep(name for name in node.inputs if name not in {link.x for link in links})
    return ChannelPlan(node, tuple(links))


PAD_MODES = {mode.name.lower(): mode for mode in PadMode}
"""ONNX's modes of Pad, by its words."""


def padding_of(graph: Graph, node: Node) -> tuple[tuple[int, ...], tuple[int, ...], float] | Finding:
    """Return how many elements a Pad adds before and after in each dimension, and their value; or the reason why it cannot run.

    Negative numbers are those of elements that it takes away.
    """
    if attribute_of(node, "mode", "constant") not in PAD_MODES:
        return reasons.UNSUPPORTED_ATTRIBUTE(name="mode", value=node.attributes["mode"])
    names = [*node.inputs[1:], "", "", ""]
    for parameter, name in zip(("pads", "constant_value", "axes"), names, strict=False):
        if name and not graph.is_constant(name):
            return reasons.PARAMETER_NOT_CONSTANT(name=parameter)
    rank = len(shape_of(graph, node.inputs[0]))
    pads, value, axes = (graph.constant(name) if name else None for name in names[:3])
    if "pads" in node.attributes:  # before version 11
        pads, value = np.array(attribute_of(node, "pads", ()), np.int64), np.array(number_of(node, "value", 0.0), np.float32)
    given = [int(a) for a in axes.reshape(-1)] if axes is not None else list(range(rank))
    chosen = list(dict.fromkeys(a + rank * (a < 0) for a in given if -rank <= a < rank))
    assert pads is not None
    if rank == 0 or len(chosen) != len(given) or pads.size != 2 * len(chosen):
        return reasons.MISMATCHED(what="input pads", other="the input")
    if value is not None and value.size != 1:
        return reasons.MISMATCHED(what=f"constant_value of {value.size} elements", other="a number")
    for n in pads.reshape(-1):
        if not -MAX_SIZE <= n <= MAX_SIZE:
            return reasons.OUT_OF_RANGE(what="pads", value=n, low=-MAX_SIZE, high=MAX_SIZE)
    before, after = [0] * rank, [0] * rank
    for axis, begin, end in zip(chosen, pads.reshape(2, -1)[0], pads.reshape(2, -1)[1], strict=True):
        before[axis], after[axis] = int(begin), int(end)
    return tuple(before), tuple(after), float(value.reshape(-1)[0]) if value is not None else 0.0


def _pad_can_run(graph: Graph, node: Node) -> Finding | None:
    padding = padding_of(graph, node)
    if not isinstance(padding, Finding) or _has_computed_pads(graph, node):
        return None
    return padding


def _has_computed_pads(graph: Graph, node: Node) -> bool:
    """Return whether a plan can compute how many elements a Pad adds in each dimension."""
    pads, value, axes = (*node.inputs[1:], "", "", "")[:3]
    rank, number = len(shape_of(graph, node.inputs[0])), graph.constant(value) if value else np.zeros(1)
    if not pads or axes or rank == 0 or number is None or number.size != 1 or attribute_of(node, "mode", "constant") != "constant":
        return False
    return is_computed(graph, pads) and len(shape_of(graph, pads)) == 1 and count_of(graph, pads) == 2 * rank


def _computed_pads(builder: Builder, node: Node) -> tuple[int, int]:
    """Return the value of a Pad's numbers, and the dimension from which on they say something: the batch is mostly left as it is."""
    numbers, rank = builder.list_of(node.inputs[1]), len(shape_of(builder.graph, node.inputs[0]))
    known = known_numbers(builder.graph, node.inputs[1])
    if rank < 2 or len(known) != 2 * rank or known[0] != 0 or known[rank] != 0:
        return numbers.y, 0
    places = (*range(1, rank), *range(rank + 1, 2 * rank))
    return builder.compute(NumberOp.PICK, [numbers.y], shape=(len(places),), places=places).y, 1


def _pad_lower(builder: Builder, node: Node) -> None:
    padding = padding_of(builder.graph, node)
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    computed, axis = -1, 0
    if isinstance(padding, Finding):
        number = builder.graph.constant(node.inputs[2]) if input_of(node, 2) else np.zeros(1)
        assert number is not None
        value = float(number.reshape(-1)[0])
        computed, axis = _computed_pads(builder, node)
    else:
        before, after, value = padding
    if builder.has_bytes(node.inputs[0]):
        zero = 0
        x, y = builder.moved(node.inputs[0], node.outputs[0])
    else:
        found = builder.zeros.get(node.inputs[0], 0)
        zero = 0 if isinstance(found, str) else found
        x, y = builder.carried(node.inputs[0], zero), builder.value(node.outputs[0])
        builder.zeros[node.outputs[0]] = zero
    first, last = (tuple(max(n, 0) for n in numbers) for numbers in (before, after))
    cut = [axis for axis, numbers in enumerate(zip(before, after, strict=True)) if min(numbers) < 0]
    if cut:
        ends = tuple(min(after[axis], 0) or BEYOND for axis in cut)
        part = Part(tuple(cut), tuple(max(-before[axis], 0) for axis in cut), ends, (1,) * len(cut), inside=True)
        rest = builder.new_like(x, len(before)) if any(first + last) else y
        builder.step(Step(StepKind.PART, x, rest, spec=part))
        x = rest
    if x != y:
        pad = Pad(first, last, value - zero, PAD_MODES[attribute_of(node, "mode", "constant")], computed, axis)
        builder.step(Step(StepKind.PAD, x, y, spec=pad))


def _pad_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    x, padding = flow.channels.get(node.inputs[0]), padding_of(flow.graph, node)
    if x is None or isinstance(padding, Finding) or padding[0][x.axis] or padding[1][x.axis]:
        return None
    before, after, fill = padding
    keeps = attribute_of(node, "mode", "constant") != "constant" or max(before + after) <= 0
    known__c = x.known__c if keeps else x.known__c & (x.value__c == fill)
    return flow.same(node, node.inputs[0], known__c, x.value__c)


NEAREST_MODES = {
    mode.name.lower(): mode
    for mode in (Interpolation.ROUND_PREFER_FLOOR, Interpolation.ROUND_PREFER_CEIL, Interpolation.FLOOR, Interpolation.CEIL)
}
"""ONNX's nearest_mode, by its words."""
COORDINATES = {mode.name.lower(): mode for mode in Coordinates}
"""ONNX's coordinate_transformation_mode, by its words."""


def _resize_of(graph: Graph, node: Node) -> Resize | tuple[Resample, ...] | Finding:
    """Return how a Resize or Upsample changes height and width, or axis by axis; or the reason why it cannot run."""
    shape = shape_of(graph, node.inputs[0])
    rank, cubic = len(shape), attribute_of(node, "mode", "nearest") == "cubic"
    if not 3 <= rank <= 5 or (cubic and rank != 4):
        return reasons.UNSUPPORTED_RANK(rank=rank, supported="3 to 5, with mode=cubic 4")
    excludes = int(attribute_of(node, "exclude_outside", 0)) if cubic else 0
    for name, supported in (("antialias", 0), ("exclude_outside", excludes), ("keep_aspect_ratio_policy", "stretch")):
        if attribute_of(node, name, supported) != supported:
            return reasons.UNSUPPORTED_ATTRIBUTE(name=name, value=node.attributes[name])
    first = node.since_version < 11
    mode, nearest = attribute_of(node, "mode", "nearest"), attribute_of(node, "nearest_mode", "round_prefer_floor")
    coordinates = "asymmetric" if first else attribute_of(node, "coordinate_transformation_mode", "half_pixel")
    if mode not in ("nearest", "linear", "cubic"):
        return reasons.UNSUPPORTED_ATTRIBUTE(name="mode", value=mode)
    if mode != "nearest" and graph.values[node.inputs[0]].dtype in BYTES:
        return reasons.UNSUPPORTED_ATTRIBUTE(name="mode", value=f"{mode} of 8-bit integers")
    if nearest not in NEAREST_MODES:
        return reasons.UNSUPPORTED_ATTRIBUTE(name="nearest_mode", value=nearest)
    if coordinates not in COORDINATES:
        return reasons.UNSUPPORTED_ATTRIBUTE(name="coordinate_transformation_mode", value=coordinates)
    interpolation = Interpolation.LINEAR if mode == "linear" else Interpolation.VERSION_10 if first else NEAREST_MODES[nearest]
    names = [*node.inputs[1:], "", "", ""][:3]
    names = ["", names[0], ""] if first else names
    computed: dict[str, str] = {}
    for parameter, name in zip(("scales", "sizes"), names[1:], strict=True):
        if name and not graph.is_constant(name):
            if not is_computed(graph, name, FLOAT if parameter == "scales" else INT64):
                return reasons.PARAMETER_NOT_CONSTANT(name=parameter)
            computed[parameter] = name
    scales, sizes = (array if array is not None and array.size else None for array in map(graph.constant, names[1:]))
    if "scales" in node.attributes:
        scales = np.array(attribute_of(node, "scales", ()), np.float32)
    given = sizes if scales is None else scales
    if computed:
        if cubic or rank != 4:
            return reasons.PARAMETER_NOT_CONSTANT(name=next(iter(computed)))
        return _computed_resize(graph, node, computed, given, interpolation, COORDINATES[coordinates])
    listed = attribute_of(node, "axes", ()) or range(rank)
    axes = list(dict.fromkeys(int(a) % rank for a in listed if -rank <= a < rank))
    if given is None or (scales is not None and sizes is not None) or not len(listed) == len(axes) == given.size:
        return reasons.MISMATCHED(what="scales or sizes", other="the input")
    scale, size = [1.0] * rank, [-1] * rank
    for axis, number in zip(axes, given.reshape(-1), strict=True):
        if given is scales:
            scale[axis] = float(number)
        else:
            size[axis] = int(number)
        if not 1 / MAX_SCALE <= scale[axis] <= MAX_SCALE:
            return reasons.OUT_OF_RANGE(what="scales", value=number, low=f"1/{MAX_SCALE}", high=MAX_SCALE)
        if given is sizes and not (axis > 1) <= size[axis] <= MAX_SIZE:
            return reasons.OUT_OF_RANGE(what="sizes", value=number, low=int(axis > 1), high=MAX_SIZE)
    if any(scale[axis] != 1.0 or size[axis] not in (-1, shape[axis]) for axis in range(2)):
        return reasons.UNSUPPORTED_AXES(supported="height and width")
    if coordinates == "align_corners" and any(number % 1 for number in scale):
        # ONNX spans scale * size pixels, ONNX Runtime as many as there are
        return reasons.ALIGN_CORNERS_SCALE()
    if cubic or rank != 4:
        coefficient = number_of(node, "cubic_coeff_a", -0.75)
        changed = [axis for axis in range(2, rank) if scale[axis] != 1.0 or size[axis] not in (-1, shape[axis])] or [2]
        at, reading = COORDINATES[coordinates], Interpolation.CUBIC if cubic else interpolation
        return tuple(Resample(axis, reading, at, scale[axis], size[axis], coefficient, bool(excludes)) for axis in changed)
    return Resize(interpolation, COORDINATES[coordinates], (scale[2], scale[3]), (size[2], size[3]))


def _computed_resize(
    graph: Graph, node: Node, computed: Mapping[str, str], given: np.ndarray | None, interpolation: Interpolation, coordinates: Coordinates
) -> Resize | Finding:
    """Return how a Resize by computed scales or sizes changes images, without these; or the reason why it cannot run."""
    ((parameter, name), *others) = computed.items()
    axes = [int(a) % 4 for a in attribute_of(node, "axes", ()) or range(4)]
    numbers = known_numbers(graph, name)
    if others or given is not None or len(set(axes)) != len(axes) or len(axes) != len(numbers) or not {2, 3} <= set(axes):
        return reasons.MISMATCHED(what="scales or sizes", other="the input")
    kept = 1.0 if parameter == "scales" else None
    for axis, number in zip(axes, numbers, strict=True):
        same = number == kept if kept else number in (Dimension(node.inputs[0], axis), shape_of(graph, node.inputs[0])[axis])
        if axis < 2 and (number is None or not same):
            return reasons.UNSUPPORTED_AXES(supported="height and width")
    if parameter == "scales" and coordinates == Coordinates.ALIGN_CORNERS:
        return reasons.ALIGN_CORNERS_SCALE()
    return Resize(interpolation, coordinates, places=(axes.index(2), axes.index(3)))


def _resize_lower(builder: Builder, node: Node) -> None:
    resize, operand, result = _resize_of(builder.graph, node), node.inputs[0], node.outputs[0]
    assert not isinstance(resize, Finding)
    if isinstance(resize, Resize) and resize.interpolation != Interpolation.LINEAR:
        x, y = builder.moved(operand, result)
    else:
        x, y = builder.value(operand), builder.value(result)
    if isinstance(resize, Resize):
        names = node.inputs[1:] if node.since_version < 11 else node.inputs[2:]
        for name, parameter in zip(names, ("scales", "sizes"), strict=False):
            if name and not builder.graph.is_constant(name):
                number = builder.list_of(name).y
                resize = replace(resize, computed_scales=number) if parameter == "scales" else replace(resize, computed_sizes=number)
        builder.step(Step(StepKind.RESIZE, x, y, spec=resize))
        return
    for i, resample in enumerate(resize):  # the first axis first: what follows it stands in runs
        last = i == len(resize) - 1
        made = y if last else builder.new_value(len(shape_of(builder.graph, node.inputs[0])))
        builder.step(Step(StepKind.RESAMPLE, x, made, spec=resample))
        x = made


def _resize_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    x = flow.channels.get(node.inputs[0])
    if x is None or x.axis != 1 or isinstance(_resize_of(flow.graph, node), Finding):
        return None
    rank = flow.rank(node.inputs[0])
    axes = [int(a) % rank for a in attribute_of(node, "axes", ()) or range(rank)]
    sizes = len(node.inputs) > 3 and bool(node.inputs[3]) and 1 in axes
    if not all(flow.graph.is_constant(name) for name in node.inputs[1:] if name):
        return None
    return flow.same(node, node.inputs[0], x.known__c, x.value__c, counted=((3, axes.index(1)),) if sizes else ())


def _shuffle_can_run(graph: Graph, node: Node) -> Finding | None:
    rank, block = len(shape_of(graph, node.inputs[0])), int(attribute_of(node, "blocksize", 1))
    if attribute_of(node, "mode", "DCR") not in ("DCR", "CRD"):
        return reasons.UNSUPPORTED_ATTRIBUTE(name="mode", value=node.attributes["mode"])
    if not 0 < block <= MAX_BLOCK:
        return reasons.OUT_OF_RANGE(what="blocksize", value=block, low=1, high=MAX_BLOCK)
    return None if rank == 4 else reasons.UNSUPPORTED_RANK(rank=rank, supported=4)


def _shuffle_lower(builder: Builder, node: Node) -> None:
    block, is_crd = (int(attribute_of(node, "blocksize", 1)),) * 2, attribute_of(node, "mode", "DCR") == "CRD"
    x, y = builder.moved(node.inputs[0], node.outputs[0])
    builder.step(Step(StepKind.SHUFFLE, x, y, spec=Shuffle(block, depth_first=is_crd, to_depth=node.op_type == "SpaceToDepth")))


ROWS = (
    OpRow("Transpose", "neighbour", _transpose_can_run, _transpose_lower, estimate=costs.work_of("transposed"), types=ANY),
    OpRow(
        "Reshape",
        "neighbour",
        _reshape_can_run,
        _reshape_lower,
        "shape constant or computed",
        first_version=5,
        parameters=(1,),
        types=ANY,
        channels=_reshape_channels,
        estimate=costs.no_work,
    ),
    OpRow("Flatten", "neighbour", _flatten_can_run, _flatten_lower, channels=_flatten_channels, estimate=costs.no_work, types=ANY),
    *(
        OpRow(name, "neighbour", can_run_if(_axes_of), _axes_lower, "constant axes", parameters=(1,), estimate=costs.no_work, types=ANY)
        for name in ("Squeeze", "Unsqueeze")
    ),
    OpRow(
        CONCAT,
        "neighbour",
        _concat_can_run,
        _concat_lower,
        f"any axis, at most {MAX_PARTS} operands",
        first_version=4,
        types=ANY,
        channels=_concat_channels,
        estimate=_concat_estimate,
        blocked=True,
    ),
    OpRow(
        "Pad",
        "neighbour",
        _pad_can_run,
        _pad_lower,
        "pads constant, or computed for mode constant; constant value",
        first_version=2,
        parameters=(1, 2, 3),
        types=MOVED,
        channels=_pad_channels,
    ),
    OpRow(
        "Resize",
        "neighbour",
        can_run_if(_resize_of),
        _resize_lower,
        "images of 1 to 3 dimensions; those of two also by computed scales or sizes, or cubic; no antialias, no tf_crop_and_resize",
        parameters=(1, 2, 3),
        types=MOVED,
        channels=_resize_channels,
        estimate=costs.work_of("resized"),
        blocked=True,
    ),
    OpRow(
        "Upsample",
        "neighbour",
        can_run_if(_resize_of),
        _resize_lower,
        "constant scales",
        first_version=7,
        parameters=(1,),
        channels=_resize_channels,
        estimate=costs.work_of("resized"),
        blocked=True,
    ),
    OpRow("DepthToSpace", "neighbour", _shuffle_can_run, _shuffle_lower, types=MOVED),
    OpRow("SpaceToDepth", "neighbour", _shuffle_can_run, _shuffle_lower, types=MOVED),
)
