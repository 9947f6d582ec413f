"""Writes a quantised net as exports of SparseML do: integer operators, uint8 weights around 128, int32 biases.

A layer is ConvInteger or MatMulInteger, then Add (int32 bias), Cast, Mul (the scale of its sums), Relu, QuantizeLinear. A residual Add
stands between DequantizeLinear of both operands and Relu, QuantizeLinear. A weight that was 0 is 128, which is the zero point.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .quantised import qdq

if TYPE_CHECKING:
    import onnx

ZERO = 128
"""The zero point of weights."""
SHAPED = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
"""Attributes that ConvInteger has too."""


def sparseml(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in that form. ValueError if no layer has a weight that can be quantised."""
    return _Rewrite(qdq(model, keep_relu=True)).model


class _Rewrite:
    """Rewrites the layers of a QDQ model in place; `model` is the result."""

    def __init__(self, model: onnx.ModelProto) -> None:
        from onnx import numpy_helper

        self.model, self.graph = model, model.graph
        self.constants: dict[str, NDArray] = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        self.producer = {output: node for node in self.graph.node for output in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.gone: set[int] = set()
        self.made: dict[str, NDArray] = {}
        nodes: list[onnx.NodeProto] = []
        for node in self.graph.node:
            if node.op_type == "Add":
                self.end_with_relu(node.output[0])
            if id(node) not in self.gone:
                nodes += self.layer(node) if self.is_layer(node) else [node]
        self.keep(nodes)

    def is_layer(self, node: onnx.NodeProto) -> bool:
        """Return whether a node multiplies a quantised value by a quantised constant."""
        if node.op_type not in ("Conv", "MatMul", "Gemm"):
            return False
        x, w = (self.producer.get(name) for name in node.input[:2])
        quantised = x is not None and w is not None and x.op_type == w.op_type == "DequantizeLinear"
        return quantised and w is not None and w.input[0] in self.constants and _plain_gemm(node)

    def layer(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Yield the nodes of a layer."""
        from onnx import TensorProto, helper

        x, w = self.producer[node.input[0]], self.producer[node.input[1]]
        weight = self.constants[w.input[0]].astype(np.int16) + ZERO
        x_scale, scale = self.constants[x.input[1]], self.constants[x.input[1]] * self.constants[w.input[1]]
        is_conv = node.op_type == "Conv"
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if attributes.get("transB"):
            weight = weight.T
        shape = (1, -1, *[1] * (weight.ndim - 2)) if is_conv else (-1,)
        named = node.name or node.output[0]
        operands = [
            x.input[0],
            self.constant(f"{named}_weight", weight.astype(np.uint8)),
            x.input[2],
            self.constant(f"{named}_zero", np.uint8(ZERO)),
        ]
        shaped = {key: attributes[key] for key in SHAPED if key in attributes} if is_conv else {}
        bias, y = self.bias(node, scale)
        self.end_with_relu(y)
        op_type = "ConvInteger" if is_conv else "MatMulInteger"
        yield helper.make_node(op_type, operands, [f"{named}_sum"], f"{named}_{op_type}", **shaped)
        sums = f"{named}_sum"
        if bias is not None:
            addend = self.constant(f"{named}_bias", bias.reshape(shape))
            yield helper.make_node("Add", [sums, addend], [f"{named}_biased"], f"{named}_Add")
            sums = f"{named}_biased"
        yield helper.make_node("Cast", [sums], [f"{named}_float"], f"{named}_Cast", to=TensorProto.FLOAT)
        factor = self.constant(f"{named}_scale", scale.astype(x_scale.dtype).reshape(shape if scale.ndim else ()))
        yield helper.make_node("Mul", [f"{named}_float", factor], [y], f"{named}_Mul")

    def bias(self, node: onnx.NodeProto, scale: NDArray) -> tuple[NDArray | None, str]:
        """Return the int32 bias of a layer, and the name of its result: an Add of a constant after a MatMul becomes its bias."""
        if len(node.input) > 2 and node.input[2]:
            maker = self.producer.get(node.input[2])
            if maker is None:
                return _rounded(self.constants[node.input[2]], scale), node.output[0]
            return self.constants[maker.input[0]].astype(np.int32), node.output[0]
        found = self.addition(node)
        if found is None:
            return None, node.output[0]
        passed, addition, addend = found
        self.gone.update(map(id, (*passed, addition)))
        return _rounded(self.constants[addend], scale), addition.output[0]

    def end_with_relu(self, y: str) -> None:
        """Take away the nodes that quantise the result of a layer or of an Add before a Relu."""
        name, passed = y, []
        for op_type in ("QuantizeLinear", "DequantizeLinear", "Relu"):
            readers = self.readers.get(name, [])
            if len(readers) != 1 or readers[0].op_type != op_type:
                return
            passed.append(readers[0])
            name = readers[0].output[0]
        passed[-1].input[0] = y
        self.gone.update(map(id, passed[:-1]))

    def addition(self, node: onnx.NodeProto) -> tuple[Sequence[onnx.NodeProto], onnx.NodeProto, str] | None:
        """Return the Add of a constant row that alone reads a MatMul's result, the nodes between the two, and the constant."""
        name, passed = node.output[0], []
        outputs = {value.name for value in self.graph.output}
        while name not in outputs and len(readers := self.readers.get(name, [])) == 1:
            reader = readers[0]
            if reader.op_type in ("QuantizeLinear", "DequantizeLinear"):
                passed.append(reader)
                name = reader.output[0]
                continue
            others = [other for other in reader.input if other != name]
            if reader.op_type == "Add" and len(others) == 1 and self.constants.get(others[0], np.zeros((1, 1))).ndim == 1:
                return passed, reader, others[0]
            return None
        return None

    def constant(self, name: str, array: Any) -> str:
        """Add a constant and return its name."""
        self.made[name] = np.asarray(array)
        return name

    def keep(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Make `nodes` those of the graph, without DequantizeLinear and constants that nothing reads any more."""
        from onnx import numpy_helper

        outputs = {value.name for value in self.graph.output}
        read = outputs | {name for node in nodes for name in node.input}
        nodes = [node for node in nodes if node.op_type != "DequantizeLinear" or node.output[0] in read]
        read = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in read]
        copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
        tensors = [type(tensor).FromString(tensor.SerializeToString()) for tensor in kept]
        for field in (self.graph.node, self.graph.initializer, self.graph.value_info):
            del field[:]
        self.graph.node.extend(copies)
        self.graph.initializer.extend(tensors)
        self.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in self.made.items())


def _plain_gemm(node: onnx.NodeProto) -> bool:
    """Return whether a node is not a Gemm with factors or a transposed first operand."""
    from onnx import helper

    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return not attributes.get("transA") and attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0


def _rounded(bias: NDArray, scale: NDArray) -> NDArray[np.int32]:
    """Return a float bias in units of the scale of a layer's sums."""
    return np.rint(bias / scale).astype(np.int32)
