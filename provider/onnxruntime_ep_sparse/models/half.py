"""Stores a net in 16 bits: weights and activations become float16 or bfloat16."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

FLOAT32_INPUTS = {"Resize": (1, 2)}
"""Inputs that ONNX wants in float32 whatever the data are: the region and the scales."""
BFLOAT16_OPSET = 22
"""The first in which Conv and pools may have bfloat16."""
LARGEST, SMALLEST = 65504.0, 2.0**-24
"""The largest float16, and the smallest above 0."""


def float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 model in float16, inputs and outputs included. Other constants than 0 do not become 0, nor infinite."""
    return _stored(model, "FLOAT16")


def bfloat16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 model in bfloat16. Its inputs and outputs stay float32, because numpy has no bfloat16.

    ONNX Runtime's CPU provider has no bfloat16 kernels but a few: it can run such a model only beside a provider that takes the rest.
    """
    from onnx import version_converter

    made = _stored(version_converter.convert_version(model, BFLOAT16_OPSET), "BFLOAT16")
    _add_casts(made)
    return made


def _stored(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    from onnx import ModelProto, TensorProto

    made = ModelProto()
    made.CopyFrom(model)
    dtype = TensorProto.DataType.Value(name)
    graph = made.graph
    del graph.value_info[:]
    whole = {node.input[i] for node in graph.node for i in FLOAT32_INPUTS.get(node.op_type, ()) if i < len(node.input)}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in whole:
            _narrow(tensor, dtype)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = dtype
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = dtype
            elif attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                _narrow(attribute.t, dtype)
    return made


def _narrow(tensor: onnx.TensorProto, dtype: int) -> None:
    """Replace the data of a float32 tensor by numbers of 16 bits."""
    from onnx import TensorProto, numpy_helper

    array = numpy_helper.to_array(tensor)
    bits = _half_bits(array) if dtype == TensorProto.FLOAT16 else _bfloat16_bits(array)
    del tensor.float_data[:]
    tensor.data_type, tensor.raw_data = dtype, bits.astype("<u2").tobytes()


def _half_bits(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    inside = np.where(np.isfinite(array), np.clip(array, -LARGEST, LARGEST), array)
    tiny = (inside != 0) & (np.abs(inside) < SMALLEST)
    return np.where(tiny, np.copysign(np.float32(SMALLEST), inside), inside).astype(np.float16).view(np.uint16)


def _bfloat16_bits(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to the nearest, half to even; constants of the nets are neither NaN nor near the largest float32."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def _add_casts(model: onnx.ModelProto) -> None:
    """Let the inputs and outputs of 16 bits be float32, with a Cast between them and the nodes."""
    from onnx import TensorProto, helper

    graph = model.graph
    inside: dict[str, str] = {}
    first: list[onnx.NodeProto] = []
    last: list[onnx.NodeProto] = []
    for value, is_input in (*((v, True) for v in graph.input), *((v, False) for v in graph.output)):
        dtype = value.type.tensor_type.elem_type
        if dtype == TensorProto.BFLOAT16:
            inside[value.name] = f"{value.name}/bfloat16"
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            ends = (value.name, inside[value.name]) if is_input else (inside[value.name], value.name)
            cast = helper.make_node("Cast", ends[:1], ends[1:], name=f"/{value.name}/Cast", to=dtype if is_input else TensorProto.FLOAT)
            (first if is_input else last).append(cast)
    for node in graph.node:
        node.input[:] = [inside.get(name, name) for name in node.input]
        node.output[:] = [inside.get(name, name) for name in node.output]
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)
