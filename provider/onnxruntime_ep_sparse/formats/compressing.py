"""Compresses the weights of a model, one by one. `formats/compressed_model.py` says what the result looks like."""

from __future__ import annotations

import base64
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, SparseTensorProto, TensorProto

from ..graph.auto_pad import CONV_STRIDE_BEYOND, pads_as_defined
from . import onnx_file as model_file
from .constants import ONNX, Constants, NotComputedError, remove, uses_of
from .onnx_file import Writer, array_of, is_external, set_array, text_of
from .rewriting import Progress, Rewriting, Weight, declares, set_declared_shape, sparsity_of, version_of
from .schema import DOMAIN, HELD, OPERATORS, PRODUCTS, VERSION, WEIGHT, WEIGHT_SHAPE
from .sparse_initializer import indices_of, places_of, sparse_of
from .weight_codec import encode, index_of
from .weight_notes import DENSE_NOTE, note_of, set_note

FIRST_OPSET = 7
"""Gemm broadcasts its bias since this version."""
INTEGER_DOMAINS = (*ONNX, "com.microsoft")
"""Domains of the operators of HELD."""


class Compressing(Rewriting):
    """Compresses the weights of a model that have at least `min_sparsity` zeros; `standard` writes ONNX's sparse_initializer."""

    def __init__(self, model: ModelProto, source: Path, writer: Writer, min_sparsity: float, standard: bool) -> None:
        super().__init__(model, source, writer)
        self.min_sparsity, self.standard = min_sparsity, standard
        self.opset = next((imported.version for imported in model.opset_import if imported.domain in ONNX), 0)
        self.nodes: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.graph.node:
            if node.op_type in PRODUCTS and node.domain in ONNX and len(node.input) > 1:
                self.nodes[node.input[1]].append(node)
        self.holders = self.find_holders()
        self.constants = Constants(model, source)
        self.uses = uses_of(self.graph)
        self.inputs = {value.name for value in self.graph.input}
        self.names = {*self.uses, *self.inputs, *self.infos, *(name for node in model_file.nodes(self.graph) for name in node.output)}

    def find_holders(self) -> dict[str, NodeProto]:
        """Return the nodes that read a weight which becomes a Weight, by the name of the weight."""
        tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        found = {}
        for node in self.graph.node:
            for place in HELD.get(node.op_type, ()) if node.domain in INTEGER_DOMAINS else ():
                name = node.input[place] if place < len(node.input) else ""
                # vectors are biases
                if name in tensors and name not in self.nodes and len(tensors[name].dims) > 1:
                    found[name] = node
        return found

    def run(self, progress: Progress) -> list[Weight]:
        """Compress the weights that can be compressed, and carry the rest over."""
        graph = self.graph
        names = {tensor.name for tensor in graph.initializer}
        folded = [name for name in self.nodes if self.constants.is_expression(name) and self.compress_expression(name)]
        self.constants.sweep()
        if self.standard:  # a restored model has them after the initializers that are left
            for at, sparse in enumerate(graph.sparse_initializer[len(graph.sparse_initializer) - len(folded) :], len(graph.initializer)):
                set_note(sparse.values, {**(note_of(sparse.values, DENSE_NOTE) or {}), "at": at})
        for tensor in model_file.tensors_beside_initializers(self.model):
            self.carry_over(tensor)
        gone = set()
        initializers = [tensor for tensor in graph.initializer if tensor.name in names]
        for at, tensor in enumerate(initializers):
            progress(at / len(initializers))
            if (tensor.name not in self.nodes and tensor.name not in self.holders) or not self.compress(tensor, at):
                self.carry_over(tensor)
            elif self.standard:
                gone.add(at)
        remove(graph.initializer, gone)
        if not self.standard:
            remove(graph.sparse_initializer, {at for at, sparse in enumerate(graph.sparse_initializer) if self.compress_sparse(sparse, at)})
        self.constants.sweep()
        if any(node.domain == DOMAIN for node in graph.node) and not version_of(self.model):
            self.model.opset_import.add(domain=DOMAIN, version=VERSION)
        return self.weights

    def compress(self, tensor: TensorProto, at: int) -> bool:
        """Compress a weight from `graph.initializer`, if that is possible and makes it smaller."""
        held = tensor.name in self.holders
        reason = self.why_not_held(tensor) if held else self.why_not(tensor, tuple(tensor.dims))
        if reason:
            return self.leave(tensor, tuple(tensor.dims), None, reason)
        return self.compress_array(tensor, array_of(tensor, self.source), at)

    def compress_expression(self, name: str) -> bool:
        """Compress a weight that nodes compute of constants, and remove these, if that is possible and makes the model smaller."""
        try:
            weight = self.constants.array(name)
        except NotComputedError as error:
            return self.leave(TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[0]), (0,), None, str(error))
        tensor = self.constants.header(name, weight)
        reason = self.why_not(tensor, weight.shape)
        if reason:
            return self.leave(tensor, weight.shape, None, reason)
        if not self.compress_array(tensor, weight, 0, self.constants.operators(name)):
            return False
        self.constants.fold(name)
        return True

    def compress_array(self, tensor: TensorProto, weight: NDArray, at: int, folded: Sequence[str] = ()) -> bool:
        """Let `tensor` hold the nonzeros of a weight, if there are few enough. It is not yet in the graph if the weight is `folded`."""
        name, shape = tensor.name, weight.shape
        sparsity = sparsity_of(weight)
        if sparsity < self.min_sparsity:
            return self.leave(tensor, shape, sparsity, f"fewer zeros than {self.min_sparsity:.4g}")
        values, index = encode(weight)
        # the standard form has 8 bytes per index and cannot tell -0.0 from +0.0, so the note holds the index of the compressed form
        text = base64.b64encode(index.tobytes()).decode() if self.standard else ""
        after = values.nbytes + (2 * values.nbytes + len(text) if self.standard else index.nbytes)
        before = self.constants.freed_bytes(name) if folded else weight.nbytes
        if after >= before:
            return self.leave(tensor, shape, sparsity, "it would not become smaller")
        self.done(name, shape, sparsity, before, after, folded=folded)
        if self.standard:
            note = {"at": at, "external": is_external(tensor), "index": text}
            self.graph.sparse_initializer.append(sparse_of(tensor, values, np.flatnonzero(weight), shape, self.writer))
            set_note(self.graph.sparse_initializer[-1].values, note)
            return True
        set_array(tensor, values, self.writer)
        if folded:
            self.graph.initializer.append(tensor)
        if name in self.holders:
            self.hold(tensor, index, shape)
        else:
            self.rewrite(tensor, index, shape)
        return True

    def compress_sparse(self, sparse: SparseTensorProto, at: int) -> bool:
        """Compress a weight from `graph.sparse_initializer`, if it can be restored bit for bit."""
        if sparse.values.name not in self.nodes:
            return False
        shape = tuple(sparse.dims)
        reason = self.why_not(sparse.values, shape)
        if not reason and (is_external(sparse.values) or is_external(sparse.indices)):
            reason = "a sparse_initializer with external data"
        if reason:
            return self.leave(sparse.values, shape, None, reason)
        values: NDArray[np.float32] = array_of(sparse.values, self.source)
        places = places_of(sparse, self.source)
        sparsity = 1 - len(values) / max(math.prod(shape), 1)
        how = {"linear": len(sparse.indices.dims) == 1, "raw": sparse.indices.HasField("raw_data"), "name": sparse.indices.name}
        usual = isinstance(sparse.indices.name, str) and indices_of(places, shape, **how) == sparse.indices
        if not usual or not values.view(np.uint32).all():
            return self.leave(sparse.values, shape, sparsity, "a sparse_initializer of unusual form")
        index = index_of(values, places, shape)
        self.done(sparse.values.name, shape, sparsity, values.nbytes + places.nbytes, values.nbytes + index.nbytes)
        tensor = self.graph.initializer.add()
        tensor.CopyFrom(sparse.values)
        set_note(tensor, {"at": at, **how})
        self.rewrite(tensor, index, shape)
        return True

    def why_not(self, tensor: TensorProto, shape: tuple[int, ...]) -> str:
        """Return why a weight cannot be compressed, whatever its data are, or ""."""
        nodes = self.nodes[tensor.name]
        if tensor.data_type != TensorProto.FLOAT:
            return "not float32"
        if tensor.name in self.inputs:
            return "an input of the graph has its name"
        if self.standard:
            return "" if isinstance(tensor.name, str) else "its name is not UTF-8 text"
        if not all(declares(info, shape) for info in self.infos[tensor.name]):
            return "its value_info has another shape"
        if self.opset < FIRST_OPSET:
            return f"operators before version {FIRST_OPSET}"
        if any(len(shape) not in OPERATORS[node.op_type].weight_ranks for node in nodes):
            return f"{len(shape)} dimensions"
        if self.uses[tensor.name] != len(nodes):
            return "another node reads it too"
        if not all(self.bias_fits(node) for node in nodes):
            return "a bias that is not constant"
        if not all(self.pads_as_defined(node, shape) for node in nodes):
            return "auto_pad SAME with dilations or a stride beyond the window"
        return ""

    def why_not_held(self, tensor: TensorProto) -> str:
        """Return why a weight cannot become a Weight, whatever its data are, or ""."""
        name, node, types = tensor.name, self.holders[tensor.name], OPERATORS[WEIGHT].types
        if tensor.data_type not in ((TensorProto.FLOAT,) if self.standard else types):
            return "not float32" if self.standard else "not float32, int8 or uint8"
        if name in self.inputs:
            return "an input of the graph has its name"
        if not isinstance(name, str):
            return "its name is not UTF-8 text"
        if self.standard:
            return ""
        if len(tensor.dims) not in OPERATORS[WEIGHT].weight_ranks:
            return f"{len(tensor.dims)} dimensions"
        # ONNX Runtime copies a DequantizeLinear that several nodes read
        if self.uses[name] != 1 or (node.op_type == "DequantizeLinear" and self.uses[node.output[0]] != 1):
            return "another node reads it too"
        return ""

    def bias_fits(self, node: NodeProto) -> bool:
        """Return whether the compressed operator can add the third input: it is missing, constant, or C of a Gemm with beta 1."""
        if all(not name or self.constants.holds(name) for name in node.input[2:]):
            return True
        return node.op_type == "Gemm" and all(attribute.f == 1 for attribute in node.attribute if attribute.name == "beta")

    def pads_as_defined(self, node: NodeProto, shape: tuple[int, ...]) -> bool:
        """Return whether the compressed operator pads as ONNX Runtime does for the original node, whose weight has this shape."""
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if given.get("auto_pad") not in (b"SAME_UPPER", b"SAME_LOWER"):
            return True
        return pads_as_defined(shape[2:], given.get("strides", ()), given.get("dilations", ()), CONV_STRIDE_BEYOND)

    def leave(self, tensor: TensorProto, shape: tuple[int, ...], sparsity: float | None, reason: str) -> bool:
        """Note why a weight stays as it is, and return False."""
        size = model_file.size_of(tensor)
        self.done(tensor.name, shape, sparsity, size, size, reason)
        return False

    def done(
        self,
        name: str,
        shape: tuple[int, ...],
        sparsity: float | None,
        before: int,
        after: int,
        reason: str = "",
        folded: Sequence[str] = (),
    ) -> None:
        """Note what became of a weight."""
        op_type = (self.holders.get(name) or self.nodes[name][0]).op_type
        self.weights.append(Weight(text_of(name), op_type, shape, sparsity, before, after, reason, tuple(folded)))

    def new_name(self, name: str) -> str:
        """Return a name like this one that the graph does not have."""
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name

    def add_index(self, tensor: TensorProto, index: NDArray[np.uint8]) -> str:
        """Add the index of a weight whose `tensor` holds the nonzeros, and return its name."""
        name = self.new_name(f"{text_of(tensor.name)}.index")
        holder = self.graph.initializer.add(name=name, data_type=TensorProto.UINT8, dims=index.shape)
        if is_external(tensor):
            self.writer.external(holder, index)
        else:
            holder.raw_data = index.tobytes()
        return name

    def hold(self, tensor: TensorProto, index: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
        """Let a node Weight make a weight whose `tensor` holds the nonzeros."""
        weight, name = tensor.name, self.add_index(tensor, index)
        tensor.name = self.new_name(f"{weight}.values")
        made = onnx.helper.make_node(WEIGHT, [tensor.name, name], [weight], domain=DOMAIN)
        made.attribute.append(onnx.helper.make_attribute(WEIGHT_SHAPE, shape))
        self.graph.node.insert(0, made)

    def rewrite(self, tensor: TensorProto, index: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
        """Give a weight whose `tensor` holds the nonzeros its index, and its nodes the compressed operator."""
        name = self.add_index(tensor, index)
        for info in self.infos[tensor.name]:
            set_declared_shape(info, tuple(tensor.dims))
        for node in self.nodes[tensor.name]:
            self.fold_bias(node)
            if node.HasField("domain"):
                set_note(node, {"domain": node.domain})
            node.domain = DOMAIN
            node.input.insert(2, name)
            node.attribute.append(onnx.helper.make_attribute(WEIGHT_SHAPE, shape))

    def fold_bias(self, node: NodeProto) -> None:
        """Let the third input of a node that gets a compressed operator be an initializer, if nodes compute it of constants."""
        for name in node.input[2:]:
            if self.constants.is_expression(name):
                bias = self.constants.array(name)
                tensor = self.constants.header(name, bias)
                set_array(tensor, bias, self.writer)
                self.graph.initializer.append(tensor)
                self.constants.fold(name)
