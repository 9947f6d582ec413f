"""The result of pruning: the model, its masks and the report."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ..formats.onnx_file import Writer, external_bytes, is_external, set_array, tensors
from .masks import Masks
from .report import Report
from .source import Changes, names_read

INITIALIZERS_ALONE = 4
"""The first IR version in which an initializer need not be an input."""


@dataclass(frozen=True)
class Pruned:
    """A pruned model. `masks` says which weights it keeps, `report` what is left of it."""

    changes: Changes
    masks: Masks
    report: Report

    @property
    def model(self) -> ModelProto:
        """Return the model with all its data. It may have more than 2 GB; `save` needs less memory."""
        model = _outline(self.changes)
        for tensor, array in _changed(model, self.changes):
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        for tensor in tensors(model):
            if is_external(tensor):
                tensor.raw_data = external_bytes(tensor, self.changes.source.path or Path()).tobytes()
                tensor.ClearField("external_data")
                tensor.data_location = TensorProto.DEFAULT
        return model

    def save(self, target: str | os.PathLike[str]) -> None:
        """Write the model to a file, tensor by tensor. External data go to a file `target`.data.

        ValueError if `target` is the model that was pruned or one of its files; OSError if it cannot be written.
        """
        save(self.changes, Path(target))


def save(changes: Changes, target: Path, sizes: Mapping[str, int] = MappingProxyType({})) -> None:
    """Write a changed model as `Pruned.save` does. `sizes` are given to the open dimensions of its inputs that have these names."""
    model, source = _outline(changes), changes.source.path or Path()
    for dimension in [each for info in model.graph.input for each in info.type.tensor_type.shape.dim]:
        if dimension.dim_param in sizes:
            dimension.dim_value = sizes[dimension.dim_param]
    with Writer(source, target, model) as writer:
        for tensor in tensors(model):
            if is_external(tensor) and tensor.name not in changes.constants:
                writer.external(tensor, external_bytes(tensor, source))
        for tensor, array in _changed(model, changes):
            set_array(tensor, array, writer)
        writer.save(model)


def _outline(changes: Changes) -> ModelProto:
    """Return a changed model with its nodes as they are now. Changed constants still have their old data, new ones have none.

    Constants that no node reads any more are gone. Before IR version 4 every initializer is an input as well.
    """
    source, model = changes.source, ModelProto()
    model.CopyFrom(source.model)
    graph = model.graph
    del graph.node[:]
    graph.node.extend(changes.nodes)
    read = {name for node in graph.node for name in names_read(node)} | {info.name for info in graph.output}
    gone = {name for node in source.nodes for name in node.input if name in source.constants} - read
    for fields in (graph.initializer, graph.input, graph.value_info):
        kept = [field for field in fields if field.name not in gone]
        if len(kept) < len(fields):
            del fields[:]
            fields.extend(kept)
    known = {tensor.name for tensor in graph.initializer}
    for name, array in changes.constants.items():
        if name in read and name not in known:
            graph.initializer.add(name=name, data_type=TensorProto.FLOAT, raw_data=b"")
            if model.ir_version < INITIALIZERS_ALONE:
                graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
    return model


def _changed(model: ModelProto, changes: Changes) -> Iterator[tuple[TensorProto, NDArray[np.float32]]]:
    """Yield the initializers of an outline that have other data, and these."""
    for tensor in model.graph.initializer:
        if tensor.name in changes.constants:
            yield tensor, changes.constants[tensor.name]
