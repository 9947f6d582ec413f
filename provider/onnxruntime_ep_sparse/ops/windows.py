"""Conv and pooling: what a window reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .. import reasons
from ..graph.ir import Graph, Node, attribute_of, input_of, shape_of, sizes_of
from ..graph.nonzeros import Nonzeros
from ..program.builder import Builder
from ..program.enums import AutoPad, StepKind
from ..program.fusing import may_have_one_shape
from ..program.kinds.depthwise import Depthwise
from ..program.kinds.product import PendingProduct
from ..program.kinds.windows import Pool
from ..program.steps import Step, Window
from ..program.windows import check_convolution, check_pool, meeting_taps
from ..reasons import Finding
from .channels import ChannelPlan, Flow, Link
from .costs import NOMINAL_BATCH, NOMINAL_SPATIAL, Estimate, Setting, convolution, elementwise, open_sizes_of
from .fused import activation_within, conv_activation, fused_can_run, fused_channels, fused_estimate, fused_row
from .row import FLOATS, MOVED, OpRow, Shape

AUTO_PAD = {
    "": AutoPad.EXPLICIT,
    "NOTSET": AutoPad.EXPLICIT,
    "VALID": AutoPad.EXPLICIT,
    "SAME_UPPER": AutoPad.SAME_UPPER,
    "SAME_LOWER": AutoPad.SAME_LOWER,
}
"""Every value of the attribute auto_pad. VALID is padding by zero pixels."""
DILATED_AVERAGE_VERSION = 19
"""Since then, AveragePool with count_include_pad does not count what is beyond the padding; before, ONNX Runtime counts every tap."""


def window_of(node: Node, kernel: tuple[int, ...]) -> Window:
    """Return the spatial attributes of a node, with ONNX's defaults for missing ones."""
    rank = len(kernel)
    auto = attribute_of(node, "auto_pad", "")
    given = attribute_of(node, "pads", ()) if auto in ("", "NOTSET") else ()
    pads = tuple(given or (0,) * 2 * rank)
    return Window(
        kernel=kernel,
        stride=tuple(attribute_of(node, "strides", ()) or (1,) * rank),
        dilation=tuple(attribute_of(node, "dilations", ()) or (1,) * rank),
        pad_begin=pads[:rank],
        pad_end=pads[rank:],
        auto_pad=AUTO_PAD.get(auto, AutoPad.EXPLICIT),
    )


def check_attributes(node: Node, rank: int) -> Finding | None:
    """Return None if `window_of` can describe the window of a node whose kernel has `rank` dimensions, else the reason."""
    auto = attribute_of(node, "auto_pad", "")
    if auto not in AUTO_PAD:
        return reasons.UNSUPPORTED_ATTRIBUTE(name="auto_pad", value=auto)
    for name, length in (("strides", rank), ("dilations", rank), ("pads", 2 * rank)):
        if len(attribute_of(node, name, ())) not in (0, length):
            return reasons.MISMATCHED(what=name, other="kernel_shape")
    return None


def is_padded(window: Window) -> bool:
    """Return whether a window may read beyond the image."""
    return window.auto_pad != AutoPad.EXPLICIT or any(window.pad_begin + window.pad_end)


