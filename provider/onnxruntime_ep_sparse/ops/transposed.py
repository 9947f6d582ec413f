"""ConvTranspose, as a convolution whose outputs are the phases of the result, and a step that makes an image of them.

With a stride of s along an axis, output s * q + p reads the inputs q + t by those weights k for which s * t = p + pad - k * dilation. Each
weight stands in one phase p and at one tap t, so that the convolution has the weights of the node and otherwise zeros, which cost nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .. import reasons
from ..graph.ir import Graph, Node, attribute_of, input_of, shape_of, sizes_of
from ..program.builder import Builder
from ..program.kinds.shuffle import Shuffle
from ..program.limits import MAX_BLOCK
from ..program.steps import Window
from ..program.windows import check_convolution
from ..reasons import Finding
from .channels import ChannelPlan, Flow
from .costs import Estimate, Setting, combined, convolution, moved, scaled
from .row import OpRow, Shape
from .windows import AUTO_PAD, check_attributes, open_sizes

AT_MOST = 1 << 26
"""At most so many elements of the convolution's weight, with its zeros."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One spatial axis: the phases of an output, and the taps of the convolution.

    `place` has phase and tap of each weight. The convolution pads by `begin` and `end`; the last `crop` outputs are left out.
    """

    phases: int
    taps: int
    place: tuple[tuple[int, int], ...]
    begin: int
    end: int
    crop: int


def _axis(kernel: int, stride: int, dilation: int, pad: int, growth: int) -> Axis:
    """Return the phases and taps of an axis whose results have `stride` times as many pixels as its inputs, and `growth` more."""
    found = [((k * dilation - pad) % stride, k) for k in range(kernel)]
    places = [(phase, (phase + pad - k * dilation) // stride) for phase, k in found]
    more = -(-growth // stride)
    first = min(0, *(tap for _, tap in places))
    last = max(first, -more, *(tap for _, tap in places))
    return Axis(stride, last - first + 1, tuple((phase, tap - first) for phase, tap in places), -first, more + last, more * stride - growth)


def _axes_of(graph: Graph, node: Node) -> tuple[Axis, ...] | Finding:
    """Return the axes of a ConvTranspose, or the reason why it cannot run."""
    kernel, image = sizes_of(graph, node.inputs[1])[2:], shape_of(graph, node.inputs[0])[2:]
    rank = len(kernel)
    strides, dilations = (tuple(attribute_of(node, name, ()) or (1,) * rank) for name in ("strides", "dilations"))
    more = tuple(attribute_of(node, "output_padding", ()) or (0,) * rank)
    sizes = tuple(attribute_of(node, "output_shape", ()))[-rank:]
    auto = attribute_of(node, "auto_pad", "NOTSET")
    pads = tuple(attribute_of(node, "pads", ()) or (0,) * 2 * rank)
    for name, numbers, low in (("strides", strides, 1), ("dilations", dilations, 1), ("output_padding", more, 0), ("pads", pads, 0)):
        for number in numbers:
            if not low <= number <= MAX_BLOCK:
                return reasons.OUT_OF_RANGE(what=name, value=number, low=low, high=MAX_BLOCK)
    if sizes and not all(isinstance(size, int) for size in image):
        return reasons.SIZE_UNKNOWN(what="the image")
    axes = []
    for i in range(rank):
        growth = more[i] + (kernel[i] - 1) * dilations[i] + 1 - strides[i]  # without padding
        begin, end = pads[i], pads[rank + i]
        asked = sizes[i] - strides[i] * int(image[i] or 0) if sizes else 0
        if sizes or auto.startswith("SAME"):
            total = max(0, growth - asked)
            begin = total // 2 if auto == "SAME_UPPER" else total - total // 2
            end = total - begin
        elif auto == "VALID":
            begin = end = 0
        beyond = max(0, asked - growth) if sizes else 0
        if more[i] + beyond >= strides[i]:  # ONNX Runtime refuses it
            return reasons.OUT_OF_RANGE(what="output_padding", value=more[i] + beyond, low=0, high=strides[i] - 1)
        axes.append(_axis(kernel[i], strides[i], dilations[i], begin, growth + beyond - begin - end))
    return tuple(axes)


def _window(axes: tuple[Axis, ...]) -> Window:
    ones = (1,) * len(axes)
    return Window(tuple(a.taps for a in axes), ones, ones, tuple(a.begin for a in axes), tuple(a.end for a in axes))


def _can_run(graph: Graph, node: Node) -> Finding | None:
    weight, bias = node.inputs[1], input_of(node, 2)
    if not graph.is_constant(weight):
        return reasons.WEIGHT_NOT_CONSTANT()
    if bias and not graph.is_constant(bias):
        return reasons.PARAMETER_NOT_CONSTANT(name="B")
    shape, x = sizes_of(graph, weight), shape_of(graph, node.inputs[0])
    if not 3 <= len(shape) <= 5:
        return reasons.UNSUPPORTED_SPATIAL_RANK(rank=len(shape) - 2, supported="1, 2 and 3")
    if len(x) != len(shape):
        return reasons.MISMATCHED(what="the weight", other="the input")
    if 0 in shape:
        return reasons.WEIGHT_EMPTY()
    groups, rank = int(attribute_of(node, "group", 1)), len(shape) - 2
    if not 1 <= groups <= shape[0]:
        return reasons.OUT_OF_RANGE(what="group", value=groups, low=1, high=shape[0])
    if shape[0] % groups or (isinstance(x[1], int) and x[1] != shape[0]):
        return reasons.MISMATCHED(what=f"group={groups}", other=f"{x[1]} input channels and a weight of {shape[0]}")
    if bias and shape_of(graph, bias) != (shape[1] * groups,):
        return reasons.MISMATCHED(what="the shape of B", other=f"the weight of {shape[1] * groups} outputs")
    if tuple(attribute_of(node, "kernel_shape", ()) or shape[2:]) != shape[2:]:
        return reasons.MISMATCHED(what="kernel_shape", other="the weight")
    if attribute_of(node, "auto_pad", "NOTSET") not in AUTO_PAD:
        return reasons.UNSUPPORTED_ATTRIBUTE(name="auto_pad", value=node.attributes["auto_pad"])
    for name in ("output_padding", "output_shape"):
        if len(attribute_of(node, name, ())) not in (0, rank, *([rank + 2] if name == "output_shape" else [])):
            return reasons.MISMATCHED(what=name, other="kernel_shape")
    if finding := check_attributes(node, rank):
        return finding
    axes = _axes_of(graph, node)
    if isinstance(axes, Finding):
        return axes
    size = math.prod(shape[:2]) * math.prod(a.phases * a.taps for a in axes)
    if size > AT_MOST:
        return reasons.OUT_OF_RANGE(what="the elements of the weight by phases", value=size, low=1, high=AT_MOST)
    return check_convolution(_window(axes))


def _phased(weight__cmk: NDArray[np.float32], axes: tuple[Axis, ...], groups: int) -> NDArray[np.float32]:
    """Return the weight of the convolution, (M * phases, C / groups, taps).

    Without groups, the outputs of a phase follow each other, so that rows which share columns still do; with groups, those of a group.
    """
    c, m, *kernel = weight__cmk.shape
    phases, taps = tuple(a.phases for a in axes), tuple(a.taps for a in axes)
    found = np.zeros((groups, *phases, m, c // groups, *taps), np.float32)
    grouped = weight__cmk.reshape(groups, c // groups, m, *kernel).swapaxes(1, 2)
    for k in np.ndindex(*kernel):
        places = [axis.place[i] for axis, i in zip(axes, k, strict=True)]
        phase, tap = (tuple(place[i] for place in places) for i in range(2))
        found[(slice(None), *phase, slice(None), slice(None), *tap)] = grouped[(slice(None),) * 3 + k]
    if groups > 1:
        found = np.moveaxis(found, 1 + len(axes), 1)
    return np.ascontiguousarray(found).reshape(-1, c // groups, *taps)


def _lower(builder: Builder, node: Node) -> None:
    axes, groups = _axes_of(builder.graph, node), int(attribute_of(node, "group", 1))
    assert not isinstance(axes, Finding)
    weight = _phased(builder.floats(node.inputs[1]), axes, groups)
    bias, phases = None, tuple(axis.phases for axis in axes)
    if input_of(node, 2):
        floats = builder.floats(node.inputs[2])
        bias = floats.repeat(math.prod(phases)) if groups > 1 else np.tile(floats, math.prod(phases))
    image = tuple(d if isinstance(d, int) else None for d in shape_of(builder.graph, node.inputs[0])[2:])
    product = builder.convolution(weight, bias, _window(axes), groups, image)
    shuffle = Shuffle(phases, depth_first=groups > 1, crop=tuple(axis.crop for axis in axes)) if math.prod(phases) > 1 else None
    builder.product(node, node.inputs[0], product, shuffle=shuffle)


def _weights(graph: Graph, node: Node) -> tuple[str, ...]:
    return tuple(name for name in node.inputs[1:2] if graph.is_constant(name))


def _output_axis(graph: Graph, node: Node) -> int:
    return 1


def _channels(flow: Flow, node: Node) -> ChannelPlan | None:
    shape, groups = sizes_of(flow.graph, node.inputs[1]), int(attribute_of(node, "group", 1))
    if groups > 1:
        return None
    bias__m = flow.load(node.inputs[2]) if input_of(node, 2) else np.zeros(shape[1], np.float32)
    return flow.product(node, node.inputs[0], 1, 1, bias__m, padded=True)


def _implied(graph: Graph, node: Node) -> dict[str, Shape]:
    """Return the ranks and channels of a ConvTranspose's images, which follow from its weight."""
    weight = graph.values[node.inputs[1]].shape if node.inputs[1] in graph.values else None
    if weight is None or not 3 <= len(weight) <= 5 or not all(isinstance(d, int) for d in weight[:2]):
        return {}
    c, m = (int(d) for d in weight[:2] if isinstance(d, int))
    spatial = (None,) * (len(weight) - 2)
    return {node.inputs[0]: (None, c, *spatial), node.outputs[0]: (None, m * int(attribute_of(node, "group", 1)), *spatial)}


