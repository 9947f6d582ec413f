"""Operators of 8-bit integers besides products: elementwise functions, pools, and the ways from floats and back.

Integers are held as floats less their zero points (`Builder.carried`). `passes/quantized.py` makes these operators of QDQ groups, in the
domain FUSED.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.elementwise import Act, Op

from .. import reasons
from ..graph.ir import BYTES, FLOAT, INT8, UINT8, Graph, Node, attribute_of, input_of, number_of, shape_of, type_name
from ..program.builder import Builder
from ..program.enums import StepKind
from ..program.kinds.elementwise import Binary
from ..program.kinds.layout import Concat, Reshape
from ..program.kinds.quantized import ENTRIES, Carry, Combine, LookUp
from ..program.kinds.reduce import Reduce
from ..program.steps import Activation, Step
from ..reasons import Finding
from . import costs
from .axes import axis_of
from .quantized_costs import elementwise
from .row import FUSED, MICROSOFT, ONNX, OpRow, can_run_if

EXACT = float(1 << 24)
"""Integers up to this, either way, are exact in float32."""
LOWEST = {UINT8: 0, INT8: -128}
"""The least number of each 8-bit type."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Scale and zero point of a quantised tensor: arrays of one number, or of one for each output feature. `dtype` is its element type."""

    scale: NDArray[np.float32]
    zero: NDArray[np.int64]
    dtype: int

    @property
    def low(self) -> int:
        """Return the least number of the type, less the zero point of the whole tensor."""
        return LOWEST[self.dtype] - int(self.zero[0])

    @property
    def high(self) -> int:
        """Return the largest number of the type, less the zero point of the whole tensor."""
        return self.low + ENTRIES - 1


def parameters(graph: Graph, tensor: int, scale: str, zero: str, what: str, count: int = 1) -> Parameters | Finding:
    """Return the parameters in these constants of a tensor of element type `tensor`, or the reason why they are not supported.

    They have one number, or `count`; `what` names the tensor in the reason.
    """
    if tensor not in BYTES:
        return reasons.QUANTISATION_TYPE(what=what, type=type_name(tensor), supported="uint8 or int8")
    factor, offset = graph.constant(scale) if scale else np.ones(1, np.float32), graph.constant(zero) if zero else np.zeros(1, np.int8)
    for name, array in ((scale, factor), (zero, offset)):
        if array is None:
            return reasons.PARAMETER_NOT_CONSTANT(name=name)
        if array.size not in (1, count) or array.ndim > 1:
            return reasons.QUANTISATION_AXIS(what=f"the scale or zero point of {what}", of="output feature")
    assert factor is not None
    assert offset is not None
    if zero and graph.values[zero].dtype != tensor:
        return reasons.QUANTISATION_TYPE(
            what=f"the zero point of {what}", type=type_name(graph.values[zero].dtype), supported=type_name(tensor)
        )
    if scale and graph.values[scale].dtype != FLOAT:
        return reasons.QUANTISATION_TYPE(what=f"the scale of {what}", type=type_name(graph.values[scale].dtype), supported="float32")
    if not (np.isfinite(factor) & (factor > 0)).all():
        return reasons.QUANTISATION_SCALE(what=f"the scale of {what}")
    return Parameters(factor.reshape(-1), offset.reshape(-1).astype(np.int64), tensor)


def parameters_of_both(graph: Graph, node: Node) -> tuple[Parameters, Parameters] | Finding:
    """Return those of X and of Y, where a node has X, its scale and zero point, then those of Y; or the reason why it cannot run."""
    x, x_scale, x_zero, y_scale, y_zero = [*node.inputs, "", ""][:5]
    of_x = parameters(graph, graph.values[x].dtype, x_scale, x_zero, "the input")
    if isinstance(of_x, Finding):
        return of_x
    of_y = parameters(graph, graph.values[node.outputs[0]].dtype, y_scale, y_zero, "the result")
    return of_y if isinstance(of_y, Finding) else (of_x, of_y)


# --- from floats and back


DEQUANTIZE = "DequantizeLinear"


def is_dequantised_constant(graph: Graph, name: str) -> bool:
    """Return whether DequantizeLinear makes a value of a constant."""
    maker = graph.producer.get(name)
    return maker is not None and maker.op_type == DEQUANTIZE and graph.is_constant(maker.inputs[0])


