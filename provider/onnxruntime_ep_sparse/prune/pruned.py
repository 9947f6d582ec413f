"""The result of pruning: the model, its masks and the report."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto, TensorProto, numpy_helper

from ..formats.onnx_file import Writer, external_bytes, is_external, set_floats, tensors
from .masks import Masks
from .report import Report
from .source import Changes, names_read


@dataclass(frozen=True)
class Pruned:
    """A pruned model. `masks` says which weights it keeps, `report` what is left of it."""

    changes: Changes
    masks: Masks
    report: Report

    @property
    def model(self) -> ModelProto:
        """The model with all its data. It may have more than 2 GB; `save` needs less memory."""
        model = _outline(self.changes)
        for tensor in tensors(model):
            if tensor.name in self.changes.constants:
                tensor.CopyFrom(numpy_helper.from_array(self.changes.constants[tensor.name], tensor.name))
            elif is_external(tensor):
                tensor.raw_data = external_bytes(tensor, self.changes.source.path or Path()).tobytes()
                tensor.ClearField("external_data")
                tensor.data_location = TensorProto.DEFAULT
        return model

    def save(self, target: str | os.PathLike[str]) -> None:
        """Write the model to a file, tensor by tensor. External data go to a file `target`.data.

        ValueError if `target` is the model that was pruned or one of its files; OSError if it cannot be written.
        """
        save(self.changes, Path(target))


def save(changes: Changes, target: Path) -> None:
    """Write a changed model as `Pruned.save` does."""
    model, source = _outline(changes), changes.source.path or Path()
    with Writer(source, target, model) as writer:
        for tensor in tensors(model):
            if tensor.name in changes.constants:
                set_floats(tensor, changes.constants[tensor.name], writer)
            elif is_external(tensor):
                writer.external(tensor, external_bytes(tensor, source))
        writer.save(model)


def _outline(changes: Changes) -> ModelProto:
    """Return a changed model with its nodes as they are now. Changed constants still have their old data, new ones have none."""
    source = changes.source
    model = ModelProto()
    model.CopyFrom(source.model)
    del model.graph.node[:]
    model.graph.node.extend(changes.nodes)
    read = {name for node in model.graph.node for name in names_read(node)} | set(source.outputs)
    replaced = {name for node in source.nodes for name in node.input} - read
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in replaced]
    new = [TensorProto(name=name, data_type=TensorProto.FLOAT, raw_data=b"") for name in changes.constants]
    known = {tensor.name for tensor in kept}
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, *(tensor for tensor in new if tensor.name not in known)])
    return model
