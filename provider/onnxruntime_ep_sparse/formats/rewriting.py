"""The common part of compressing a model and restoring it: the model whose tensors change, and the result for each weight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, TensorShapeProto, ValueInfoProto

from . import onnx_file as model_file
from .onnx_file import Writer, is_external, text_of
from .schema import DOMAIN
from .weight_codec import INTEGERS, most_frequent

Progress = Callable[[float], None]
"""Called with the share of the work that is done, from 0 to 1."""


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


class Rewriting:
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


def version_of(model: ModelProto) -> int:
    """Return the version of the compressed operators, or 0 if the model has none."""
    return next((imported.version for imported in model.opset_import if imported.domain == DOMAIN), 0)


def set_declared_shape(info: ValueInfoProto, shape: tuple[int, ...]) -> None:
    """Give a value_info another shape, if it has one."""
    if info.type.tensor_type.HasField("shape"):
        info.type.tensor_type.shape.CopyFrom(_shape_proto(shape))


def declares(info: ValueInfoProto, shape: tuple[int, ...]) -> bool:
    """Return whether a value_info has no shape or this one, and nothing else in its place."""
    return not info.type.tensor_type.HasField("shape") or info.type.tensor_type.shape == _shape_proto(shape)


def _shape_proto(shape: tuple[int, ...]) -> TensorShapeProto:
    return TensorShapeProto(dim=[TensorShapeProto.Dimension(dim_value=size) for size in shape])


def sparsity_of(weight: NDArray) -> float:
    """Return the share of zeros, or of the most frequent number of a weight of integers."""
    zero = most_frequent(weight) if weight.dtype in INTEGERS else 0
    return 1 - int(np.count_nonzero(weight != zero)) / max(weight.size, 1)


def words_of(node: NodeProto) -> str:
    return f"node {text_of(node.name or (node.output[0] if node.output else ''))!r}"
