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

from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto

from . import onnx_file as model_file
from .compressing import Compressing
from .constants import remove
from .onnx_file import Writer
from .restoring import Restoring
from .rewriting import Progress, Weight, set_declared_shape, version_of
from .schema import DOMAIN, OPERATORS, VERSION, WEIGHT, WEIGHT_SHAPE
from .weight_notes import DENSE_NOTE, note_of

MIN_SPARSITY = 0.5


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
        note_of(s.values, DENSE_NOTE) for s in model.graph.sparse_initializer
    ):
        raise ValueError(f"{source} is compressed already")
    with Writer(source, target, model) as writer:
        weights = Compressing(model, source, writer, min_sparsity, standard).run(progress)
        writer.save(model)
    return weights


def unpack(source: Path, target: Path, *, progress: Progress = lambda share: None) -> list[Weight]:
    """Write the model `source` to `target` with the weights that it had before `pack`. Result and errors are as of `pack`."""
    model = model_file.load(source)
    version = version_of(model)
    if version not in (0, VERSION):
        raise ValueError(f"{source} has version {version} of the operators {DOMAIN}, only version {VERSION} is supported")
    with Writer(source, target, model) as writer:
        weights = Restoring(model, source, writer).run(progress)
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
            set_declared_shape(info, shapes[info.name])
