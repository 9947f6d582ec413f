"""Compresses the pruned weights of a model, and restores them.

A node Conv, MatMul or Gemm with a pruned constant weight becomes the operator of the same name in the domain `ep.sparse`
(`formats/schema.py`). Its input 1 has the name of the weight and holds the nonzeros; a new input 2 says where they stand
(`formats/weight_codec.py`); the other inputs follow. A new attribute `weight_shape` serves shape inference. Where a `value_info` declares
the weight, it gets the shape of the nonzeros. Everything else stays as it is, order and names included, so that `unpack` restores the
model that was given to `pack`. The metadata of a tensor (NOTE) hold whatever else that needs.

The weights of other operators (HELD in `formats/schema.py`: products of 8-bit integers, DequantizeLinear, recurrent ones) stay beside them.
A node Weight of the domain `ep.sparse`, before all others, makes such a weight of two initializers: its nonzeros, in the place of the
dense one, and their index. So the nodes that read it, and everything that refers to its name, stay as they are.

A weight that nodes compute of constants alone, as exporters leave a mask, becomes an initializer first (`formats/constants.py`) if its
compressed form is smaller than these constants. `unpack` restores such a model with the weight in the place of the computation.

The standard form keeps the nodes, and writes the weights as ONNX's own `sparse_initializer`, which ONNX Runtime makes dense when it loads
them.
"""

from __future__ import annotations

import base64
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, SparseTensorProto, TensorProto, TensorShapeProto, ValueInfoProto

from ..graph.auto_pad import CONV_STRIDE_BEYOND, pads_as_defined
from ..graph.ir import type_name
from . import onnx_file as model_file
from .constants import ONNX, Constants, NotComputedError, remove, uses_of
from .onnx_file import Writer, array_of, is_external, set_array, text_of
from .schema import DOMAIN, HELD, OPERATORS, PRODUCTS, VERSION, WEIGHT, WEIGHT_SHAPE
from .sparse_initializer import indices_of, places_of, sparse_of
from .weight_codec import INTEGERS, decode, encode, index_of, most_frequent

FIRST_OPSET = 7
"""Gemm broadcasts its bias since this version."""
NOTE = "ep.sparse.was"
"""Key of a note in JSON: the position of a tensor in its list of the graph, and how it was written."""
DENSE_NOTE = {"at": int, "external": bool, "index": str}
NODE_NOTE = {"domain": str}
SPARSE_NOTE = {"at": int, "linear": bool, "raw": bool, "name": str}
MIN_SPARSITY = 0.5
INTEGER_DOMAINS = (*ONNX, "com.microsoft")
"""Domains of the operators of HELD."""

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Weight:
    """The result for one weight: bytes of its data before and after. If it stays as it is, these are equal and `reason` says why.

    `folded` are the operators that computed it of constants, for example ("Mul",) for a mask, with its bytes those of the constants.
    """

    name: str
    op_type: str
    shape: tuple[int, ...]
    sparsity: float | None
    bytes_before: int
    bytes_after: int
    reason: str = ""
    folded: tuple[str, ...] = ()


def pack(
    source: Path, target: Path, *, min_sparsity: float = MIN_SPARSITY, standard: bool = False, progress: Progress = lambda share: None
) -> list[Weight]:
    """Write the model `source` to `target` with compressed weights, tensor by tensor; `standard` keeps to ONNX's own form.

    Weights with a smaller share of zeros than `min_sparsity` stay as they are. Return what became of each weight. ValueError if the model
    cannot be read, is damaged, compressed already, or would be overwritten; OSError if a file cannot be written.
    """
    model = model_file.load(source)
    # files that ONNX Runtime saved import every domain that it knew, so an import alone says nothing
    if any(node.domain == DOMAIN for node in model_file.nodes(model.graph)) or any(
        _note_of(s.values, DENSE_NOTE) for s in model.graph.sparse_initializer
    ):
        raise ValueError(f"{source} is compressed already")
    with Writer(source, target, model) as writer:
        weights = _Packing(model, source, writer, min_sparsity, standard).run(progress)
        writer.save(model)
    return weights


