"""The one table of operators that compute a few numbers, such as those of a shape: the plan does, and a run of known shapes does nothing.

They begin with shapes of values, with constants, or with inputs of a region; a plan then is that of the contents of these inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from .. import reasons
from ..graph.ir import BOOL, FLOAT, INT32, INT64, Graph, Node, attribute_of, input_of, shape_of, sizes_of, type_name
from ..program.builder import TYPE_OF, Builder
from ..program.enums import NumberOp
from ..program.limits import MAX_NUMBERS, MAX_RANK
from ..program.steps import Numbers
from ..reasons import Finding
from . import costs
from .row import ONNX, OpRow, can_run_if

LISTED = (INT64, INT32, BOOL, FLOAT)
"""Element types of numbers that a plan computes."""
MOST_LITERAL = 1 << 62
"""Constants of a graph that numbers are computed from are smaller."""


def is_list(graph: Graph, name: str) -> bool:
    """Return whether a value has so few elements, in at most one dimension, that a plan can hold them."""
    shape = graph.values[name].shape if name in graph.values else None
    if shape is None or len(shape) > 1 or graph.values[name].dtype not in LISTED:
        return False
    return not shape or (isinstance(shape[0], int) and 0 <= shape[0] <= MAX_NUMBERS)


def is_table(graph: Graph, name: str) -> bool:
    """Return whether a value is a list of so few integers in two dimensions, as the pads of TorchScript's exporter are on their way."""
    shape = graph.values[name].shape if name in graph.values else None
    if shape is None or len(shape) != 2 or graph.values[name].dtype not in (INT64, INT32):
        return False
    return all(isinstance(d, int) and d > 0 for d in shape) and math.prod(sizes_of(graph, name)) <= MAX_NUMBERS


def is_computed(graph: Graph, name: str, dtype: int = INT64) -> bool:
    """Return whether a plan can compute the numbers of this value, or read them from an input."""
    if graph.is_constant(name) or not is_list(graph, name) or graph.values[name].dtype != dtype:
        return False
    maker = graph.producer.get(name)
    return (dtype != FLOAT and (maker is None or not maker.integers)) or (maker is not None and maker.counts)


def count_of(graph: Graph, name: str) -> int:
    """Return the number of elements of a list."""
    return math.prod(sizes_of(graph, name))


def computed_shape_finding(graph: Graph, node: Node, place: int = 1) -> Finding | None:
    """Return why a plan cannot compute the shape of a result, the input of a node at `place`; or None."""
    name = node.inputs[place]
    if not is_computed(graph, name) or len(shape_of(graph, name)) != 1:
        return reasons.PARAMETER_NOT_CONSTANT(name="shape")
    count, rank = count_of(graph, name), len(shape_of(graph, node.inputs[0])) if node.op_type == "Expand" else 0
    if max(count, rank) > MAX_RANK:
        return reasons.UNSUPPORTED_RANK(rank=max(count, rank), supported=f"at most {MAX_RANK}")
    known = len(shape_of(graph, node.outputs[0])) == max(count, rank)
    return None if known else reasons.MISMATCHED(what="the rank of the output", other="input shape")


@dataclass(frozen=True, slots=True)
class Dimension:
    """The size of a value along an axis."""

    name: str
    axis: int


def known_numbers(graph: Graph, name: str) -> tuple[Dimension | float | None, ...]:
    """Return what is known of each number of a list: its value, or that it is a dimension; None where it is computed otherwise."""
    array, maker = graph.constant(name), graph.producer.get(name)
    if array is not None:
        return tuple(array.reshape(-1).tolist())
    if maker is not None and maker.counts and can_run_any(graph, maker):
        if maker.op_type == "Shape":
            return tuple(Dimension(maker.inputs[0], axis) for axis in dimensions_of(graph, maker))
        if maker.op_type == "Concat":
            return tuple(number for part in maker.inputs for number in known_numbers(graph, part))
        if maker.op_type in PICKS:
            places, numbers = picked(graph, maker), known_numbers(graph, maker.inputs[0])
            return tuple(numbers[place] for place in places) if not isinstance(places, Finding) else ()
        if maker.op_type == "Cast" and graph.values[maker.inputs[0]].dtype == INT64:
            return known_numbers(graph, maker.inputs[0])
    return (None,) * count_of(graph, name)