def conv_can_run(graph: Graph, node: Node) -> Finding | None:
    """Return None if a convolution can run, else the reason."""
    if not graph.is_constant(node.inputs[1]):
        return reasons.WEIGHT_NOT_CONSTANT()
    if len(node.inputs) > 2 and node.inputs[2] and not graph.is_constant(node.inputs[2]):
        return reasons.PARAMETER_NOT_CONSTANT(name="B")
    shape = shape_of(graph, node.inputs[1])
    x = shape_of(graph, node.inputs[0])
    if not 3 <= len(shape) <= 5:
        return reasons.UNSUPPORTED_SPATIAL_RANK(rank=len(shape) - 2, supported="1, 2 and 3")
    if len(x) != len(shape):
        return reasons.MISMATCHED(what="the weight", other="the input")
    positive = [d for d in shape if isinstance(d, int) and d > 0]
    if len(positive) < len(shape):
        return reasons.WEIGHT_EMPTY()
    m, c = positive[:2]
    groups = int(attribute_of(node, "group", 1))
    if not 1 <= groups <= m:
        return reasons.OUT_OF_RANGE(what="group", value=groups, low=1, high=m)
    if len(node.inputs) > 2 and node.inputs[2] and shape_of(graph, node.inputs[2]) != (m,):
        return reasons.MISMATCHED(what="the shape of B", other=f"the weight of {m} outputs")
    if m % groups or (isinstance(x[1], int) and x[1] != c * groups):
        return reasons.MISMATCHED(what=f"group={groups}", other=f"{x[1]} input channels and a weight of {m} outputs and {c} channels")
    kernel = tuple(attribute_of(node, "kernel_shape", ()) or shape[2:])
    if kernel != tuple(shape[2:]):
        return reasons.MISMATCHED(what="kernel_shape", other="the weight")
    if "pads" in node.attributes and attribute_of(node, "auto_pad", "") not in ("", "NOTSET"):
        return reasons.PADS_WITH_AUTO_PAD()
    return check_attributes(node, len(kernel)) or check_convolution(window_of(node, kernel))


def _conv_implied(graph: Graph, node: Node) -> dict[str, Shape]:
    """Return the ranks and channels of a Conv's images, which follow from its weight."""
    weight = graph.values[node.inputs[1]].shape if node.inputs[1] in graph.values else None
    groups = attribute_of(node, "group", 1)
    if weight is None or not 3 <= len(weight) <= 5 or not all(isinstance(d, int) for d in weight[:2]):
        return {}
    m, c = (int(d) for d in weight[:2] if isinstance(d, int))
    spatial = (None,) * (len(weight) - 2)
    return {node.inputs[0]: (None, c * groups, *spatial), node.outputs[0]: (None, m, *spatial)}


def conv_product(builder: Builder, node: Node) -> PendingProduct | Depthwise:
    """Return the weights of a Conv, without the taps that never meet an image of known size."""
    name, bias = node.inputs[1], input_of(node, 2)
    weight = builder.weight(name) if attribute_of(node, "group", 1) == 1 else builder.floats(name)
    return packed_conv(builder, node, weight, lambda: builder.floats(name), builder.floats(bias) if bias else None)


def packed_conv(
    builder: Builder,
    node: Node,
    weight: NDArray[np.float32] | Nonzeros,
    dense_of: Callable[[], NDArray[np.float32]],
    bias__m: NDArray[np.float32] | None,
) -> PendingProduct | Depthwise:
    """Return a Conv's product with this weight, which `dense_of` returns with its zeros."""
    weight, window, image = met_weight(builder.graph, node, weight, dense_of)
    return builder.convolution(weight, bias__m, window, int(attribute_of(node, "group", 1)), image)


def met_weight(
    graph: Graph, node: Node, weight: NDArray[np.float32] | Nonzeros, dense_of: Callable[[], NDArray[np.float32]]
) -> tuple[NDArray[np.float32] | Nonzeros, Window, tuple[int | None, ...]]:
    """Return a Conv's weight without the taps that never meet an image of known size, its window, and the sizes of the image."""
    window = window_of(node, weight.shape[2:])
    image = tuple(d if isinstance(d, int) else None for d in shape_of(graph, node.inputs[0])[2:])
    smaller, kept = meeting_taps(window, image)
    if smaller != window:
        dense = dense_of()
        # the zeros of padding times infinity or NaN are NaN
        if np.isfinite(dense).all():
            weight, window = np.ascontiguousarray(dense[(slice(None), slice(None), *kept)]), smaller
    return weight, window, image


def _conv_lower(builder: Builder, node: Node) -> None:
    builder.product(node, node.inputs[0], conv_product(builder, node))


def _conv_weights(graph: Graph, node: Node) -> tuple[str, ...]:
    return tuple(name for name in node.inputs[1:2] if graph.is_constant(name))


