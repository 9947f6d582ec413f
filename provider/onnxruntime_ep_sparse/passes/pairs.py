"""Lets products of two values read their operands, and write their result, in other orders of dimensions, and multiply by a number.

Attention splits channels into heads by transpositions before and after its products, and scales one of them by a root.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..graph.ir import Graph, Node, attribute_of, number_of, shape_of
from ..ops.matrix import LARGEST_ALPHA, SMALLEST_ALPHA
from ..ops.numbers import Dimension, known_numbers
from ..ops.pairs import ORDERED, is_pair, swapped
from ..ops.row import FUSED
from ..program.kinds.pair_product import is_order
from .patterns import exchanged, fused, made_by, only_reader, with_number

Order = tuple[int, ...]


@dataclass
class Operand:
    """A value that becomes an operand with its dimensions in another order, () as they are, times a number: by `nodes`."""

    name: str
    order: Order = ()
    factor: float = 1.0
    nodes: list[Node] = field(default_factory=list)


def order_pairs(graph: Graph) -> Graph:
    """Replace products of two values with the transpositions and factors around them, which no other node reads, by one node each."""
    dropped: set[int] = set()
    replaced: dict[int, Node] = {}
    for node in graph.nodes:
        if node.op_type not in ("MatMul", "FusedMatMul") or node.index in dropped or not is_pair(graph, node):
            continue
        ranks = [len(shape_of(graph, name)) for name in node.inputs]
        orders = [swapped(rank) if attribute_of(node, name, 0) else () for name, rank in zip(("transA", "transB"), ranks, strict=True)]
        x, r = (operand_of(graph, name, order) for name, order in zip(node.inputs, orders, strict=True))
        y, y_order, factor, after = result_of(graph, node.outputs[0], max(ranks))
        alpha = number_of(node, "alpha", 1.0) * x.factor * r.factor * factor
        others = [*x.nodes, *r.nodes, *after]
        if not others or not SMALLEST_ALPHA <= abs(alpha) <= LARGEST_ALPHA:
            continue
        attributes = {"x_order": x.order, "r_order": r.order, "y_order": y_order, "alpha": alpha}
        changes = {"op_type": ORDERED, "domain": FUSED, "inputs": (x.name, r.name), "outputs": (y,), "attributes": attributes}
        replaced[node.index] = fused(node, others, **changes)
        dropped |= {other.index for other in others}
    return exchanged(graph, replaced, dropped)


def operand_of(graph: Graph, name: str, order: Order) -> Operand:
    """Return what an operand of a product, which reads it in this order, is made of."""
    operand = Operand(name, order)
    while only_reader(graph, operand.name) is not None and (maker := graph.producer.get(operand.name)) is not None:
        x, number = with_number(graph, maker, "Mul")
        order = operand.order
        nodes = [maker]
        if maker.op_type == "Transpose":
            x, order = maker.inputs[0], composed(permutation_of(graph, maker), operand.order)
        elif maker.op_type == "Reshape":
            x, nodes = transposed_matrices(graph, maker)
            order = composed(swapped(len(shape_of(graph, x))), operand.order) if x else order
        if not x or not is_order(order, len(shape_of(graph, x)), 2):
            break
        operand.name, operand.order = x, order
        operand.factor *= number or 1.0
        operand.nodes += nodes
    return operand


def result_of(graph: Graph, name: str, rank: int) -> tuple[str, Order, float, list[Node]]:
    """Return what becomes of a product: the last value, its order, a factor, and the nodes on the way."""
    order: Order = ()
    factor, nodes = 1.0, []
    while (reader := only_reader(graph, name)) is not None:
        x, number = with_number(graph, reader, "Mul")
        if reader.op_type == "Transpose":
            following = composed(order, permutation_of(graph, reader))
            if not is_order(following, rank, 1):
                break
            order = following
        elif x != name:
            break
        factor *= number or 1.0
        name = reader.outputs[0]
        nodes.append(reader)
    return name, order, factor, nodes


def permutation_of(graph: Graph, node: Node) -> Order:
    """Return the dimensions of a Transpose's input in the order of its output."""
    return tuple(attribute_of(node, "perm", range(len(shape_of(graph, node.inputs[0])))[::-1]))


def composed(first: Order, second: Order) -> Order:
    """Return the order that `second` makes of dimensions in the order `first`."""
    return tuple(first[axis] for axis in second) if first and second else first or second


def transposed_matrices(graph: Graph, last: Node) -> tuple[str, list[Node]]:
    """Return the value whose matrices a Reshape to three dimensions, a Transpose and the Reshape `last` transpose, and these nodes.

    PyTorch's exporter writes so what swaps the last two dimensions. "" and no nodes of other ones.
    """
    transposition = made_by(graph, last.inputs[0], "Transpose")
    first = made_by(graph, transposition.inputs[0], "Reshape") if transposition is not None else None
    if transposition is None or first is None or permutation_of(graph, transposition) != (0, 2, 1):
        return "", []
    x, between = first.inputs[0], (first.outputs[0], transposition.outputs[0])
    if any(only_reader(graph, name) is None for name in between) or len(shape_of(graph, x)) < 3:
        return "", []
    rank = len(shape_of(graph, x))
    flat, whole = ([dimension_of(x, n) for n in known_numbers(graph, node.inputs[1])] for node in (first, last))
    fits = len(flat) == 3 and flat[1:] == [rank - 2, rank - 1] and whole == [*range(rank - 2), rank - 1, rank - 2]
    return (x, [last, transposition, first]) if fits else ("", [])


def dimension_of(x: str, number: Dimension | float | None) -> int | None:
    """Return which dimension of x a number of a shape is, or None."""
    return number.axis if isinstance(number, Dimension) and number.name == x else None