def quantization_of(graph: Graph, node: Node) -> tuple[Parameters, int] | Finding:
    """Return the parameters of a QuantizeLinear or DequantizeLinear and its axis, or the reason why it cannot run."""
    quantizes = node.op_type == "QuantizeLinear"
    tensor, floats = node.outputs[0] if quantizes else node.inputs[0], node.inputs[0] if quantizes else node.outputs[0]
    if graph.is_constant(node.inputs[0]):
        return reasons.ALL_CONSTANT()
    for name, supported in (("block_size", 0), ("saturate", 1), ("precision", 0)):
        if attribute_of(node, name, supported) != supported:
            return reasons.UNSUPPORTED_ATTRIBUTE(name=name, value=node.attributes[name])
    if graph.values[floats].dtype != FLOAT:
        return reasons.NOT_FLOAT32(type=type_name(graph.values[floats].dtype))
    shape, axis = shape_of(graph, node.inputs[0]), int(attribute_of(node, "axis", 1))
    scale = graph.values[node.inputs[1]].shape
    count = 1
    if scale is not None and math.prod(d for d in scale if isinstance(d, int)) != 1:
        if not -len(shape) <= axis < len(shape) or not isinstance(shape[axis], int):
            return reasons.UNSUPPORTED_AXES(supported="one of known size")
        count = int(shape[axis])  # type: ignore[arg-type]  # an int, as asked above
    found = parameters(graph, graph.values[tensor].dtype, node.inputs[1], input_of(node, 2), "the tensor", count)
    return found if isinstance(found, Finding) else (found, axis)


def _along(array: NDArray, axis: int, rank: int) -> NDArray[np.float32]:
    """Return numbers along an axis as float32 that broadcast."""
    return array.astype(np.float32).reshape([-1 if i == axis % rank else 1 for i in range(rank)] if array.size > 1 else [1] * rank)


def _quantize_lower(builder: Builder, node: Node) -> None:
    found = quantization_of(builder.graph, node)
    assert not isinstance(found, Finding)
    of_y, axis = found
    x, y = node.inputs[0], node.outputs[0]
    whole = of_y.scale.size == of_y.zero.size == 1
    if whole:
        builder.zeros[y] = int(of_y.zero[0])
    if whole and x in builder.pending:
        builder.activate(node, Activation(Act.QUANTIZE, float(of_y.scale[0]), float(of_y.low)))
    else:
        carry = _carry(of_y, axis, len(shape_of(builder.graph, y)))
        builder.step(Step(StepKind.CARRY, builder.value(x), builder.stored_value(y), spec=carry))


def _carry(of: Parameters, axis: int, rank: int) -> Carry:
    """Return how integers with these parameters become floats, or the reverse."""
    scale, zero = (array if array.size > 1 else None for array in (of.scale, of.zero.astype(np.float32)))
    return Carry(float(of.zero[0]), float(of.scale[0]), zero, scale, axis % rank if rank else 0)


def _dequantize_lower(builder: Builder, node: Node) -> None:
    found = quantization_of(builder.graph, node)
    assert not isinstance(found, Finding)
    of_x, axis = found
    x, y, rank = node.inputs[0], builder.value(node.outputs[0]), len(shape_of(builder.graph, node.inputs[0]))
    if builder.has_bytes(x):
        builder.step(Step(StepKind.CARRY, builder.as_bytes(x), y, spec=_carry(of_x, axis, rank)))
        return
    if of_x.zero.size == 1:
        number = builder.carried(x, int(of_x.zero[0]))
    else:
        number = builder.new_value(rank)
        zero = builder.constant(_along(of_x.zero, axis, rank))
        builder.step(Step(StepKind.BINARY, builder.carried(x, 0), number, zero, spec=Binary(Op.SUB)))
    if of_x.scale.size == 1:
        builder.step(Step(StepKind.ACTIVATE, number, y, activation=Activation(Act.AFFINE, float(of_x.scale[0]), 0.0)))
    else:
        builder.step(Step(StepKind.BINARY, number, y, builder.constant(_along(of_x.scale, axis, rank)), spec=Binary(Op.MUL)))


# --- functions of one operand


