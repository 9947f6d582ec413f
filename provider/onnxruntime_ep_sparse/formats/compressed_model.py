"""Compresses the pruned weights of a model, and restores them.

A node Conv, MatMul or Gemm with a pruned constant weight becomes the operator of the same name in the domain `ep.sparse`
(`formats/schema.py`). Its input 1 has the name of the weight and holds the nonzeros; a new input 2 says where they stand
(`formats/weight_codec.py`); the other inputs follow. A new attribute `weight_shape` serves shape inference. Where a `value_info` declares
the weight, it gets the shape of the nonzeros. Everything else stays as it is, order and names included, so that `unpack` restores the
model that was given to `pack`. The metadata of a tensor (NOTE) hold whatever else that needs.

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
from . import onnx_file as model_file
from .constants import ONNX, Constants, NotComputedError, remove, uses_of
from .onnx_file import Writer, array_of, is_external, set_floats, text_of
from .schema import DOMAIN, OPERATORS, VERSION, WEIGHT_SHAPE
from .weight_codec import decode, encode, index_of

FIRST_OPSET = 7
"""Gemm broadcasts its bias since this version."""
NOTE = "ep.sparse.was"
"""Key of a note in JSON: the position of a tensor in its list of the graph, and how it was written."""
DENSE_NOTE = {"at": int, "external": bool, "index": str}
NODE_NOTE = {"domain": str}
SPARSE_NOTE = {"at": int, "linear": bool, "raw": bool, "name": str}
MIN_SPARSITY = 0.5

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
    if _version_of(model) or any(_note_of(s.values, DENSE_NOTE) for s in model.graph.sparse_initializer):
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
    shapes = {}
    for node in model.graph.node:
        if node.domain == DOMAIN:
            shapes[node.input[1]] = onnx.helper.get_node_attr_value(node, WEIGHT_SHAPE)
            del node.input[2]
            node.domain = ""
    for tensor in model.graph.initializer:
        if tensor.name in shapes:
            tensor.CopyFrom(TensorProto(name=tensor.name, data_type=TensorProto.FLOAT, dims=shapes[tensor.name]))
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
            if node.op_type in OPERATORS and node.domain in ONNX and len(node.input) > 1:
                self.nodes[node.input[1]].append(node)
        self.constants = Constants(model, source)
        self.uses = uses_of(self.graph)
        self.inputs = {value.name for value in self.graph.input}
        self.names = {*self.uses, *self.inputs, *self.infos, *(name for node in model_file.nodes(self.graph) for name in node.output)}

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
            if tensor.name not in self.nodes or not self.compress(tensor, at):
                self.carry_over(tensor)
            elif self.standard:
                gone.add(at)
        remove(graph.initializer, gone)
        if not self.standard:
            remove(graph.sparse_initializer, {at for at, sparse in enumerate(graph.sparse_initializer) if self.compress_sparse(sparse, at)})
        self.constants.sweep()
        if any(node.domain == DOMAIN for node in graph.node):
            self.model.opset_import.add(domain=DOMAIN, version=VERSION)
        return self.weights

    def compress(self, tensor: TensorProto, at: int) -> bool:
        """Compress a weight from `graph.initializer`, if that is possible and makes it smaller."""
        reason = self.why_not(tensor, tuple(tensor.dims))
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

    def compress_array(self, tensor: TensorProto, weight: NDArray[np.float32], at: int, folded: Sequence[str] = ()) -> bool:
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
            self.graph.sparse_initializer.append(_sparse(tensor, values, np.flatnonzero(weight), shape, self.writer))
            _set_note(self.graph.sparse_initializer[-1].values, note)
            return True
        set_floats(tensor, values, self.writer)
        if folded:
            self.graph.initializer.append(tensor)
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
        places = _places_of(sparse, self.source)
        sparsity = 1 - len(values) / max(math.prod(shape), 1)
        how = {"linear": len(sparse.indices.dims) == 1, "raw": sparse.indices.HasField("raw_data"), "name": sparse.indices.name}
        usual = isinstance(sparse.indices.name, str) and _indices(places, shape, **how) == sparse.indices
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
        op_type = self.nodes[name][0].op_type
        self.weights.append(Weight(text_of(name), op_type, shape, sparsity, before, after, reason, tuple(folded)))

    def rewrite(self, tensor: TensorProto, index: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
        """Give a weight whose `tensor` holds the nonzeros its index, and its nodes the compressed operator."""
        name = f"{text_of(tensor.name)}.index"
        while name in self.names:
            name += "_"
        self.names.add(name)
        holder = self.graph.initializer.add(name=name, data_type=TensorProto.UINT8, dims=index.shape)
        if is_external(tensor):
            self.writer.external(holder, index)
        else:
            holder.raw_data = index.tobytes()
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
                set_floats(tensor, bias, self.writer)
                self.graph.initializer.append(tensor)
                self.constants.fold(name)


class _Unpacking(_Rewriting):
    def __init__(self, model: ModelProto, source: Path, writer: Writer) -> None:
        super().__init__(model, source, writer)
        self.initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self.nodes: dict[str, list[NodeProto]] = defaultdict(list)
        for node in model_file.nodes(self.graph):
            if node.domain == DOMAIN:
                self.check(node)
                self.nodes[node.input[1]].append(node)

    def check(self, node: NodeProto) -> None:
        """Raise ValueError if `pack` cannot have written a compressed node."""
        if node.op_type not in OPERATORS or len(node.input) < 3:
            raise ValueError(f"{_words(node)}: {DOMAIN} has no operator {node.op_type} of {len(node.input)} inputs")
        for name in node.input[1:3]:
            if name not in self.initializers:
                raise ValueError(f"{_words(node)}: its weight {text_of(name)!r} is not an initializer of the graph")
        if [a.name for a in node.attribute].count(WEIGHT_SHAPE) != 1:
            raise ValueError(f"{_words(node)}: expected one attribute {WEIGHT_SHAPE}")
        if any(other.input[2] != node.input[2] for other in self.nodes[node.input[1]]):
            raise ValueError(f"{_words(node)}: its weight {text_of(node.input[1])!r} has two indices")

    def run(self, progress: Progress) -> list[Weight]:
        """Restore every weight, and carry the rest over."""
        graph = self.graph
        for tensor in model_file.tensors_beside_initializers(self.model):
            self.carry_over(tensor)
        dense = [self.dense_again(s, note) for s in graph.sparse_initializer if (note := _note_of(s.values, DENSE_NOTE))]
        sparse = []
        gone = {nodes[0].input[2] for nodes in self.nodes.values()}
        for done, tensor in enumerate(graph.initializer):
            progress(done / len(graph.initializer))
            if tensor.name in gone:
                continue
            if tensor.name not in self.nodes:
                self.carry_over(tensor)
                continue
            weight, note = self.decoded(tensor), _note_of(tensor, SPARSE_NOTE)
            if note:
                sparse.append(self.sparse_again(tensor, weight, note))
                gone.add(tensor.name)
            else:
                set_floats(tensor, weight, self.writer)
        remove(graph.initializer, {at for at, tensor in enumerate(graph.initializer) if tensor.name in gone})
        remove(graph.sparse_initializer, {at for at, s in enumerate(graph.sparse_initializer) if _note_of(s.values, DENSE_NOTE)})
        _insert(graph.initializer, dense)
        _insert(graph.sparse_initializer, sparse)
        remove(self.model.opset_import, {at for at, imported in enumerate(self.model.opset_import) if imported.domain == DOMAIN})
        return self.weights

    def decoded(self, tensor: TensorProto) -> NDArray[np.float32]:
        """Return a weight, and make its nodes ONNX's again."""
        nodes = self.nodes[tensor.name]
        index = self.initializers[nodes[0].input[2]]
        try:
            if tensor.data_type != TensorProto.FLOAT or index.data_type != TensorProto.UINT8:
                raise ValueError("its values must be float32, its index uint8")
            weight = decode(values := array_of(tensor, self.source), packed := array_of(index, self.source))
        except ValueError as error:
            raise ValueError(f"{_words(nodes[0])}: weight {text_of(tensor.name)!r}: {error}") from None
        for node in nodes:
            (at,) = (at for at, attribute in enumerate(node.attribute) if attribute.name == WEIGHT_SHAPE)
            if tuple(node.attribute[at].ints) != weight.shape:
                raise ValueError(
                    f"{_words(node)}: {WEIGHT_SHAPE} is {list(node.attribute[at].ints)}, its weight has shape {list(weight.shape)}"
                )
            del node.attribute[at], node.input[2]
            self.restore_domain(node)
        for info in self.infos[tensor.name]:
            _set_declared_shape(info, weight.shape)
        self.done(tensor.name, nodes[0].op_type, weight, values.nbytes + packed.nbytes)
        return weight

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
        sparse.indices.CopyFrom(_indices(np.flatnonzero(weight.view(np.uint32)), weight.shape, **note))
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
        set_floats(tensor, weight, self.writer)
        self.done(tensor.name, "", weight, values.nbytes + len(values) * 8 + len(note["index"]))
        return note["at"], tensor

    def done(self, name: str, op_type: str, weight: NDArray[np.float32], before: int) -> None:
        """Note that a weight is dense again."""
        sparsity = _sparsity(weight)
        self.weights.append(Weight(text_of(name), op_type, weight.shape, sparsity, before, weight.nbytes))


