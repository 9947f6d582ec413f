"""Writes a region of a graph as an ONNX model of its own, so that a session can run it alone.

It needs the module onnx: an importer handles the ImportError.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from ..graph.ir import FLOAT16, Graph, Node

IR_VERSION = 8
"""The oldest that this needs: initializers that are not inputs came with 4. ONNX Runtime loads any opset with it."""
MAX_BYTES = 2_000_000_000
"""Of constants: protobuf's messages end at 2 GiB."""


def model_of(region: Graph) -> ModelProto:
    """Return a model that computes `region.outputs` from `region.inputs`, which keep their order; tensors and dimensions get new names.

    Equal regions give equal models, whatever their names. ValueError if a region cannot be written: constants of more than `MAX_BYTES`, an
    attribute that is neither a number nor a text.
    """
    names = _Names()
    for name in (*region.inputs, *region.outputs):
        names.tensor(name)
    nodes = [_node(node, names) for node in region.nodes]
    constants = [name for name in names.tensors if region.is_constant(name)]
    size, initializers = 0, []
    for name in constants:
        array = _stored(region, name)
        size += array.nbytes
        if size > MAX_BYTES:
            raise ValueError(f"its constants have more than {MAX_BYTES / 1e9:g} GB")
        initializers.append(_tensor(array, region, name, names))
    known = {*constants, *region.inputs, *region.outputs}
    inside = [name for name in names.tensors if name not in known and region.values[name].dtype]
    groups = [[_info(region, name, names) for name in group] for group in (region.inputs, region.outputs, inside)]
    graph = helper.make_graph(nodes, "region", groups[0], groups[1], initializers, value_info=groups[2])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*entry) for entry in _opsets(region.nodes)], ir_version=IR_VERSION)


class _Names:
    """New names of tensors and symbolic dimensions, in the order in which they are asked for."""

    def __init__(self) -> None:
        self.tensors: dict[str, str] = {}
        self.dimensions: dict[str, str] = {}

    def tensor(self, name: str) -> str:
        """Return the new name of a tensor; "" stays what it is."""
        return self.tensors.setdefault(name, f"t{len(self.tensors)}") if name else ""

    def dimension(self, size: int | str | None) -> int | str | None:
        """Return a dimension under its new name; numbers and what is unknown stay what they are."""
        return self.dimensions.setdefault(size, f"d{len(self.dimensions)}") if isinstance(size, str) else size


def _node(node: Node, names: _Names) -> NodeProto:
    made = helper.make_node(
        node.op_type, [names.tensor(x) for x in node.inputs], [names.tensor(y) for y in node.outputs], domain=node.domain
    )
    for key, value in sorted(node.attributes.items()):
        if value is None:
            raise ValueError(f"the attribute {key!r} of a {node.op_type} is not a number or text")
        if value != ():  # an empty list, whose type is not known, means the same as none
            made.attribute.append(helper.make_attribute(key, value))
    return made


def _stored(region: Graph, name: str) -> NDArray:
    """Return a constant as files hold it: those of 16 bits were widened, which lost nothing. Of bfloat16, numpy has the bits alone."""
    array = region.load(name)
    dtype = region.narrow.get(name)
    if dtype is None:
        return array
    return array.astype(np.float16) if dtype == FLOAT16 else (array.view(np.uint32) >> 16).astype(np.uint16)


def _tensor(array: NDArray, region: Graph, name: str, names: _Names) -> TensorProto:
    made = numpy_helper.from_array(array, names.tensor(name))
    made.data_type = region.narrow.get(name, made.data_type)
    return made


def _info(region: Graph, name: str, names: _Names) -> ValueInfoProto:
    value = region.values[name]
    shape = None if value.shape is None else [names.dimension(size) for size in value.shape]
    return helper.make_tensor_value_info(names.tensor(name), region.narrow.get(name, value.dtype), shape)


def _opsets(nodes: Iterable[Node]) -> list[tuple[str, int]]:
    """Return a version for each domain that gives every operator the version which it has in the whole model.

    That is the highest at which one of them changed: the model's own version may be later, but none of them changed between the two.
    """
    found: dict[str, int] = {}
    for node in nodes:
        domain = "" if node.domain == "ai.onnx" else node.domain
        found[domain] = max(found.get(domain, 1), node.since_version)
    return sorted(found.items())
