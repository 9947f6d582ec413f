"""Activations that exporters write in a longer form: SiLU, HardSwish, Mish, Gelu, PRelu with one slope."""

from __future__ import annotations

import math
from dataclasses import replace

from ..graph.ir import Graph, Node, shape_of
from ..ops.row import FUSED
from .patterns import exchanged, fused, is_product, made_by, only_reader, with_number

ROOT_32, ROOT_16 = 1e-7, 1e-4
"""How far the rounded root of 1/2, or 1 by the rounded root of 2, may be from the exact one: in float32, and in float16 or bfloat16. The
latter changes a Gelu by at most 3e-5 of the larger of x and 1, where float16 has steps of 1e-3."""
CUBIC = 0.044715
"""The factor of x^3 in Gelu's approximation by tanh."""


def fuse_gates(graph: Graph) -> Graph:
    """Replace a product of x and a gate by one node.

    Of Sigmoid(x) it is `Silu`, of HardSigmoid(x) with slope 1/6 HardSwish, of Tanh(Softplus(x)) Mish.
    """
    dropped: set[int] = set()
    replaced: dict[int, Node] = {}
    for node in graph.nodes:
        if node.op_type != "Mul" or len(set(node.inputs)) != 2:
            continue
        for x, gate in (node.inputs, node.inputs[::-1]):
            maker = graph.producer.get(gate)
            if maker is None or only_reader(graph, gate) is None:
                continue
            within = made_by(graph, maker.inputs[0], "Softplus") if maker.op_type == "Tanh" else None
            makers = [maker]
            if maker.op_type == "Sigmoid":
                domain, op_type = FUSED, "Silu"
            elif maker.op_type == "HardSigmoid" and is_hard_swish(maker):
                domain, op_type = "", "HardSwish"
            elif within is not None and only_reader(graph, within.outputs[0]) is not None:
                domain, op_type, makers = "", "Mish", [maker, within]
            else:
                continue
            if makers[-1].inputs[0] != x:
                continue
            dropped |= {each.index for each in makers}
            replaced[node.index] = fused(node, makers, domain=domain, op_type=op_type, inputs=(x,), attributes={})
            break
    return exchanged(graph, replaced, dropped)


def fuse_gelus(graph: Graph) -> Graph:
    """Replace x * (erf(x / sqrt 2) + 1) / 2, five nodes as exporters write it before opset 20, by one Gelu.

    The three factors may be multiplied in any order. With other numbers than these, up to the rounding of their type, it is not a Gelu.
    """
    dropped: set[int] = set()
    replaced: dict[int, Node] = {}
    for erf in graph.nodes:
        scaled = graph.producer.get(erf.inputs[0])
        plus = only_reader(graph, erf.outputs[0])
        if erf.op_type != "Erf" or scaled is None or plus is None or only_reader(graph, scaled.outputs[0]) is not erf:
            continue
        x, root = with_number(graph, scaled, "Mul")
        limit = ROOT_16 if x in graph.narrow else ROOT_32
        if abs(root - math.sqrt(0.5)) > limit or with_number(graph, plus, "Add") != (erf.outputs[0], 1):
            continue
        chain = half_product(graph, x, plus.outputs[0])
        if chain is not None:
            half, last = chain
            dropped |= {node.index for node in (scaled, erf, plus, half)}
            replaced[last.index] = fused(last, (scaled, erf, plus, half), op_type="Gelu", domain="", inputs=(x,), attributes={})
    return exchanged(graph, replaced, dropped)


def fuse_tanh_gelus(graph: Graph) -> Graph:
    """Replace x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), eight nodes as exporters write it, by one Gelu.

    The three factors may be multiplied in any order. With other numbers than these, up to the rounding of their type, it is not a Gelu.
    """
    dropped: set[int] = set()
    replaced: dict[int, Node] = {}
    for tanh in graph.nodes:
        scaled = graph.producer.get(tanh.inputs[0])
        if tanh.op_type != "Tanh" or scaled is None:
            continue
        sum_, root = with_number(graph, scaled, "Mul")
        cubic = cubic_of(graph, sum_)
        plus = only_reader(graph, tanh.outputs[0])
        if cubic is None or plus is None or with_number(graph, plus, "Add") != (tanh.outputs[0], 1):
            continue
        x, cube = cubic
        limit = ROOT_16 if x in graph.narrow else ROOT_32
        chain = half_product(graph, x, plus.outputs[0]) if abs(root - math.sqrt(2 / math.pi)) <= limit else None
        inside = [*cube, scaled, tanh, plus]
        if chain is None or any(only_reader(graph, node.outputs[0]) is None for node in inside):
            continue
        half, last = chain
        dropped |= {node.index for node in (*inside, half)}
        replaced[last.index] = fused(last, (*inside, half), op_type="Gelu", domain="", inputs=(x,), attributes={"approximate": "tanh"})
    return exchanged(graph, replaced, dropped)


def cubic_of(graph: Graph, name: str) -> tuple[str, list[Node]] | None:
    """Return x and the nodes where the value is x + 0.044715 x^3, or None."""
    sum_ = made_by(graph, name, "Add")
    for x, other in (sum_.inputs, sum_.inputs[::-1]) if sum_ is not None else ():
        scaled = graph.producer.get(other)
        cubed, factor = with_number(graph, scaled, "Mul") if scaled is not None else ("", 0.0)
        cube = made_by(graph, cubed, "Pow")
        limit = ROOT_16 if x in graph.narrow else ROOT_32
        if sum_ is None or scaled is None or cube is None or abs(factor - CUBIC) > limit:
            continue
        if with_number(graph, cube, "Pow") == (x, 3):
            return x, [cube, scaled, sum_]
    return None


def name_slopes(graph: Graph) -> Graph:
    """Replace PRelu with one constant slope for all channels by LeakyRelu, which products can end with."""
    replaced: dict[int, Node] = {}
    for node in graph.nodes:
        slope = graph.constant(node.inputs[1]) if node.op_type == "PRelu" else None
        if slope is not None and slope.size == 1 and slope.ndim <= len(shape_of(graph, node.inputs[0])):
            alpha = float(slope.reshape(()))
            replaced[node.index] = replace(node, op_type="LeakyRelu", inputs=node.inputs[:1], attributes={"alpha": alpha})
    return exchanged(graph, replaced, ())


def half_product(graph: Graph, x: str, y: str) -> tuple[Node, Node] | None:
    """Return the two nodes that make x * y / 2 in any order, the last one second, if no other node reads y and the value between them."""
    first = only_reader(graph, y)
    if first is None:
        return None
    other = next((name for name in first.inputs if name != y), "")
    half = graph.producer.get(other)
    if half is not None and with_number(graph, half, "Mul") == (x, 0.5) and only_reader(graph, other) is first and first.op_type == "Mul":
        return half, first
    z = first.outputs[0]
    second = only_reader(graph, z)
    if second is None:
        return None
    halved_last = is_product(first, x, y) and with_number(graph, second, "Mul") == (z, 0.5)
    halved_first = with_number(graph, first, "Mul") == (y, 0.5) and is_product(second, x, z)
    return (first, second) if halved_last or halved_first else None


def is_hard_swish(node: Node) -> bool:
    """HardSigmoid with alpha 1/6 and beta 1/2, in float32."""
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    return abs(float(alpha) - 1 / 6) < 1e-7 and float(beta) == 0.5  # type: ignore[arg-type]  # ONNX: both are floats