def _estimate(setting: Setting, node: Node) -> Estimate:
    """Return ONNX Runtime's work, a matrix product whose results are added up, and ours, a convolution and a step that copies."""
    axes, groups = _axes_of(setting.graph, node), int(attribute_of(node, "group", 1))
    assert not isinstance(axes, Finding)
    weight, x, y = (setting.sizes(name) for name in (node.inputs[1], node.inputs[0], node.outputs[0]))
    taps, phases, window = tuple(a.taps for a in axes), math.prod(a.phases for a in axes), _window(axes)
    rows, pixels = weight[1] * groups * math.prod(weight[2:]), x[0] * math.prod(x[2:])
    ort = {
        "node": 1,
        "gemm_mac": rows * pixels * weight[0] // groups,
        **moved("transposed_float", rows * pixels),
        **moved("weight", math.prod(weight), setting.weights),
    }
    between = (x[0], weight[1] * groups * phases, *(d + a.begin + a.end - a.taps + 1 for d, a in zip(x[2:], axes, strict=True)))
    ours = (between[1], weight[0] // groups, *taps)
    whole = convolution(setting.isa, setting.weights, x, ours, ours, between, window, groups)
    share = math.prod(weight) / math.prod(ours)
    shuffled = {} if phases == 1 else {"step": 1, **moved("copied", math.prod(y))}
    return replace(
        whole,
        ort=ort,
        ours=combined(whole.ours, shuffled),
        apart=scaled(whole.apart, share),
        shared=scaled(whole.shared, share),
        macs=whole.macs * share,
    )


ROWS = (
    OpRow(
        "ConvTranspose",
        "product",
        _can_run,
        _lower,
        "1-D, 2-D, 3-D; constant weight and bias; output_shape only of images of known size",
        weights=_weights,
        output_axis=_output_axis,
        channels=_channels,
        estimate=_estimate,
        open_sizes=open_sizes,
        implied=_implied,
    ),
)
