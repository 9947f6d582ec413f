"""Restores the weights of a compressed model, one by one."""

from __future__ import annotations

import base64
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, SparseTensorProto, TensorProto

from ..graph.ir import type_name
from . import onnx_file as model_file
from .constants import remove
from .onnx_file import Writer, array_of, set_array, text_of
from .rewriting import Progress, Rewriting, Weight, set_declared_shape, sparsity_of, words_of
from .schema import DOMAIN, OPERATORS, WEIGHT, WEIGHT_SHAPE
from .sparse_initializer import indices_of
from .weight_codec import decode
from .weight_notes import DENSE_NOTE, NODE_NOTE, NOTE, SPARSE_NOTE, note_of, set_note


class Restoring(Rewriting):
    """Restores all compressed weights of a model. ValueError if they are damaged."""

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
            raise ValueError(f"{words_of(node)}: {DOMAIN} has no operator {node.op_type} of {len(node.input)} inputs")
        values, index = node.input[row.weight : row.weight + 2]
        for name in (values, index):
            if name not in self.initializers:
                raise ValueError(f"{words_of(node)}: its weight {text_of(name)!r} is not an initializer of the graph")
        if [a.name for a in node.attribute].count(WEIGHT_SHAPE) != 1:
            raise ValueError(f"{words_of(node)}: expected one attribute {WEIGHT_SHAPE}")
        if any((other.op_type == WEIGHT) or _index_name(other) != index for other in self.nodes[values]):
            raise ValueError(f"{words_of(node)}: its weight {text_of(values)!r} has two indices")

    def run(self, progress: Progress) -> list[Weight]:
        """Restore every weight, and carry the rest over."""
        graph = self.graph
        for tensor in model_file.tensors_beside_initializers(self.model):
            self.carry_over(tensor)
        dense = [self.dense_again(s, note) for s in graph.sparse_initializer if (note := note_of(s.values, DENSE_NOTE))]
        sparse = []
        gone = {_index_name(nodes[0]) for nodes in self.nodes.values()}
        for done, tensor in enumerate(graph.initializer):
            progress(done / len(graph.initializer))
            if tensor.name in gone:
                continue
            if tensor.name not in self.nodes:
                self.carry_over(tensor)
                continue
            note = note_of(tensor, SPARSE_NOTE) if tensor.data_type == TensorProto.FLOAT else None
            weight = self.decoded(tensor)
            if note:
                sparse.append(self.sparse_again(tensor, weight, note))
                gone.add(tensor.name)
            else:
                set_array(tensor, weight, self.writer)
        remove(graph.initializer, {at for at, tensor in enumerate(graph.initializer) if tensor.name in gone})
        for each in (graph, *model_file.graphs_within(graph.node)):
            remove(each.node, [at for at, node in enumerate(each.node) if node.domain == DOMAIN])
        remove(graph.sparse_initializer, {at for at, s in enumerate(graph.sparse_initializer) if note_of(s.values, DENSE_NOTE)})
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
            raise ValueError(f"{words_of(nodes[0])}: weight {text_of(tensor.name)!r}: {error}") from None
        for node in nodes:
            (at,) = (at for at, attribute in enumerate(node.attribute) if attribute.name == WEIGHT_SHAPE)
            if tuple(node.attribute[at].ints) != weight.shape:
                raise ValueError(
                    f"{words_of(node)}: {WEIGHT_SHAPE} is {list(node.attribute[at].ints)}, its weight has shape {list(weight.shape)}"
                )
            if node.op_type == WEIGHT:
                self.hold_again(tensor, node)
                break
            del node.attribute[at], node.input[2]
            self.restore_domain(node)
        for info in self.infos[tensor.name]:
            set_declared_shape(info, weight.shape)
        reader = self.readers.get(tensor.name) if nodes[0].op_type == WEIGHT else None
        self.done(tensor.name, (reader or nodes[0]).op_type, weight, values.nbytes + packed.nbytes)
        return weight

    def hold_again(self, tensor: TensorProto, node: NodeProto) -> None:
        """Let the initializer of nonzeros be the weight that a node Weight makes."""
        name = node.output[0]
        if not name or name in self.names:
            raise ValueError(f"{words_of(node)}: its result {text_of(name)!r} has the name of another value")
        self.names.add(name)
        tensor.name = name

    def restore_domain(self, node: NodeProto) -> None:
        """Restore the node's domain: either missing, or the name of ONNX's domain that was there."""
        note = note_of(node, NODE_NOTE)
        node.ClearField("domain")
        if note:
            node.domain = note["domain"]
            set_note(node, None)

    def sparse_again(self, tensor: TensorProto, weight: NDArray[np.float32], note: dict[str, Any]) -> tuple[int, SparseTensorProto]:
        """Return the position of a weight in `graph.sparse_initializer`, and the weight as it was there."""
        at = note.pop("at")
        sparse = SparseTensorProto(values=tensor, dims=weight.shape)
        set_note(sparse.values, None)
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
        set_note(tensor, None)
        if note["external"]:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
        set_array(tensor, weight, self.writer)
        self.done(tensor.name, "", weight, values.nbytes + len(values) * 8 + len(note["index"]))
        return note["at"], tensor

    def done(self, name: str, op_type: str, weight: NDArray, before: int) -> None:
        """Note that a weight is dense again."""
        sparsity = sparsity_of(weight)
        self.weights.append(Weight(text_of(name), op_type, weight.shape, sparsity, before, weight.nbytes))


def _index_name(node: NodeProto) -> str:
    """Return the name of the index of a compressed node's weight."""
    return node.input[OPERATORS[node.op_type].weight + 1]


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
