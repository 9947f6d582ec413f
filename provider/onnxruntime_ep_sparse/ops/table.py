"""The table of operators: for each, when we can run it and how it becomes steps. `docs/supported-models.md` is generated from it.

`can_run` of a row returns None or the reason why not; `lower` appends steps to a `lower.Builder`. Whether a node is worth taking is
`partition/select.py`'s question, not this file's.
"""

from __future__ import annotations

from ..graph.ir import FLOAT, Graph, Node, shape_of
from ..program.limits import MAX_PARTS, MAX_RANK
from . import layout as moves
from . import recurrent
from .elementwise import BINARY, _activation_can_run, _activation_lower, _binary_can_run, _binary_lower, _square_can_run, _square_lower
from .matrix import _gemm_can_run, _gemm_lower, _matmul_can_run, _matmul_lower
from .normalization import _batchnorm_can_run, _batchnorm_lower, _layer_norm_can_run, _layer_norm_lower
from .row import FUSED, MICROSOFT, ONNX, OpRow, _always
from .windows import _conv_can_run, _conv_lower, _global_pool_can_run, _global_pool_lower, _mean_can_run, _pool_can_run, _pool_lower


def row_for(node: Node) -> OpRow | None:
    """The table's row for a node, or None."""
    row = OPS.get(node.op_type)
    return row if row is not None and node.domain in row.domains else None


def can_run(graph: Graph, node: Node) -> str | None:
    """None if a region may hold this node, else the reason in words."""
    row = row_for(node)
    if row is None:
        return f"operator {node.op_type} is not supported"
    data = [name for i, name in enumerate(node.inputs) if name and not _is_parameter(node, i)]
    for name in (*data, *(o for o in node.outputs if o)):
        value = graph.values.get(name)
        if value is None or value.dtype == 0:
            return f"type of {name!r} is unknown"
        if value.dtype != FLOAT:
            return "only float32 is supported"
        if value.shape is None:
            return f"rank of {name!r} is unknown"
        if len(value.shape) > MAX_RANK:
            return f"{len(value.shape)} dimensions: at most {MAX_RANK} are supported"
    if len([o for o in node.outputs if o]) > row.results or not (node.outputs[0] or row.results > 1):
        return "only the first output is supported"
    if node.since_version < FIRST_VERSION.get(node.op_type, 1):
        return f"version {node.since_version} of the operator is not supported, {FIRST_VERSION[node.op_type]} is the first"
    return row.can_run(graph, node)


def _is_parameter(node: Node, index: int) -> bool:
    """Inputs that are no float data: shapes, axes, exponents, the sizes of Pad and Resize, lengths of sequences."""
    if node.op_type in recurrent.GATES:
        return index == recurrent.LENGTHS
    return node.op_type in ("Reshape", "Squeeze", "Unsqueeze", "Pad", "Resize", "ReduceMean", "Pow") and index >= 1


# --- windows: Conv and pooling


# --- matrices


# --- elementwise


FIRST_VERSION = {
    "Add": 7,
    "Sub": 7,
    "Mul": 7,
    "Div": 7,
    "Reshape": 5,
    "BatchNormalization": 7,
    "Concat": 4,
    "Pad": 11,
    **dict.fromkeys(recurrent.GATES, 7),
}
"""Since when operators mean what they do here: before, broadcasting had an axis, Concat need not have one, shape and pads were attributes,
training was the default, recurrent nodes had output_sequence."""


