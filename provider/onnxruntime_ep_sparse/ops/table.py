"""The table of operators: for each, when we can run it and how it becomes steps. `docs/supported-models.md` is generated from it.

`can_run` of a row returns None or the reason why not; `lower` appends steps to a `lower.Builder`. Whether a node is worth taking is
`partition/select.py`'s question, not this file's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..graph.ir import FLOAT, Graph, Node, attribute_of, shape_of
from ..graph.nonzeros import Nonzeros
from ..program.steps import MAX_RANK, MOST_OF_WINDOW, MOST_REACH, Act, Activation, AutoPad, Op, Step, StepKind, Window
from . import layout as moves
from . import recurrent

if TYPE_CHECKING:
    from ..pipeline import Builder

ONNX = ("", "ai.onnx")
MICROSOFT = ("com.microsoft",)


@dataclass(frozen=True, slots=True)
class OpRow:
    """One operator. `role`: product (packed weights), recurrent (the same, two of them), activation (fusable unary), or neighbour. `note`
    says what is declined. More than `results` outputs are declined."""

    op_type: str
    role: str
    can_run: Callable[[Graph, Node], str | None]
    lower: Callable[[Builder, Node], None]
    note: str = ""
    domains: tuple[str, ...] = ONNX
    results: int = 1


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


def check_window(window: Window) -> str | None:
    """None if a Conv or a pool can have this window, else the reason in words."""
    rank = len(window.kernel)
    if rank not in (1, 2, 3):
        return f"{rank} spatial dimensions: 1, 2 and 3 are supported"
    if any(len(v) != rank for v in (window.stride, window.dilation, window.pad_begin, window.pad_end)):
        return "kernel, strides, dilations and pads differ in length"
    if any(v < 0 for v in window.pad_begin + window.pad_end):
        return "negative pads are not supported"
    if any(v < 1 for v in window.kernel + window.stride + window.dilation):
        return "kernel, strides and dilations must be positive"
    if any(v >= MOST_OF_WINDOW for v in window.kernel + window.stride + window.dilation + window.pad_begin + window.pad_end):
        return f"kernel, strides, dilations and pads of {MOST_OF_WINDOW} and more are not supported"
    if any((k - 1) * d >= MOST_REACH for k, d in zip(window.kernel, window.dilation, strict=True)):
        return f"a window of more than {MOST_REACH} pixels is not supported"
    return None


def _constant_floats(graph: Graph, name: str) -> NDArray[np.float32] | None:
    array = graph.constant(name)
    return array if array is not None and array.dtype == np.float32 else None


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


def check_pool(window: Window) -> str | None:
    """None if a pool can have this window, else the reason in words."""
    reason = check_window(window)
    if reason is not None:
        return reason
    if any(p > (k - 1) * d for k, d, p in zip(window.kernel * 2, window.dilation * 2, window.pad_begin + window.pad_end, strict=True)):
        return "pads as wide as the window are not supported"
    if window.auto_pad != AutoPad.EXPLICIT and any(
        s > (k - 1) * d + 1 for s, k, d in zip(window.stride, window.kernel, window.dilation, strict=True)
    ):
        return "auto_pad SAME with a stride beyond the window is not supported"
    return None


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


# --- matrices


def _gemm_can_run(graph: Graph, node: Node) -> str | None:
    constant = [graph.is_constant(name) for name in node.inputs[:2]]
    if constant.count(True) != 1:
        return "neither operand is constant" if not any(constant) else "both operands are constant"
    if any(len(shape_of(graph, name)) != 2 for name in node.inputs[:2]):
        return "operands are not matrices"
    if 0 in shape_of(graph, node.inputs[constant.index(True)]):
        return "the constant operand is empty"
    c = node.inputs[2] if len(node.inputs) > 2 else ""
    if c and not graph.is_constant(c) and float(attribute_of(node, "beta", 1.0)) != 1.0:
        return "a C that is not constant needs beta = 1"
    return None


def _gemm_lower(builder: Builder, node: Node) -> None:
    graph = builder.graph
    right = graph.is_constant(node.inputs[1])
    alpha, beta = np.float32(attribute_of(node, "alpha", 1.0)), np.float32(attribute_of(node, "beta", 1.0))
    name = node.inputs[1 if right else 0]
    weight = builder.weight(name) if alpha == 1 else builder.floats(name) * alpha
    weight__mk = weight if bool(attribute_of(node, "transB" if right else "transA", 0)) == right else weight.T
    # right: weights are B, outputs are features of a row of A; left: weights are A, pixels are the columns of B
    transposed = bool(attribute_of(node, "transA" if right else "transB", 0))
    x_rows = transposed != right
    c = node.inputs[2] if len(node.inputs) > 2 else ""
    bias, rest = None, None
    if c and graph.is_constant(c):
        addend = builder.floats(c) * beta
        # one number a feature, whatever the pixel, is a bias
        feature_axis = 1 if right else 0
        full = np.reshape(addend, (1,) * (2 - addend.ndim) + addend.shape)
        if full.shape[1 - feature_axis] == 1:
            bias = np.ascontiguousarray(np.broadcast_to(full.reshape(-1), weight__mk.shape[:1]))
        else:
            rest = builder.constant(full)
    elif c:
        rest = builder.value(c)
    product = builder.matrix(weight__mk, bias, x_rows=x_rows, y_rows=right)
    builder.product(node, node.inputs[0 if right else 1], product, None, addend=rest)


def _matmul_can_run(graph: Graph, node: Node) -> str | None:
    constant = [graph.is_constant(name) for name in node.inputs[:2]]
    if constant.count(True) != 1:
        return "neither operand is constant" if not any(constant) else "both operands are constant"
    shape = shape_of(graph, node.inputs[constant.index(True)])
    if not shape or 0 in shape:
        return "the constant operand is empty"
    if not shape_of(graph, node.inputs[constant.index(False)]):
        return "the operand is a scalar"
    return None


def _matmul_lower(builder: Builder, node: Node) -> None:
    right = builder.graph.is_constant(node.inputs[1])
    weight = builder.weight(node.inputs[1 if right else 0])
    vector, batch = len(weight.shape) == 1, weight.shape[:-2]
    matrices: Iterable[NDArray[np.float32] | Nonzeros] = [weight]
    if isinstance(weight, np.ndarray):
        if vector:
            weight = weight.reshape(-1, 1) if right else weight.reshape(1, -1)
        matrices = weight.reshape(-1, *weight.shape[-2:])
    product = builder.matrices(
        [matrix.T if right else matrix for matrix in matrices],
        right=right,
        batch=batch if math.prod(batch) > 1 else (1,) * len(batch),
        vector_operand=vector,
    )
    builder.product(node, node.inputs[0 if right else 1], product, None)


# --- elementwise


def activation_of(graph: Graph, node: Node) -> Activation | str:
    """The activation a unary node computes, or the reason why it cannot run."""
    alpha, beta = node.attributes.get("alpha"), node.attributes.get("beta")
    match node.op_type:
        case "Relu":
            return Activation(Act.CLAMP, 0.0, math.inf)
        case "Clip":
            return _clip(graph, node)
        case "LeakyRelu":
            return Activation(Act.LEAKY_RELU, _number(alpha, 0.01))
        case "HardSigmoid":
            return Activation(Act.HARD_SIGMOID, _number(alpha, 0.2), _number(beta, 0.5))
        case "Elu":
            return Activation(Act.ELU, _number(alpha, 1.0), 1.0)
        case "Selu":
            gamma = _number(node.attributes.get("gamma"), 1.0507010221481323)
            return Activation(Act.ELU, gamma * _number(alpha, 1.6732631921768188), gamma)
        case "ThresholdedRelu":
            return Activation(Act.THRESHOLDED_RELU, _number(alpha, 1.0))
        case "Gelu":
            return Activation(Act.GELU_TANH if node.attributes.get("approximate") == "tanh" else Act.GELU_ERF)
        case "QuickGelu":
            return Activation(Act.SILU, _number(alpha, 1.702))
        case "Silu":
            return Activation(Act.SILU, 1.0)
    return Activation(_SIMPLE[node.op_type])


_SIMPLE = {
    "Sigmoid": Act.SIGMOID,
    "HardSwish": Act.HARD_SWISH,
    "Tanh": Act.TANH,
    "Erf": Act.ERF,
    "Abs": Act.ABS,
    "Neg": Act.NEG,
    "Sqrt": Act.SQRT,
    "Exp": Act.EXP,
    "Softplus": Act.SOFTPLUS,
    "Softsign": Act.SOFTSIGN,
}


def _number(value, default: float) -> float:
    return default if value is None else float(value)


def _clip(graph: Graph, node: Node) -> Activation | str:
    limits = [_number(node.attributes.get("min"), -math.inf), _number(node.attributes.get("max"), math.inf)]
    for i, name in enumerate(node.inputs[1:3]):
        if name:
            array = _constant_floats(graph, name)
            if array is None or array.size != 1:
                return "min and max are not constant"
            limits[i] = float(array.reshape(-1)[0])
    if math.isnan(limits[0]) or math.isnan(limits[1]):
        return "min or max is NaN"
    # ONNX: min above max gives max everywhere, which is what clamping to low first and high last does
    return Activation(Act.CLAMP, limits[0], limits[1])


def _activation_can_run(graph: Graph, node: Node) -> str | None:
    activation = activation_of(graph, node)
    return activation if isinstance(activation, str) else None


def _activation_lower(builder: Builder, node: Node) -> None:
    activation = activation_of(builder.graph, node)
    assert isinstance(activation, Activation)
    builder.activate(node, activation)


BINARY = {"Add": Op.ADD, "Sub": Op.SUB, "Mul": Op.MUL, "Div": Op.DIV, "Max": Op.MAX, "Min": Op.MIN}

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


def _binary_can_run(graph: Graph, node: Node) -> str | None:
    if len(node.inputs) != 2:
        return f"{len(node.inputs)} operands: two are supported"
    if all(graph.is_constant(name) for name in node.inputs):
        return "both operands are constant"
    return None


def _binary_lower(builder: Builder, node: Node) -> None:
    builder.binary(node, BINARY[node.op_type])


def _batchnorm_can_run(graph: Graph, node: Node) -> str | None:
    if attribute_of(node, "training_mode", 0):
        return "training mode is not supported"
    if not attribute_of(node, "spatial", 1):
        return "statistics for every position are not supported"
    if not all(graph.is_constant(name) for name in node.inputs[1:5]):
        return "scale and statistics are not constant"
    return None if len(shape_of(graph, node.inputs[0])) >= 2 else "the input has no channels"


def batchnorm_of(graph: Graph, node: Node) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The factor and the offset (C,) that a BatchNormalization is."""
    scale, offset, mean, variance = (graph.load(name).astype(np.float64) for name in node.inputs[1:5])
    factor = scale / np.sqrt(variance + _number(node.attributes.get("epsilon"), 1e-5))
    return factor, offset - mean * factor