@dataclass(frozen=True, slots=True)
class Function:
    """A function of an 8-bit value: `table` (256,) less the zero point of the result, for the integers of x from its least on."""

    of_x: Parameters
    of_y: Parameters
    table: NDArray[np.float32]

    def changes_nothing(self, *, as_bytes: bool) -> bool:
        """Return whether the result is the operand, in the form of bytes or of floats less the zero points."""
        same = (self.of_x.dtype, self.of_x.low) == (self.of_y.dtype, self.of_y.low)
        return bool((self.table == np.arange(self.of_x.low, self.of_x.high + 1)).all()) and (same or not as_bytes)


def quantized(values: NDArray[np.float32], of_y: Parameters) -> NDArray[np.float32]:
    """Return floats quantised, less the zero point."""
    whole = np.rint(values.astype(np.float32) / of_y.scale)
    return np.clip(np.where(np.isnan(whole), of_y.low, whole), of_y.low, of_y.high).astype(np.float32)


def dequantized(of_x: Parameters) -> NDArray[np.float32]:
    """Return the floats that the 256 integers of a type stand for, from the least on."""
    return np.arange(of_x.low, of_x.high + 1).astype(np.float32) * of_x.scale


FUNCTIONS: dict[str, Callable[[Node, NDArray[np.float64]], NDArray[np.float64]]] = {
    "QLinearSigmoid": lambda node, x: 1 / (1 + np.exp(-x)),
    "QLinearLeakyRelu": lambda node, x: np.where(x < 0, np.float32(number_of(node, "alpha", 0.01)) * x, x),
}
"""Operators of com.microsoft that are a function of one operand."""


@np.errstate(all="ignore")
def function_of(graph: Graph, node: Node) -> Function | Finding:
    """Return the function of a node, or the reason why it cannot run."""
    found = parameters_of_both(graph, node)
    if isinstance(found, Finding):
        return found
    of_x, of_y = found
    compute = attribute_of(node, "function", None) or FUNCTIONS[node.op_type]
    result = compute(node, dequantized(of_x).astype(np.float64)).astype(np.float32)
    return Function(of_x, of_y, quantized(result, of_y))


def _function_lower(builder: Builder, node: Node) -> None:
    function = function_of(builder.graph, node)
    assert isinstance(function, Function)
    name, y = node.inputs[0], node.outputs[0]
    if builder.has_bytes(name):
        x, number = builder.as_bytes(name), builder.stored_value(y)
    else:
        x, number = builder.carried(name, int(function.of_x.zero[0])), builder.value(y)
    if function.changes_nothing(as_bytes=builder.has_bytes(name)):
        builder.step(Step(StepKind.RESHAPE, x, number, spec=Reshape((0,) * len(shape_of(builder.graph, name)))))
    else:
        _look_up(builder, x, number, function)
    builder.zeros[y] = int(function.of_y.zero[0])


def _look_up(builder: Builder, x: int, y: int, function: Function) -> None:
    """Append a table; x and y are both bytes or both floats less their zero points."""
    table, first = function.table, float(function.of_x.low)
    if x in builder.types:
        table, first = table + function.of_y.zero[0].astype(np.float32), float(LOWEST[function.of_x.dtype])
    builder.step(Step(StepKind.LOOK_UP, x, y, spec=LookUp(table, first)))


# --- sums and products of two operands, pools, joins


