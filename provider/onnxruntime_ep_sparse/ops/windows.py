"""Conv and pooling: what a window reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..graph.ir import Graph, Node, attribute_of, shape_of
from ..program.enums import AutoPad, StepKind
from ..program.steps import Step, Window
from ..program.windows import check_pool, check_window

if TYPE_CHECKING:
    from ..program.builder import Builder


def window_of(node: Node, kernel: tuple[int, ...]) -> Window:
    """Spatial attributes with ONNX's defaults."""
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


def _conv_can_run(graph: Graph, node: Node) -> str | None:
    if not graph.is_constant(node.inputs[1]):
        return "the weight is not constant"
    if len(node.inputs) > 2 and node.inputs[2] and not graph.is_constant(node.inputs[2]):
        return "the bias is not constant"
    shape = shape_of(graph, node.inputs[1])
    x = shape_of(graph, node.inputs[0])
    if not 3 <= len(shape) <= 5 or len(x) != len(shape):
        return f"{len(shape) - 2} spatial dimensions: 1, 2 and 3 are supported"
    sizes = [d for d in shape if isinstance(d, int) and d > 0]
    if len(sizes) < len(shape):
        return "the weight is empty"
    m, c = sizes[:2]
    groups = int(attribute_of(node, "group", 1))
    if m % groups or (isinstance(x[1], int) and x[1] != c * groups):
        return f"{x[1]} input channels and {m} outputs do not fit {groups} groups of {c}"
    kernel = tuple(attribute_of(node, "kernel_shape", ()) or shape[2:])
    if kernel != tuple(shape[2:]):
        return "kernel_shape differs from the weight's shape"
    return check_window(window_of(node, kernel))


def _conv_lower(builder: Builder, node: Node) -> None:
    groups = int(attribute_of(node, "group", 1))
    weight = builder.weight(node.inputs[1]) if groups == 1 else builder.floats(node.inputs[1])
    bias = builder.floats(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    window = window_of(node, weight.shape[2:])
    image = tuple(d if isinstance(d, int) else None for d in shape_of(builder.graph, node.inputs[0])[2:])
    product = builder.convolution(weight, bias, window, groups, image)
    builder.product(node, node.inputs[0], product, window)


def _pool_can_run(graph: Graph, node: Node) -> str | None:
    rank = len(shape_of(graph, node.inputs[0])) - 2
    if rank not in (1, 2):
        return f"{rank} spatial dimensions: 1 and 2 are supported"
    if attribute_of(node, "storage_order", 0):
        return "storage_order 1 is not supported"
    window = window_of(node, tuple(attribute_of(node, "kernel_shape", ())))
    if len(window.kernel) != rank:
        return "kernel_shape does not fit the input"
    if node.op_type == "AveragePool" and attribute_of(node, "ceil_mode", 0):
        return "AveragePool with ceil_mode is not supported"
    return check_pool(window)


def _pool_lower(builder: Builder, node: Node) -> None:
    builder.step(
        Step(
            StepKind.POOL,
            builder.value(node.inputs[0]),
            builder.value(node.outputs[0]),
            window=window_of(node, tuple(attribute_of(node, "kernel_shape", ()))),
            is_max=node.op_type == "MaxPool",
            ceil_mode=bool(attribute_of(node, "ceil_mode", 0)),
            count_include_pad=bool(attribute_of(node, "count_include_pad", 0)),
        )
    )


def _global_pool_can_run(graph: Graph, node: Node) -> str | None:
    return None if len(shape_of(graph, node.inputs[0])) >= 3 else "the input has no spatial dimensions"


def _global_pool_lower(builder: Builder, node: Node) -> None:
    builder.step(
        Step(
            StepKind.GLOBAL_POOL,
            builder.value(node.inputs[0]),
            builder.value(node.outputs[0]),
            is_max=node.op_type == "GlobalMaxPool",
        )
    )


def _mean_can_run(graph: Graph, node: Node) -> str | None:
    given = graph.constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else attribute_of(node, "axes", ())
    if given is None:
        return "axes are not constant"
    rank = len(shape_of(graph, node.inputs[0]))
    if rank < 3 or {int(axis) % rank for axis in given} != set(range(2, rank)):
        return "only the mean over all dimensions from the third on is supported"
    return None if attribute_of(node, "keepdims", 1) else "keepdims 0 is not supported"
