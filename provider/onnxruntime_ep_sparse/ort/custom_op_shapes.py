"""Shape inference of the compressed operators, for the custom operators on the CPU."""

from __future__ import annotations

from typing import Any

from ..graph.ir import Node
from ..ops.windows import window_of
from ..passes.decompress import label_of, weight_shape
from ..program.enums import AutoPad

Shape = tuple[int | str | None, ...]


def output_shape(node: Node, x: Shape) -> Shape:
    """Return the shape of the output for an input of shape `x`, with None for unknown dimensions.

    ValueError if the input does not fit the weight or the window.
    """
    weight = weight_shape(node)
    if node.op_type == "MatMul":
        return (*x[:-1], weight[1])
    if len(x) != len(weight):
        raise ValueError(f"{label_of(node)}: the input has {len(x)} dimensions, expected {len(weight)}")
    if node.op_type == "Gemm":
        return (x[1 if node.attributes.get("transA") else 0], weight[0 if node.attributes.get("transB") else 1])
    window = window_of(node, weight[2:])
    if (
        any(len(sizes) != len(x) - 2 for sizes in (window.stride, window.dilation, window.pad_begin, window.pad_end))
        or min(window.stride) < 1
    ):
        raise ValueError(f"{label_of(node)}: strides, dilations or pads do not fit {len(x) - 2} dimensions")
    return (x[0], weight[0], *(_output_size(window, axis, size) for axis, size in enumerate(x[2:])))


def _output_size(window: Any, axis: int, size: int | str | None) -> int | None:
    """Return the output's size along one axis of a convolution, or None if it is unknown or negative."""
    if not isinstance(size, int):
        return None
    stride = window.stride[axis]
    if window.auto_pad != AutoPad.EXPLICIT:
        return -(-size // stride)
    extent = (window.kernel[axis] - 1) * window.dilation[axis] + 1
    padded = size + window.pad_begin[axis] + window.pad_end[axis]
    return (padded - extent) // stride + 1 if padded >= extent else None
