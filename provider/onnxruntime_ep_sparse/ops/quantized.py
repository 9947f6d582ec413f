"""Operators of 8-bit integers: products, elementwise functions, and the ways from floats and back.

One small vocabulary: ONNX's QLinear operators, those of com.microsoft, ConvInteger and MatMulInteger. `passes/quantized.py` makes the same
of QDQ groups and of chains around integer products, in the domain FUSED, where more may be given or left out: see `Product`.

Integers are held as floats less their zero points (`Builder.carried`). A product is exact as long as no sum leaves +-2^24.
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
from ..graph.ir import BYTES, FLOAT, INT8, INT32, UINT8, Graph, Node, attribute_of, input_of, number_of, shape_of, sizes_of, type_name
from ..program.builder import Builder
from ..program.enums import StepKind
from ..program.kinds.elementwise import Binary
from ..program.kinds.layout import Concat
from ..program.kinds.quantized import ENTRIES, Combine, DynamicQuantize, LookUp
from ..program.kinds.reduce import Reduce
from ..program.steps import Activation, Step
from ..reasons import Finding
from . import costs, matrix, windows
from .activations import ACTIVATIONS
from .axes import axis_of
from .costs import Estimate, Setting
from .quantized_costs import elementwise, of_product
from .row import FUSED, MICROSOFT, ONNX, OpRow, Shape, can_run_if

EXACT = float(1 << 24)
"""Integers up to this, either way, are exact in float32."""
LOWEST = {UINT8: 0, INT8: -128}
"""The least number of each 8-bit type."""
INTEGERS = (*BYTES, INT32, FLOAT)
"""Element types of the operands and results of integer products."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Scale and zero point of a quantised tensor: arrays of one number, or of one for each output feature. `dtype` is its element type."""

    scale: NDArray[np.float32]
    zero: NDArray[np.int64]
    dtype: int

    @property
    def low(self) -> int:
        """The least number of the type, less the zero point of the whole tensor."""
        return LOWEST[self.dtype] - int(self.zero[0])

    @property
    def high(self) -> int:
        """The largest number of the type, less the zero point of the whole tensor."""
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
    assert factor is not None and offset is not None
    if zero and graph.values[zero].dtype != tensor:
        return reasons.QUANTISATION_TYPE(
            what=f"the zero point of {what}", type=type_name(graph.values[zero].dtype), supported=type_name(tensor)
        )
    if scale and graph.values[scale].dtype != FLOAT:
        return reasons.QUANTISATION_TYPE(what=f"the scale of {what}", type=type_name(graph.values[scale].dtype), supported="float32")
    if not (np.isfinite(factor) & (factor > 0)).all():
        return reasons.QUANTISATION_SCALE(what=f"the scale of {what}")
    return Parameters(factor.reshape(-1), offset.reshape(-1).astype(np.int64), tensor)


# --- products


@dataclass(frozen=True, slots=True)
class Form:
    """One operator: the float product that it is, and where its inputs stand, -1 for those that it does not have.

    `y_scale` is the scale of an 8-bit result; `factor` is a constant by which sums are multiplied instead, where nothing else scales them.
    """

    product: OpRow
    x: tuple[int, int, int]
    """Operand, scale and zero point ..."""
    weight: tuple[int, int, int]
    bias: int = -1
    y_scale: int = -1
    y_zero: int = -1
    factor: int = -1


FORMS = {
    "QLinearConv": Form(windows.CONV, (0, 1, 2), (3, 4, 5), 8, 6, 7),
    "QLinearMatMul": Form(matrix.MATMUL, (0, 1, 2), (3, 4, 5), 8, 6, 7),
    "QGemm": Form(matrix.GEMM, (0, 1, 2), (3, 4, 5), 6, 7, 8),
    "ConvInteger": Form(windows.CONV, (0, -1, 2), (1, -1, 3), 4, 6, 7, 5),
    "MatMulInteger": Form(matrix.MATMUL, (0, -1, 2), (1, -1, 3), 4, 6, 7, 5),
}
"""Products of integers. In files ConvInteger and MatMulInteger have no more than four inputs, QLinearMatMul eight."""