OPS: dict[str, OpRow] = {
    row.op_type: row
    for row in (
        OpRow("Conv", "product", _conv_can_run, _conv_lower, "1-D, 2-D, 3-D; constant weight and bias; any other attribute"),
        OpRow("Gemm", "product", _gemm_can_run, _gemm_lower, "one constant operand; a C that is not constant needs beta = 1"),
        OpRow("MatMul", "product", _matmul_can_run, _matmul_lower, "one constant operand of any rank, on either side"),
        *(
            OpRow(
                name,
                "recurrent",
                recurrent.can_run,
                recurrent.lower,
                "constant W, R, B and P; activations Affine, ScaledTanh and ThresholdedRelu only with their numbers given",
                results=results,
            )
            for name, results in (("LSTM", 3), ("GRU", 2), ("RNN", 2))
        ),
        *(
            OpRow(name, "activation", _activation_can_run, _activation_lower)
            for name in (
                *("Relu", "LeakyRelu", "ThresholdedRelu", "Elu", "Selu", "Softplus", "Softsign"),
                *("Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Erf", "Abs", "Neg", "Sqrt", "Exp"),
            )
        ),
        OpRow("Clip", "activation", _activation_can_run, _activation_lower, "constant min and max"),
        OpRow("Gelu", "activation", _activation_can_run, _activation_lower, "erf and tanh forms", (*ONNX, *MICROSOFT)),
        OpRow("QuickGelu", "activation", _activation_can_run, _activation_lower, domains=MICROSOFT),
        OpRow("Silu", "activation", _activation_can_run, _activation_lower, "x * sigmoid(x)", (FUSED,)),
        *(OpRow(name, "neighbour", _binary_can_run, _binary_lower, "two operands, broadcast") for name in BINARY),
        OpRow("BatchNormalization", "neighbour", _batchnorm_can_run, _batchnorm_lower, "inference with constant statistics"),
        OpRow("MaxPool", "neighbour", _pool_can_run, _pool_lower, "1-D, 2-D; without indices"),
        OpRow("AveragePool", "neighbour", _pool_can_run, _pool_lower, "1-D, 2-D; without ceil_mode"),
        OpRow("GlobalAveragePool", "neighbour", _global_pool_can_run, _global_pool_lower),
        OpRow("GlobalMaxPool", "neighbour", _global_pool_can_run, _global_pool_lower),
        OpRow("LayerNormalization", "neighbour", _layer_norm_can_run, _layer_norm_lower, "over the last dimension, constant weights"),
        OpRow("ReduceMean", "neighbour", _mean_can_run, _global_pool_lower, "over all dimensions from the third on, which stay as 1"),
        OpRow("Pow", "neighbour", _square_can_run, _square_lower, "squares"),
        OpRow("Transpose", "neighbour", moves.transpose_can_run, moves.transpose_lower),
        OpRow("Reshape", "neighbour", moves.reshape_can_run, moves.reshape_lower, "constant shape"),
        OpRow("Flatten", "neighbour", _always, moves.flatten_lower),
        *(OpRow(name, "neighbour", moves.axes_can_run, moves.axes_lower, "constant axes") for name in ("Squeeze", "Unsqueeze")),
        OpRow("Concat", "neighbour", moves.concat_can_run, moves.concat_lower, f"any axis, at most {MAX_PARTS} operands"),
        OpRow("Pad", "neighbour", moves.pad_can_run, moves.pad_lower, "mode constant with constant pads and value, none negative"),
        OpRow(
            "Resize",
            "neighbour",
            moves.resize_can_run,
            moves.resize_lower,
            "nearest or linear over height and width of NCHW by constant scales or sizes; no antialias, no tf_crop_and_resize",
        ),
        OpRow("DepthToSpace", "neighbour", moves.shuffle_can_run, moves.shuffle_lower),
        OpRow("SpaceToDepth", "neighbour", moves.shuffle_can_run, moves.shuffle_lower),
    )
}
"""Every operator a region may hold."""


def is_activation(node: Node) -> bool:
    """Whether a product can end with this node."""
    row = row_for(node)
    return row is not None and row.role == "activation"


def weights_of(graph: Graph, node: Node) -> tuple[str, ...]:
    """The constant weight of a product, W and R of a recurrent node, nothing of others."""
    row = row_for(node)
    if row is None or row.role not in ("product", "recurrent"):
        return ()
    if row.role == "recurrent":
        return tuple(name for name in node.inputs[1:3] if graph.is_constant(name))
    candidates = node.inputs[1:2] if node.op_type == "Conv" else node.inputs[:2]
    return tuple(name for name in candidates if graph.is_constant(name))[:1]


def output_axis(graph: Graph, node: Node) -> int:
    """The axis of a constant weight that holds its output features."""
    if node.op_type not in ("Gemm", "MatMul"):
        return 0 if node.op_type == "Conv" else 1
    right = graph.is_constant(node.inputs[1])
    if node.op_type == "MatMul":
        return -1 if right else max(-2, -len(shape_of(graph, node.inputs[0])))
    return int(right) ^ bool(node.attributes.get("transB" if right else "transA"))
