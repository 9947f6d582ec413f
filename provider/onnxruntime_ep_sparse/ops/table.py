"""The table of operators, joined from the files of this folder, and the questions about a node that every row answers.

`docs/supported-models.md` is generated from it. Whether a node is worth taking is the question of `partition/select.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .. import reasons
from ..graph.ir import FLOAT, FLOAT16, FLOAT64, INT8, UINT8, Graph, Node, Value, input_of, type_name
from ..program.limits import MAX_RANK
from ..reasons import Finding
from . import (
    activations,
    attention,
    casts,
    dynamic,
    einsum,
    elementwise,
    group_query,
    integer_products,
    layout,
    matrix,
    near_channels,
    normalization,
    pairs,
    parts,
    quantized,
    quantized_pools,
    recurrent,
    reductions,
    rotary,
    transposed,
    windows,
)
from .integers import INTEGER_ROWS
from .numbers import NUMBERS
from .row import FLOATS, ONNX, OpRow, no_weights

MODULES = (
    *(windows, transposed, matrix, pairs, einsum, attention, rotary, group_query, recurrent, activations, elementwise, reductions),
    *(normalization, near_channels, layout, parts, casts, quantized, quantized_pools, integer_products, dynamic),
)
NAMESAKES: dict[tuple[str, str], OpRow] = {
    (domain, row.op_type): row for row in (*attention.NAMESAKES, *rotary.NAMESAKES) for domain in row.domains
}
"""Operators of another domain with the name of a row of OPS, by domain and name."""
OPS: dict[str, OpRow] = {row.op_type: row for module in MODULES for row in module.ROWS}
"""Every other operator a region may hold."""


def row_for(node: Node) -> OpRow | None:
    """Return the table's row for a node, or None if there is none."""
    if node.counts:
        return NUMBERS[node.op_type]
    if node.integers and node.op_type in INTEGER_ROWS:
        return INTEGER_ROWS[node.op_type]
    row = OPS.get(node.op_type)
    if row is None or node.domain in row.domains:
        return row
    return NAMESAKES.get((node.domain, node.op_type))


FLAGS = frozenset(
    (
        *("allowzero", "antialias", "ceil_mode", "count_include_pad", "exclude_outside", "exclusive", "input_forget", "interleaved"),
        *("is_causal", "keepdims", "layout", "linear_before_reset", "noop_with_empty_axes", "reverse", "saturate", "storage_order"),
        *("transA", "transB", "upper"),
    )
)
"""Attributes that are 0 or 1. ONNX does not define other values: ONNX Runtime takes them for 1 in some operators and for 0 in others."""


def unsupported(node: Node) -> Finding:
    """Return the reason why a node without a row cannot run."""
    if node.domain == BLOCKED:
        return reasons.BLOCKED_LAYOUT(operator=node.op_type)
    return reasons.QUANTISED(operator=node.op_type) if is_quantised(node) else reasons.UNSUPPORTED_OPERATOR(operator=node.op_type)


def can_run(graph: Graph, node: Node) -> Finding | None:
    """Return None if a region may hold this node, else the reason why not."""
    unclear = [name for name in (*node.inputs, *node.outputs) if name and name not in graph.values]
    if unclear:
        return reasons.NAME_NOT_UNIQUE(name=unclear[0].partition("\0")[0])
    row = row_for(node)
    if row is None:
        return unsupported(node)
    for name, value in node.attributes.items():
        if name in FLAGS and value not in (0, 1):
            return reasons.UNSUPPORTED_ATTRIBUTE(name=name, value=value)
    if node.counts:
        return row.can_run(graph, node)
    # BatchNormalization, LayerNormalization and MaxPool have more results, which exporters may leave without readers
    further = [name for name in node.outputs[row.results :] if graph.is_read(name)]
    if further or not (node.outputs[0] or row.results > 1):
        return reasons.EXTRA_OUTPUTS()
    data = [name for i, name in enumerate(node.inputs) if name and i not in row.parameters]
    for name in (*data, *(o for o in node.outputs[: row.results] if o)):
        value = graph.values[name]
        if value.dtype == 0:
            return reasons.TYPE_UNKNOWN(name=name)
        if value.dtype not in row.types:
            return (reasons.NOT_FLOAT32 if row.types == FLOATS else reasons.TYPE_NOT_SUPPORTED)(type=type_name(value.dtype))
        if value.shape is None:
            return reasons.RANK_UNKNOWN(name=name)
        if len(value.shape) > MAX_RANK:
            return reasons.UNSUPPORTED_RANK(rank=len(value.shape), supported=f"at most {MAX_RANK}")
    if node.since_version < row.first_version:
        return reasons.OPSET_TOO_OLD(version=node.since_version, first=row.first_version)
    finding = row.can_run(graph, node)
    overridable = [name for name in node.inputs if name in graph.defaults]
    if finding is not None and finding.reason in (reasons.WEIGHT_NOT_CONSTANT, reasons.NO_CONSTANT_OPERAND):
        if overridable:
            return reasons.WEIGHT_IS_INPUT(name=overridable[0])
        if _dequantised(graph, node):
            return reasons.QUANTISED(operator=node.op_type)
    return finding


