"""Conv and pooling: what a window reads."""

from __future__ import annotations

import math

import numpy as np

from .. import reasons
from ..graph.ir import Graph, Node, attribute_of, shape_of, sizes_of
from ..program.builder import Builder
from ..program.enums import AutoPad, StepKind
from ..program.kinds.windows import GlobalPool, Pool
from ..program.steps import Step, Window
from ..program.windows import check_pool, check_window
from ..reasons import Finding
from .channels import ChannelPlan, Flow
from .costs import Estimate, Work, product_seconds, sizes
from .row import OpRow, Shape


def window_of(node: Node, kernel: tuple[int, ...]) -> Window:
    """Return the spatial attributes of a node, with ONNX's defaults for missing ones."""
    rank = len(kernel)
    auto = attribute_of(node, "auto_pad", "NOTSET") or "NOTSET"
    pads = tuple(attribute_of(node, "pads", ()) or (0,) * 2 * rank)
    if auto != "NOTSET":
        pads = (0,) * 2 * rank
    return Window(
        kernel=kernel,
        stride=tuple(attribute_of(node, "strides", ()) or (1,) * rank),
        dilation=tuple(attribute_of(node, "dilations", ()) or (1,) * rank),
        pad_begin=pads[:rank],
        pad_end=pads[rank:],
        auto_pad={"SAME_UPPER": AutoPad.SAME_UPPER, "SAME_LOWER": AutoPad.SAME_LOWER}.get(auto, AutoPad.EXPLICIT),
    )


def is_padded(window: Window) -> bool:
    """Return whether a window may read beyond the image."""
    return window.auto_pad != AutoPad.EXPLICIT or any(window.pad_begin + window.pad_end)


