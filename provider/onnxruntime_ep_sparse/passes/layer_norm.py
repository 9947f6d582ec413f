"""Fuses normalizations of rows that exporters write in a longer form: LayerNormalization before opset 17, RMSNormalization before 23."""

from __future__ import annotations

from ..graph.ir import Graph, Node, attribute_of, shape_of
from ..ops import table
from ..ops.reductions import axes_of
from .patterns import exchanged, fused, made_by, only_reader, with_number


def fuse_layer_norms(graph: Graph) -> Graph:
    """Replace LayerNormalization's nine nodes, as exporters write it before opset 17, by one.

    d / sqrt(mean(d ** 2) + epsilon) * scale + bias with d = x - mean(x), the means over the last dimension.
    """
    dropped: set[int] = set()
    replaced: dict[int, Node] = {}
    for shift in graph.nodes:
        if shift.op_type != "Add" or (parts := norm_parts(graph, shift)) is None:
            continue
        nodes, x, scale, bias, epsilon = parts
        attributes = {"axis": -1, "epsilon": epsilon}
        norm = fused(shift, nodes, op_type="LayerNormalization", domain="", inputs=(x, scale, bias), attributes=attributes)
        inside = {node.index for node in nodes}
        private = all(
            node.outputs[0] not in graph.outputs and all(r.index in inside for r in graph.consumers[node.outputs[0]])
            for node in nodes
            if node is not shift
        )
        if private and table.row_for(norm) is not None and table.can_run(graph, norm) is None:
            dropped |= inside - {shift.index}
            replaced[shift.index] = norm
    return exchanged(graph, replaced, dropped)


def fuse_rms_norms(graph: Graph) -> Graph:
    """Replace x / sqrt(mean(x ** 2) + epsilon) * scale, six or seven nodes, by one; the mean is over the last dimension."""
    dropped: set[int] = set()
    replaced: dict[int, Node] = {}
    for last in graph.nodes:
        if last.op_type != "Mul" or (parts := rms_parts(graph, last)) is None:
            continue
        nodes, x, scale, epsilon = parts
        changes = {"op_type": "SimplifiedLayerNormalization", "domain": "", "inputs": (x, scale), "attributes": {"epsilon": epsilon}}
        norm = fused(last, nodes, **changes)
        if all(only_reader(graph, node.outputs[0]) is not None for node in nodes) and table.can_run(graph, norm) is None:
            dropped |= {node.index for node in nodes}
            replaced[last.index] = norm
    return exchanged(graph, replaced, dropped)


def rms_parts(graph: Graph, last: Node) -> tuple[list[Node], str, str, float] | None:
    """Return the nodes before the Mul `last` with which a written-out RMSNormalization ends, its input, scale and epsilon, or None."""
    for scale, normalized in (last.inputs, last.inputs[::-1]):
        quotient = graph.producer.get(normalized)
        if not graph.is_constant(scale) or quotient is None or quotient.op_type not in ("Div", "Mul"):
            continue
        for x, factor in (quotient.inputs, quotient.inputs[::-1])[: 1 if quotient.op_type == "Div" else 2]:
            inverse = made_by(graph, factor, "Reciprocal") if quotient.op_type == "Mul" else None
            root = made_by(graph, factor if quotient.op_type == "Div" else inverse.inputs[0] if inverse is not None else "", "Sqrt")
            padded = made_by(graph, root.inputs[0], "Add") if root is not None else None
            mean_name, epsilon = with_number(graph, padded, "Add") if padded is not None else ("", 0.0)
            mean = made_by(graph, mean_name, "ReduceMean")
            square = made_by(graph, mean.inputs[0], "Pow") if mean is not None else None
            if root is None or padded is None or mean is None or square is None or not is_of_rows(graph, mean):
                continue
            if with_number(graph, square, "Pow") == (x, 2):
                return [quotient, *([inverse] if inverse is not None else []), root, padded, mean, square], x, scale, epsilon
    return None


def is_of_rows(graph: Graph, mean: Node) -> bool:
    """Return whether a ReduceMean has the mean of each row, as a dimension of 1."""
    rank = len(shape_of(graph, mean.inputs[0]))
    return axes_of(graph, mean) == (rank - 1,) and attribute_of(mean, "keepdims", 1) == 1


def norm_parts(graph: Graph, shift: Node) -> tuple[list[Node], str, str, str, float] | None:
    """Return the nodes of a written-out LayerNormalization that ends with the Add `shift`, its input, scale, bias and epsilon."""
    for scaled, bias in (shift.inputs, shift.inputs[::-1]):
        scaling = made_by(graph, scaled, "Mul")
        for quotient, scale in (scaling.inputs, scaling.inputs[::-1]) if scaling is not None else ():
            chain = [made_by(graph, quotient, "Div")]
            for op_type, operand in (("Sqrt", 1), ("Add", 0), ("ReduceMean", 0), ("Pow", 0), ("Sub", 0)):
                chain.append(made_by(graph, chain[-1].inputs[operand], op_type) if chain[-1] is not None else None)
            division, root, padded_mean, variance, square, centring = chain
            if centring is None or division is None or padded_mean is None or root is None or variance is None or square is None:
                continue
            if with_number(graph, square, "Pow") != (centring.outputs[0], 2):
                continue
            mean = made_by(graph, centring.inputs[1], "ReduceMean")
            epsilon = with_number(graph, padded_mean, "Add")
            if mean is None or mean.inputs[0] != centring.inputs[0] or division.inputs[0] != centring.outputs[0] or not epsilon[0]:
                continue
            if not (graph.is_constant(scale) and graph.is_constant(bias)) or not (is_of_rows(graph, mean) and is_of_rows(graph, variance)):
                continue
            assert scaling is not None
            return [shift, scaling, division, root, padded_mean, variance, square, centring, mean], mean.inputs[0], scale, bias, epsilon[1]
    return None