@dataclass(frozen=True, slots=True)
class Product:
    """A product of integers as its node says it.

    `x` is the operand and `x_zero` its zero point, the name of the value that holds it where that is known at run time only. `weight` is
    the constant, `zero` its zero point as float32 that broadcasts. Sums of (x - x_zero) * (weight - zero), and of `bias__m`, are multiplied
    by `scale__m` where it is there. The result is clamped to [low, high] and rounded; where `y_zero` is None, it is float32 or int32. It
    is divided by `divisor` before, if that is not 1.
    """

    x: str
    x_zero: int | str
    x_low: int
    weight: str
    zero: NDArray[np.float32]
    right: bool
    bias__m: NDArray[np.float32]
    scale__m: NDArray[np.float32] | None
    divisor: float = 1.0
    y_zero: int | None = None
    low: float = 0.0
    high: float = 0.0

    def integers(self, graph: Graph) -> NDArray[np.float32]:
        """Return the weight less its zero point."""
        return graph.load(self.weight).astype(np.float32) - self.zero


def at(node: Node, place: int) -> str:
    """Return the name of an input, "" if the node does not have it."""
    return input_of(node, place)


def _is_right(graph: Graph, node: Node) -> bool:
    """Return whether the weight of a product is its second operand."""
    return graph.is_constant(at(node, FORMS[node.op_type].weight[0]))


def as_float(graph: Graph, node: Node) -> Node:
    """Return the node as the float product that it is, without its bias."""
    form = FORMS[node.op_type]
    operands = tuple(at(node, place) for place in (form.x[0], form.weight[0]))
    names = ("alpha", "beta", "channels_last")
    attributes = {name: value for name, value in node.attributes.items() if name not in names}
    return replace(node, op_type=form.product.op_type, domain="", inputs=operands, attributes=attributes)


def product_of(graph: Graph, node: Node) -> Product | Finding:
    """Return what a product of integers computes, or the reason why it cannot run."""
    found = _product_of(graph, node)
    if isinstance(found, Finding):
        return found
    least, most = _extent(found, node, graph)
    largest = max(-least, most)
    return reasons.SUM_TOO_LARGE(largest=largest, limit=EXACT) if largest > EXACT else found


def _product_of(graph: Graph, node: Node) -> Product | Finding:
    form, plain = FORMS[node.op_type], as_float(graph, node)
    if attribute_of(node, "channels_last", 0):
        return reasons.UNSUPPORTED_ATTRIBUTE(name="channels_last", value=1)
    row = form.product
    finding = row.can_run(graph, plain)
    if finding is not None:
        return finding
    right = _is_right(graph, node)
    x_at, weight_at = (form.x, form.weight) if right else (form.weight, form.x)
    if form.product is matrix.GEMM and not right:
        return reasons.WEIGHT_NOT_CONSTANT()
    x, weight = at(node, x_at[0]), at(node, weight_at[0])
    axis, sizes = row.output_axis(graph, plain), sizes_of(graph, weight)
    if len(sizes) < 2:
        return reasons.UNSUPPORTED_RANK(rank=len(sizes), supported="2 and more (of the weight)")
    m = sizes[axis]
    of_weight = parameters(graph, graph.values[weight].dtype, at(node, weight_at[1]), at(node, weight_at[2]), "the weight", m)
    x_zero = at(node, x_at[2])
    known = not x_zero or graph.is_constant(x_zero)
    of_x = parameters(graph, graph.values[x].dtype, at(node, x_at[1]), x_zero if known else "", "the input")
    for found in (of_weight, of_x):
        if isinstance(found, Finding):
            return found
    assert isinstance(of_weight, Parameters) and isinstance(of_x, Parameters)
    if not known and (x_at[1] >= 0 or math.prod(d for d in shape_of(graph, x_zero) if isinstance(d, int)) != 1):
        return reasons.PARAMETER_NOT_CONSTANT(name=x_zero)
    zero = of_weight.zero.astype(np.float32).reshape([-1 if i == axis % len(sizes) else 1 for i in range(len(sizes))])
    bias__m = _bias_of(graph, node, form, m)
    if isinstance(bias__m, Finding):
        return bias__m
    factor: NDArray[np.float32] | None = None
    if x_at[1] >= 0:
        factor = np.float32(number_of(node, "alpha", 1.0)) * of_x.scale * of_weight.scale
    elif at(node, form.factor):
        given = graph.constant(at(node, form.factor))
        if given is None or given.dtype != np.float32 or given.size not in (1, m):
            return reasons.PARAMETER_NOT_CONSTANT(name=at(node, form.factor))
        factor = given.reshape(-1)
    made = Product(
        x, int(of_x.zero[0]) if known else x_zero, LOWEST[of_x.dtype], weight, zero, right, bias__m, _spread(factor, m)
    )
    return _with_result(graph, node, form, made)