def unpack(source: Path, target: Path, *, progress: Progress = lambda share: None) -> list[Weight]:
    """Write the model `source` to `target` with the weights that it had before `pack`. Result and errors are as of `pack`."""
    model = model_file.load(source)
    version = _version_of(model)
    if version not in (0, VERSION):
        raise ValueError(f"{source} has version {version} of the operators {DOMAIN}, only version {VERSION} is supported")
    with Writer(source, target, model) as writer:
        weights = _Unpacking(model, source, writer).run(progress)
        writer.save(model)
    return weights


def outline(model: ModelProto) -> None:
    """Replace the compressed operators of a model by ONNX's, and their weights by tensors without data, for shape inference."""
    shapes, names = {}, {}
    for node in model.graph.node:
        if node.domain != DOMAIN:
            continue
        values = node.input[OPERATORS[node.op_type].weight]
        shapes[values] = onnx.helper.get_node_attr_value(node, WEIGHT_SHAPE)
        if node.op_type == WEIGHT:
            names[values] = node.output[0]
        else:
            del node.input[2]
            node.domain = ""
    remove(model.graph.node, [at for at, node in enumerate(model.graph.node) if node.domain == DOMAIN])
    for tensor in model.graph.initializer:
        if tensor.name in shapes:
            name = names.get(tensor.name, tensor.name)
            tensor.CopyFrom(TensorProto(name=name, data_type=tensor.data_type, dims=shapes[tensor.name]))
    for info in model.graph.value_info:
        if info.name in shapes:
            _set_declared_shape(info, shapes[info.name])


def _version_of(model: ModelProto) -> int:
    """Return the version of the compressed operators, or 0 if the model has none."""
    return next((imported.version for imported in model.opset_import if imported.domain == DOMAIN), 0)


def _set_declared_shape(info: ValueInfoProto, shape: tuple[int, ...]) -> None:
    """Give a value_info another shape, if it has one."""
    if info.type.tensor_type.HasField("shape"):
        info.type.tensor_type.shape.CopyFrom(_shape_proto(shape))


def _declares(info: ValueInfoProto, shape: tuple[int, ...]) -> bool:
    """Return whether a value_info has no shape or this one, and nothing else in its place."""
    return not info.type.tensor_type.HasField("shape") or info.type.tensor_type.shape == _shape_proto(shape)


def _shape_proto(shape: tuple[int, ...]) -> TensorShapeProto:
    return TensorShapeProto(dim=[TensorShapeProto.Dimension(dim_value=size) for size in shape])


class _Rewriting:
    """A model whose tensors are being changed, the file that it was read from, and the writer of the result."""

    def __init__(self, model: ModelProto, source: Path, writer: Writer) -> None:
        self.model, self.graph, self.source, self.writer = model, model.graph, source, writer
        self.weights: list[Weight] = []
        self.infos: dict[str, list[ValueInfoProto]] = defaultdict(list)
        for info in self.graph.value_info:
            self.infos[info.name].append(info)

    def carry_over(self, tensor: TensorProto) -> None:
        """Copy the data of a tensor if they are in another file; otherwise they are in the model."""
        if is_external(tensor):
            self.writer.external(tensor, model_file.external_bytes(tensor, self.source))


class _Packing(_Rewriting):
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
                _set_note(sparse.values, {**(_note_of(sparse.values, DENSE_NOTE) or {}), "at": at})
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
        if any(node.domain == DOMAIN for node in graph.node) and not _version_of(self.model):
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
        sparsity = _sparsity(weight)
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
            _set_note(self.graph.sparse_initializer[-1].values, note)
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
        _set_note(tensor, {"at": at, **how})
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
        if not all(_declares(info, shape) for info in self.infos[tensor.name]):
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
            _set_declared_shape(info, tuple(tensor.dims))
        for node in self.nodes[tensor.name]:
            self.fold_bias(node)
            if node.HasField("domain"):
                _set_note(node, {"domain": node.domain})
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