def can_run_any(graph: Graph, node: Node) -> bool:
    """Return whether a plan can compute the numbers of a node."""
    return NUMBERS[node.op_type].can_run(graph, node) is None


def with_counts(graph: Graph) -> Graph:
    """Return the graph with the nodes marked that compute a few integers, or floats from such."""
    marked: dict[int, Node] = {}
    made: set[str] = set()
    for place, node in enumerate(graph.nodes):
        if node.op_type not in NUMBERS or node.domain not in ONNX or len(node.outputs) != 1:
            continue
        of_tables = node.op_type in TABLES and is_table(graph, node.outputs[0]) and node.inputs[0] in made
        if not (of_tables or is_list(graph, node.outputs[0])):
            continue
        of_floats = graph.values[node.outputs[0]].dtype == FLOAT
        if of_floats and not (made.intersection(node.inputs) and all(name in made or graph.is_constant(name) for name in node.inputs)):
            continue
        marked[place] = replace(node, counts=True)
        made.add(node.outputs[0])
    if not marked:
        return graph
    return replace(graph, nodes=tuple(marked.get(place, node) for place, node in enumerate(graph.nodes)))


# --- what a node can read


def _operand_finding(graph: Graph, name: str, may_be_table: bool = False) -> Finding | None:
    """Return why an operand cannot be numbers of a plan, or None; lists of two dimensions only if it `may_be_table`."""
    if not name:
        return reasons.UNSUPPORTED_OPERAND_COUNT(count=0, supported="as many as are listed")
    value = graph.values[name]
    if value.shape is None:
        return reasons.RANK_UNKNOWN(name=name)
    if value.dtype not in LISTED:
        return reasons.NOT_FLOAT32(type=type_name(value.dtype))
    maker = graph.producer.get(name)
    if not (is_list(graph, name) or (may_be_table and maker is not None and maker.counts and is_table(graph, name))):
        return reasons.TOO_MANY_NUMBERS(most=MAX_NUMBERS)
    array = graph.constant(name)
    if array is not None:
        if value.dtype != FLOAT and any(abs(int(n)) >= MOST_LITERAL for n in array.reshape(-1)):
            return reasons.OUT_OF_RANGE(what="a constant", value=array.reshape(-1)[0], low="-2**62", high="2**62")
        return None
    return reasons.DEPENDS_ON_DATA() if value.dtype == FLOAT and not (maker is not None and maker.counts) else None


def _findings(graph: Graph, node: Node) -> Finding | None:
    return next((finding for name in node.inputs if (finding := _operand_finding(graph, name)) is not None), None)


Lower = Callable[[Builder, Node], None]
Check = Callable[[Graph, Node], Finding | None]


def _compute(builder: Builder, node: Node, op: NumberOp, operands: list[Numbers], **fields: object) -> None:
    name = node.outputs[0]
    shape, element = sizes_of(builder.graph, name), TYPE_OF[builder.graph.values[name].dtype]
    builder.compute(op, [operand.y for operand in operands], name, element, shape=shape, **fields)


def _lists(builder: Builder, node: Node) -> list[Numbers]:
    return [builder.list_of(name) for name in node.inputs if name]


# --- shapes


def dimensions_of(graph: Graph, node: Node) -> range:
    """Return the dimensions that a Shape tells."""
    rank = len(shape_of(graph, node.inputs[0]))
    begin, end = int(attribute_of(node, "start", 0)), int(attribute_of(node, "end", rank))
    return range(rank)[begin:end]


def _shape_can_run(graph: Graph, node: Node) -> Finding | None:
    if graph.values[node.inputs[0]].shape is None:
        return reasons.RANK_UNKNOWN(name=node.inputs[0])
    if graph.values[node.inputs[0]].dtype not in TYPE_OF:
        return reasons.NOT_FLOAT32(type=type_name(graph.values[node.inputs[0]].dtype))
    if len(shape_of(graph, node.inputs[0])) > MAX_RANK:
        return reasons.UNSUPPORTED_RANK(rank=len(shape_of(graph, node.inputs[0])), supported=f"at most {MAX_RANK}")
    if node.op_type == "Shape" and len(dimensions_of(graph, node)) != count_of(graph, node.outputs[0]):
        return reasons.MISMATCHED(what="the output", other="the input")
    return None