def _bias_of(graph: Graph, node: Node, form: Form, m: int) -> NDArray[np.float32] | Finding:
    """Return the integers that are added to the sums (M,), or the reason why they are not supported."""
    name = at(node, form.bias)
    if not name:
        return np.zeros(m, np.float32)
    array = graph.constant(name)
    if array is None:
        return reasons.PARAMETER_NOT_CONSTANT(name=name)
    if array.dtype != np.int32:
        return reasons.QUANTISATION_TYPE(what="the bias", type=type_name(graph.values[name].dtype), supported="int32")
    if array.size not in (1, m):
        return reasons.MISMATCHED(what="the bias", other=f"the weight of {m} outputs")
    spread = np.broadcast_to(array.reshape(-1), m)
    if not (np.abs(spread.astype(np.int64)) <= EXACT).all():
        return reasons.SUM_TOO_LARGE(largest=float(np.abs(spread.astype(np.int64)).max()), limit=EXACT)
    return spread.astype(np.float32)


def _spread(factor: NDArray[np.float32] | None, m: int) -> NDArray[np.float32] | None:
    return None if factor is None else np.ascontiguousarray(np.broadcast_to(factor, m), np.float32)


def _with_result(graph: Graph, node: Node, form: Form, product: Product) -> Product | Finding:
    """Return the product with the way from its sums to its result."""
    y, scale = node.outputs[0], product.scale__m
    if graph.values[y].dtype not in BYTES:
        if scale is not None and not np.isfinite(scale).all():
            return reasons.QUANTISATION_SCALE(what="the product of the scales")
        return product
    of_y = parameters(graph, graph.values[y].dtype, at(node, form.y_scale), at(node, form.y_zero), "the result")
    if isinstance(of_y, Finding):
        return of_y
    divisor, low, high = 1.0, float(of_y.low), float(of_y.high)
    if scale is not None and form.factor < 0:
        with np.errstate(all="ignore"):
            scale = scale / of_y.scale
    else:
        divisor = float(of_y.scale[0])
    if scale is None or not np.isfinite(scale).all():
        return reasons.QUANTISATION_SCALE(what="the product of the scales")
    # an activation that clamps, before the result is quantised
    step = np.float32(of_y.scale[0])
    low = max(low, min(high, float(np.rint(np.float32(number_of(node, "least", -math.inf)) / step))))
    high = min(high, max(low, float(np.rint(np.float32(number_of(node, "most", math.inf)) / step))))
    return replace(product, scale__m=scale, divisor=divisor, y_zero=int(of_y.zero[0]), low=low, high=high)


def _extent(product: Product, node: Node, graph: Graph) -> tuple[float, float]:
    """Return the least and the largest number that any sum of a product, and any part of such a sum, can be."""
    if isinstance(product.x_zero, str):
        low, high = -255.0, 255.0
    else:
        low = min(0.0, float(product.x_low - product.x_zero))
        high = max(0.0, float(product.x_low + ENTRIES - 1 - product.x_zero))
    bias = product.bias__m
    shape, axis = sizes_of(graph, product.weight), FORMS[node.op_type].product.output_axis(graph, as_float(graph, node))
    depth = math.prod(shape) // max(shape[axis], 1)
    wide = depth * 255.0 * max(-low, high) + float(np.abs(bias).max(initial=0))
    if wide <= EXACT:
        return -wide, wide
    integers = np.moveaxis(product.integers(graph), axis, 0).reshape(shape[axis], -1)
    above, below = np.maximum(integers, 0).sum(axis=1, dtype=np.float64), np.minimum(integers, 0).sum(axis=1, dtype=np.float64)
    if isinstance(product.x_zero, str):
        # x - x_zero spans 255 in all
        most = 255 * np.maximum(above, -below)
        return float((bias - most).min()), float((bias + most).max())
    return float((bias + low * above + high * below).min()), float((bias + high * above + low * below).max())