class _Unpacking(_Rewriting):
    def __init__(self, model: ModelProto, source: Path, writer: Writer) -> None:
        super().__init__(model, source, writer)
        self.initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self.nodes: dict[str, list[NodeProto]] = defaultdict(list)
        self.readers = {name: node for node in reversed(self.graph.node) for name in node.input}
        for node in model_file.nodes(self.graph):
            if node.domain == DOMAIN:
                self.check(node)
                self.nodes[node.input[OPERATORS[node.op_type].weight]].append(node)
        self.names = {text_of(name) for name in (*self.initializers, *(value.name for value in self.graph.input))}

    def check(self, node: NodeProto) -> None:
        """Raise ValueError if `pack` cannot have written a compressed node."""
        row = OPERATORS.get(node.op_type)
        if row is None or not row.weight + 2 <= len(node.input) <= row.inputs or len(node.output) != 1:
            raise ValueError(f"{_words(node)}: {DOMAIN} has no operator {node.op_type} of {len(node.input)} inputs")
        values, index = node.input[row.weight : row.weight + 2]
        for name in (values, index):
            if name not in self.initializers:
                raise ValueError(f"{_words(node)}: its weight {text_of(name)!r} is not an initializer of the graph")
        if [a.name for a in node.attribute].count(WEIGHT_SHAPE) != 1:
            raise ValueError(f"{_words(node)}: expected one attribute {WEIGHT_SHAPE}")
        if any((other.op_type == WEIGHT) or _index_name(other) != index for other in self.nodes[values]):
            raise ValueError(f"{_words(node)}: its weight {text_of(values)!r} has two indices")

    def run(self, progress: Progress) -> list[Weight]:
        """Restore every weight, and carry the rest over."""
        graph = self.graph
        for tensor in model_file.tensors_beside_initializers(self.model):
            self.carry_over(tensor)
        dense = [self.dense_again(s, note) for s in graph.sparse_initializer if (note := _note_of(s.values, DENSE_NOTE))]
        sparse = []
        gone = {_index_name(nodes[0]) for nodes in self.nodes.values()}
        for done, tensor in enumerate(graph.initializer):
            progress(done / len(graph.initializer))
            if tensor.name in gone:
                continue
            if tensor.name not in self.nodes:
                self.carry_over(tensor)
                continue
            note = _note_of(tensor, SPARSE_NOTE) if tensor.data_type == TensorProto.FLOAT else None
            weight = self.decoded(tensor)
            if note:
                sparse.append(self.sparse_again(tensor, weight, note))
                gone.add(tensor.name)
            else:
                set_array(tensor, weight, self.writer)
        remove(graph.initializer, {at for at, tensor in enumerate(graph.initializer) if tensor.name in gone})
        for each in (graph, *model_file.graphs_within(graph.node)):
            remove(each.node, [at for at, node in enumerate(each.node) if node.domain == DOMAIN])
        remove(graph.sparse_initializer, {at for at, s in enumerate(graph.sparse_initializer) if _note_of(s.values, DENSE_NOTE)})
        _insert(graph.initializer, dense)
        _insert(graph.sparse_initializer, sparse)
        remove(self.model.opset_import, {at for at, imported in enumerate(self.model.opset_import) if imported.domain == DOMAIN})
        return self.weights

    def decoded(self, tensor: TensorProto) -> NDArray:
        """Return a weight, and make its nodes ONNX's again."""
        nodes = self.nodes[tensor.name]
        index, types = self.initializers[_index_name(nodes[0])], OPERATORS[nodes[0].op_type].types
        try:
            if tensor.data_type not in types or index.data_type != TensorProto.UINT8:
                raise ValueError(f"its values must be {' or '.join(map(type_name, types))}, its index uint8")
            weight = decode(values := array_of(tensor, self.source), packed := array_of(index, self.source))
        except ValueError as error:
            raise ValueError(f"{_words(nodes[0])}: weight {text_of(tensor.name)!r}: {error}") from None
        for node in nodes:
            (at,) = (at for at, attribute in enumerate(node.attribute) if attribute.name == WEIGHT_SHAPE)
            if tuple(node.attribute[at].ints) != weight.shape:
                raise ValueError(
                    f"{_words(node)}: {WEIGHT_SHAPE} is {list(node.attribute[at].ints)}, its weight has shape {list(weight.shape)}"
                )
            if node.op_type == WEIGHT:
                self.hold_again(tensor, node)
                break
            del node.attribute[at], node.input[2]
            self.restore_domain(node)
        for info in self.infos[tensor.name]:
            _set_declared_shape(info, weight.shape)
        reader = self.readers.get(tensor.name) if nodes[0].op_type == WEIGHT else None
        self.done(tensor.name, (reader or nodes[0]).op_type, weight, values.nbytes + packed.nbytes)
        return weight

    def hold_again(self, tensor: TensorProto, node: NodeProto) -> None:
        """Let the initializer of nonzeros be the weight that a node Weight makes."""
        name = node.output[0]
        if not name or name in self.names:
            raise ValueError(f"{_words(node)}: its result {text_of(name)!r} has the name of another value")
        self.names.add(name)
        tensor.name = name

    def restore_domain(self, node: NodeProto) -> None:
        """Restore the node's domain: either missing, or the name of ONNX's domain that was there."""
        note = _note_of(node, NODE_NOTE)
        node.ClearField("domain")
        if note:
            node.domain = note["domain"]
            _set_note(node, None)

    def sparse_again(self, tensor: TensorProto, weight: NDArray[np.float32], note: dict[str, Any]) -> tuple[int, SparseTensorProto]:
        """Return the position of a weight in `graph.sparse_initializer`, and the weight as it was there."""
        at = note.pop("at")
        sparse = SparseTensorProto(values=tensor, dims=weight.shape)
        _set_note(sparse.values, None)
        sparse.indices.CopyFrom(indices_of(np.flatnonzero(weight.view(np.uint32)), weight.shape, **note))
        return at, sparse

    def dense_again(self, sparse: SparseTensorProto, note: dict[str, Any]) -> tuple[int, TensorProto]:
        """Return the position of a weight in `graph.initializer`, and the weight as it was there."""
        values: NDArray[np.float32] = array_of(sparse.values, self.source)
        index = np.frombuffer(base64.b64decode(note["index"]), np.uint8)
        try:
            weight = decode(values, index)
        except ValueError as error:
            raise ValueError(f"sparse_initializer {text_of(sparse.values.name)!r}: {error}") from None
        tensor = TensorProto()
        tensor.CopyFrom(sparse.values)
        _set_note(tensor, None)
        if note["external"]:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
        set_array(tensor, weight, self.writer)
        self.done(tensor.name, "", weight, values.nbytes + len(values) * 8 + len(note["index"]))
        return note["at"], tensor

    def done(self, name: str, op_type: str, weight: NDArray, before: int) -> None:
        """Note that a weight is dense again."""
        sparsity = _sparsity(weight)
        self.weights.append(Weight(text_of(name), op_type, weight.shape, sparsity, before, weight.nbytes))