def conv_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    """Follow channels through a convolution, by its weights."""
    x, y = node.inputs[0], node.outputs[0]
    shape, groups = sizes_of(flow.graph, node.inputs[1]), int(attribute_of(node, "group", 1))
    has_bias = len(node.inputs) > 2 and bool(node.inputs[2])
    bias__m = flow.load(node.inputs[2]) if has_bias else np.zeros(shape[0], np.float32)
    padded = is_padded(window_of(node, shape[2:]))
    if groups == 1:
        return flow.product(node, x, 1, 0, bias__m, padded=padded)
    weight = flow.load(node.inputs[1])
    dead__m = ~(weight != 0).reshape(len(weight), -1).any(axis=1)
    source = flow.known_of(x, 1, groups) if weight.shape[:2] == (groups, 1) else None
    if source is None:
        flow.keep([x])
        flow.make(y, 1, dead__m, bias__m)
        flow.keep([y])
        return ChannelPlan(node)
    value__m = bias__m + source.value__c.astype(np.float64) * weight.reshape(groups, -1).sum(axis=1, dtype=np.float64)
    flat__m = source.known__c & ((source.value__c == 0) | (not padded))
    known__m, value__m = dead__m | flat__m, np.where(dead__m, bias__m, value__m)
    return flow.same(node, x, known__m, value__m, sliced=((1, 0, y), *[(2, 0, y)] * has_bias), attribute="group")


def conv_estimate(setting: Setting, node: Node) -> Estimate:
    """Return the work of a convolution."""
    weight, x, y = (setting.sizes(name) for name in (node.inputs[1], node.inputs[0], node.outputs[0]))
    window = window_of(node, weight[2:])
    smaller, _ = meeting_taps(window, x[2:])
    ours = (*weight[:2], *smaller.kernel)
    return convolution(setting.isa, setting.weights, x, weight, ours, y, smaller, int(attribute_of(node, "group", 1)))


def _fused_can_run(graph: Graph, node: Node) -> Finding | None:
    finding = fused_can_run(conv_can_run, conv_activation, graph, node)
    addend = input_of(node, 3)
    if finding is None and addend and not may_have_one_shape(graph, addend, node.outputs[0]):
        return reasons.MISMATCHED(what="input Z", other="the result")
    return finding


def _fused_lower(builder: Builder, node: Node) -> None:
    activation = activation_within(builder.graph, node, conv_activation)
    builder.product(node, node.inputs[0], conv_product(builder, node), residual=input_of(node, 3), activation=activation)


def _added_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    """Follow channels through a convolution and the addition of a value with the shape of the result."""
    plan, z = conv_channels(flow, node), input_of(node, 3)
    if plan is None or not z:
        return plan
    channels = flow.channels[node.outputs[0]]
    other = flow.known_of(z, channels.axis, channels.size) if z != node.inputs[0] else None
    if other is None:
        channels.known__c[:] = False
        flow.keep((z, *node.outputs))
        return plan
    plan.links += (Link(z),)
    channels.known__c &= other.known__c
    channels.value__c += other.value__c
    return plan


def _fused_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    """Follow channels through a Conv, the addition of a value, and an activation."""
    return fused_channels(_added_channels, conv_activation, flow, node)


def _pool_can_run(graph: Graph, node: Node) -> Finding | None:
    rank = len(shape_of(graph, node.inputs[0])) - 2
    if rank not in (1, 2, 3):
        return reasons.UNSUPPORTED_SPATIAL_RANK(rank=rank, supported="1, 2 and 3")
    if attribute_of(node, "storage_order", 0):
        return reasons.UNSUPPORTED_ATTRIBUTE(name="storage_order", value=1)
    kernel = tuple(attribute_of(node, "kernel_shape", ()))
    if len(kernel) != rank:
        return reasons.MISMATCHED(what="kernel_shape", other="the input")
    finding = check_attributes(node, rank)
    if finding is not None:
        return finding
    # ONNX Runtime refuses pads as wide as the window, whether auto_pad is given or not
    if any(p >= k for p, k in zip(attribute_of(node, "pads", ()), kernel * 2, strict=False)):
        return reasons.PADS_COVER_WINDOW()
    return check_pool(window_of(node, kernel))


