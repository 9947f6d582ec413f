"""Multiplications of the products of a model, as far as shapes can be inferred."""

from __future__ import annotations

import math

import onnx
from onnx import AttributeProto, shape_inference

from ..formats.compressed_model import outline
from ..partition.decision import NodeDecision

PRODUCTS = {
    **dict.fromkeys(("Conv", "MatMul", "Gemm", "ConvInteger", "MatMulInteger"), (0, 1)),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QGemm"), (0, 3)),
}
"""Operators, and the places of their two factors among the inputs."""
SHAPED_AS = {
    "QLinearAdd": ("Add", slice(0, 4, 3)),
    "QLinearMul": ("Mul", slice(0, 4, 3)),
    "QLinearSigmoid": ("Identity", slice(1)),
    "QLinearLeakyRelu": ("Identity", slice(1)),
    "QLinearSoftmax": ("Identity", slice(1)),
    "QLinearAveragePool": ("AveragePool", slice(1)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", slice(1)),
    "QLinearConcat": ("Concat", slice(2, None, 3)),
    "QGemm": ("Gemm", slice(0, 4, 3)),
}
"""Operators of ONNX Runtime, one of ONNX that gives the same shapes, and the places of its operands."""

Key = str | tuple[int, ...] | None


def key_of(d: NodeDecision) -> Key:
    """Return the key of a node in `macs_of`. ONNX Runtime names a fused product like its first node, with a suffix."""
    return d.name.partition("/MatMulAddFusion")[0] or d.shape


def macs_of(source: str | bytes, batch: int, shapes: dict[str, tuple[int, ...]]) -> dict[Key, int]:
    """Return the multiplications of every product in a dense run, as far as shapes can be inferred.

    `batch` is the first dimension of an input, if that is open. The key is the node's name. For a node without a name it is the shape of
    its weight, if all such nodes have equally many.
    """
    try:
        model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(source, load_external_data=False)
        _fill_in(model, batch, shapes)
        outline(model)
        _as_floats(model)
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # unusual models (above 2 GB, with unknown operators) are shown without MACs
        return {}
    known = {v.name: _dims(v.type.tensor_type) for v in (*graph.input, *graph.value_info, *graph.output)}
    weights: dict[str, tuple[int, ...]] = {i.name: tuple(i.dims) for i in graph.initializer}
    known |= weights
    counts: dict[Key, set[int | None]] = {}
    for node in graph.node:
        if node.op_type in PRODUCTS:
            key = node.name or next((weights[name] for name in _operands(node) if name in weights), None)
            counts.setdefault(key, set()).add(_product_macs(node, known))
    return {key: count for key, (count, *others) in counts.items() if count is not None and not others}


def _fill_in(model: onnx.ModelProto, batch: int, shapes: dict[str, tuple[int, ...]]) -> None:
    """Set open dimensions of the inputs, and dimensions of the same names everywhere else."""
    named: dict[str, int] = {}
    for value in model.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            number = shapes[value.name][axis] if len(shapes.get(value.name, ())) > axis else (batch if axis == 0 else None)
            if dim.WhichOneof("value") != "dim_value" and number is not None:
                if dim.dim_param:
                    named[dim.dim_param] = number
                dim.dim_value = number
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in named:
                dim.dim_value = named[dim.dim_param]


def _dims(tensor: onnx.TypeProto.Tensor) -> tuple[int, ...] | None:
    """Return the shape if all of it is known."""
    if not tensor.HasField("shape"):
        return None
    dims = tensor.shape.dim
    return tuple(d.dim_value for d in dims) if all(d.WhichOneof("value") == "dim_value" for d in dims) else None


def _operands(node: onnx.NodeProto) -> tuple[str, str]:
    """Return the names of the two factors of a product."""
    first, second = PRODUCTS[node.op_type]
    return node.input[first], node.input[second]


def _product_macs(node: onnx.NodeProto, known: dict[str, tuple[int, ...] | None]) -> int | None:
    first, second, result = (known.get(name) for name in (*_operands(node), node.output[0]))
    if result is None:
        return None
    if "Conv" in node.op_type:
        return math.prod(result) * math.prod(second[1:]) if second else None
    transposed = any(a.name == "transA" and a.type == AttributeProto.INT and a.i for a in node.attribute)
    return math.prod(result) * first[0 if transposed else -1] if first else None


def _as_floats(model: onnx.ModelProto) -> None:
    """Replace operators of 8-bit integers that ONNX does not define by those of floats with the same shapes, for shape inference."""
    for node in model.graph.node:
        if node.domain == "com.microsoft" and node.op_type in SHAPED_AS:
            node.op_type, places = SHAPED_AS[node.op_type]
            read = node.input[places]
            del node.input[:]
            node.input.extend(read)
            node.domain = ""
