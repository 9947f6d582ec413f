"""The model that is pruned: its nodes and constants, wherever their data are, and what pruning changes of it."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from ..formats.onnx_file import array_of, graphs_within, is_external, load, tensors
from ..models.inputs import signature


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that was read from the file `path`, without its external data. It must not be used after it was given to `prune`."""

    model: ModelProto
    path: Path


Model = str | os.PathLike[str] | bytes | ModelProto | Loaded
ONNX = ("", "ai.onnx")
RECURRENT = ("LSTM", "GRU", "RNN")
"""Operators whose data have times along their first axis. They stand here because the command line asks for them without scipy."""


class Source:
    """A model as it was given. `path` is its file, where its external data are; None for a model in memory.

    `constants` has all initializers by name, those that are inputs as well included; `outputs` has the results that are none of them.
    """

    def __init__(self, model: ModelProto, path: Path | None = None) -> None:
        """Take over a model without its external data."""
        self.model, self.path = model, path
        graph = self.model.graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.sparse_constants = {sparse.values.name: sparse for sparse in graph.sparse_initializer}
        self.nodes = list(graph.node)
        self.reads = [names_read(node) for node in self.nodes]
        self.opset = next((imported.version for imported in self.model.opset_import if imported.domain in ONNX), 0)
        self.inputs = {each.name: each for each in signature(self.model) if not self.is_constant(each.name)}
        self.outputs = [info.name for info in graph.output if not self.is_constant(info.name)]
        self._times_named = Counter(node.name for node in self.nodes)
        self._exposed = {info.name for info in graph.output}
        self.readers: dict[str, list[int]] = defaultdict(list)
        for i, names in enumerate(self.reads):
            for name in names:
                self.readers[name].append(i)

    def name(self, index: int) -> str:
        """Return the name of a node, that of its first output where it has none or shares it."""
        node = self.nodes[index]
        return node.name if node.name and self._times_named[node.name] == 1 else next(filter(None, node.output), "")

    def is_constant(self, name: str) -> bool:
        """Return whether a value is an initializer, sparse or not."""
        return name in self.constants or name in self.sparse_constants

    def is_weight(self, name: str) -> bool:
        """Return whether a value is a float32 initializer that is not sparse."""
        return name in self.constants and self.constants[name].data_type == TensorProto.FLOAT

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a constant."""
        return tuple(self.constants[name].dims)

    def array(self, name: str) -> NDArray:
        """Return the data of a constant. ValueError if they are missing or damaged."""
        tensor = self.constants[name]
        if tensor.data_type == TensorProto.FLOAT:
            return array_of(tensor, self.path or Path())
        return numpy_helper.to_array(tensor, os.fspath(self.path.parent) if self.path else "")

    def constants_size(self, name: str) -> int:
        """Return the number of elements of a constant."""
        return prod(self.shape(name))

    def only_reader(self, name: str) -> int | None:
        """Return the index of the node that alone reads a value, None where there is none, several, or the value is an output."""
        readers = self.readers[name]
        return readers[0] if len(readers) == 1 and not self.is_output(name) else None

    def is_output(self, name: str) -> bool:
        """Return whether a value is an output of the model, a constant included."""
        return name in self._exposed


def loaded(given: Model) -> tuple[ModelProto, Path | None]:
    """Return a model that may be changed, without external data, and its path.

    ValueError if it is not a model, or if a model in memory has its data elsewhere.
    """
    if isinstance(given, Loaded):
        return given.model, given.path
    if not isinstance(given, ModelProto | bytes):
        return load(Path(given)), Path(given)
    model = ModelProto()
    if isinstance(given, bytes):
        model = _parsed(given)
    else:
        model.CopyFrom(given)
    if any(is_external(tensor) for tensor in tensors(model)):
        raise ValueError("the data of this model are in other files: give its path, or load it with them")
    return model, None


def names_read(node: NodeProto) -> list[str]:
    """Return the names of the values that a node reads, those that the graphs in its attributes take from outside included."""
    names = [name for name in node.input if name]
    for graph in graphs_within([node]):
        inside = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer}
        inside |= {name for member in graph.node for name in member.output}
        names += [name for member in graph.node for name in member.input if name and name not in inside]
        names += [info.name for info in graph.output if info.name not in inside]
    return list(dict.fromkeys(names))


def counts_times(nodes: Iterable[NodeProto], inputs: Collection[str]) -> bool:
    """Return whether an input goes right into a recurrent node, where the first axis counts times."""
    return any(node.op_type in RECURRENT and node.input[0] in inputs for node in nodes)


class Changes:
    """The changes of pruning so far: nodes with other inputs, and constants with other data. Everything else is as in `source`."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.nodes = [_copy(node) for node in source.nodes]
        self.constants: dict[str, NDArray] = {}
        self._copies: dict[tuple[str, int, frozenset[int]], str] = {}

    def array(self, name: str) -> NDArray:
        """Return the data of a constant as it is now."""
        return self.constants[name] if name in self.constants else self.source.array(name)

    def tensor(self, name: str) -> TensorProto:
        """Return a constant as it is now; its data may be in another file."""
        return numpy_helper.from_array(self.constants[name], name) if name in self.constants else self.source.constants[name]

    def set_input(self, index: int, slot: int, like: str, data: NDArray, sharing: Collection[int] = ()) -> str:
        """Give input `slot` of a node other data, and return its name.

        It is a new one, derived from `like`, if the input is missing, or if nodes read the constant besides this one and `sharing`, which
        get the same data.
        """
        node = self.nodes[index]
        node.input.extend([""] * (slot + 1 - len(node.input)))
        name = node.input[slot]
        if name not in self.constants:
            others = set(self.source.readers[name]) - {index, *sharing}
            if not name or others or self.source.is_output(name):
                key = name, slot, frozenset((index, *sharing))
                name = self._copies.setdefault(key, self._new_name(name or like))
                node.input[slot] = name
        self.constants[name] = data
        return name

    def _new_name(self, like: str) -> str:
        """Return a name that no value has."""
        taken = {name for node in self.nodes for name in (*node.input, *node.output)} | {*self.source.constants, *self.constants}
        return next(name for name in _numbered(f"{like}_pruned") if name not in taken)


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """Return the value of an attribute, `default` if the node does not have it."""
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)


def _parsed(data: bytes) -> ModelProto:
    """Return the model of serialised bytes. ValueError if they are not a model."""
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError; onnx does not say which protobuf it has
        raise ValueError(f"these bytes are not an ONNX model: {error}") from None
    if not model.HasField("graph"):
        raise ValueError("these bytes are not an ONNX model: it has no graph")
    return model


def _copy(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    return copy


def _numbered(name: str) -> Iterator[str]:
    """Yield a name, then the same name with a number appended, without end."""
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1


def typed(names: Iterable[str], arrays: dict[str, NDArray]) -> list[ValueInfoProto]:
    """Return infos of values, of the types and ranks of `arrays`, without sizes."""
    kinds = {name: helper.np_dtype_to_tensor_dtype(arrays[name].dtype) for name in names}
    return [helper.make_tensor_value_info(name, kind, [None] * arrays[name].ndim) for name, kind in kinds.items()]
