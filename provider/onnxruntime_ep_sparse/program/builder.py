"""Collects the steps of a region: numbers values, and leaves bias, factor, residual and activation to the products before them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.elementwise import Act, Op
from onnxruntime_ep_sparse_kernels.isa import Isa

from ..graph.ir import BYTES, CARRIED, FLOAT, INT32, INTEGERS, Graph, Node, printable, shape_of, sizes_of, weight_of
from ..graph.nonzeros import Nonzeros
from . import packing
from .enums import ElementType, NumberOp, ShapeRule, StepKind
from .fusing import may_have_one_shape, takes_factor, with_bias
from .kinds.byte_depthwise import ByteDepthwise
from .kinds.byte_product import PendingBytes
from .kinds.convert import Convert
from .kinds.depthwise import Depthwise
from .kinds.elementwise import Binary
from .kinds.product import PendingProduct
from .kinds.quantized import Carry
from .kinds.shuffle import Shuffle
from .kinds.table import describe, is_separable, made_of_constants
from .numbers import all_separable, origins_of
from .parallel import parallel_map
from .steps import Activation, Numbers, ProgramSpec, Step, Window

TYPE_OF = {element.onnx: element for element in ElementType}
"""The element types that values of a program can have, by ONNX's numbers."""


class Builder:
    """Collects the steps of one region and packs their weights on `workers` threads. The rows of `ops/table.py` call its methods.

    `graph` has been through `passes`; `is_activation` tells which nodes a product can end with, `is_addition` which add something to it.
    """

    def __init__(
        self, graph: Graph, isa: Isa, workers: int, is_activation: Callable[[Node], bool], is_addition: Callable[[Node], bool]
    ) -> None:
        self.workers = workers
        self.graph = graph
        self.isa = isa
        self.is_activation = is_activation
        self.is_addition = is_addition
        self.numbers: dict[str, int] = {}
        self.ranks: dict[int, int] = {}
        """Of sums that products make if their operands have one shape; values with a name have their ranks in the graph."""
        self.n_values = 0
        self.constants: dict[int, NDArray[np.float32]] = {}
        self.whole_constants: dict[int, NDArray[np.int64]] = {}
        """Those of int64."""
        self.steps: list[Step] = []
        self.pending: dict[str, Step] = {}
        self.types: dict[int, ElementType] = {}
        """Of the values that are not float32."""
        self.shuffles: dict[str, Shuffle] = {}
        """The rest of a ConvTranspose, which follows the product that makes the phases of a value."""
        self.computed: list[Numbers] = []
        self.lists: dict[str, Numbers] = {}
        """Numbers that the plan computes, by the names of their values."""
        self.told: dict[str, int] = {}
        """The truths among them that steps read, as floats."""
        self.node_name = ""
        self.zeros: dict[str, int | str] = {}
        """The zero point that is taken from each 8-bit value while it is a float: a number, or the name of the value that holds it. A value
        that is not here is itself. Zeros of padding and of products are zeros then. It may be known before a step needs the float."""
        self.shifted: dict[tuple[str, int | str], int] = {}
        self.stored: dict[str, int] = {}
        """The numbers of integers and truths in the element type of the file, by the names of values: inputs, results, what `as_bytes` has
        made."""

        self.inputs = {name: self.input(name) for name in graph.inputs}

    def begin(self, node: Node) -> None:
        """Name the steps that follow after `node`."""
        self.node_name = node.name or printable(node.outputs[0])

    def finish(self) -> ProgramSpec:
        """Pack all weights and return the program."""
        assert not self.pending
        self.node_name = "outputs"
        outputs = {name: self.output(name) for name in self.graph.outputs}
        steps = tuple(replace(step, description=describe(step)) for step in self.packed())
        ranks = self.ranks | {self.numbers[name]: len(shape_of(self.graph, name)) for name in self.numbers}
        constants: dict[int, NDArray] = {**self.constants, **self.whole_constants}
        origins = origins_of(self.computed, constants)
        separable = all(is_separable(step, constants, ranks, origins) for step in steps)
        separable = separable and all_separable(self.computed, outputs.values())
        separable = separable and made_of_constants(steps, constants).isdisjoint(outputs.values())
        input_ranks = tuple(ranks[value] for value in self.inputs.values())
        computed = tuple(self.computed)
        named = self.n_values, self.inputs, outputs, self.constants
        return ProgramSpec(*named, steps, separable, self.types, input_ranks, computed, self.whole_constants)

    # values

    def new_value(self, rank: int | None = None) -> int:
        """Return a number for a value without a name, and record its rank if that is given."""
        if rank is not None:
            self.ranks[self.n_values] = rank
        self.n_values += 1
        return self.n_values - 1

    def input(self, name: str) -> int:
        """Return the number of an input, which has the element type of the file. A step converts one of 16 bits.

        One of 8 bits becomes a float when a step first reads it, less the zero point that the step asks for, a truth 0 or 1.
        """
        if name in self.graph.narrow:
            number = self.narrow_value(name)
            self.steps.append(Step(StepKind.CONVERT, number, self.value(name), spec=Convert(self.types[number]), name=printable(name)))
            return number
        if self.graph.values[name].dtype not in CARRIED:
            return self.value(name)
        return self.stored_value(name)

    def output(self, name: str) -> int:
        """Return the number of an output, which has the element type of the file."""
        if name in self.graph.narrow:
            result = self.narrow_value(name)
            self.steps.append(Step(StepKind.CONVERT, self.numbers[name], result, spec=Convert(self.types[result]), name=printable(name)))
            return result
        if name not in self.stored and self.type_of(self.value(name)) == TYPE_OF[self.graph.values[name].dtype]:
            return self.numbers[name]
        return self.as_bytes(name)

    def value(self, name: str) -> int:
        """Return the number of a named value; a constant becomes part of the program."""
        if name in self.lists and self.type_of(self.lists[name].y) == ElementType.BOOL:
            return self.truths(name)
        if name in self.stored and name not in self.numbers:
            self.carry(name)
        if name not in self.numbers:
            if self.graph.is_constant(name):
                self.numbers[name] = self.constant(self.floats(name))
            else:
                self.numbers[name] = self.new_value()
                dtype = self.graph.values[name].dtype
                # 8-bit values are floats between steps, and so are truths and the sums of integers
                if dtype not in (FLOAT, *CARRIED) and (dtype != INT32 or name in self.graph.inputs):
                    self.types[self.numbers[name]] = TYPE_OF[self.graph.values[name].dtype]
        self.emit(name)
        return self.numbers[name]

    def truths(self, name: str) -> int:
        """Return the number of truths that the plan computes, as floats."""
        if name not in self.told:
            self.told[name] = self.compute(NumberOp.CAST, [self.lists[name].y], element=ElementType.FLOAT32, shape=self.lists[name].shape).y
        return self.told[name]

    def narrow_value(self, name: str) -> int:
        """Return the number of a new value with the shape of `name` and the type of 16 bits that it has in the file."""
        number = self.new_value(len(shape_of(self.graph, name)))
        self.types[number] = TYPE_OF[self.graph.narrow[name]]
        return number

    def stored_value(self, name: str) -> int:
        """Return the number of a new value in the element type of the file: integers that the current step makes, or an input."""
        number = self.stored[name] = self.new_value(len(shape_of(self.graph, name)))
        self.types[number] = TYPE_OF[self.graph.values[name].dtype]
        return number

    def has_bytes(self, *names: str) -> bool:
        """Return whether steps read values best as bytes: one of them is that already, and none is constant."""
        return any(name in self.stored for name in names) and not any(map(self.graph.is_constant, names))

    def as_bytes(self, name: str) -> int:
        """Return the number of an 8-bit value, or of int32 sums, in the element type of the file."""
        if name not in self.stored:
            number, zero = self.value(name), self.zeros.get(name, 0)
            if isinstance(zero, str):
                number, zero = self.carried(name, 0), 0
            self.step(Step(StepKind.CARRY, number, self.stored_value(name), spec=Carry(float(zero))))
        return self.stored[name]

    def carried(self, name: str, zero: int | str) -> int:
        """Return the number of an 8-bit value as floats less its zero point `zero`; others are what they are, with 0."""
        if name in self.stored and name not in self.numbers:
            self.zeros[name] = zero
            self.carry(name)
        own = self.zeros.get(name, 0)
        number = self.value(name)
        if own == zero:
            return number
        if (name, zero) not in self.shifted and self.graph.is_constant(name) and isinstance(zero, int):
            self.shifted[name, zero] = self.constant(self.floats(name).astype(np.float32) - zero)
        elif (name, zero) not in self.shifted:
            for each, op, sign in ((own, Op.ADD, 1), (zero, Op.SUB, -1)):
                shifted = number if each == 0 else self.new_value(len(shape_of(self.graph, name)))
                if isinstance(each, str):
                    self.step(Step(StepKind.BINARY, number, shifted, self.value(each), spec=Binary(op)))
                elif each:
                    self.step(Step(StepKind.ACTIVATE, number, shifted, activation=Activation(Act.AFFINE, 1.0, sign * each)))
                number = shifted
            self.shifted[name, zero] = number
        return self.shifted[name, zero]

    def carry(self, name: str) -> None:
        """Make floats of bytes, less the zero point that is recorded, if it is a number."""
        zero = self.zeros.get(name, 0)
        self.zeros[name] = zero = zero if isinstance(zero, int) else 0
        self.numbers[name] = self.new_value()
        self.step(Step(StepKind.CARRY, self.stored[name], self.numbers[name], spec=Carry(float(zero))))

    def moved(self, x: str, y: str) -> tuple[int, int]:
        """Return the numbers of an operand and a result of a step that moves elements: both are bytes where the operand is."""
        if self.graph.values[x].dtype in INTEGERS:
            return self.whole(x), self.whole(y)
        if not self.has_bytes(x):
            return self.value(x), self.value(y)
        if x in self.zeros:
            self.zeros[y] = self.zeros[x]
        return self.stored[x], self.stored_value(y)

    def joined(self, names: Sequence[str], y: str) -> tuple[list[int], int]:
        """Return the numbers of values that become the value `y`, and its own: all bytes, or 8-bit ones less the same zero point."""
        if self.graph.values[y].dtype in INTEGERS:
            return [self.whole(name) for name in names], self.whole(y)
        zero = self.zeros.get(names[0], 0)
        if not self.has_bytes(*names):
            return [self.carried(name, zero) for name in names], self.value(y)
        parts = list(map(self.as_bytes, names))
        if isinstance(zero, int):
            self.zeros[y] = zero
        return parts, self.stored_value(y)

    def new_like(self, value: int, rank: int) -> int:
        """Return a number for a value without a name, with the element type of another."""
        number = self.new_value(rank)
        if value in self.types:
            self.types[number] = self.types[value]
        return number

    def pass_on(self, node: Node) -> None:
        """Record the zero point of a node's 8-bit results: that of its operand, unless its row has recorded another."""
        for name in node.outputs:
            if name in self.numbers and self.graph.values[name].dtype in BYTES:
                self.zeros.setdefault(name, self.zeros.get(node.inputs[0], 0))

    def constant(self, array: NDArray) -> int:
        """Make a constant of the program and return its number."""
        number = self.new_value()
        self.constants[number] = np.asarray(array, np.float32)
        return number

    def floats(self, name: str) -> NDArray[np.float32]:
        """Return the data of a constant input."""
        array = self.graph.constant(name)
        assert array is not None
        return array

    def weight(self, name: str) -> NDArray[np.float32] | Nonzeros:
        """Return the data of a constant input, by its nonzeros where that is how it is stored."""
        return weight_of(self.graph, name)

    def whole(self, name: str) -> int:
        """Return the number of integers in their own type, int64 or int32: a tensor, a constant, or numbers that the plan computes."""
        if name in self.lists:
            return self.lists[name].y
        if self.graph.is_constant(name):
            if name not in self.stored:
                self.stored[name] = self.integers(self.floats(name))
            return self.stored[name]
        if name not in self.numbers and name not in self.stored:
            self.numbers[name] = self.new_value()
            self.types[self.numbers[name]] = TYPE_OF[self.graph.values[name].dtype]
        # the sums of integers are floats between steps
        return self.numbers[name] if self.type_of(self.numbers.get(name, -1)) != ElementType.FLOAT32 else self.as_bytes(name)

    def integers(self, array: NDArray) -> int:
        """Make a constant of the program of int64 or int32, whose bits take the place of those of floats, and return its number."""
        if array.dtype == np.int64:
            number = self.new_value()
            self.whole_constants[number] = np.asarray(array, order="C")
            self.types[number] = ElementType.INT64
        else:
            number = self.constant(np.asarray(array, np.int32, order="C").view(np.float32))
            self.types[number] = ElementType.INT32
        return number

    def type_of(self, value: int) -> ElementType:
        """Return the element type of a value."""
        return self.types.get(value, ElementType.FLOAT32)

    # numbers that the plan computes

    def compute(
        self, op: NumberOp, operands: Sequence[int] = (), name: str = "", element: ElementType = ElementType.INT64, **fields: Any
    ) -> Numbers:
        """Append numbers that the plan computes, as the value `name`, "" for one without a name; `fields` are those of Numbers."""
        y = self.new_value(len(fields.get("shape", ())))
        if element != ElementType.FLOAT32:
            self.types[y] = element
        numbers = Numbers(op, y, tuple(operands), len(self.steps), **fields)
        self.computed.append(numbers)
        if name:
            self.numbers[name] = y
            self.lists[name] = numbers
        return numbers

    def list_of(self, name: str) -> Numbers:
        """Return the numbers of a named value: computed, constant, or the contents of an input."""
        if name not in self.lists:
            shape, element = sizes_of(self.graph, name), TYPE_OF[self.graph.values[name].dtype]
            array = self.graph.constant(name)
            if array is None:
                number = self.stored[name] if name in self.stored else self.value(name)
                self.lists[name] = self.compute(NumberOp.INPUT, [number], element=element, shape=shape)
            elif element == ElementType.FLOAT32:
                self.lists[name] = self.compute(NumberOp.LITERAL, element=element, shape=shape, floats=tuple(map(float, array.reshape(-1))))
            else:
                self.lists[name] = self.compute(NumberOp.LITERAL, element=element, shape=shape, integers=tuple(map(int, array.reshape(-1))))
        return self.lists[name]

    # packing for this instruction set

    def packed(self) -> list[Step]:
        """Return the steps with their products packed."""
        waiting = [step.spec for step in self.steps if isinstance(step.spec, PendingProduct | PendingBytes)]
        products = iter(parallel_map(self.workers, [(p.size, p.packed) for p in waiting]))
        return [replace(step, spec=next(products)) if isinstance(step.spec, PendingProduct | PendingBytes) else step for step in self.steps]

    def convolution(
        self,
        weight: NDArray[np.float32] | Nonzeros,
        bias: NDArray[np.float32] | None,
        window: Window,
        groups: int,
        image: tuple[int | None, ...],
    ) -> PendingProduct | Depthwise:
        """Return the weights of a Conv for this instruction set's vectors; the arguments are those of `packing.convolution`."""
        if groups > 1 and weight.shape[1] == 1:
            assert isinstance(weight, np.ndarray)
            return packing.depthwise(weight, bias, groups, window)
        m = weight.shape[0]
        bias__m = np.zeros(m, np.float32) if bias is None else bias
        pack = partial(packing.convolution, weight, window=window, groups=groups, image=image, isa=self.isa)
        return PendingProduct(ShapeRule.CONV, False, m, bias__m, math.prod(weight.shape), pack)

    def matrix(
        self, weight__mk: NDArray[np.float32] | Nonzeros, bias: NDArray[np.float32] | None, *, x_rows: bool, y_rows: bool
    ) -> PendingProduct:
        """Return Gemm's constant operand."""
        return self.pending_product([weight__mk], ShapeRule.GEMM, bias, x_rows=x_rows, y_rows=y_rows)

    def matrices(
        self,
        weight__bmk: Sequence[NDArray[np.float32] | Nonzeros],
        *,
        right: bool,
        batch: tuple[int, ...],
        vector_operand: bool,
        bias__m: NDArray[np.float32] | None = None,
        usual: int | None = None,
    ) -> PendingProduct:
        """Return MatMul's constant operand."""
        rule = ShapeRule.MATMUL_RIGHT if right else ShapeRule.MATMUL_LEFT
        return self.pending_product(
            weight__bmk, rule, bias__m, x_rows=right, y_rows=right, batch=batch, vector_operand=vector_operand, usual=usual
        )

    def pending_product(
        self,
        weight__bmk: Sequence[NDArray[np.float32] | Nonzeros],
        rule: ShapeRule,
        bias: NDArray[np.float32] | None,
        *,
        x_rows: bool,
        y_rows: bool,
        batch: tuple[int, ...] = (),
        vector_operand: bool = False,
        usual: int | None = None,
    ) -> PendingProduct:
        """Return matrices for this instruction set's vectors; the arguments are those of `packing.matrices`."""
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
            usual=usual,
            vector_operand=vector_operand,
        )
        return PendingProduct(rule, y_rows, m, bias__m, len(weight__bmk) * m * k, pack, batch, vector_operand)

    # steps and fusion

    def step(self, step: Step) -> None:
        """Append a step of the current node as it is."""
        self.steps.append(replace(step, name=self.node_name))

    def emit(self, name: str) -> None:
        """Close the epilogue of the product that makes `name`, if it is open."""
        step = self.pending.pop(name, None)
        if step is not None:
            self.append(name, step)

    def append(self, name: str, step: Step) -> None:
        """Append a product that makes `name`, and after a residual the addition that is left where shapes differ at run time."""
        shuffle = self.shuffles.pop(name, None)
        if shuffle is not None:
            phases = self.new_value(len(shape_of(self.graph, name)))
            self.steps.append(replace(step, y=phases))
            self.steps.append(Step(StepKind.SHUFFLE, phases, step.y, spec=shuffle, name=step.name))
            return
        if step.r < 0 or step.kind == StepKind.SCALE_CHANNELS:
            self.steps.append(step)
            return
        # names of dimensions do not promise that sizes are equal: ONNX Runtime broadcasts whatever they are
        total = self.new_value(len(shape_of(self.graph, name)))
        self.steps.append(replace(step, y=total))
        self.steps.append(replace(step, kind=StepKind.BINARY, x=total, spec=Binary(Op.ADD), completes=True))

    def product(
        self,
        node: Node,
        x: str,
        product: PendingProduct | Depthwise,
        *,
        addend: int | None = None,
        residual: str = "",
        activation: Activation | None = None,
        shuffle: Shuffle | None = None,
    ) -> None:
        """Append a product, into which the activation and the residual of the nodes after it are fused.

        The value `addend` is added to it and may not broadcast it. With `shuffle`, which follows it, only an activation is fused. A node
        that has an `activation` itself is complete, and `residual` is the name of what it adds before, "" for nothing.
        """
        y = node.outputs[0]
        kind = StepKind.DEPTHWISE if isinstance(product, Depthwise) else StepKind.PRODUCT
        step = Step(kind, self.value(x), self.value(y), spec=product, name=self.node_name)
        if shuffle is not None:
            self.shuffles[y] = shuffle
        if addend is None and activation is None:
            self.keep_open(y, step)
            return
        if addend is None:
            self.append(y, replace(step, r=self.value(residual) if residual else step.r, activation=activation or step.activation))
            return
        between, total = self.new_value(), step.y if activation is None else self.new_value()
        self.steps.append(replace(step, y=between))
        self.step(Step(StepKind.BINARY, between, total, addend, spec=Binary(Op.ADD, keeps_x=True)))
        if activation is not None:
            self.step(Step(StepKind.ACTIVATE, total, step.y, activation=activation))

    def quantized(self, node: Node, x: int, product: PendingProduct | Depthwise, activation: Activation, zero: int | None) -> None:
        """Append a product of integers, whose result is 8-bit less `zero`, or float (None) and then open for what follows."""
        y = node.outputs[0]
        kind = StepKind.DEPTHWISE if isinstance(product, Depthwise) else StepKind.PRODUCT
        step = Step(kind, x, self.value(y), activation=activation, spec=product, name=self.node_name)
        if zero is None and product.scale__m is not None and activation == Activation():
            self.keep_open(y, step)
            return
        self.steps.append(step)
        if zero is not None:
            self.zeros[y] = zero

    def byte_product(self, node: Node, x: str, product: PendingBytes | ByteDepthwise, zero: int | None) -> None:
        """Append a product of bytes, whose result is 8-bit with the zero point `zero`, or float32 or int32 (None)."""
        y = node.outputs[0]
        operand = self.as_bytes(x)
        if zero is not None:
            self.zeros[y] = zero
        is_float = self.graph.values[y].dtype == FLOAT
        kind = StepKind.BYTE_DEPTHWISE if isinstance(product, ByteDepthwise) else StepKind.BYTE_PRODUCT
        step = Step(kind, operand, self.value(y) if is_float else self.stored_value(y), spec=product)
        if is_float and kind == StepKind.BYTE_PRODUCT:
            self.keep_open(y, replace(step, name=self.node_name))
        else:
            self.step(step)

    def quantized_in_parts(
        self,
        node: Node,
        x: int,
        parts: Sequence[PendingProduct | Depthwise],
        scale: NDArray[np.float32] | None,
        activation: Activation,
        zero: int | None,
    ) -> None:
        """Append two products, each of a part of K, whose sums are exact, then their sum, which is rounded once, times `scale`."""
        y = node.outputs[0]
        rank = len(shape_of(self.graph, y))
        first, second, total = (self.new_value(rank) for _ in range(3))
        result = self.value(y)
        if scale is None:
            total = result
        self.step(Step(StepKind.PRODUCT, x, first, spec=parts[0]))
        self.step(Step(StepKind.PRODUCT, x, second, first, spec=parts[1]))
        self.step(Step(StepKind.BINARY, second, total, first, spec=Binary(Op.ADD), completes=True))
        if scale is not None:
            self.step(Step(StepKind.BINARY, total, result, self.constant(scale), activation=activation, spec=Binary(Op.MUL)))
        if zero is not None:
            self.zeros[y] = zero

    def keep_open(self, name: str, step: Step) -> None:
        """Keep a product back whose only reader may be fused; append others now."""
        readers = self.graph.consumers.get(name, [])
        # sums that are multiplied take no residual: compilers join a multiplication with an addition in some kernels only
        on_bytes = isinstance(step.spec, PendingBytes)
        adds = not on_bytes and step.r < 0 and step.spec.scale__m is None
        fusable = (
            len(readers) == 1
            and name not in self.graph.outputs
            and (on_bytes or self.is_activation(readers[0]) or (adds and name not in self.shuffles and self.is_addition(readers[0])))
        )
        if fusable:
            self.pending[name] = step
        else:
            self.append(name, step)

    def scale_channels(self, node: Node, weights: NDArray[np.float32]) -> None:
        """Append x times a number of each channel plus another one, rows of `weights`; it ends with the activation that alone reads it."""
        x, y = self.value(node.inputs[0]), self.value(node.outputs[0])
        self.keep_open(node.outputs[0], Step(StepKind.SCALE_CHANNELS, x, y, self.constant(weights), name=self.node_name))

    def activate(self, node: Node, activation: Activation, bias: str = "") -> None:
        """Append an activation: the end of an open product, or a step of its own. The constant `bias` is added before, "" for none."""
        x, y = node.inputs[0], node.outputs[0]
        step = self.pending.get(x)
        if step is not None and bias:
            step = with_bias(self.graph, step, x, bias) if x not in self.shuffles else None
        if step is not None:
            del self.pending[x]
            if x in self.shuffles:
                self.shuffles[y] = self.shuffles.pop(x)
            self.append(y, replace(step, y=self.value(y), activation=activation, name=f"{step.name} + {node.op_type}"))
            return
        before = self.value(x)
        if bias:
            before = self.new_value()
            self.step(Step(StepKind.BINARY, self.value(x), before, self.value(bias), spec=Binary(Op.ADD)))
        self.step(Step(StepKind.ACTIVATE, before, self.value(y), activation=activation))

    def binary(self, node: Node, op: Op) -> None:
        """Append a binary operator; an Add to an open product becomes the residual of that, or a part of its bias."""
        left, right = node.inputs
        y = node.outputs[0]
        if op == Op.ADD and left != right:
            for mine, other in ((right, left), (left, right)):
                step = self.pending.get(mine)
                if step is None or step.activation.act != Act.NONE:
                    continue
                merged = with_bias(self.graph, step, mine, other)
                on_bytes = isinstance(step.spec, PendingBytes)
                if merged is None and not on_bytes and may_have_one_shape(self.graph, mine, other) and not self.graph.is_constant(other):
                    merged = replace(step, r=self.value(other))
                if merged is not None:
                    del self.pending[mine]
                    self.keep_open(y, replace(merged, y=self.value(y), name=f"{step.name} + {node.op_type}"))
                    return
        if op == Op.MUL and left != right:
            for mine, other in ((right, left), (left, right)):
                step = self.pending.get(mine)
                if step is not None and takes_factor(self.graph, step, other):
                    spec = replace(step.spec, factor=self.value(other))
                    del self.pending[mine]
                    self.keep_open(y, replace(step, spec=spec, y=self.value(y), name=f"{step.name} + {node.op_type}"))
                    return
        self.step(Step(StepKind.BINARY, self.value(left), self.value(y), self.value(right), spec=Binary(op)))

    def sum(self, left: str, right: str, addend: str, name: str) -> int:
        """Append left + right + the constant `addend`, "" for none, as the value `name`, "" for one without a name; return its number.

        If a product that makes one of them is open, it does so.
        """
        rank = len(shape_of(self.graph, left))
        total = self.value(name) if name else self.new_value(rank)
        first = self.new_value(rank) if addend else total
        mine, other = (left, right) if left in self.pending else (right, left)
        step = self.pending.get(mine)
        open_ = step is not None and step.activation.act == Act.NONE and step.r < 0 and not isinstance(step.spec, PendingBytes)
        if step is not None and open_ and left != right and not self.graph.is_constant(other):
            del self.pending[mine]
            self.append(mine, replace(step, r=self.value(other), y=first, name=f"{step.name} + {self.node_name}"))
        else:
            self.step(Step(StepKind.BINARY, self.value(left), first, self.value(right), spec=Binary(Op.ADD)))
        if addend:
            self.step(Step(StepKind.BINARY, first, total, self.value(addend), spec=Binary(Op.ADD)))
        return total