def _shape_lower(builder: Builder, node: Node) -> None:
    x, places = node.inputs[0], tuple(dimensions_of(builder.graph, node))
    if builder.graph.is_constant(x):
        sizes = sizes_of(builder.graph, x)
        integers = tuple(sizes[place] for place in places) if node.op_type == "Shape" else (math.prod(sizes),)
        _compute(builder, node, NumberOp.LITERAL, [], integers=integers)
    elif node.op_type == "Shape":
        builder.compute(NumberOp.SHAPE, [builder.value(x)], node.outputs[0], shape=(len(places),), places=places)
    else:
        dims = builder.compute(NumberOp.SHAPE, [builder.value(x)], shape=(len(places),), places=places)
        builder.compute(NumberOp.PRODUCT, [dims.y], node.outputs[0])


# --- some of the numbers


def picked(graph: Graph, node: Node) -> tuple[int, ...] | Finding:
    """Return which numbers of its first operand a node picks, or why it cannot run."""
    finding = _operand_finding(graph, node.inputs[0], node.op_type in TABLES)
    if finding is not None:
        return finding
    if len(shape_of(graph, node.inputs[0])) > 1 and node.op_type != "Reshape":
        return _table_places(graph, node)
    count, parameters = count_of(graph, node.inputs[0]), [graph.constant(name) for name in node.inputs[1:] if name]
    places = tuple(range(count))
    if node.op_type in ("Gather", "Slice") and any(array is None for array in parameters):
        return reasons.PARAMETER_NOT_CONSTANT(name="indices")
    if node.op_type == "Gather":
        indices = [int(i) for array in parameters if array is not None for i in array.reshape(-1)]
        if not shape_of(graph, node.inputs[0]) or len(shape_of(graph, node.inputs[1])) > 1 or attribute_of(node, "axis", 0) not in (0, -1):
            return reasons.MISMATCHED(what="axis or indices", other="the input")
        if not all(-count <= i < count for i in indices):
            return reasons.OUT_OF_RANGE(what="an index", value=indices, low=-count, high=count - 1)
        places = tuple(i % count for i in indices)
    elif node.op_type == "Slice":
        found = _slice_places(graph, node, places)
        if found is None:
            return reasons.MISMATCHED(what="starts, ends, axes or steps", other="the input")
        places = found
    elif node.op_type == "Expand":
        places *= count_of(graph, node.outputs[0]) if count == 1 else 1
    if len(places) != count_of(graph, node.outputs[0]):
        return reasons.MISMATCHED(what="the output", other="the input")
    return places


def _table_places(graph: Graph, node: Node) -> tuple[int, ...] | Finding:
    """Return which numbers of two dimensions a Slice of rows or a Transpose takes."""
    rows, columns = sizes_of(graph, node.inputs[0])
    if node.op_type == "Transpose":
        kept = tuple(attribute_of(node, "perm", (1, 0))) == (0, 1)
        return tuple(range(rows * columns)) if kept else tuple(row * columns + column for column in range(columns) for row in range(rows))
    if any(name and not graph.is_constant(name) for name in node.inputs[1:]):
        return reasons.PARAMETER_NOT_CONSTANT(name="indices")
    found = _slice_places(graph, node, tuple(range(rows)))
    if found is None or len(found) * columns != count_of(graph, node.outputs[0]):
        return reasons.MISMATCHED(what="starts, ends, axes or steps", other="the input")
    return tuple(row * columns + column for row in found for column in range(columns))