@np.errstate(all="ignore")
def combination_of(graph: Graph, node: Node) -> tuple[Combine, int, int, int] | Finding:
    """Return what a QLinearAdd or QLinearMul computes, and the zero points of a, b and the result; or the reason why it cannot run."""
    found = []
    for name, place, what in ((node.inputs[0], 1, "a"), (node.inputs[3], 4, "b"), (node.outputs[0], 6, "the result")):
        each = parameters(graph, graph.values[name].dtype, node.inputs[place], input_of(node, place + 1), what)
        if isinstance(each, Finding):
            return each
        found.append(each)
    if graph.is_constant(node.inputs[0]) and graph.is_constant(node.inputs[3]):
        return reasons.ALL_CONSTANT()
    of_a, of_b, of_y = found
    a, b, y = (int(each.zero[0]) for each in found)
    step = of_y.scale[0]
    low = max(float(of_y.low), min(float(of_y.high), float(np.rint(np.float32(number_of(node, "least", -math.inf)) / step))))
    high = min(float(of_y.high), max(low, float(np.rint(np.float32(number_of(node, "most", math.inf)) / step))))
    if node.op_type == "QLinearMul":
        factor = float(of_a.scale[0] * of_b.scale[0] / step)
        combine = Combine(True, float(a), factor, float(b), 1.0, 0.0, float(y), low, high)
        fits = math.isfinite(factor)
    else:
        ratio_a, ratio_b = of_a.scale[0] / step, of_b.scale[0] / step
        # with one rounding, as an fma does it: the product has 32 bits
        inner = np.float32(np.float64(ratio_a) * a + np.float64(np.float32(ratio_b * np.float32(b))))
        combine = Combine(False, float(a), float(ratio_a), float(b), float(ratio_b), float(np.float32(y) - inner), float(y), low, high)
        fits = combine.fits
    if not fits:
        return reasons.QUANTISATION_SCALE(what="the ratio of the scales")
    return combine, a, b, y


def _combine_lower(builder: Builder, node: Node) -> None:
    found = combination_of(builder.graph, node)
    assert not isinstance(found, Finding)
    combine, a, b, y = found
    result, operands = node.outputs[0], (node.inputs[0], node.inputs[3])
    if builder.has_bytes(*operands):
        x, r = map(builder.as_bytes, operands)
        builder.step(Step(StepKind.COMBINE, x, builder.stored_value(result), r, spec=combine))
    else:
        x, r = map(builder.carried, operands, (a, b))
        builder.step(Step(StepKind.COMBINE, x, builder.value(result), r, spec=combine))
    builder.zeros[result] = y


def pool_of(graph: Graph, node: Node) -> tuple[Parameters, Parameters, float] | Finding:
    """Return the parameters of a QLinearGlobalAveragePool, and by what its sums are multiplied; or the reason why it cannot run."""
    if attribute_of(node, "channels_last", 0):
        return reasons.UNSUPPORTED_ATTRIBUTE(name="channels_last", value=1)
    found = parameters_of_both(graph, node)
    if isinstance(found, Finding):
        return found
    of_x, of_y = found
    image = shape_of(graph, node.inputs[0])[2:]
    sizes = [d for d in image if isinstance(d, int)]
    if not image or len(sizes) < len(image):
        return reasons.SIZE_UNKNOWN(what="the image")
    pixels = math.prod(sizes)
    if not 0 < pixels * (ENTRIES - 1) <= EXACT:
        return reasons.SUM_TOO_LARGE(largest=pixels * (ENTRIES - 1), limit=EXACT)
    with np.errstate(all="ignore"):
        factor = float(of_x.scale[0] / (of_y.scale[0] * np.float32(pixels)))
    return (of_x, of_y, factor) if math.isfinite(factor) else reasons.QUANTISATION_SCALE(what="the ratio of the scales")


def lower_pool(builder: Builder, node: Node) -> None:
    """Append the steps of a QLinearGlobalAveragePool, or of another operator with its inputs that averages whole images."""
    found = pool_of(builder.graph, node)
    assert not isinstance(found, Finding)
    of_x, of_y, factor = found
    rank = len(shape_of(builder.graph, node.inputs[0]))
    total, name, zero = builder.new_value(rank), node.inputs[0], int(of_x.zero[0])
    if builder.has_bytes(name):
        x, reduce = builder.as_bytes(name), Reduce(tuple(range(2, rank)), Op.ADD, zero=float(zero))
    else:
        x, reduce = builder.carried(name, zero), Reduce(tuple(range(2, rank)), Op.ADD)
    builder.step(Step(StepKind.REDUCE, x, total, spec=reduce))
    y, scale = builder.value(node.outputs[0]), builder.constant(np.full((1,) * rank, factor, np.float32))
    clamp = Activation(Act.ROUND, float(of_y.low), float(of_y.high))
    builder.step(Step(StepKind.BINARY, total, y, scale, activation=clamp, spec=Binary(Op.MUL)))
    builder.zeros[node.outputs[0]] = int(of_y.zero[0])