def _lower_product(builder: Builder, node: Node) -> None:
    graph = builder.graph
    product = _product_of(graph, node)
    assert isinstance(product, Product)
    weight, plain, kind = product.integers(graph), as_float(graph, node), FORMS[node.op_type].product
    if kind is windows.CONV:
        packed = windows.packed_conv(builder, plain, weight, lambda: weight, product.bias__m)
    elif kind is matrix.GEMM:
        weight__mk = weight if attribute_of(node, "transB", 0) else weight.T
        x_rows = not attribute_of(node, "transA", 0)
        packed = builder.matrix(weight__mk, product.bias__m, x_rows=x_rows, y_rows=True)
    else:
        packed = matrix.packed_matmul(builder, weight, right=product.right, bias__m=product.bias__m)
    x = builder.carried(product.x, product.x_zero)
    activation = Activation()
    if product.y_zero is not None:
        activation = Activation(Act.ROUND, product.low, product.high)
    packed = replace(packed, scale__m=product.scale__m)
    if product.divisor == 1.0 or product.y_zero is None:
        builder.quantized(node, x, packed, activation, product.y_zero)
    elif product.high - product.low == ENTRIES - 1:
        builder.quantized(node, x, packed, Activation(Act.QUANTIZE, product.divisor, product.low), product.y_zero)
    else:
        raise AssertionError("a clamp that quantising does not imply")


def _product_weights(graph: Graph, node: Node) -> tuple[str, ...]:
    form = FORMS[node.op_type]
    return tuple(name for place in (form.weight[0], form.x[0]) if graph.is_constant(name := at(node, place)))[:1]


def _product_zeros(graph: Graph, node: Node) -> tuple[str, ...]:
    form = FORMS[node.op_type]
    return (at(node, (form.weight if _is_right(graph, node) else form.x)[2]),)


def _product_axis(graph: Graph, node: Node) -> int:
    return FORMS[node.op_type].product.output_axis(graph, as_float(graph, node))


def _product_estimate(setting: Setting, node: Node) -> Estimate:
    plain = as_float(setting.graph, node)
    x, weight = plain.inputs if _is_right(setting.graph, node) else plain.inputs[::-1]
    form = FORMS[node.op_type]
    row = form.product
    return of_product(
        setting,
        node,
        x,
        weight,
        row.output_axis(setting.graph, plain),
        row.estimate(setting, plain),
        convolves=row is windows.CONV,
        loose=form.factor >= 0,
    )


def _product_counts(graph: Graph, node: Node) -> tuple[int | None, ...]:
    plain = as_float(graph, node)
    return FORMS[node.op_type].product.row_counts(graph, plain)


def _product_implied(graph: Graph, node: Node) -> dict[str, Shape]:
    plain = as_float(graph, node)
    return FORMS[node.op_type].product.implied(graph, plain)


def _product_sizes(graph: Graph, node: Node):
    plain = as_float(graph, node)
    return FORMS[node.op_type].product.open_sizes(graph, plain)


# --- from floats and back


DEQUANTIZE = "DequantizeLinear"


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
    y = node.outputs[0]
    if of_y.scale.size == of_y.zero.size == 1:
        builder.activate(node, Activation(Act.QUANTIZE, float(of_y.scale[0]), float(of_y.low)))
        builder.zeros[y] = int(of_y.zero[0])
        return
    # of several zero points none is taken from the result
    rank, least = len(shape_of(builder.graph, y)), float(LOWEST[of_y.dtype])
    divided, rounded = builder.new_value(rank), builder.new_value(rank)
    whole = Activation(Act.ROUND, -2.0 * ENTRIES, 2.0 * ENTRIES)
    scale, zero = (builder.constant(_along(array, axis, rank)) for array in (of_y.scale, of_y.zero))
    builder.step(Step(StepKind.BINARY, builder.value(node.inputs[0]), divided, scale, spec=Binary(Op.DIV)))
    builder.step(Step(StepKind.ACTIVATE, divided, rounded, activation=whole))
    clamp = Activation(Act.CLAMP, least, least + ENTRIES - 1)
    builder.step(Step(StepKind.BINARY, rounded, builder.value(y), zero, activation=clamp, spec=Binary(Op.ADD)))