def _batchnorm_lower(builder: Builder, node: Node) -> None:
    factor, offset = batchnorm_of(builder.graph, node)
    shape = (-1,) + (1,) * (len(shape_of(builder.graph, node.inputs[0])) - 2)
    scaled = builder.new_value()
    x, y = builder.value(node.inputs[0]), builder.value(node.outputs[0])
    builder.step(Step(StepKind.BINARY, x, scaled, builder.constant(factor.reshape(shape)), op=Op.MUL))
    builder.step(Step(StepKind.BINARY, scaled, y, builder.constant(offset.reshape(shape)), op=Op.ADD))


def _layer_norm_can_run(graph: Graph, node: Node) -> str | None:
    shape = shape_of(graph, node.inputs[0])
    if not shape or int(attribute_of(node, "axis", -1)) not in (-1, len(shape) - 1):
        return "only the last dimension is supported"
    if int(attribute_of(node, "stash_type", 1)) != 1:
        return "stash_type other than float32 is not supported"
    weights = [name for name in node.inputs[1:] if name]
    if not all(graph.is_constant(name) for name in weights):
        return "scale and bias are not constant"
    if shape[-1] == 0 or any(shape_of(graph, name) != shape[-1:] for name in weights):
        return "scale and bias are not of the last dimension's size"
    return None