def _sparsity(weight: NDArray[np.float32]) -> float:
    """Return the share of zeros."""
    return 1 - int(np.count_nonzero(weight)) / max(weight.size, 1)


def _words(node: NodeProto) -> str:
    return f"node {text_of(node.name or (node.output[0] if node.output else ''))!r}"


# sparse_initializer


def _sparse(
    tensor: TensorProto, values: NDArray[np.float32], places: NDArray[np.int64], shape: tuple[int, ...], writer: Writer
) -> SparseTensorProto:
    """Return ONNX's own sparse form of a dense `tensor`, without external data, where onnx would not find it."""
    sparse = SparseTensorProto(dims=shape, indices=_indices(places, shape, linear=True, raw=True, name=""))
    for field in ("name", "data_type", "doc_string"):
        if tensor.HasField(field):
            setattr(sparse.values, field, getattr(tensor, field))
    sparse.values.metadata_props.extend(tensor.metadata_props)
    if tensor.HasField("raw_data") or is_external(tensor):
        sparse.values.raw_data = b""
    set_floats(sparse.values, values, writer)
    return sparse


def _indices(places: NDArray[np.int64], shape: tuple[int, ...], *, linear: bool, raw: bool, name: str) -> TensorProto:
    """Return the indices of a sparse tensor: places in row-major order, or coordinates."""
    array = places if linear else np.stack(np.unravel_index(places, shape), axis=1)
    tensor = TensorProto(data_type=TensorProto.INT64, dims=array.shape, name=name or None)
    if raw:
        tensor.raw_data = np.ascontiguousarray(array, "<i8").tobytes()
    else:
        tensor.int64_data.extend(array.reshape(-1).tolist())
    return tensor


def _places_of(sparse: SparseTensorProto, source: Path) -> NDArray[np.int64]:
    """Return ascending places in row-major order. ValueError if they do not fit the values or the shape."""
    where, shape, count = f"sparse_initializer {text_of(sparse.values.name)!r}", tuple(sparse.dims), math.prod(sparse.values.dims)
    if sparse.indices.data_type != TensorProto.INT64 or tuple(sparse.indices.dims) not in ((count,), (count, len(shape))):
        raise ValueError(f"{where}: indices of shape {list(sparse.indices.dims)} do not fit {count} values")
    places: NDArray[np.int64] = array_of(sparse.indices, source)
    if places.ndim == 2:
        try:
            places = np.asarray(np.ravel_multi_index(tuple(places.T), shape), np.int64)
        except ValueError:
            raise ValueError(f"{where}: an index is outside of the shape {list(shape)}") from None
    if count and (places[0] < 0 or places[-1] >= math.prod(shape) or (np.diff(places) <= 0).any()):
        raise ValueError(f"{where}: its indices do not ascend within the shape {list(shape)}")
    return places


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
