"""Finds what a model computes of constants alone, and lets the result stand in the place of the computation.

Exporters do not write every weight as an initializer. PyTorch's dynamo exporter leaves the mask of a pruned layer as
`Mul(weight_mask, weight_orig)`, TorchScript may leave `Transpose(weight)`, others write `Constant` nodes. Here such a value is an
expression. ONNX Runtime's own kernels compute it, node by node, so its bits are those that a session would compute. Only operators that
move elements or round each result once are part of expressions.

Nothing is read or computed before it is asked for, and nothing is kept, so a model with external data is handled tensor by tensor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from . import onnx_file as model_file
from .onnx_file import array_of, is_external, text_of

ONNX = ("", "ai.onnx")
FOLDED = frozenset(
    {
        "Add",
        "Cast",
        "Concat",
        "Constant",
        "DequantizeLinear",
        "Div",
        "Flatten",
        "Identity",
        "Mul",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Sub",
        "Transpose",
        "Unsqueeze",
        "Where",
    }
)
"""The operators of expressions. Their results do not depend on how a kernel orders its arithmetic."""
TYPES = frozenset(
    {
        TensorProto.BOOL,
        TensorProto.DOUBLE,
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.INT8,
        TensorProto.INT16,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.UINT8,
        TensorProto.UINT16,
        TensorProto.UINT32,
        TensorProto.UINT64,
    }
)
"""The element types of constants that are read: those that numpy has."""


class NotComputedError(ValueError):
    """ONNX Runtime has no kernel for a node of an expression, or refuses its operands."""


class Constants:
    """The constants of a model's main graph: initializers that no input overrides, and expressions of them.

    `source` is the path of the model's file, where external data are found. A model in memory without external data needs none. `fold`
    changes `model`. Call `sweep` after the last `fold`: it removes nodes and initializers that no node reads any more.

    `integers` makes DequantizeLinear a part of expressions. Their values are exact as well, but ONNX Runtime computes some products with
    such weights in integers, so the folded model has other results. A model whose activations are integers too keeps its DequantizeLinear.
    """

    def __init__(self, model: ModelProto, source: Path | None = None, *, integers: bool = False) -> None:
        self._model, self._graph, self._source = model, model.graph, source or Path()
        self._integers = integers
        inputs = {value.name for value in self._graph.input}
        self._outputs = {value.name for value in self._graph.output}
        self._tensors = {t.name: t for t in self._graph.initializer if t.name not in inputs and t.data_type in TYPES}
        self._uses = uses_of(self._graph)
        self._made: dict[str, NodeProto] = {}
        self._dead_nodes: list[NodeProto] = []
        self._dead_tensors: set[str] = set()
        self._find()

    def _find(self) -> None:
        """Fill the table of the nodes that make expressions."""
        dequantised: set[str] = set()
        integers_run = False
        for node in self._graph.node:
            if self._is_constant(node):
                if node.op_type == "DequantizeLinear" or not dequantised.isdisjoint(node.input):
                    dequantised.update(node.output)
                self._made.update((name, node) for name in node.output if name)
            elif node.op_type == "DequantizeLinear":
                integers_run = True
        if integers_run:
            self._made = {name: node for name, node in self._made.items() if name not in dequantised}

    def _is_constant(self, node: NodeProto) -> bool:
        """Return whether a node is part of an expression: it has a known operator, and its inputs are constants."""
        if node.op_type not in FOLDED or node.domain not in ONNX or not any(node.output):
            return False
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "Constant":
            return "value" in attributes and attributes["value"].t.data_type in TYPES
        if node.op_type == "DequantizeLinear" and not self._integers:
            return False
        if node.op_type == "Cast" and ("to" not in attributes or attributes["to"].i not in TYPES):
            return False
        return all(not name or name in self._tensors or name in self._made for name in node.input)

    def holds(self, name: str) -> bool:
        """Return whether a value is constant: an initializer that no input overrides, or an expression."""
        return name in self._tensors or name in self._made

    def is_expression(self, name: str) -> bool:
        """Return whether nodes compute this value from constants alone. An output of the graph does not count."""
        return name in self._made and name not in self._outputs and isinstance(name, str)  # protobuf has bytes where it is not UTF-8

    def operators(self, name: str) -> list[str]:
        """Return the operators of an expression, the first one first."""
        return [node.op_type for node in self._nodes(name)]

    def _nodes(self, name: str) -> list[NodeProto]:
        """Return the nodes of an expression, each once, in an order in which they can be run."""
        seen: dict[int, NodeProto] = {}
        waiting = [(name, False)]
        while waiting:
            value, ready = waiting.pop()
            node = self._made.get(value)
            if node is None or id(node) in seen:
                continue
            if ready:
                seen[id(node)] = node
            else:
                waiting += [(value, True), *((each, False) for each in node.input)]
        return list(seen.values())

    def array(self, name: str) -> NDArray[Any]:
        """Return an initializer's data, or the result of an expression.

        ValueError if data cannot be read, NotComputedError if ONNX Runtime does not compute a node.
        """
        if name in self._tensors:
            return array_of(self._tensors[name], self._source)
        values: dict[str, NDArray[Any]] = {}
        for node in self._nodes(name):
            if node.op_type == "Constant":
                values[node.output[0]] = array_of(_value_of(node), self._source)
                continue
            for each in node.input:
                if each in self._tensors and each not in values:
                    values[each] = array_of(self._tensors[each], self._source)
            values.update(self._computed(node, [values[each] if each else None for each in node.input]))
        return values[name]

    def _computed(self, node: NodeProto, operands: list[NDArray[Any] | None]) -> dict[str, NDArray[Any]]:
        """Return the outputs of one node, computed by ONNX Runtime."""
        import onnxruntime as ort

        alone = NodeProto()
        alone.CopyFrom(node)
        alone.name = ""
        names = [f"i{at}" if array is not None else "" for at, array in enumerate(operands)]
        results = [f"o{at}" if name else "" for at, name in enumerate(node.output)]
        alone.input[:], alone.output[:] = names, results
        feeds = {name: array for name, array in zip(names, operands, strict=True) if array is not None}
        inputs = [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in feeds.items()
        ]
        graph = onnx.helper.make_graph([alone], "expression", inputs, [ValueInfoProto(name=name) for name in results if name])
        opsets = [imported for imported in self._model.opset_import if imported.domain in ONNX]
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        model = ModelProto(graph=graph, opset_import=opsets, ir_version=self._model.ir_version)
        try:
            made = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)
        except Exception as error:  # ONNX Runtime's own exceptions share no base class
            words = text_of(node.name or node.output[0])
            raise NotComputedError(f"node {words!r}: ONNX Runtime cannot compute this constant: {_one_line(error)}") from None
        return dict(zip([name for name in node.output if name], made, strict=True))

    def is_external(self, name: str) -> bool:
        """Return whether any data of an initializer or an expression are in another file."""
        if name in self._tensors:
            return is_external(self._tensors[name])
        nodes = self._nodes(name)
        read = [self._tensors[each] for node in nodes for each in node.input if each in self._tensors]
        return any(is_external(tensor) for tensor in (*read, *(_value_of(node) for node in nodes if node.op_type == "Constant")))

    def freed_bytes(self, name: str) -> int:
        """Return the bytes of the constants that no other node reads: folding an expression frees them, also in other files."""
        nodes, names = self._dying(name)
        tensors = [self._tensors[each] for each in names] + [_value_of(node) for node in nodes if node.op_type == "Constant"]
        return sum(model_file.size_of(tensor) for tensor in tensors)

    def _dying(self, name: str) -> tuple[list[NodeProto], list[str]]:
        """Return the nodes and the initializers that no other node reads once the expression `name` is a constant."""
        left: Counter[str] = Counter()
        nodes: dict[int, NodeProto] = {}
        tensors: list[str] = []
        waiting = [self._made[name]]
        while waiting:
            node = waiting.pop()
            if id(node) in nodes or any(self._uses[each] > left[each] for each in node.output if each != name):
                continue
            nodes[id(node)] = node
            for each in filter(None, node.input):
                left[each] += 1
                if left[each] == self._uses[each]:
                    if each in self._made:
                        waiting.append(self._made[each])
                    else:
                        tensors.append(each)
        return list(nodes.values()), tensors

    def header(self, name: str, array: NDArray[Any], *, inside: bool = False) -> TensorProto:
        """Return a tensor of the name, type and shape of an expression's result `array`, still without data.

        Its data are external if any that it is computed of are, unless `inside`.
        """
        tensor = TensorProto(name=name, data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
        if self.is_external(name) and not inside:
            tensor.data_location = TensorProto.EXTERNAL
        else:
            tensor.raw_data = b""
        return tensor

    def fold(self, name: str) -> None:
        """Take an expression out of the graph, for a caller that gives the graph an initializer `name`; `sweep` completes that."""
        nodes, tensors = self._dying(name)
        for node in nodes:
            self._uses.subtract(node.input)
        self._dead_nodes += nodes
        self._dead_tensors.update(tensors)
        node = self._made.pop(name)
        if not any(node is each for each in nodes):  # another output of it is needed
            other = f"{text_of(name)}.folded"
            while other in self._uses or other in self._made or other in self._tensors:
                other += "_"
            node.output[list(node.output).index(name)] = other
            self._made[other] = node

    def sweep(self) -> None:
        """Remove the nodes and initializers that folded expressions have left, and what is declared about their values."""
        nodes = {id(node) for node in self._dead_nodes}
        remove(self._graph.node, [at for at, node in enumerate(self._graph.node) if id(node) in nodes])
        remove(self._graph.initializer, [at for at, tensor in enumerate(self._graph.initializer) if tensor.name in self._dead_tensors])
        present = {tensor.name for tensor in self._graph.initializer} | {name for node in self._graph.node for name in node.output}
        gone = (self._dead_tensors | {name for node in self._dead_nodes for name in node.output}) - present
        remove(self._graph.value_info, [at for at, info in enumerate(self._graph.value_info) if info.name in gone])
        self._dead_nodes, self._dead_tensors = [], set()


def fold(model: ModelProto, names: Iterable[str], source: Path | None = None, *, integers: bool = False) -> dict[str, list[str]]:
    """Make each of `names` that is an expression an initializer of the model, with its data inside of the model.

    Return the operators of every expression that was folded. ValueError if one cannot be computed. `source` and `integers` are as of
    `Constants`.
    """
    constants = Constants(model, source, integers=integers)
    folded = {}
    for name in names:
        if name not in folded and constants.is_expression(name):
            array = constants.array(name)
            folded[name] = constants.operators(name)
            tensor = constants.header(name, array, inside=True)
            tensor.raw_data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
            model.graph.initializer.append(tensor)
            constants.fold(name)
    constants.sweep()
    return folded


def uses_of(graph: GraphProto) -> Counter[str]:
    """Count how often each value is read, by nodes within nodes too, or is an output."""
    uses = Counter(name for node in model_file.nodes(graph) for name in node.input)
    uses.update(output.name for each in (graph, *model_file.graphs_within(graph.node)) for output in each.output)
    uses.update(entry.value for note in graph.quantization_annotation for entry in note.quant_parameter_tensor_names)
    return uses


def _value_of(node: NodeProto) -> TensorProto:
    """Return the tensor of a node Constant."""
    return next(attribute.t for attribute in node.attribute if attribute.name == "value")


def remove(items: Any, places: Iterable[int]) -> None:
    """Remove the items at these places of a list of a message."""
    for at in sorted(places, reverse=True):
        del items[at]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