def _dequantize_lower(builder: Builder, node: Node) -> None:
    found = quantization_of(builder.graph, node)
    assert not isinstance(found, Finding)
    of_x, axis = found
    x, y, rank = node.inputs[0], builder.value(node.outputs[0]), len(shape_of(builder.graph, node.inputs[0]))
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


def _dynamic_can_run(graph: Graph, node: Node) -> Finding | None:
    types = [graph.values[name].dtype for name in (node.inputs[0], *node.outputs) if name]
    return None if types == [FLOAT, UINT8, FLOAT, UINT8] else reasons.EXTRA_OUTPUTS()


def _dynamic_lower(builder: Builder, node: Node) -> None:
    y, scale, zero = (builder.value(name) for name in node.outputs)
    builder.step(Step(StepKind.DYNAMIC_QUANTIZE, builder.value(node.inputs[0]), y, spec=DynamicQuantize(scale, zero)))
    builder.zeros[node.outputs[0]], builder.zeros[node.outputs[2]] = node.outputs[2], 0


# --- functions of one operand


@dataclass(frozen=True, slots=True)
class Function:
    """A function of an 8-bit value: `table` (256,) less the zero point of the result, for the integers of x from its least on."""

    of_x: Parameters
    of_y: Parameters
    table: NDArray[np.float32]


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
    names = [*node.inputs, "", ""][:5]
    x, y = names[0], node.outputs[0]
    of_x = parameters(graph, graph.values[x].dtype, names[1], names[2], "the input")
    of_y = parameters(graph, graph.values[y].dtype, names[3], names[4], "the result")
    for found in (of_x, of_y):
        if isinstance(found, Finding):
            return found
    assert isinstance(of_x, Parameters) and isinstance(of_y, Parameters)
    compute = attribute_of(node, "function", None) or FUNCTIONS[node.op_type]
    result = compute(node, dequantized(of_x).astype(np.float64)).astype(np.float32)
    return Function(of_x, of_y, quantized(result, of_y))


def _function_lower(builder: Builder, node: Node) -> None:
    function = function_of(builder.graph, node)
    assert isinstance(function, Function)
    x = builder.carried(node.inputs[0], int(function.of_x.zero[0]))
    _look_up(builder, x, builder.value(node.outputs[0]), function)
    builder.zeros[node.outputs[0]] = int(function.of_y.zero[0])


def _look_up(builder: Builder, x: int, y: int, function: Function) -> None:
    builder.step(Step(StepKind.LOOK_UP, x, y, spec=LookUp(function.table, float(function.of_x.low))))


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
    low = max(of_y.low, min(of_y.high, float(np.rint(np.float32(number_of(node, "least", -math.inf)) / step))))
    high = min(of_y.high, max(low, float(np.rint(np.float32(number_of(node, "most", math.inf)) / step))))
    if node.op_type == "QLinearMul":
        factor = float(of_a.scale[0] * of_b.scale[0] / step)
        combine = Combine(True, 0.0, factor, 0.0, 1.0, 0.0, 0.0, low, high)
    else:
        ratio_a, ratio_b = of_a.scale[0] / step, of_b.scale[0] / step
        # with one rounding, as an fma does it: the product has 32 bits
        inner = np.float32(np.float64(ratio_a) * a + np.float64(np.float32(ratio_b * np.float32(b))))
        combine = Combine(False, a, float(ratio_a), b, float(ratio_b), float(np.float32(y) - inner), y, low, high)
        factor = combine.x_scale + combine.r_scale
    if not math.isfinite(factor) or not math.isfinite(combine.shift):
        return reasons.QUANTISATION_SCALE(what="the ratio of the scales")
    return combine, a, b, y


def _combine_lower(builder: Builder, node: Node) -> None:
    found = combination_of(builder.graph, node)
    assert not isinstance(found, Finding)
    combine, a, b, y = found
    x, r = builder.carried(node.inputs[0], a), builder.carried(node.inputs[3], b)
    builder.step(Step(StepKind.COMBINE, x, builder.value(node.outputs[0]), r, spec=combine))
    builder.zeros[node.outputs[0]] = y