def join_of(graph: Graph, node: Node) -> list[Function] | Finding:
    """Return for each operand of a QLinearConcat how it becomes a part of the result, or the reason why it cannot run."""
    count = (len(node.inputs) - 2) // 3
    axis = axis_of(graph, replace(node, inputs=node.inputs[2::3]))
    if isinstance(axis, Finding):
        return axis
    of_y = parameters(graph, graph.values[node.outputs[0]].dtype, node.inputs[0], node.inputs[1], "the result")
    if isinstance(of_y, Finding):
        return of_y
    functions = []
    for i in range(count):
        x, scale, zero = node.inputs[2 + 3 * i : 5 + 3 * i]
        of_x = parameters(graph, graph.values[x].dtype, scale, zero, f"operand {i}")
        if isinstance(of_x, Finding):
            return of_x
        if graph.is_constant(x):
            return reasons.ALL_CONSTANT()
        functions.append(Function(of_x, of_y, quantized(dequantized(of_x), of_y)))
    return functions


def _join_lower(builder: Builder, node: Node) -> None:
    functions = join_of(builder.graph, node)
    assert not isinstance(functions, Finding)
    axis = axis_of(builder.graph, replace(node, inputs=node.inputs[2::3]))
    assert isinstance(axis, int)
    names, result = node.inputs[2::3], node.outputs[0]
    in_bytes = builder.has_bytes(*names)
    y, parts = builder.stored_value(result) if in_bytes else builder.value(result), []
    for name, function in zip(names, functions, strict=True):
        x = builder.as_bytes(name) if in_bytes else builder.carried(name, int(function.of_x.zero[0]))
        if not function.changes_nothing(as_bytes=in_bytes):
            before, x = x, builder.new_like(y, len(shape_of(builder.graph, name)))
            _look_up(builder, before, x, function)
        parts.append(x)
    for i, x in enumerate(parts):
        builder.step(Step(StepKind.CONCAT, x, y, spec=Concat(axis, begins=i == 0)))
    builder.zeros[node.outputs[0]] = int(functions[0].of_y.zero[0])


ROWS = (
    OpRow(
        "QuantizeLinear",
        "activation",
        can_run_if(quantization_of),
        _quantize_lower,
        "8-bit, per tensor or along an axis",
        (*ONNX, *MICROSOFT),
        parameters=(1, 2),
        types=(*BYTES, FLOAT),
        estimate=partial(elementwise, theirs="quantized", ours="clamp", fused=True),
    ),
    OpRow(
        DEQUANTIZE,
        "neighbour",
        can_run_if(quantization_of),
        _dequantize_lower,
        "8-bit, per tensor or along an axis",
        (*ONNX, *MICROSOFT),
        parameters=(1, 2),
        types=(*BYTES, FLOAT),
        estimate=partial(elementwise, theirs="dequantized", ours="clamp"),
    ),
    *(
        OpRow(
            name,
            "neighbour",
            can_run_if(function_of),
            _function_lower,
            "constant scales and zero points",
            domains,
            parameters=(1, 2, 3, 4),
            types=BYTES,
            estimate=partial(elementwise, theirs="int8_looked_up", ours="exp"),
        )
        for name, domains in (*((name, MICROSOFT) for name in FUNCTIONS), ("QuantizedFunction", (FUSED,)))
    ),
    *(
        OpRow(
            name,
            "neighbour",
            can_run_if(combination_of),
            _combine_lower,
            "constant scales and zero points",
            (*MICROSOFT, FUSED),
            parameters=(1, 2, 4, 5, 6, 7),
            types=BYTES,
            estimate=partial(elementwise, theirs="int8_combined", ours="added"),
        )
        for name in ("QLinearAdd", "QLinearMul")
    ),
    OpRow(
        "QLinearGlobalAveragePool",
        "neighbour",
        can_run_if(pool_of),
        lower_pool,
        "images of known size; constant scales and zero points",
        (*MICROSOFT, FUSED),
        parameters=(1, 2, 3, 4),
        types=BYTES,
        estimate=costs.copied,
    ),
    OpRow(
        "QLinearConcat",
        "neighbour",
        can_run_if(join_of),
        _join_lower,
        "constant scales and zero points",
        (*MICROSOFT, FUSED),
        types=(*BYTES, FLOAT),
        estimate=costs.copied,
    ),
)
