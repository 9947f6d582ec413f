"""The one table of operators with weights that can be pruned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from onnx import NodeProto

from .conv_layers import of_conv
from .layers import Layer
from .matrix_layers import of_product
from .recurrent_layers import WEIGHTS, of_recurrent
from .source import ONNX, RECURRENT, Source

Places = Mapping[str, tuple[int, ...]]
"""For each weight of a node the inputs that it may be, by what the name of its layer has after that of the node."""


@dataclass(frozen=True, slots=True)
class Operator:
    """How the layers of a node are found: a function of a model, the index of the node, and its name. `weights` says where they may be."""

    layers: Callable[[Source, int, str], Iterator[Layer]]
    weights: Places


_CONV = Operator(of_conv, {"": (1,)})
_PRODUCT = Operator(of_product, {"": (0, 1)})
_RECURRENT = Operator(of_recurrent, {suffix: (slot,) for suffix, slot in WEIGHTS.items()})

LAYERS: Mapping[str, Operator] = MappingProxyType(
    {"Conv": _CONV, "Gemm": _PRODUCT, "MatMul": _PRODUCT, **dict.fromkeys(RECURRENT, _RECURRENT)}
)
"""Rows by the names of the operators."""


def operator_of(node: NodeProto) -> Operator | None:
    """Return the row of a node, None if it has no layers."""
    return LAYERS.get(node.op_type) if node.domain in ONNX else None