def open_sizes(graph: Graph, node: Node) -> dict[str, int]:
    """Return the sizes to assume for symbols in the shape of the image."""
    shape = shape_of(graph, node.inputs[0])
    return open_sizes_of(shape, (NOMINAL_BATCH, 1, *[NOMINAL_SPATIAL] * (len(shape) - 2)))


def _pool_estimate(setting: Setting, node: Node) -> Estimate:
    y = setting.sizes(node.outputs[0])
    return elementwise("pool_tap", math.prod(y) * math.prod(attribute_of(node, "kernel_shape", ())))


def _counts_beyond_pad(node: Node) -> bool:
    """Return whether an average that counts padding counts all taps of its window, also those beyond the padding, as ONNX Runtime does."""
    return node.since_version < DILATED_AVERAGE_VERSION and not attribute_of(node, "ceil_mode", 0)


def _pool_lower(builder: Builder, node: Node) -> None:
    window, is_max = window_of(node, tuple(attribute_of(node, "kernel_shape", ()))), node.op_type == "MaxPool"
    if is_max and len(window.kernel) <= 2:
        x, y = builder.moved(node.inputs[0], node.outputs[0])
    else:
        x, y = builder.value(node.inputs[0]), builder.value(node.outputs[0])
    pool = Pool(
        window,
        is_max=is_max,
        ceil_mode=bool(attribute_of(node, "ceil_mode", 0)),
        count_include_pad=bool(attribute_of(node, "count_include_pad", 0)),
        count_beyond_pad=_counts_beyond_pad(node),
    )
    builder.step(Step(StepKind.POOL, x, y, spec=pool))


def _pool_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    """Follow channels through a pool: a maximum ignores padding, an average may count its zeros."""
    x = flow.channels.get(node.inputs[0])
    if x is None or x.axis != 1:
        return None
    known__c = x.known__c
    window = window_of(node, tuple(attribute_of(node, "kernel_shape", ())))
    padded, dilated = is_padded(window), any(d > 1 for d in window.dilation)
    if (node.op_type == "MaxPool" and attribute_of(node, "ceil_mode", 0)) or (padded and dilated):
        known__c = np.zeros_like(known__c)  # a window may lie beyond the image
    image = shape_of(flow.graph, node.inputs[0])[2:]
    inside = all(
        s == 1 or (isinstance(size, int) and size > (k - 1) * d)
        for size, k, s, d in zip(image, window.kernel, window.stride, window.dilation, strict=True)
    )
    if attribute_of(node, "count_include_pad", 0) and (padded or (_counts_beyond_pad(node) and not inside)):
        known__c = known__c & (x.value__c == 0)
    return flow.same(node, node.inputs[0], known__c, x.value__c)


CONV = OpRow(
    "Conv",
    "product",
    conv_can_run,
    _conv_lower,
    "1-D, 2-D, 3-D; constant weight and bias; any other attribute",
    weights=_conv_weights,
    channels=conv_channels,
    estimate=conv_estimate,
    open_sizes=open_sizes,
    blocked=True,
    implied=_conv_implied,
)
ROWS = (
    CONV,
    fused_row(
        CONV,
        "FusedConv",
        "as `Conv`, and what is added to it",
        can_run=_fused_can_run,
        lower=_fused_lower,
        channels=_fused_channels,
        estimate=partial(fused_estimate, conv_estimate, conv_activation),
    ),
    *(
        OpRow(
            op_type,
            "neighbour",
            _pool_can_run,
            _pool_lower,
            f"1-D, 2-D, 3-D{without}",
            channels=_pool_channels,
            estimate=_pool_estimate,
            blocked=True,
            types=MOVED if op_type == "MaxPool" else FLOATS,
        )
        for op_type, without in (("MaxPool", "; without indices"), ("AveragePool", ""))
    ),
)