def _slice_places(graph: Graph, node: Node, places: tuple[int, ...]) -> tuple[int, ...] | None:
    if node.since_version < SLICE_BY_INPUTS:
        lists = [list(attribute_of(node, name, default)) for name, default in (("starts", ()), ("ends", ()), ("axes", (0,)))] + [[1]]
    else:
        arrays = [graph.constant(name) if (name := input_of(node, place)) else None for place in range(1, 5)]
        lists = [[int(n) for n in array.reshape(-1)] if array is not None else [place // 4] for place, array in enumerate(arrays, 1)]
    rank = len(shape_of(graph, node.inputs[0]))
    if any(len(each) != 1 for each in lists) or lists[2][0] not in (0, -rank) or lists[3][0] == 0 or not rank:
        return None
    return places[lists[0][0] : lists[1][0] : lists[3][0]] if lists[3][0] > 0 else _backwards(places, *lists[0], *lists[1], *lists[3])


def _backwards(places: tuple[int, ...], start: int, end: int, step: int) -> tuple[int, ...]:
    count = len(places)
    first = min(start + count * (start < 0), count - 1)
    last = max(end + count * (end < 0), -1)
    return tuple(range(first, last, step)) if first >= 0 else ()


SLICE_BY_INPUTS = 10


def _pick_lower(builder: Builder, node: Node) -> None:
    places = picked(builder.graph, node)
    assert not isinstance(places, Finding)
    _compute(builder, node, NumberOp.PICK, [builder.list_of(node.inputs[0])], places=places)


# --- several lists


def _concat_can_run(graph: Graph, node: Node) -> Finding | None:
    finding = _findings(graph, node)
    if finding is None and sum(count_of(graph, name) for name in node.inputs) != count_of(graph, node.outputs[0]):
        return reasons.MISMATCHED(what="the output", other="the inputs")
    return finding


def _concat_lower(builder: Builder, node: Node) -> None:
    first, *rest = _lists(builder, node)
    for other in rest[:-1]:
        first = builder.compute(NumberOp.JOIN, [first.y, other.y], "", builder.type_of(first.y), shape=(first.count + other.count,))
    if rest:
        _compute(builder, node, NumberOp.JOIN, [first, rest[-1]])
    else:
        _compute(builder, node, NumberOp.PICK, [first], places=tuple(range(first.count)))


def _elementwise_can_run(graph: Graph, node: Node) -> Finding | None:
    finding = _findings(graph, node)
    if finding is not None:
        return finding
    count = count_of(graph, node.outputs[0])
    if not all(count_of(graph, name) in (1, count) for name in node.inputs):
        return reasons.MISMATCHED(what="the output", other="the inputs")
    if len(node.inputs) < 2 and node.op_type in ("Min", "Max"):
        return reasons.UNSUPPORTED_OPERAND_COUNT(count=1, supported="2 and more")
    if attribute_of(node, "fmod", 0):
        return reasons.UNSUPPORTED_ATTRIBUTE(name="fmod", value=1)
    return None


def _total_can_run(graph: Graph, node: Node) -> Finding | None:
    finding = _operand_finding(graph, node.inputs[0])
    if finding is None and count_of(graph, node.outputs[0]) != 1:
        return reasons.UNSUPPORTED_AXES(supported="all")
    return finding


def _total_lower(op: NumberOp, builder: Builder, node: Node) -> None:
    _compute(builder, node, op, [builder.list_of(node.inputs[0])])


def _elementwise_lower(op: NumberOp, swapped: bool, builder: Builder, node: Node) -> None:
    first, *rest = _lists(builder, node)
    if op == NumberOp.SELECT or len(rest) < 2:
        _compute(builder, node, op, [*rest, first] if swapped else [first, *rest])
        return
    for other in rest[:-1]:  # Min and Max of many
        shape = (max(first.count, other.count),)
        first = builder.compute(op, [first.y, other.y], "", builder.type_of(first.y), shape=shape)
    _compute(builder, node, op, [first, rest[-1]])


POWERS = (2.0, 0.5, -0.5, -1.0)
"""Exponents of Pow: exporters write the factor of attention as the power -0.5 of a size."""


def _exponent(graph: Graph, node: Node) -> float | None:
    array = graph.constant(node.inputs[1])
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def _power_can_run(graph: Graph, node: Node) -> Finding | None:
    finding = _operand_finding(graph, node.inputs[0])
    if finding is not None:
        return finding
    powers = POWERS if graph.values[node.inputs[0]].dtype == FLOAT else POWERS[:1]
    if _exponent(graph, node) not in powers:
        return reasons.EXPONENT(supported=", ".join(f"{power:g}" for power in powers))
    same = count_of(graph, node.inputs[0]) == count_of(graph, node.outputs[0])
    return None if same else reasons.MISMATCHED(what="the output", other="the input")


def _power_lower(builder: Builder, node: Node) -> None:
    first, exponent = builder.list_of(node.inputs[0]), _exponent(builder.graph, node)
    shape, element = first.shape, builder.type_of(first.y)
    if exponent == POWERS[0]:
        return _compute(builder, node, NumberOp.MUL, [first, first])
    if exponent == POWERS[1]:
        return _compute(builder, node, NumberOp.SQRT, [first])
    root = first if exponent == POWERS[-1] else builder.compute(NumberOp.SQRT, [first.y], "", element, shape=shape)
    one = builder.compute(NumberOp.LITERAL, element=element, shape=shape, floats=(1.0,) * first.count)
    return _compute(builder, node, NumberOp.DIV, [one, root])


@dataclass(frozen=True, slots=True)
class Elementwise:
    """An operator whose numbers each come from those at the same place; `swapped`: with its operands the other way round."""

    op_type: str
    op: NumberOp
    swapped: bool = False


ELEMENTWISE = (
    Elementwise("Cast", NumberOp.CAST),
    Elementwise("Neg", NumberOp.NEG),
    Elementwise("Abs", NumberOp.ABS),
    Elementwise("Floor", NumberOp.FLOOR),
    Elementwise("Ceil", NumberOp.CEIL),
    Elementwise("Round", NumberOp.ROUND),
    Elementwise("Sqrt", NumberOp.SQRT),
    Elementwise("Not", NumberOp.NOT),
    Elementwise("Add", NumberOp.ADD),
    Elementwise("Sub", NumberOp.SUB),
    Elementwise("Mul", NumberOp.MUL),
    Elementwise("Div", NumberOp.DIV),
    Elementwise("Mod", NumberOp.MOD),
    Elementwise("Min", NumberOp.MIN),
    Elementwise("Max", NumberOp.MAX),
    Elementwise("Equal", NumberOp.EQUAL),
    Elementwise("Less", NumberOp.LESS),
    Elementwise("LessOrEqual", NumberOp.LESS_EQUAL),
    Elementwise("Greater", NumberOp.LESS, swapped=True),
    Elementwise("GreaterOrEqual", NumberOp.LESS_EQUAL, swapped=True),
    Elementwise("And", NumberOp.AND),
    Elementwise("Or", NumberOp.OR),
    Elementwise("Where", NumberOp.SELECT),
)
PICKS = ("Gather", "Slice", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Flatten", "Identity", "Expand")
TABLES = ("Reshape", "Slice", "Transpose")
"""Those that also take and make numbers of two dimensions."""
ROLE = "numbers"
NOTE = f"at most {MAX_NUMBERS} integers, or floats from these"
LOGIC = frozenset((NumberOp.NOT, NumberOp.EQUAL, NumberOp.LESS, NumberOp.LESS_EQUAL, NumberOp.AND, NumberOp.OR, NumberOp.SELECT))


def _row(op_type: str, can_run: Check, lower: Lower, note: str = NOTE) -> OpRow:
    """Return the row of an operator; it has no price, because no decision is made for it."""
    return OpRow(op_type, ROLE, can_run, lower, note, estimate=costs.nothing)


def _elementwise_row(each: Elementwise) -> OpRow:
    note = "the same, and truths of them" if each.op in LOGIC else NOTE
    return _row(each.op_type, _elementwise_can_run, partial(_elementwise_lower, each.op, each.swapped), note)


NUMBERS: dict[str, OpRow] = {
    row.op_type: row
    for row in (
        *(_row(name, _shape_can_run, _shape_lower, "of values of any type") for name in ("Shape", "Size")),
        *(_row(name, can_run_if(picked), _pick_lower, f"{NOTE}; constant indices, starts and ends") for name in PICKS),
        _row("Concat", _concat_can_run, _concat_lower),
        *map(_elementwise_row, ELEMENTWISE),
        _row("Pow", _power_can_run, _power_lower, f"{NOTE}; a constant exponent: 2, and of floats 0.5, -0.5 and -1"),
        _row("ReduceProd", _total_can_run, partial(_total_lower, NumberOp.PRODUCT)),
        _row("ReduceSum", _total_can_run, partial(_total_lower, NumberOp.SUM)),
    )
}
"""Operators of numbers, by name. Those of floats with the same names have rows of their own."""
