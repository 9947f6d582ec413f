"""Models with other outputs than the one that was given: all of its values, one value with the nodes that it needs, or nodes apart."""

from __future__ import annotations

from collections.abc import Collection

from onnx import ModelProto, NodeProto, ValueInfoProto

from ..graph.ir import EP_CONTEXT
from .onnx_file import graphs_within


def values_of(model: ModelProto) -> dict[str, NodeProto]:
    """Return the values that nodes of the main graph make, in their order, each with its node."""
    return {name: node for node in model.graph.node for name in node.output if name}


def with_all_values(model: ModelProto) -> ModelProto:
    """Return a model that has all of its values as outputs. ValueError if it is a compiled one, whose values are not in it."""
    if any((node.domain, node.op_type) == EP_CONTEXT for node in model.graph.node):
        raise ValueError("this is a compiled model, whose regions cannot be cut: give the original model")
    cut = ModelProto()
    cut.CopyFrom(model)
    known = {info.name for info in model.graph.output}
    cut.graph.output.extend(ValueInfoProto(name=name) for name in values_of(model) if name not in known)
    return cut


def nodes_apart(model: ModelProto, names: Collection[str]) -> tuple[ModelProto, list[str]]:
    """Return a model in which the nodes that make these values read all others as inputs, and the names of the inputs.

    Nodes that compute constants of constants stay with those that read them. The outputs are the values, in the order of `names`, under the
    names of `name_apart`. The inputs have no types yet.
    """
    makers = values_of(model)
    constants = {tensor.name for tensor in model.graph.initializer} | {tensor.values.name for tensor in model.graph.sparse_initializer}
    constants -= {info.name for info in model.graph.input}
    for node in model.graph.node:
        if all(name in constants for name in read_by(node)):
            constants.update(node.output)
    wanted = {id(makers[name]): makers[name] for name in names}
    apart = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    apart.graph.name = model.graph.name
    read = {name for node in wanted.values() for name in read_by(node)}
    for node in reversed(model.graph.node):
        if read.intersection(node.output) and constants.issuperset(filter(None, node.output)):
            read.update(read_by(node))
            apart.graph.node.insert(0, node)
    for node in wanted.values():
        own = apart.graph.node.add()
        own.CopyFrom(node)
        own.output[:] = [name and name_apart(name) for name in node.output]
    inputs = sorted(read - constants)
    apart.graph.input.extend(ValueInfoProto(name=name) for name in inputs)
    apart.graph.output.extend(ValueInfoProto(name=name_apart(name)) for name in names)
    apart.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in read & constants)
    apart.graph.sparse_initializer.extend(tensor for tensor in model.graph.sparse_initializer if tensor.values.name in read & constants)
    return apart, inputs


def name_apart(name: str) -> str:
    """Return the name of a value in a model of `nodes_apart`."""
    return f"{name}/apart"


def read_by(node: NodeProto) -> set[str]:
    """Return the values that a node reads, those of its bodies from outside included."""
    read = set(filter(None, node.input))
    for graph in graphs_within([node]):
        made = {name for inner in graph.node for name in inner.output} | {tensor.name for tensor in graph.initializer}
        made |= {info.name for info in graph.input}
        named = {name for inner in graph.node for name in inner.input} | {info.name for info in graph.output}
        read |= set(filter(None, named)) - made
    return read


def prefix_of(model: ModelProto, name: str) -> ModelProto:
    """Return a model whose one output is a value, with the nodes and constants that it needs."""
    needed, nodes = {name}, []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input)
            for graph in graphs_within([node]):
                needed.update(each for inner in graph.node for each in inner.input)
                needed.update(info.name for info in graph.output)
    cut = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    cut.graph.name = model.graph.name
    cut.graph.node.extend(reversed(nodes))
    cut.graph.input.extend(model.graph.input)
    cut.graph.output.append(next((info for info in model.graph.output if info.name == name), ValueInfoProto(name=name)))
    cut.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed)
    cut.graph.sparse_initializer.extend(tensor for tensor in model.graph.sparse_initializer if tensor.values.name in needed)
    return cut
