"""From the graph of a region to a program: fuses epilogues, packs weights, numbers values."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels import variants

from .graph.ir import Graph, Node, shape_of, weight_of
from .graph.nonzeros import Nonzeros
from .ops import layout as moves
from .ops import table as ops
from .options import Options
from .passes.batchnorm import fold_batchnorms
from .passes.dead_channels import fold
from .program import packing
from .program.parallel import together
from .program.steps import Act, Activation, Depthwise, Group, Op, Product, ProgramSpec, ShapeRule, Step, StepKind, Unpacked, Window
from .runtime._program import Program


def lower(graph: Graph, options: Options) -> Program:
    """Compile a region. `graph.inputs` are its inputs that are not constant, `graph.outputs` what others need; `select` chose the nodes."""
    return program_of(pack(graph, options), options)


def pack(graph: Graph, options: Options) -> ProgramSpec:
    """The program of a region, as plain data: what a compiled model keeps."""
    return Builder(graph, isa_of(options), workers_of(options)).build()


def program_of(spec: ProgramSpec, options: Options) -> Program:
    """The program that runs."""
    return Program(spec, kernels.table(isa_of(options).name), workers_of(options), options.profile)


def isa_of(options: Options) -> variants.Isa:
    """The instruction set that `options.isa` stands for on this CPU."""
    name = kernels.available_isas()[0] if options.isa == "auto" else options.isa
    return next(isa for isa in variants.ISAS if isa.name == name)


def workers_of(options: Options) -> int:
    """Threads to cut work for: the hint, or every CPU this process may use (ONNX Runtime's pool cannot be asked for its size)."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(options.threads or cpus, MOST_WORKERS)


MOST_WORKERS = 1024
"""Each gets memory of its own."""


class Builder:
    """Collects the steps of one region and packs their weights on `workers` threads. The rows of `ops/table.py` call its methods."""

    def __init__(self, graph: Graph, isa: variants.Isa, workers: int = 1) -> None:
        self.workers = workers
        self.graph = fold(fold_pads(fuse_norms(fuse_gelus(fuse_gates(fold_batchnorms(graph))))))
        self.isa = isa
        self.numbers: dict[str, int] = {}
        self.n_values = 0
        self.constants: dict[int, NDArray[np.float32]] = {}
        self.steps: list[Step] = []
        self.pending: dict[str, Step] = {}
        self.whole: set[int] = set()
        self.node_name = ""

    def build(self) -> ProgramSpec:
        """Lower every node in order."""
        inputs = {name: self.value(name) for name in self.graph.inputs}
        for node in self.graph.nodes:
            row = SILU if node.op_type == "Silu" else ops.row_for(node)
            assert row is not None, f"{node.op_type} in a region"
            self.node_name = node.name or node.outputs[0]
            row.lower(self, node)
        assert not self.pending
        outputs = {name: self.numbers[name] for name in self.graph.outputs}
        steps = tuple(replace(step, description=description_of(step)) for step in self.packed())
        ranks = {self.numbers[name]: len(shape_of(self.graph, name)) for name in self.numbers}
        separable = all(separates(step, self.constants, ranks) for step in steps)
        input_ranks = tuple(ranks[value] for value in inputs.values())
        return ProgramSpec(self.n_values, inputs, outputs, self.constants, steps, separable, frozenset(self.whole), input_ranks)

    # values

    def new_value(self) -> int:
        """A number for a value without a name."""
        self.n_values += 1
        return self.n_values - 1

    def value(self, name: str) -> int:
        """The number of a named value; a constant becomes part of the program."""
        if name not in self.numbers:
            if self.graph.is_constant(name):
                self.numbers[name] = self.constant(self.floats(name))
            else:
                self.numbers[name] = self.new_value()
        self.emit(name)
        return self.numbers[name]

    def constant(self, array: NDArray) -> int:
        """The number of a constant of the program."""
        number = self.new_value()
        self.constants[number] = np.array(array, np.float32)
        return number

    def floats(self, name: str) -> NDArray[np.float32]:
        """The data of a constant input."""
        array = self.graph.constant(name)
        assert array is not None
        return array

    def weight(self, name: str) -> NDArray[np.float32] | Nonzeros:
        """The same, by its nonzeros where that is how it is stored."""
        return weight_of(self.graph, name)

    def integers(self, name: str) -> int:
        """The number of a value of int32, whose bits stand where those of floats would."""
        array = self.graph.constant(name)
        if array is None:
            self.whole.add(self.value(name))
            return self.value(name)
        return self.constant(np.ascontiguousarray(array, np.int32).view(np.float32))

    # packing for this instruction set

    def packed(self) -> list[Step]:
        """The steps with their products packed."""
        unpacked = [step.product for step in self.steps if isinstance(step.product, Unpacked)]
        products = iter(together(self.workers, [(p.size, partial(p.pack, p.bias__m)) for p in unpacked]))
        return [replace(step, product=next(products)) if isinstance(step.product, Unpacked) else step for step in self.steps]

    def convolution(
        self,
        weight: NDArray[np.float32] | Nonzeros,
        bias: NDArray[np.float32] | None,
        window: Window,
        groups: int,
        image: tuple[int | None, ...],
    ) -> Unpacked | Depthwise:
        """`packing.convolution` with this instruction set's vectors."""
        if groups > 1 and weight.shape[1] == 1:
            assert isinstance(weight, np.ndarray)
            return packing.depthwise(weight, bias, groups)
        m = weight.shape[0]
        bias__m = np.zeros(m, np.float32) if bias is None else bias
        pack = partial(packing.convolution, weight, window=window, groups=groups, image=image, isa=self.isa)
        return Unpacked(ShapeRule.CONV, False, m, bias__m, math.prod(weight.shape), pack)

    def matrix(
        self, weight__mk: NDArray[np.float32] | Nonzeros, bias: NDArray[np.float32] | None, *, x_rows: bool, y_rows: bool
    ) -> Unpacked:
        """Gemm's constant operand."""
        return self.unpacked([weight__mk], ShapeRule.GEMM, bias, x_rows=x_rows, y_rows=y_rows)

    def matrices(
        self,
        weight__bmk: Sequence[NDArray[np.float32] | Nonzeros],
        *,
        right: bool,
        batch: tuple[int, ...],
        vector_operand: bool,
        bias__m: NDArray[np.float32] | None = None,
    ) -> Unpacked:
        """MatMul's constant operand."""
        rule = ShapeRule.MATMUL_RIGHT if right else ShapeRule.MATMUL_LEFT
        return self.unpacked(weight__bmk, rule, bias__m, x_rows=right, y_rows=right, batch=batch, vector_operand=vector_operand)

    def unpacked(
        self,
        weight__bmk: Sequence[NDArray[np.float32] | Nonzeros],
        rule: ShapeRule,
        bias: NDArray[np.float32] | None,
        *,
        x_rows: bool,
        y_rows: bool,
        batch: tuple[int, ...] = (),
        vector_operand: bool = False,
    ) -> Unpacked:
        """`packing.matrices` with this instruction set's vectors."""
        m, k = weight__bmk[0].shape
        bias__m = np.zeros(m, np.float32) if bias is None else bias
        pack = partial(
            packing.matrices,
            weight__bmk,
            rule=rule,
            x_rows=x_rows,
            y_rows=y_rows,
            isa=self.isa,
            batch=batch,
            vector_operand=vector_operand,
        )
        return Unpacked(rule, y_rows, m, bias__m, len(weight__bmk) * m * k, pack, batch, vector_operand)

    # steps and fusion

    def step(self, step: Step) -> None:
        """Append a step of the current node as it is."""
        self.steps.append(replace(step, name=self.node_name))

    def emit(self, name: str) -> None:
        """Close the epilogue of the product that makes `name`, if it is open."""
        step = self.pending.pop(name, None)
        if step is not None:
            self.steps.append(step)

    def product(self, node: Node, x: str, product: Unpacked | Depthwise, window: Window | None, addend: int | None = None) -> None:
        """A product; activation and residual of what follows are fused into it."""
        y = node.outputs[0]
        kind = StepKind.DEPTHWISE if isinstance(product, Depthwise) else StepKind.PRODUCT
        step = Step(kind, self.value(x), self.value(y), product=product, window=window, name=self.node_name)
        if addend is None:
            self.keep_open(y, step)
            return
        between = self.new_value()
        self.steps.append(replace(step, y=between))
        self.step(Step(StepKind.BINARY, between, step.y, addend, op=Op.ADD))

    def keep_open(self, name: str, step: Step) -> None:
        """Wait with a product whose only reader may be fused; else append it now."""
        readers = self.graph.consumers.get(name, [])
        fusable = (
            len(readers) == 1
            and name not in self.graph.outputs
            and (is_activation(readers[0]) or (step.r < 0 and readers[0].op_type == "Add"))
        )
        if fusable:
            self.pending[name] = step
        else:
            self.steps.append(step)

    def activate(self, node: Node, activation: Activation) -> None:
        """An activation: the end of an open product, or a step of its own."""
        x, y = node.inputs[0], node.outputs[0]
        step = self.pending.pop(x, None)
        if step is not None:
            self.steps.append(replace(step, y=self.value(y), activation=activation, name=f"{step.name} + {node.op_type}"))
        else:
            self.step(Step(StepKind.ACTIVATE, self.value(x), self.value(y), activation=activation))

    def binary(self, node: Node, op: Op) -> None:
        """Two operands; an Add of equal shapes becomes the residual of an open product, a bias-shaped constant its bias."""
        left, right = node.inputs
        y = node.outputs[0]
        if op == Op.ADD and left != right:
            for mine, other in ((right, left), (left, right)):
                step = self.pending.get(mine)
                if step is None or step.activation.act != Act.NONE:
                    continue
                merged = self.with_bias(step, mine, other)
                if merged is None and same_shape(self.graph, mine, other) and not self.graph.is_constant(other):
                    merged = replace(step, r=self.value(other))
                if merged is not None:
                    del self.pending[mine]
                    self.keep_open(y, replace(merged, y=self.value(y), name=f"{step.name} + {node.op_type}"))
                    return
        self.step(Step(StepKind.BINARY, self.value(left), self.value(y), self.value(right), op=op))

    def with_bias(self, step: Step, mine: str, other: str) -> Step | None:
        """The product with the constant `other` added to its bias, where that holds one number an output feature."""
        if not self.graph.is_constant(other) or step.r >= 0:
            return None
        product = step.product
        assert isinstance(product, Unpacked | Depthwise)
        shape = shape_of(self.graph, mine)
        axis = 1
        if isinstance(product, Unpacked):
            if (product.batch and max(product.batch) > 1) or product.vector_operand:
                return None
            axis = {ShapeRule.CONV: 1, ShapeRule.MATMUL_LEFT: len(shape) - 2}.get(product.rule, len(shape) - 1 if product.y_rows else 0)
        addend = self.floats(other)
        if addend.ndim > len(shape):
            return None
        full = addend.reshape((1,) * (len(shape) - addend.ndim) + addend.shape)
        if any(size != 1 for i, size in enumerate(full.shape) if i != axis) or full.shape[axis] not in (1, product.m):
            return None
        return replace(step, product=replace(product, bias__m=product.bias__m + full.reshape(-1)))


def separates(step: Step, constants: dict[int, NDArray[np.float32]], ranks: dict[int, int]) -> bool:
    """Whether a step treats the slices along the first dimension of its operands independently. `ranks` of the values with names."""
    if step.kind == StepKind.PRODUCT:
        product = step.product
        assert isinstance(product, Product)
        if product.rule == ShapeRule.CONV:
            return True
        if product.rule == ShapeRule.GEMM:
            return product.x_rows and product.y_rows
        rank, least = ranks.get(step.x, 0), 2 if product.rule == ShapeRule.MATMUL_RIGHT else 3
        return rank >= least and (not product.batch or len(product.batch) < rank - 2)
    if step.kind == StepKind.BINARY:
        x, r = constants.get(step.x), constants.get(step.r)
        if x is None and r is None:
            return step.x in ranks and ranks[step.x] == ranks.get(step.r)
        array, rank = (r, ranks.get(step.x, 0)) if x is None else (x, ranks.get(step.r, 0))
        assert array is not None
        return array.ndim < rank or (array.ndim == rank and array.shape[0] == 1)
    if step.kind == StepKind.RESHAPE and (step.removed or step.inserted):
        return 0 not in step.removed + step.inserted
    if step.kind == StepKind.RESHAPE:
        return step.flatten_axis >= 1 or (bool(step.target) and (step.target[0] == -1 or (step.target[0] == 0 and not step.allow_zero)))
    if step.kind == StepKind.NORMALIZE:
        return ranks.get(step.x, 0) >= 2
    if step.kind == StepKind.TRANSPOSE:
        return step.target[:1] == (0,)
    if step.kind == StepKind.CONCAT:
        return step.axis >= 1 and step.x not in constants
    if step.kind == StepKind.PAD:
        return step.before[0] == step.after[0] == 0
    return step.kind != StepKind.RECURRENT


def description_of(step: Step) -> str:
    """What a step computes in a few words: `64->256 3x3/1, 90 % zeros`, `max 3x3/2`, `axis 1`."""
    product = step.product
    window = ""
    if step.window is not None:
        stride = step.window.stride
        window = f"{_sizes(step.window.kernel)}/{_sizes(stride[:1] if len(set(stride)) == 1 else stride)}"
    if isinstance(product, Depthwise):
        return f"{product.channels}->{product.m} {window}"
    if step.recurrent is not None:
        cell = f"{step.recurrent.cell.name} {step.recurrent.hidden}" + " both ways" * (len(step.recurrent.reverse) - 1)
        return f"{cell}, {100 * zeros_in([group for p in step.recurrent.products for group in p.groups]):.0f} % zeros"
    if isinstance(product, Product):
        matrices = f"{_sizes(product.batch)} times " if product.batch and max(product.batch) > 1 else ""
        return f"{matrices}{product.channels}->{product.m} {window}".rstrip() + f", {100 * zeros_in(product.groups):.0f} % zeros"
    if step.kind in (StepKind.POOL, StepKind.GLOBAL_POOL):
        return f"{'max' if step.is_max else 'average'} {window}".rstrip()
    if step.kind == StepKind.RESIZE:
        assert step.resize is not None
        return step.resize.interpolation.name.lower()
    return {
        StepKind.ACTIVATE: step.activation.act.name.lower(),
        StepKind.BINARY: step.op.name.lower(),
        StepKind.CONCAT: f"axis {step.axis}",
        StepKind.TRANSPOSE: " ".join(map(str, step.target)),
        StepKind.SHUFFLE: f"blocks of {step.block}",
    }.get(step.kind, "")


def zeros_in(groups: Sequence[Group]) -> float:
    """The share of zeros in packed weights."""
    return 1 - sum(group.nonzeros for group in groups) / sum(group.weights for group in groups)


def _sizes(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def is_activation(node: Node) -> bool:
    """Whether a product can end with this node."""
    row = ops.row_for(node)
    return node.op_type == "Silu" or (row is not None and row.role == "activation")


def same_shape(graph: Graph, a: str, b: str) -> bool:
    """Whether two values have the same shape whatever the inputs are: unknown dimensions count as different."""
    shapes = shape_of(graph, a), shape_of(graph, b)
    return shapes[0] == shapes[1] and None not in shapes[0]


SILU = ops.OpRow("Silu", "activation", ops._activation_can_run, ops._activation_lower)
"""x * sigmoid(x), which exporters write as two nodes."""


def fuse_gates(graph: Graph) -> Graph:
    """Replace Mul(x, Sigmoid(x)) by one node `Silu`, and Mul(x, HardSigmoid(x)) of slope 1/6 by HardSwish."""
    dropped: set[int] = set()
    replaced: dict[int, Node] = {}
    for node in graph.nodes:
        if node.op_type != "Mul" or len(set(node.inputs)) != 2:
            continue
        for x, gate in (node.inputs, node.inputs[::-1]):
            maker = graph.producer.get(gate)
            if maker is None or maker.inputs[0] != x or gate in graph.outputs or len(graph.consumers[gate]) != 1:
                continue
            if maker.op_type == "Sigmoid":
                fused = "Silu"
            elif maker.op_type == "HardSigmoid" and is_hard_swish(maker):
                fused = "HardSwish"
            else:
                continue
            dropped.add(maker.index)
            replaced[node.index] = replace(node, op_type=fused, domain="", inputs=(x,), attributes={})
            break
    return exchanged(graph, replaced, dropped)


def fuse_gelus(graph: Graph) -> Graph:
    """Replace x * (erf(x / sqrt 2) + 1) / 2, five nodes as exporters write it before opset 20, by one Gelu.

    The three factors may be multiplied in any order. Other numbers than these, up to float32's rounding, are no Gelu.
    """
    dropped: set[int] = set()
    replaced: dict[int, Node] = {}
    for erf in graph.nodes:
        scaled = graph.producer.get(erf.inputs[0])
        plus = only_reader(graph, erf.outputs[0])
        if erf.op_type != "Erf" or scaled is None or plus is None or only_reader(graph, scaled.outputs[0]) is not erf:
            continue
        x, root = with_number(graph, scaled, "Mul")
        if abs(root - math.sqrt(0.5)) > 1e-7 or with_number(graph, plus, "Add") != (erf.outputs[0], 1):
            continue
        chain = half_product(graph, x, plus.outputs[0])
        if chain is not None:
            dropped |= {node.index for node in (scaled, erf, plus, chain[0])}
            replaced[chain[1].index] = replace(chain[1], op_type="Gelu", domain="", inputs=(x,), attributes={})
    return exchanged(graph, replaced, dropped)


def half_product(graph: Graph, x: str, y: str) -> tuple[Node, Node] | None:
    """The two nodes that make x * y / 2 in any order, the last one second, if nobody else reads y and what is between."""
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


def fuse_norms(graph: Graph) -> Graph:
    """Replace LayerNormalization's nine nodes, as exporters write it before opset 17, by one.

    d / sqrt(mean(d ** 2) + epsilon) * scale + bias with d = x - mean(x), the means over the last dimension.
    """
    dropped: set[int] = set()
    replaced: dict[int, Node] = {}
    for shift in graph.nodes:
        if shift.op_type != "Add" or (parts := norm_parts(graph, shift)) is None:
            continue
        nodes, x, scale, bias, epsilon = parts
        fused = replace(
            shift, op_type="LayerNormalization", domain="", inputs=(x, scale, bias), attributes={"axis": -1, "epsilon": epsilon}
        )
        inside = {node.index for node in nodes}
        private = all(
            node.outputs[0] not in graph.outputs and all(r.index in inside for r in graph.consumers[node.outputs[0]])
            for node in nodes
            if node is not shift
        )
        if private and ops.row_for(fused) is not None and ops.can_run(graph, fused) is None:
            dropped |= inside - {shift.index}
            replaced[shift.index] = fused
    return exchanged(graph, replaced, dropped)


def norm_parts(graph: Graph, shift: Node) -> tuple[list[Node], str, str, str, float] | None:
    """The nodes of a written-out LayerNormalization that ends with the Add `shift`, its input, scale, bias and epsilon."""
    for scaled, bias in (shift.inputs, shift.inputs[::-1]):
        scaling = made_by(graph, scaled, "Mul")
        for quotient, scale in (scaling.inputs, scaling.inputs[::-1]) if scaling is not None else ():
            chain = [made_by(graph, quotient, "Div")]
            for op_type, operand in (("Sqrt", 1), ("Add", 0), ("ReduceMean", 0), ("Pow", 0), ("Sub", 0)):
                chain.append(made_by(graph, chain[-1].inputs[operand], op_type) if chain[-1] is not None else None)
            division, root, padded_mean, variance, square, centring = chain
            if centring is None or division is None or padded_mean is None or root is None or variance is None or square is None:
                continue
            mean = made_by(graph, centring.inputs[1], "ReduceMean")
            epsilon = with_number(graph, padded_mean, "Add")
            if mean is None or mean.inputs[0] != centring.inputs[0] or division.inputs[0] != centring.outputs[0] or not epsilon[0]:
                continue
            if not (graph.is_constant(scale) and graph.is_constant(bias)) or len(shape_of(graph, mean.inputs[0])) != 3:
                continue
            assert scaling is not None
            return [shift, scaling, division, root, padded_mean, variance, square, centring, mean], mean.inputs[0], scale, bias, epsilon[1]
    return None


def made_by(graph: Graph, name: str, op_type: str) -> Node | None:
    """The node of this type that makes a value, or None."""
    node = graph.producer.get(name)
    return node if node is not None and node.op_type == op_type else None


def is_product(node: Node, a: str, b: str) -> bool:
    """Whether the node is a * b or b * a."""
    return node.op_type == "Mul" and node.inputs in ((a, b), (b, a))


def only_reader(graph: Graph, name: str) -> Node | None:
    """The node that alone reads this value, if it does not leave the region."""
    readers = graph.consumers.get(name, [])
    return readers[0] if len(readers) == 1 and name not in graph.outputs else None


def with_number(graph: Graph, node: Node, op_type: str) -> tuple[str, float]:
    """x and c of a node that is x op c for one constant c, not 0; a division is a Mul by 1 / c. "" and 0 of any other node."""
    divides = op_type == "Mul" and node.op_type == "Div"
    if node.op_type != op_type and not divides:
        return "", 0.0
    for x, other in (node.inputs, node.inputs[::-1])[: 1 if divides else 2]:
        array = graph.constant(other)
        if array is not None and array.size == 1 and array.ndim <= len(shape_of(graph, x)) and array.any():
            c = float(array.reshape(()))
            return x, 1 / c if divides else c
    return "", 0.0


def exchanged(graph: Graph, replaced: Mapping[int, Node], dropped: Collection[int]) -> Graph:
    """The graph with other nodes in some places, and without some, by index."""
    if not replaced:
        return graph
    nodes = tuple(replaced.get(node.index, node) for node in graph.nodes if node.index not in dropped)
    return replace(graph, nodes=nodes)


def fold_pads(graph: Graph) -> Graph:
    """Let convolutions pad for themselves where a Pad puts zeros around the images that they alone read."""
    moved: dict[str, tuple[str, tuple[int, ...]]] = {}
    dropped: set[int] = set()
    for node in graph.nodes:
        if node.op_type != "Pad":
            continue
        padding = moves.padding_of(graph, node)
        y = node.outputs[0]
        readers = graph.consumers.get(y, [])
        if isinstance(padding, str) or y in graph.outputs or not all(pads_itself(reader, y) for reader in readers):
            continue
        before, after, value = padding
        pads = before[2:] + after[2:]
        if value == 0 and not any(before[:2] + after[:2]) and all(may_pad(reader, pads) for reader in readers):
            moved[y] = node.inputs[0], pads
            dropped.add(node.index)
    if not moved:
        return graph
    kept = [node for node in graph.nodes if node.index not in dropped]
    return replace(graph, nodes=tuple(padded(node, *moved[node.inputs[0]]) if node.inputs[0] in moved else node for node in kept))


def pads_itself(node: Node, x: str) -> bool:
    """Whether `node` is a Conv of the images `x` whose padding does not depend on their size."""
    return node.op_type == "Conv" and node.inputs[0] == x and (node.attributes.get("auto_pad") or "NOTSET") in ("NOTSET", "VALID")


def may_pad(node: Node, pads: tuple[int, ...]) -> bool:
    """Whether that much more padding makes no window that is too large."""
    return ops.check_window(ops.window_of(padded(node, node.inputs[0], pads), (1,) * (len(pads) // 2))) is None


def padded(node: Node, x: str, pads: tuple[int, ...]) -> Node:
    """The Conv with more padding around `x`."""
    own = ops.window_of(node, (1,) * (len(pads) // 2))
    total = tuple(a + b for a, b in zip(own.pad_begin + own.pad_end, pads, strict=True))
    return replace(node, inputs=(x, *node.inputs[1:]), attributes={**node.attributes, "pads": total, "auto_pad": "NOTSET"})


def is_hard_swish(node: Node) -> bool:
    """HardSigmoid with alpha 1/6 and beta 1/2, in float32."""
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    return abs(float(alpha) - 1 / 6) < 1e-7 and float(beta) == 0.5  # type: ignore[arg-type]  # ONNX: both are floats
