"""Averages of windows of 8-bit integers, as ONNX Runtime's QLinearAveragePool computes them.

It adds floats, (X - zero) * scale, row after row of the window. So does a depthwise convolution of ones: zeros of padding change no sum.
The sum is divided by the count and by the scale of the result; then the zero point is added, and only then is it rounded. QuantizeLinear
rounds first, so that ties go another way where the zero point is odd.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.elementwise import Act, Op

from .. import reasons
from ..graph.ir import BYTES, Graph, Node, attribute_of, shape_of
from ..program.builder import Builder
from ..program.enums import StepKind
from ..program.kinds.elementwise import Binary
from ..program.kinds.quantized import Carry
from ..program.packing import depthwise
from ..program.steps import Activation, Step, Window
from ..program.windows import check_pool
from ..reasons import Finding
from .costs import Estimate, Setting
from .costs import elementwise as same_work
from .quantized import Parameters, lower_pool, parameters_of_both, pool_of
from .row import FUSED, MICROSOFT, OpRow, can_run_if
from .windows import check_attributes, is_padded, window_of

MOST_AXES = 2
"""Spatial dimensions of windows that depthwise kernels run."""


@dataclass(frozen=True, slots=True)
class Average:
    """A QLinearAveragePool: `window` reaches beyond the padding where sizes are rounded up. `count` is one number, or one for each pixel.

    It is None where the window is the whole image: ONNX Runtime then computes a QLinearGlobalAveragePool, which rounds otherwise.
    """

    of_x: Parameters
    of_y: Parameters
    channels: int
    window: Window
    count: NDArray[np.float32] | None


def average_of(graph: Graph, node: Node) -> Average | Finding:
    """Return what a QLinearAveragePool computes, or the reason why it cannot run."""
    found = parameters_of_both(graph, node)
    if isinstance(found, Finding):
        return found
    of_x, of_y = found
    _, channels, *image = shape_of(graph, node.inputs[0])
    kernel, rank = tuple(attribute_of(node, "kernel_shape", ())), len(image)
    if not 1 <= rank <= MOST_AXES:
        return reasons.UNSUPPORTED_SPATIAL_RANK(rank=rank, supported="1 and 2")
    if len(kernel) != rank:
        return reasons.MISMATCHED(what="kernel_shape", other="the input")
    finding = check_attributes(node, rank)
    if finding is not None:
        return finding
    for name, only in (("channels_last", (0,)), ("auto_pad", ("", "NOTSET")), ("dilations", ((), (1,) * rank))):
        value = attribute_of(node, name, only[0])
        if value not in only:
            return reasons.UNSUPPORTED_ATTRIBUTE(name=name, value=value)
    window = window_of(node, kernel)
    finding = check_pool(window)
    if finding is not None:
        return finding
    made = (graph.values[node.outputs[0]].shape or ())[2:]
    sizes = [d for d in (*image, *made) if isinstance(d, int)]
    if not isinstance(channels, int) or len(sizes) < 2 * rank:
        return reasons.SIZE_UNKNOWN(what="the image")
    if kernel == tuple(image) and not is_padded(window):
        whole = pool_of(graph, node)
        return whole if isinstance(whole, Finding) else Average(of_x, of_y, channels, window, None)
    ends, taps = [], []
    for size, many, k, s, begin in zip(sizes[:rank], sizes[rank:], kernel, window.stride, window.pad_begin, strict=True):
        first = np.arange(many) * s - begin
        ends.append(max(0, int(first[-1]) + k - size) if many else 0)
        taps.append(np.minimum(first + k, size) - np.maximum(first, 0))
    if any(each.min(initial=1) < 1 for each in taps):
        return reasons.PADS_COVER_WINDOW()
    count = taps[0] if rank == 1 else np.outer(*taps)
    if attribute_of(node, "count_include_pad", 0):
        count = np.full((1,) * rank, math.prod(kernel))
    return Average(of_x, of_y, channels, replace(window, pad_end=tuple(ends)), count[None, None].astype(np.float32))


def _lower(builder: Builder, node: Node) -> None:
    average = average_of(builder.graph, node)
    assert not isinstance(average, Finding)
    if average.count is None:
        lower_pool(builder, node)
        return
    x, y, rank = node.inputs[0], node.outputs[0], len(average.window.kernel) + 2
    zero, scale = int(average.of_x.zero[0]), float(average.of_x.scale[0])
    floats = builder.new_value(rank)
    if builder.has_bytes(x):
        builder.step(Step(StepKind.CARRY, builder.as_bytes(x), floats, spec=Carry(float(zero), scale)))
    else:
        builder.step(Step(StepKind.ACTIVATE, builder.carried(x, zero), floats, activation=Activation(Act.AFFINE, scale, 0.0)))
    ones = np.ones((average.channels, 1, *average.window.kernel), np.float32)
    value = builder.new_value(rank)
    builder.step(Step(StepKind.DEPTHWISE, floats, value, spec=depthwise(ones, None, average.channels, average.window)))
    one = (1,) * rank
    numbers: list[tuple[Op, NDArray]] = [(Op.DIV, average.count), (Op.DIV, average.of_y.scale), (Op.ADD, average.of_y.zero)]
    for op, number in numbers if average.of_y.zero[0] else numbers[:2]:
        before, value = value, builder.new_value(rank)
        operand = builder.constant(number.astype(np.float32).reshape(number.shape if number.ndim == rank else one))
        builder.step(Step(StepKind.BINARY, before, value, operand, spec=Binary(op)))
    builder.step(Step(StepKind.CARRY, value, builder.stored_value(y), spec=Carry()))
    builder.zeros[y] = int(average.of_y.zero[0])


def _estimate(setting: Setting, node: Node) -> Estimate:
    return same_work("pool_tap", math.prod(setting.sizes(node.outputs[0])) * math.prod(attribute_of(node, "kernel_shape", ())))


ROWS = (
    OpRow(
        "QLinearAveragePool",
        "neighbour",
        can_run_if(average_of),
        _lower,
        "1-D, 2-D; without dilations and auto_pad; images of known size; constant scales and zero points",
        (*MICROSOFT, FUSED),
        parameters=(1, 2, 3, 4),
        types=BYTES,
        estimate=_estimate,
    ),
)
