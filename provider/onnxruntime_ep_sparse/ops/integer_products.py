"""Products of 8-bit integers: ONNX's QLinear operators, QGemm of com.microsoft, ConvInteger and MatMulInteger.

`passes/quantized.py` makes the same of QDQ groups and of chains around integer products, in the domain FUSED, where more inputs may be
given or left out: see `Form`. Products run on bytes, with int32 sums, where `_by_bytes` says so. Others run on floats that hold
integers, which is exact as long as no sum leaves +-2^24.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.elementwise import Act

from .. import reasons
from ..graph.ir import BYTES, FLOAT, INT32, Graph, Node, attribute_of, number_of, shape_of, sizes_of, type_name
from ..graph.ir import input_of as at
from ..program import byte_packing
from ..program.builder import Builder
from ..program.byte_depthwise import depthwise
from ..program.byte_packing import Quantised
from ..program.enums import ShapeRule
from ..program.kinds.byte_depthwise import ByteDepthwise, runs_on_windows
from ..program.kinds.byte_product import ByteProduct, PendingBytes
from ..program.kinds.depthwise import Depthwise
from ..program.kinds.product import PendingProduct
from ..program.steps import Activation
from ..program.windows import meeting_taps
from ..reasons import Finding
from . import byte_costs, matrix, windows
from .costs import Estimate, Setting
from .quantized import ENTRIES, EXACT, LOWEST, Parameters, parameters
from .quantized_costs import of_product
from .row import FUSED, MICROSOFT, ONNX, OpRow, Shape, can_run_if

INTEGERS = (*BYTES, INT32, FLOAT)
"""Element types of the operands and results of integer products."""


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

FEW_PIXELS = 8
"""Pixels up to which floats are faster than bytes."""


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
    bias__m: NDArray[np.int64]
    scale__m: NDArray[np.float32] | None
    divisor: float = 1.0
    y_zero: int | None = None
    low: float = 0.0
    high: float = 0.0

    def integers(self, graph: Graph) -> NDArray[np.float32]:
        """Return the weight less its zero point."""
        return graph.load(self.weight).astype(np.float32) - self.zero


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
    if _fits_bytes(graph, node, found):
        return found
    largest = _largest(found, node, graph)
    if largest <= EXACT:
        return found
    # float(sum) is the sum of two exact floats, rounded once; an int32 result needs all digits
    if graph.values[node.outputs[0]].dtype != INT32:
        largest = max(_largest(found, node, graph, part) for part in range(2))
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
    assert isinstance(of_weight, Parameters)
    assert isinstance(of_x, Parameters)
    if not known and (x_at[1] >= 0 or graph.values[x_zero].shape not in ((), (1,))):
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
    made = Product(x, int(of_x.zero[0]) if known else x_zero, LOWEST[of_x.dtype], weight, zero, right, bias__m, _spread(factor, m))
    return _with_result(graph, node, form, made)


def _fits_bytes(graph: Graph, node: Node, product: Product) -> bool:
    """Return whether a product can run on bytes: weights less their zero point have 8 bits."""
    shape = sizes_of(graph, product.weight)
    if _is_depthwise(graph, node, product):
        # a zero point of the run would need the sums of weights
        if isinstance(product.x_zero, str) or not runs_on_windows(windows.window_of(as_float(graph, node), shape[2:])):
            return False
    elif FORMS[node.op_type].product is not windows.CONV and len(shape) != 2:
        return False
    least, low, high = LOWEST[graph.values[product.weight].dtype], float(product.zero.min()), float(product.zero.max())
    if least - high >= -128 and least + ENTRIES - 1 - low <= 127:
        return True
    integers = product.integers(graph)
    return bool(integers.min() >= -128 and integers.max() <= 127)


def _is_depthwise(graph: Graph, node: Node, product: Product) -> bool:
    """Return whether each output of a product reads one channel of several."""
    if FORMS[node.op_type].product is not windows.CONV:
        return False
    return int(attribute_of(node, "group", 1)) > 1 and sizes_of(graph, product.weight)[1] == 1


def _by_bytes(graph: Graph, node: Node, product: Product) -> bool:
    """Return whether a product runs on bytes: where it can, unless the floats are exact and faster, as with few pixels."""
    if not _fits_bytes(graph, node, product):
        return False
    if _is_depthwise(graph, node, product):
        return True
    return _pixels(graph, node, product) > FEW_PIXELS or _largest(product, node, graph) > EXACT


def runs_on_bytes(graph: Graph, node: Node) -> bool:
    """Return whether a node is a product that runs on bytes."""
    product = _product_of(graph, node) if node.op_type in FORMS else None
    return isinstance(product, Product) and _by_bytes(graph, node, product)


def _pixels(graph: Graph, node: Node, product: Product) -> float:
    """Return the number of pixels that share the weights; where it is not known, 1 for matrices of two dimensions and many for others."""
    form, x = FORMS[node.op_type], shape_of(graph, product.x)
    if form.product is windows.CONV:
        sizes = shape_of(graph, node.outputs[0])[2:]
    elif form.product is matrix.GEMM:
        sizes = x[1:] if attribute_of(node, "transA", 0) else x[:1]
    else:
        sizes = x[:-1] if product.right else x[1:][-1:]
    unknown = 1.0 if len(x) == 2 else math.inf
    return math.prod(d if isinstance(d, int) else unknown for d in sizes)


def _bias_of(graph: Graph, node: Node, form: Form, m: int) -> NDArray[np.int64] | Finding:
    """Return the integers that are added to the sums (M,), or the reason why they are not supported."""
    name = at(node, form.bias)
    if not name:
        return np.zeros(m, np.int64)
    array = graph.constant(name)
    if array is None:
        return reasons.PARAMETER_NOT_CONSTANT(name=name)
    if array.dtype != np.int32:
        return reasons.QUANTISATION_TYPE(what="the bias", type=type_name(graph.values[name].dtype), supported="int32")
    if array.size not in (1, m):
        return reasons.MISMATCHED(what="the bias", other=f"the weight of {m} outputs")
    return np.broadcast_to(array.reshape(-1), m).astype(np.int64)


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


def _largest(product: Product, node: Node, graph: Graph, part: int | None = None) -> float:
    """Return the largest number, either way, that any sum of a product can reach on its way; or of one `part` of its two, the bias in the
    first."""
    if isinstance(product.x_zero, str):
        low, high = -255.0, 255.0
    else:
        low = min(0.0, float(product.x_low - product.x_zero))
        high = max(0.0, float(product.x_low + ENTRIES - 1 - product.x_zero))
    bias = np.zeros_like(product.bias__m) if part == 1 else product.bias__m
    shape, axis = sizes_of(graph, product.weight), FORMS[node.op_type].product.output_axis(graph, as_float(graph, node))
    depth = math.prod(shape) // max(shape[axis], 1)
    wide = depth * 255.0 * max(-low, high) + float(np.abs(bias).max(initial=0))
    if wide <= EXACT:
        return wide
    whole = product.integers(graph)
    if part is not None:
        whole = _part(whole, axis, part)
    integers = np.moveaxis(whole, axis, 0).reshape(shape[axis], -1)
    above, below = np.maximum(integers, 0).sum(axis=1, dtype=np.float64), np.minimum(integers, 0).sum(axis=1, dtype=np.float64)
    if isinstance(product.x_zero, str):
        # x - x_zero spans 255 in all
        most = 255 * np.maximum(above, -below)
        return float(max((most - bias).max(), (bias + most).max()))
    return float(max(-(bias + low * above + high * below).min(), (bias + high * above + low * below).max()))


def _part(weight: NDArray[np.float32], axis: int, part: int) -> NDArray[np.float32]:
    """Return the weight with zeros in place of one half of the inputs of each output, whose axis is `axis`."""
    depth_axis = 1 if axis == 0 else weight.ndim - 2 if axis in (-1, weight.ndim - 1) else weight.ndim - 1
    half = -(-weight.shape[depth_axis] // 2)
    result = weight.copy()
    result[(slice(None),) * depth_axis + (slice(half, None) if part == 0 else slice(half),)] = 0
    return result


def _lower_product(builder: Builder, node: Node) -> None:
    graph = builder.graph
    product = _product_of(graph, node)
    assert isinstance(product, Product)
    if _by_bytes(graph, node, product):
        builder.byte_product(node, product.x, _packed_bytes(builder, node, product), product.y_zero)
        return
    weight, plain, kind = product.integers(graph), as_float(graph, node), FORMS[node.op_type].product
    x = builder.carried(product.x, product.x_zero)
    activation = Activation()
    if product.y_zero is not None:
        activation = Activation(Act.ROUND, product.low, product.high)
        if product.divisor != 1.0:
            assert product.high - product.low == ENTRIES - 1, "a clamp that quantising does not imply"
            activation = Activation(Act.QUANTIZE, product.divisor, product.low)

    def packed(weight: NDArray[np.float32], bias: NDArray[np.int64]) -> PendingProduct | Depthwise:
        bias__m = bias.astype(np.float32)
        if kind is windows.CONV:
            return windows.packed_conv(builder, plain, weight, lambda: weight, bias__m)
        if kind is matrix.GEMM:
            weight__mk = weight if attribute_of(node, "transB", 0) else weight.T
            return builder.matrix(weight__mk, bias__m, x_rows=not attribute_of(node, "transA", 0), y_rows=True)
        return matrix.packed_matmul(builder, weight, right=product.right, bias__m=bias__m)

    if _largest(product, node, graph) <= EXACT:
        whole = replace(packed(weight, product.bias__m), scale__m=product.scale__m)
        builder.quantized(node, x, whole, activation, product.y_zero)
        return
    axis = kind.output_axis(graph, plain)
    biases = product.bias__m, np.zeros_like(product.bias__m)
    parts = [packed(_part(weight, axis, i), bias__m) for i, bias__m in enumerate(biases)]
    scale = product.scale__m
    if scale is not None:
        rank = len(shape_of(graph, node.outputs[0]))
        feature = 1 if kind is windows.CONV else rank - 1 if product.right else max(rank - 2, 0)
        scale = scale.reshape([-1 if i == feature else 1 for i in range(rank)])
    builder.quantized_in_parts(node, x, parts, scale, activation, product.y_zero)


def _packed_bytes(builder: Builder, node: Node, product: Product) -> PendingBytes | ByteDepthwise:
    """Return a product on bytes, packed when all others are, or a depthwise one."""
    graph, form, zero = builder.graph, FORMS[node.op_type], product.y_zero or 0
    weight, plain, isa = product.integers(graph), as_float(graph, node), builder.isa
    low, high = int(product.low) + zero, int(product.high) + zero
    signed = LOWEST[graph.values[product.x].dtype] < 0
    x_zero, value = (product.x_zero, -1) if isinstance(product.x_zero, int) else (0, builder.value(product.x_zero))
    how = Quantised(signed, x_zero, product.bias__m, product.scale__m, zero, low, high, product.divisor, value)
    pack: Callable[[], ByteProduct]
    if form.product is windows.CONV:
        met, window, image = windows.met_weight(graph, plain, weight, lambda: weight)
        groups = int(attribute_of(plain, "group", 1))
        if _is_depthwise(graph, node, product):
            assert isinstance(met, np.ndarray)
            return depthwise(met, window, groups, how)
        pack = partial(byte_packing.convolution, met, window, groups, image, isa, how)
        return PendingBytes(weight.size, pack, ShapeRule.CONV, False, met.shape[0])
    y_rows = True
    if form.product is matrix.GEMM:
        rule = ShapeRule.GEMM
        weight__mk = weight if attribute_of(node, "transB", 0) else weight.T
        x_rows = not attribute_of(node, "transA", 0)
        pack = partial(byte_packing.matrix, weight__mk, ShapeRule.GEMM, how, x_rows=x_rows, y_rows=True, isa=isa)
    else:
        right = y_rows = product.right
        weight__mk, rule = (weight.T, ShapeRule.MATMUL_RIGHT) if right else (weight, ShapeRule.MATMUL_LEFT)
        pack = partial(byte_packing.matrix, weight__mk, rule, how, x_rows=right, y_rows=right, isa=isa)
    return PendingBytes(weight.size, pack, rule, y_rows, len(weight__mk))


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
    ours, product = row.estimate(setting, plain), _product_of(setting.graph, node)
    if isinstance(product, Product) and _by_bytes(setting.graph, node, product):
        if _is_depthwise(setting.graph, node, product):
            a, b, y = (setting.sizes(name) for name in (*plain.inputs, plain.outputs[0]))
            ours = Estimate(ours.ort, byte_costs.depthwise(setting.isa, a, b, y), floats=math.prod(a) + math.prod(y))
        else:
            ours = _byte_estimate(setting, plain, row, ours)
    axis = row.output_axis(setting.graph, plain)
    return of_product(setting, node, x, weight, axis, ours, convolves=row is windows.CONV, loose=form.factor >= 0)


def _byte_estimate(setting: Setting, plain: Node, row: OpRow, floats: Estimate) -> Estimate:
    """Return the work of a float product of these shapes if it runs on bytes; `floats` is what it takes on floats."""
    a, b, y = (setting.sizes(name) for name in (*plain.inputs, plain.outputs[0]))
    if row is windows.CONV:
        window = windows.window_of(plain, b[2:])
        smaller, _ = meeting_taps(window, a[2:])
        work = byte_costs.convolution(setting.isa, a, (*b[:2], *smaller.kernel), y, smaller, int(attribute_of(plain, "group", 1)))
    else:
        right = setting.graph.is_constant(plain.inputs[1])
        outputs = y[-1] if right or len(y) < 2 else y[-2]
        work = byte_costs.matrix(setting.isa, math.prod(y) // max(outputs, 1), math.prod(b if right else a) // max(outputs, 1), outputs)
    fixed, apart, macs = work
    return Estimate(floats.ort, fixed, apart, ort_splits=floats.ort_splits, floats=0, macs=macs)


def _product_counts(graph: Graph, node: Node) -> tuple[int | None, ...]:
    plain = as_float(graph, node)
    return FORMS[node.op_type].product.row_counts(graph, plain)


def _product_implied(graph: Graph, node: Node) -> dict[str, Shape]:
    plain = as_float(graph, node)
    return FORMS[node.op_type].product.implied(graph, plain)


def _product_sizes(graph: Graph, node: Node):
    plain = as_float(graph, node)
    return FORMS[node.op_type].product.open_sizes(graph, plain)


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
            (
                "QLinearConv",
                FORMS["QLinearConv"],
                (*ONNX, *MICROSOFT),
                "constant weight, bias, scales and zero points; per tensor or channel",
            ),
            ("QLinearMatMul", FORMS["QLinearMatMul"], ONNX, "one constant operand, per tensor or output"),
            ("QGemm", FORMS["QGemm"], MICROSOFT, "constant B and C, per tensor or output"),
            ("ConvInteger", FORMS["ConvInteger"], ONNX, "constant weight"),
            ("MatMulInteger", FORMS["MatMulInteger"], ONNX, "one constant operand"),
        )
    ),
)