def _layer_norm_lower(builder: Builder, node: Node) -> None:
    scale = builder.floats(node.inputs[1])
    bias = builder.floats(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros_like(scale)
    x, y = builder.value(node.inputs[0]), builder.value(node.outputs[0])
    epsilon = _number(node.attributes.get("epsilon"), 1e-5)
    builder.step(Step(StepKind.NORMALIZE, x, y, builder.constant(np.stack([scale, bias])), epsilon=epsilon))


def _mean_can_run(graph: Graph, node: Node) -> str | None:
    given = graph.constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else attribute_of(node, "axes", ())
    if given is None:
        return "axes are not constant"
    rank = len(shape_of(graph, node.inputs[0]))
    if rank < 3 or {int(axis) % rank for axis in given} != set(range(2, rank)):
        return "only the mean over all dimensions from the third on is supported"
    return None if attribute_of(node, "keepdims", 1) else "keepdims 0 is not supported"


def _square_can_run(graph: Graph, node: Node) -> str | None:
    exponent = graph.constant(node.inputs[1])
    if exponent is None or exponent.size != 1 or exponent.item() != 2:
        return "exponents other than 2 are not supported"
    return None if exponent.ndim <= len(shape_of(graph, node.inputs[0])) else "the exponent has more dimensions than the base"


def _square_lower(builder: Builder, node: Node) -> None:
    x = builder.value(node.inputs[0])
    builder.step(Step(StepKind.BINARY, x, builder.value(node.outputs[0]), x, op=Op.MUL))


def _always(graph: Graph, node: Node) -> str | None:
    return None


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
        OpRow("Concat", "neighbour", moves.concat_can_run, moves.concat_lower, f"any axis, at most {moves.MAX_PARTS} operands"),
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
