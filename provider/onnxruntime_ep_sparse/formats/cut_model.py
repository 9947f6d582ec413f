"""Models with other outputs than the one that was given: all of its values, or one value with the nodes that it needs."""

from __future__ import annotations

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