def _auto_pad_known(node: Node) -> Finding | None:
    """Return None if ONNX knows the node's `auto_pad`, else the reason why it cannot run."""
    auto = attribute_of(node, "auto_pad", "NOTSET")
    known = auto in ("", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    return None if known else reasons.UNSUPPORTED_ATTRIBUTE(name="auto_pad", value=auto)


def _conv_can_run(graph: Graph, node: Node) -> Finding | None:
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
    if "pads" in node.attributes and attribute_of(node, "auto_pad", "NOTSET") not in ("", "NOTSET"):
        return reasons.MISMATCHED(what="pads", other=f"auto_pad {node.attributes['auto_pad']}")
    return _auto_pad_known(node) or check_window(window_of(node, kernel))


def _conv_implied(graph: Graph, node: Node) -> dict[str, Shape]:
    """Return the ranks and channels of a Conv's images, which follow from its weight."""
    weight = graph.values[node.inputs[1]].shape if node.inputs[1] in graph.values else None
    groups = attribute_of(node, "group", 1)
    if weight is None or not 3 <= len(weight) <= 5 or not all(isinstance(d, int) for d in weight[:2]):
        return {}
    m, c = (int(d) for d in weight[:2] if isinstance(d, int))
    spatial = (None,) * (len(weight) - 2)
    return {node.inputs[0]: (None, c * groups, *spatial), node.outputs[0]: (None, m, *spatial)}


def _conv_lower(builder: Builder, node: Node) -> None:
    groups = int(attribute_of(node, "group", 1))
    weight = builder.weight(node.inputs[1]) if groups == 1 else builder.floats(node.inputs[1])
    bias = builder.floats(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    window = window_of(node, weight.shape[2:])
    image = tuple(d if isinstance(d, int) else None for d in shape_of(builder.graph, node.inputs[0])[2:])
    product = builder.convolution(weight, bias, window, groups, image)
    builder.product(node, node.inputs[0], product)


def _conv_weights(graph: Graph, node: Node) -> tuple[str, ...]:
    return tuple(name for name in node.inputs[1:2] if graph.is_constant(name))


def _conv_channels(flow: Flow, node: Node) -> ChannelPlan | None:
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


def _conv_seconds(graph: Graph, node: Node, rows: int | None = None) -> Estimate:
    weight, y = sizes(graph, node.inputs[1]), sizes(graph, node.outputs[0])
    stored, pixels = math.prod(y), math.prod(y[2:])
    # tiles repeat the rows that neighbouring taps share
    gathered = math.prod(sizes(graph, node.inputs[0])[:2]) * pixels * (1 + 0.5 * (math.prod(weight[2:]) > 1))
    groups = int(attribute_of(node, "group", 1))
    return product_seconds(Work(stored * math.prod(weight[1:]), math.prod(weight), y[0], pixels, gathered, stored, groups, False))


def _pool_can_run(graph: Graph, node: Node) -> Finding | None:
    rank = len(shape_of(graph, node.inputs[0])) - 2
    if rank not in (1, 2):
        return reasons.UNSUPPORTED_SPATIAL_RANK(rank=rank, supported="1 and 2")
    if attribute_of(node, "storage_order", 0):
        return reasons.UNSUPPORTED_ATTRIBUTE(name="storage_order", value=1)
    window = window_of(node, tuple(attribute_of(node, "kernel_shape", ())))
    if len(window.kernel) != rank:
        return reasons.MISMATCHED(what="kernel_shape", other="the input")
    if node.op_type == "AveragePool" and attribute_of(node, "ceil_mode", 0):
        return reasons.UNSUPPORTED_ATTRIBUTE(name="ceil_mode", value=1)
    return _auto_pad_known(node) or check_pool(window)


def _pool_lower(builder: Builder, node: Node) -> None:
    builder.step(
        Step(
            StepKind.POOL,
            builder.value(node.inputs[0]),
            builder.value(node.outputs[0]),
            spec=Pool(
                window_of(node, tuple(attribute_of(node, "kernel_shape", ()))),
                is_max=node.op_type == "MaxPool",
                ceil_mode=bool(attribute_of(node, "ceil_mode", 0)),
                count_include_pad=bool(attribute_of(node, "count_include_pad", 0)),
            ),
        )
    )


def _pool_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    """Follow channels through a pool: a maximum ignores padding, an average may count its zeros."""
    x = flow.channels.get(node.inputs[0])
    if x is None or x.axis != 1:
        return None
    known__c = x.known__c
    if node.op_type == "MaxPool" and attribute_of(node, "ceil_mode", 0):
        known__c = np.zeros_like(known__c)  # a window may lie beyond the image
    if attribute_of(node, "count_include_pad", 0) and is_padded(window_of(node, attribute_of(node, "kernel_shape", ()))):
        known__c = known__c & (x.value__c == 0)
    return flow.same(node, node.inputs[0], known__c, x.value__c)


def _global_pool_can_run(graph: Graph, node: Node) -> Finding | None:
    rank = len(shape_of(graph, node.inputs[0]))
    return None if rank >= 3 else reasons.UNSUPPORTED_RANK(rank=rank, supported="3 and more")


def _global_pool_lower(builder: Builder, node: Node) -> None:
    builder.step(
        Step(
            StepKind.GLOBAL_POOL,
            builder.value(node.inputs[0]),
            builder.value(node.outputs[0]),
            spec=GlobalPool(is_max=node.op_type == "GlobalMaxPool"),
        )
    )


def _global_pool_channels(flow: Flow, node: Node) -> ChannelPlan | None:
    x = flow.channels.get(node.inputs[0])
    return flow.same(node, node.inputs[0], x.known__c, x.value__c) if x is not None and x.axis == 1 else None


def _mean_can_run(graph: Graph, node: Node) -> Finding | None:
    given = graph.constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else attribute_of(node, "axes", ())
    if given is None:
        return reasons.PARAMETER_NOT_CONSTANT(name="axes")
    rank = len(shape_of(graph, node.inputs[0]))
    if rank < 3 or {int(axis) + rank * (axis < 0) for axis in given} != set(range(2, rank)):
        return reasons.UNSUPPORTED_AXES(supported="all from the third on")
    keepdims = attribute_of(node, "keepdims", 1)
    return None if keepdims == 1 else reasons.UNSUPPORTED_ATTRIBUTE(name="keepdims", value=keepdims)


ROWS = (
    OpRow(
        "Conv",
        "product",
        _conv_can_run,
        _conv_lower,
        "1-D, 2-D, 3-D; constant weight and bias; any other attribute",
        weights=_conv_weights,
        channels=_conv_channels,
        estimate=_conv_seconds,
        implied=_conv_implied,
    ),
    OpRow("MaxPool", "neighbour", _pool_can_run, _pool_lower, "1-D, 2-D; without indices", channels=_pool_channels),
    OpRow("AveragePool", "neighbour", _pool_can_run, _pool_lower, "1-D, 2-D; without ceil_mode", channels=_pool_channels),
    OpRow("GlobalAveragePool", "neighbour", _global_pool_can_run, _global_pool_lower, channels=_global_pool_channels),
    OpRow("GlobalMaxPool", "neighbour", _global_pool_can_run, _global_pool_lower, channels=_global_pool_channels),
    OpRow(
        "ReduceMean",
        "neighbour",
        _mean_can_run,
        _global_pool_lower,
        "over all dimensions from the third on, which stay as 1",
        parameters=(1,),
    ),
)