def pool_of(graph: Graph, node: Node) -> tuple[Parameters, Parameters, float] | Finding:
    """Return the parameters of a QLinearGlobalAveragePool, and by what its sums are multiplied; or the reason why it cannot run."""
    if attribute_of(node, "channels_last", 0):
        return reasons.UNSUPPORTED_ATTRIBUTE(name="channels_last", value=1)
    x, y = node.inputs[0], node.outputs[0]
    of_x = parameters(graph, graph.values[x].dtype, node.inputs[1], input_of(node, 2), "the input")
    of_y = parameters(graph, graph.values[y].dtype, node.inputs[3], input_of(node, 4), "the result")
    for found in (of_x, of_y):
        if isinstance(found, Finding):
            return found
    assert isinstance(of_x, Parameters) and isinstance(of_y, Parameters)
    image = shape_of(graph, x)[2:]
    sizes = [d for d in image if isinstance(d, int)]
    if not image or len(sizes) < len(image):
        return reasons.AXES_UNKNOWN()
    pixels = math.prod(sizes)
    if not 0 < pixels * (ENTRIES - 1) <= EXACT:
        return reasons.SUM_TOO_LARGE(largest=pixels * (ENTRIES - 1), limit=EXACT)
    with np.errstate(all="ignore"):
        factor = float(of_x.scale[0] / (of_y.scale[0] * np.float32(pixels)))
    return (of_x, of_y, factor) if math.isfinite(factor) else reasons.QUANTISATION_SCALE(what="the ratio of the scales")


def _pool_lower(builder: Builder, node: Node) -> None:
    found = pool_of(builder.graph, node)
    assert not isinstance(found, Finding)
    of_x, of_y, factor = found
    rank = len(shape_of(builder.graph, node.inputs[0]))
    total = builder.new_value(rank)
    x = builder.carried(node.inputs[0], int(of_x.zero[0]))
    builder.step(Step(StepKind.REDUCE, x, total, spec=Reduce(tuple(range(2, rank)), Op.ADD)))
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
    parts = []
    for name, function in zip(node.inputs[2::3], functions, strict=True):
        x = builder.carried(name, int(function.of_x.zero[0]))
        if (function.table != np.arange(function.of_x.low, function.of_x.high + 1)).any():
            x, before = builder.new_value(len(shape_of(builder.graph, name))), x
            _look_up(builder, before, x, function)
        parts.append(x)
    y = builder.value(node.outputs[0])
    for i, x in enumerate(parts):
        builder.step(Step(StepKind.CONCAT, x, y, spec=Concat(axis, begins=i == 0)))
    builder.zeros[node.outputs[0]] = int(functions[0].of_y.zero[0])


ROWS = (
    *(
        OpRow(
            name,
            "product",
            can_run_if(product_of),
            _lower_product,
            note,
            (*domains, FUSED),
            parameters=tuple(i for i in range(9) if i not in (form.x[0], form.weight[0])),
            types=INTEGERS,
            weights=_product_weights,
            output_axis=_product_axis,
            zero_points=_product_zeros,
            estimate=_product_estimate,
            row_counts=_product_counts,
            implied=_product_implied,
            open_sizes=_product_sizes,
        )
        for name, form, domains, note in (
            ("QLinearConv", FORMS["QLinearConv"], (*ONNX, *MICROSOFT), "constant weight, bias, scales and zero points; per tensor or channel"),
            ("QLinearMatMul", FORMS["QLinearMatMul"], ONNX, "one constant operand, per tensor or output"),
            ("QGemm", FORMS["QGemm"], MICROSOFT, "constant B and C, per tensor or output"),
            ("ConvInteger", FORMS["ConvInteger"], ONNX, "constant weight"),
            ("MatMulInteger", FORMS["MatMulInteger"], ONNX, "one constant operand"),
        )
    ),
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
    OpRow(
        "DynamicQuantizeLinear",
        "neighbour",
        _dynamic_can_run,
        _dynamic_lower,
        results=3,
        types=(UINT8, FLOAT),
        estimate=partial(elementwise, theirs="quantized", ours="exp"),
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
        _pool_lower,
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