def with_implied_shapes(graph: Graph, ranks: dict[str, int] | None = None) -> Graph:
    """Return the graph with the ranks of tensors that the file leaves open and a node next to them implies.

    `ranks` holds those that are known from elsewhere, by the names of values; the implied ones go into it.
    ONNX Runtime infers nothing after an operator whose shapes it does not know; a Conv's weight still gives the rank of its images.
    """
    unknown = {name for name, value in graph.values.items() if value.dtype == FLOAT and value.shape is None}
    if not unknown:
        return graph
    values = dict(graph.values)
    ranks = {} if ranks is None else ranks
    values |= {name: replace(values[name], shape=(None,) * ranks[name]) for name in unknown & ranks.keys()}
    graph = replace(graph, values=values)  # rows see what the nodes before them imply
    for node in graph.nodes:
        row = row_for(node)
        if row is not None and not unknown.isdisjoint((*node.inputs, *node.outputs)):
            shapes = row.implied(graph, node)
            values |= {name: replace(values[name], shape=shape) for name, shape in shapes.items() if name in unknown}
    ranks |= {name: len(shape) for name in unknown if (shape := values[name].shape) is not None}
    return graph


@dataclass(frozen=True, slots=True)
class LeftWeight:
    """An input that may be the weight of a product without a row.

    `axis` is the axis of its output features, `zero_point` the input that holds the number that stands for 0, -1 in float operators.
    """

    place: int
    axis: int
    zero_point: int = -1


BLOCKED = "com.microsoft.nchwc"
"""Domain of operators in ONNX Runtime's blocked layout, which files saved at the level ALL hold."""
EITHER = (LeftWeight(0, 0), LeftWeight(1, 1))
LEFT_PRODUCTS: dict[tuple[str, str], tuple[LeftWeight, ...]] = {
    ("", "DeformConv"): (LeftWeight(1, 0),),
    ("com.microsoft", "DynamicQuantizeMatMul"): (LeftWeight(1, 1, 3),),
    ("com.microsoft", "GemmFastGelu"): (LeftWeight(1, 1),),
    ("com.microsoft", "MatMulIntegerToFloat"): (LeftWeight(1, 1, 5),),
    ("com.microsoft", "NhwcFusedConv"): (LeftWeight(1, 0),),
    ("com.microsoft", "TransposeMatMul"): EITHER,
    (BLOCKED, windows.CONV.op_type): (LeftWeight(1, 0),),
}
"""Products without a row, which are left to other providers: domain and operator to the inputs that may be weights."""
COUNTABLE = (FLOAT, FLOAT16, FLOAT64, INT8, UINT8)
"""Element types of weights whose zeros are counted."""


def is_quantised(node: Node) -> bool:
    """Return whether a node is a product of integers."""
    return any(weight.zero_point >= 0 for weight in _left(node))


def _left(node: Node) -> tuple[LeftWeight, ...]:
    return LEFT_PRODUCTS.get(("" if node.domain in ONNX else node.domain, node.op_type), ())


def left_weights_of(graph: Graph, node: Node) -> tuple[tuple[str, int, str], ...]:
    """Return the constant weights of a product that is left to other providers.

    Each is its name, the axis of its output features and the name of its zero point, "" without one.
    """
    row = row_for(node)
    if row is not None and row.weights is no_weights:  # as of most nodes: 100,000 of them would take 0.13 s here
        return ()
    if row is not None:
        dequantised = _dequantised(graph, node)
        if dequantised:
            graph = replace(graph, constant_names=graph.constant_names | dequantised.keys())
        names = row.weights(graph, node)
        zeros = dict(zip(names, row.zero_points(graph, node), strict=False))
        found = [dequantised.get(name, (name, zeros.get(name, ""))) for name in names]
        # only a constant operand says which axis it is: other ranks may be unknown
        weights = [(name, row.output_axis(graph, node), zero_point) for name, zero_point in found]
    else:
        weights = [
            (node.inputs[left.place], left.axis, input_of(node, left.zero_point)) for left in _left(node) if left.place < len(node.inputs)
        ]
    return tuple(weight for weight in weights if graph.is_constant(weight[0]) and _is_countable(graph.values[weight[0]]))


def _dequantised(graph: Graph, node: Node) -> dict[str, tuple[str, str]]:
    """Return the inputs of a node that DequantizeLinear makes of a constant: name to that constant and its zero point, "" without one."""
    makers = {name: graph.producer[name] for name in node.inputs if name in graph.producer}
    return {name: (maker.inputs[0], input_of(maker, 2)) for name, maker in makers.items() if quantized.is_dequantised_constant(graph, name)}


def _is_countable(value: Value) -> bool:
    return value.dtype in COUNTABLE and len(value.shape or ()) > 1 and 0 not in (value.shape or ())


def is_activation(node: Node) -> bool:
    """Return whether a product can end with this node."""
    row = row_for(node)
    return row is not None and row.role == "activation"


def is_addition(node: Node) -> bool:
    """Return whether a product that makes an operand of this node can add the other one."""
    row = row_for(node)
    return row is not None and row.adds


def runs_only_here(graph: Graph, node: Node) -> bool:
    """Return whether ONNX Runtime's CPU provider has no kernel for a node."""
    row = row_for(node)
    return row is not None and row.only_here(graph, node)


def is_blocked(node: Node) -> bool:
    """Return whether ONNX Runtime runs a node in its blocked layout between convolutions."""
    row = row_for(node)
    return row is not None and row.blocked


def weights_of(graph: Graph, node: Node) -> tuple[str, ...]:
    """Return the constant weights of a product or a recurrent node that are packed; nothing of others."""
    row = row_for(node)
    return row.weights(graph, node) if row is not None else ()


def zero_points_of(graph: Graph, node: Node) -> tuple[str, ...]:
    """Return for each of `weights_of` the name of the constant that holds the number that stands for 0 in it, "" for 0."""
    row = row_for(node)
    names = row.zero_points(graph, node) if row is not None else ()
    return names or ("",) * len(weights_of(graph, node))


def output_axis(graph: Graph, node: Node) -> int:
    """Return the axis of a constant weight that holds its output features."""
    row = row_for(node)
    return row.output_axis(graph, node) if row is not None else 0