def _sparsity(weight: NDArray) -> float:
    """Return the share of zeros, or of the most frequent number of a weight of integers."""
    zero = most_frequent(weight) if weight.dtype in INTEGERS else 0
    return 1 - int(np.count_nonzero(weight != zero)) / max(weight.size, 1)


def _index_name(node: NodeProto) -> str:
    """Return the name of the index of a compressed node's weight."""
    return node.input[OPERATORS[node.op_type].weight + 1]


def _words(node: NodeProto) -> str:
    return f"node {text_of(node.name or (node.output[0] if node.output else ''))!r}"


# lists and notes


def _insert(items: Any, placed: list[tuple[int, Any]]) -> None:
    """Insert each item at its position. Ascending order: an item's position counts all items before it.

    ValueError if there are fewer items than a position says.
    """
    for at, item in sorted(placed, key=lambda pair: pair[0]):
        if at > len(items):
            raise ValueError(f"{text_of(_name_of(item))!r}: its note {NOTE} says position {at} of {len(items) + 1}")
        items.insert(at, item)


def _name_of(item: TensorProto | SparseTensorProto) -> str | bytes:
    return item.name if isinstance(item, TensorProto) else item.values.name


def _set_note(holder: TensorProto | NodeProto, note: dict[str, Any] | None) -> None:
    remove(holder.metadata_props, {at for at, entry in enumerate(holder.metadata_props) if entry.key == NOTE})
    if note is not None:
        holder.metadata_props.add(key=NOTE, value=json.dumps(note))


def _note_of(holder: TensorProto | NodeProto, kinds: Mapping[str, type]) -> dict[str, Any] | None:
    """Return the note that `pack` left, or None. ValueError if its entries are not of these `kinds`."""
    texts = [entry.value for entry in holder.metadata_props if entry.key == NOTE]
    if not texts:
        return None
    try:
        note = json.loads(texts[0])
        damaged = {key: type(value) for key, value in note.items()} != kinds or note.get("at", 0) < 0
    except (ValueError, AttributeError, RecursionError):  # RecursionError: lists within lists
        damaged = True
    if damaged:
        raise ValueError(f"{text_of(holder.name)!r}: the note {NOTE} in its metadata is damaged")
    return note
