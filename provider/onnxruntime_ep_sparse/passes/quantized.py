"""Reads QDQ groups and chains around integer products as the operators of `ops/quantized.py`.

A group is an operator of floats, the DequantizeLinear nodes of its operands, an activation that clamps, and the QuantizeLinear of its
result. A chain is what exporters write after ConvInteger and MatMulInteger: Add of an int32 bias, Cast, Mul by a scale, Relu and
QuantizeLinear. Values between the nodes of a group have no other reader. So a group leaves no value but its result, and can be contracted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels.call import activate

from ..graph.ir import BYTES, FLOAT, INT32, Graph, Node, attribute_of, derived, input_of, sizes_of, with_constants
from ..ops.activations import ACTIVATIONS, activation_of
from ..ops.row import FUSED
from ..ops.table import row_for
from ..program.steps import Activation
from .patterns import exchanged, fused, only_reader

PRODUCTS = {"Conv": "QLinearConv", "Gemm": "QGemm", "MatMul": "QLinearMatMul"}
"""Float products and those of integers."""
MOVES = frozenset(
    (
        *("MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "DepthToSpace", "SpaceToDepth", "Slice", "Gather"),
        *("Resize", "Split", "Concat"),
    )
)
"""Operators of floats that do the same to integers where operands and results have the same scale and zero point."""
MOST_NODES = 8
"""Nodes of a function of one operand between DequantizeLinear and QuantizeLinear, at most."""
INT32_TYPE, FLOAT_TYPE = 6, 1
"""Values of the attribute `to` of Cast."""


def read_quantized(graph: Graph) -> Graph:
    """Return the graph with one node of the quantised vocabulary in the place of each group; without groups, the graph itself."""
    if not any(node.op_type in ("DequantizeLinear", "ConvInteger", "MatMulInteger") for node in graph.nodes):
        return graph
    reading = Reading(graph)
    for node in graph.nodes:
        reading.read(node)
    read = exchanged(graph, reading.replaced, reading.dropped)
    return with_constants(read, read.nodes, reading.computed, {}) if reading.computed else read


@dataclass
class Reading:
    """The groups found so far."""

    graph: Graph
    replaced: dict[int, Node] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    computed: dict[str, tuple[tuple[int, ...], Callable[[], NDArray]]] = field(default_factory=dict)

    def read(self, node: Node) -> None:
        """Find the group of which a node is the operator."""
        if node.index in self.replaced or node.index in self.dropped or node.domain not in ("", "ai.onnx"):
            return
        if node.op_type in PRODUCTS:
            self.product(node)
        elif node.op_type in ("ConvInteger", "MatMulInteger"):
            self.chain(node)
        elif node.op_type in ("Add", "Mul"):
            self.combination(node)
        elif node.op_type in ("AveragePool", "GlobalAveragePool"):
            self.pool(node)
        elif node.op_type in MOVES:
            self.move(node)
        elif node.op_type == "QuantizeLinear":
            self.function(node)

    # what groups are made of

    def take(self, main: Node, others: Sequence[Node | None], **changes: object) -> None:
        """Put a node that does the work of others too in the place of `main`."""
        there = [node for node in others if node is not None]
        self.replaced[main.index] = fused(main, there, domain=FUSED, **changes)
        self.dropped.update(node.index for node in there)

    def maker(self, name: str, op_type: str = "DequantizeLinear") -> Node | None:
        """Return the node of this type that makes a value, if no group has it."""
        node = self.graph.producer.get(name)
        if node is None or node.op_type != op_type or node.index in self.dropped or node.index in self.replaced:
            return None
        return node

    def dequantized(self, name: str) -> Node | None:
        """Return the DequantizeLinear that makes a value of an 8-bit one that changes from run to run."""
        node = self.maker(name)
        return node if node is not None and not self.graph.is_constant(node.inputs[0]) else None

    def own(self, node: Node | None, reader: Node) -> Node | None:
        """Return a node if `reader` alone reads its result, so that both can be one."""
        return node if node is not None and only_reader(self.graph, node.outputs[0]) is reader else None

    def after(self, node: Node, *op_types: str) -> Node | None:
        """Return the only reader of a node, if it is of one of these types."""
        reader = only_reader(self.graph, node.outputs[0])
        return reader if reader is not None and reader.op_type in op_types and reader.index not in self.dropped else None

    def ending(self, node: Node) -> tuple[Node | None, Node | None, dict[str, float]]:
        """Return the clamp and the QuantizeLinear after a node, if they are there, and the bounds of the clamp."""
        clamp, bounds = self.after(node, "Relu", "Clip"), {}
        if clamp is not None:
            found = activation_of(self.graph, clamp)
            if not isinstance(found, Activation):
                return None, None, {}
            bounds = {"least": found.alpha, "most": found.beta}
        quantize = self.after(clamp or node, "QuantizeLinear")
        return (clamp, quantize, bounds) if quantize is not None else (None, None, {})

    # the groups

    def product(self, node: Node) -> None:
        """Read a product of dequantised operands, one of which is constant."""
        graph = self.graph
        operands = [self.maker(name) for name in node.inputs[:2]]
        constant = [each is not None and graph.is_constant(each.inputs[0]) for each in operands]
        if constant.count(True) != 1 or any(attribute_of(each, "block_size", 0) for each in operands if each is not None):
            return
        place = constant.index(True)
        weight, x = operands[place], operands[1 - place]
        assert weight is not None
        if x is None or graph.values[x.inputs[0]].dtype not in BYTES or graph.values[weight.inputs[0]].dtype not in BYTES:
            self.as_float(node, place, weight)
            return
        bias, bias_maker = "", None
        if input_of(node, 2):
            bias_maker = self.maker(node.inputs[2])
            if bias_maker is None or not self.is_bias(bias_maker, x, weight):
                self.as_float(node, place, weight)
                return
            bias = bias_maker.inputs[0]
        if node.op_type == "Gemm" and (attribute_of(node, "beta", 1.0) != 1.0 or (bias and attribute_of(node, "alpha", 1.0) != 1.0)):
            self.as_float(node, place, weight)
            return
        clamp, quantize, bounds = self.ending(node)
        if quantize is not None and graph.values[quantize.outputs[0]].dtype not in BYTES:
            clamp = quantize = None
        names = [(each.inputs[0], each.inputs[1], input_of(each, 2)) for each in ((weight, x) if place == 0 else (x, weight))]
        y = (quantize.inputs[1], input_of(quantize, 2)) if quantize is not None else ("", "")
        tail = (bias, *y) if node.op_type == "Gemm" else (*y, bias)
        others = [self.own(weight, node), self.own(x, node), self.own(bias_maker, node), clamp, quantize]
        last = quantize or node
        attributes = {**node.attributes, **(bounds if quantize is not None else {})}
        self.take(
            node,
            others,
            op_type=PRODUCTS[node.op_type],
            inputs=(*names[0], *names[1], *tail),
            outputs=last.outputs,
            attributes=attributes,
        )

    def is_bias(self, bias: Node, x: Node, weight: Node) -> bool:
        """Return whether a constant int32 bias has the scale of the sums that it is added to."""
        graph = self.graph
        found = [graph.constant(name) for name in (bias.inputs[1], x.inputs[1], weight.inputs[1])]
        if graph.values[bias.inputs[0]].dtype != INT32 or not graph.is_constant(bias.inputs[0]) or any(each is None for each in found):
            return False
        zero = graph.constant(input_of(bias, 2)) if input_of(bias, 2) else np.zeros(1, np.int32)
        scale, of_x, of_weight = (np.asarray(each).reshape(-1) for each in found)
        if zero is None or zero.any() or of_x.size != 1 or scale.size not in (1, of_weight.size):
            return False
        return bool(np.allclose(scale, of_x * of_weight, rtol=1e-6, atol=0))

    def as_float(self, node: Node, place: int, weight: Node) -> None:
        """Let a product that is none of integers multiply by its dequantised weight, as the file says."""
        graph = self.graph
        inputs, others = list(node.inputs), [self.own(weight, node)]
        for i, maker in ((place, weight), (2, self.maker(input_of(node, 2)))):
            if maker is None or not all(graph.is_constant(name) for name in maker.inputs if name):
                continue
            if attribute_of(maker, "block_size", 0) or graph.values[maker.outputs[0]].dtype != FLOAT:
                return
            name = derived("dequantised", maker.outputs[0])
            self.computed[name] = sizes_of(graph, maker.inputs[0]), partial(dequantized_constant, graph, maker)
            inputs[i] = name
            others.append(self.own(maker, node))
        there = [each for each in others if each is not None]
        self.replaced[node.index] = fused(node, there, inputs=tuple(inputs))
        self.dropped.update(each.index for each in there)

    def chain(self, node: Node) -> None:
        """Read an integer product with what exporters write after it: at least the Cast to float."""
        graph = self.graph
        last, others, bias, factor = node, [], "", ""
        add = self.after(last, "Add")
        if add is not None:
            bias = next((name for name in add.inputs if name != last.outputs[0]), "")
            if not graph.is_constant(bias) or not self.is_of_outputs(node, bias):
                return
            others.append(add)
            last = add
        cast = self.after(last, "Cast")
        if cast is None or attribute_of(cast, "to", 0) != FLOAT_TYPE:
            return
        others.append(cast)
        last = cast
        scaling = self.after(last, "Mul")
        if scaling is not None:
            name = next((name for name in scaling.inputs if name != last.outputs[0]), "")
            if graph.is_constant(name) and graph.values[name].dtype == FLOAT and self.is_of_outputs(node, name):
                factor = name
                others.append(scaling)
                last = scaling
        clamp, quantize, bounds = self.ending(last) if factor else (None, None, {})
        if quantize is not None and (graph.values[quantize.outputs[0]].dtype not in BYTES or self.narrows(quantize, bounds)):
            clamp = quantize = None
        y = (quantize.inputs[1], input_of(quantize, 2)) if quantize is not None else ("", "")
        self.take(
            node,
            [*others, clamp, quantize],
            inputs=(node.inputs[0], node.inputs[1], input_of(node, 2), input_of(node, 3), bias, factor, *y),
            outputs=(quantize or last).outputs,
        )

    def narrows(self, quantize: Node, bounds: dict[str, float]) -> bool:
        """Return whether a clamp before a QuantizeLinear does more than its zero point does anyway."""
        scale, name = self.graph.constant(quantize.inputs[1]), input_of(quantize, 2)
        zero = self.graph.constant(name) if name else np.zeros(1, np.uint8)
        if scale is None or zero is None or scale.size != 1 or zero.size != 1:
            return True
        info, offset, step = np.iinfo(zero.dtype), int(zero.reshape(())), np.float32(scale.reshape(()))
        with np.errstate(all="ignore"):
            low, high = (np.rint(np.float32(bounds.get(name, bound)) / step) for name, bound in (("least", -math.inf), ("most", math.inf)))
        return bool(low > info.min - offset or high < info.max - offset)

    def is_of_outputs(self, node: Node, name: str) -> bool:
        """Return whether a constant after a product has one number, or one for each output feature, which broadcasts to its result."""
        row, shape, result = row_for(node), sizes_of(self.graph, name), self.graph.values[node.outputs[0]].shape
        if row is None or result is None or len(shape) > len(result) or len(node.inputs) < 2:
            return False
        axis = 1 if node.op_type == "ConvInteger" else len(result) - 1
        if node.op_type == "MatMulInteger" and not self.graph.is_constant(node.inputs[1]):
            return math.prod(shape) == 1
        sizes = (1,) * (len(result) - len(shape)) + shape
        return all(size == 1 for i, size in enumerate(sizes) if i != axis)

    def combination(self, node: Node) -> None:
        """Read a sum or product of two dequantised operands that is quantised."""
        graph = self.graph
        clamp, quantize, bounds = self.ending(node)
        makers = [self.maker(name) for name in node.inputs]
        if quantize is None or len(set(node.inputs)) != 2 or any(each is None for each in makers):
            return
        names = [(each.inputs[0], each.inputs[1], input_of(each, 2)) for each in makers if each is not None]
        if any(graph.values[name].dtype not in BYTES for name, _, _ in names) or graph.values[quantize.outputs[0]].dtype not in BYTES:
            return
        self.take(
            node,
            [*(self.own(each, node) for each in makers), clamp, quantize],
            op_type=f"QLinear{node.op_type}",
            inputs=(*names[0], *names[1], quantize.inputs[1], input_of(quantize, 2)),
            outputs=quantize.outputs,
            attributes=bounds,
        )

    def pool(self, node: Node) -> None:
        """Read an average between DequantizeLinear and QuantizeLinear."""
        x, quantize = self.dequantized(node.inputs[0]), self.after(node, "QuantizeLinear")
        if x is None or quantize is None or any(self.graph.values[n].dtype not in BYTES for n in (x.inputs[0], quantize.outputs[0])):
            return
        inputs = (x.inputs[0], x.inputs[1], input_of(x, 2), quantize.inputs[1], input_of(quantize, 2))
        self.take(node, [self.own(x, node), quantize], op_type=f"QLinear{node.op_type}", inputs=inputs, outputs=quantize.outputs)

    def move(self, node: Node) -> None:
        """Read an operator that only moves elements, between operands and results of one scale and zero point."""
        graph = self.graph
        count = len(node.inputs) if node.op_type == "Concat" else 1
        makers = [self.dequantized(name) for name in node.inputs[:count]]
        readers = [only_reader(graph, name) if name else None for name in node.outputs]
        known = [reader if reader is not None and reader.op_type == "QuantizeLinear" else None for reader in readers]
        if any(each is None for each in makers) or any(each is None for each in known):
            return
        if node.op_type == "Resize" and attribute_of(node, "mode", "nearest") != "nearest":
            return
        ends = [each for each in (*makers, *known) if each is not None]
        tensors = [each.inputs[0] if each.op_type == "DequantizeLinear" else each.outputs[0] for each in ends]
        if any(graph.values[name].dtype not in BYTES for name in tensors):
            return
        if all(self.alike(ends[0], each) for each in ends[1:]):
            inputs = (*tensors[:count], *node.inputs[count:])
            # the operator is ONNX's own, of integers
            others = [*(self.own(each, node) for each in makers), *known]
            self.take(node, others, inputs=inputs, outputs=tuple(tensors[count:]))
            self.replaced[node.index] = replace(self.replaced[node.index], domain=node.domain)
        elif node.op_type == "Concat":
            last = ends[-1]
            parts = [name for each in ends[:-1] for name in (each.inputs[0], each.inputs[1], input_of(each, 2))]
            inputs = (last.inputs[1], input_of(last, 2), *parts)
            others = [*(self.own(each, node) for each in makers), last]
            self.take(node, others, op_type="QLinearConcat", inputs=inputs, outputs=last.outputs)

    def alike(self, a: Node, b: Node) -> bool:
        """Return whether two nodes quantise in one way, per tensor."""
        for place, default in ((1, None), (2, np.zeros(1, np.uint8))):
            one, other = (self.graph.constant(each.inputs[place]) if input_of(each, place) else default for each in (a, b))
            if one is None or other is None or one.size != 1 or other.size != 1 or one.reshape(()) != other.reshape(()):
                return False
            if place == 2 and one.dtype != other.dtype:
                return False
        return True

    def function(self, quantize: Node) -> None:
        """Read the nodes before a QuantizeLinear that make its operand of one dequantised value and of constants."""
        graph = self.graph
        found = self.unary(quantize.inputs[0], quantize)
        if found is None:
            return
        nodes, x = found
        if graph.values[x.inputs[0]].dtype not in BYTES or graph.values[quantize.outputs[0]].dtype not in BYTES:
            return
        inside = {node.index for node in nodes}
        sole = all(reader.index in inside for reader in graph.consumers[x.outputs[0]]) and x.outputs[0] not in graph.outputs
        compute = partial(computed, graph, nodes, x.outputs[0], quantize.inputs[0])
        inputs = (x.inputs[0], x.inputs[1], input_of(x, 2), quantize.inputs[1], input_of(quantize, 2))
        others = [*nodes, x if sole else None]
        self.take(quantize, others, op_type="QuantizedFunction", inputs=inputs, attributes={"function": lambda _, x: compute(x)})

    def unary(self, name: str, reader: Node) -> tuple[list[Node], Node] | None:
        """Return the nodes, in order, that make `name` of one dequantised value and of constants, and its DequantizeLinear."""
        graph = self.graph
        nodes: dict[int, Node] = {}
        found: dict[int, Node] = {}
        waiting = [name]
        while waiting:
            made = waiting.pop()
            x = self.dequantized(made)
            if x is not None:
                found[x.index] = x
                continue
            node = graph.producer.get(made)
            if node is None or node.index in self.dropped or node.index in self.replaced or len(nodes) >= MOST_NODES:
                return None
            if made in graph.outputs or not is_unary(graph, node):
                return None
            nodes[node.index] = node
            waiting += [each for each in node.inputs if each and not graph.is_constant(each)]
        if len(found) != 1 or not nodes:
            return None
        inside = {*nodes, reader.index}
        if any(each.index not in inside for node in nodes.values() for each in graph.consumers.get(node.outputs[0], ())):
            return None
        return [nodes[i] for i in sorted(nodes)], next(iter(found.values()))


ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Max": np.maximum, "Min": np.minimum}


def is_unary(graph: Graph, node: Node) -> bool:
    """Return whether a node may be a part of a function of one number: an activation, or arithmetic of two numbers."""
    row = row_for(node)
    if row is None or len(node.outputs) != 1:
        return False
    if node.op_type in ACTIVATIONS:
        return isinstance(activation_of(graph, node), Activation)
    if node.op_type not in ARITHMETIC or len(node.inputs) != 2:
        return False
    constants = [graph.constant(name) for name in node.inputs]
    return all(each is None or (each.size == 1 and each.dtype == np.float32 and each.ndim < 2) for each in constants)


@np.errstate(all="ignore")
def computed(graph: Graph, nodes: Sequence[Node], x: str, y: str, values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return what these nodes make of numbers, in float32."""
    table = kernels.table(kernels.available_isas()[0])
    known = {x: values.astype(np.float32)}

    def of(name: str) -> NDArray[np.float32]:
        return known[name] if name in known else graph.load(name).reshape(())

    for node in nodes:
        if node.op_type in ARITHMETIC:
            known[node.outputs[0]] = ARITHMETIC[node.op_type](*map(of, node.inputs)).astype(np.float32)
        else:
            found = activation_of(graph, node)
            assert isinstance(found, Activation)
            known[node.outputs[0]] = activate(table, of(node.inputs[0]), found.act, found.alpha, found.beta)
    return known[y]


@np.errstate(all="ignore")
def dequantized_constant(graph: Graph, node: Node) -> NDArray[np.float32]:
    """Return what a DequantizeLinear makes of constants."""
    x, scale = graph.load(node.inputs[0]), graph.load(node.inputs[1])
    zero = graph.load(node.inputs[2]) if input_of(node, 2) else np.zeros(1, x.dtype)
    axis = int(attribute_of(node, "axis", 1))

    def along(array: NDArray) -> NDArray:
        return array.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]) if array.size > 1 else array.reshape(())

    return ((x.astype(np.int64) - along(zero).astype(np.int64)).astype(np.float32) * along(scale)).astype(np.float32)
