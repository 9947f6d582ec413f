"""Layers of Gemm and MatMul: one constant matrix, on either side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from .layers import Bias, Layer, Site
from .source import ONNX, Source, attribute

GEMM_WITHOUT_C = 11
"""The opset since which Gemm needs no C."""


@dataclass(frozen=True)
class MatrixLayer(Layer):
    """`weight_km`: the weight is stored as (K, M). `x_columns`: a column of x, not a row, holds the K inputs."""

    weight_km: bool
    x_columns: bool

    by_row: ClassVar[bool] = True

    @property
    def geometry(self) -> tuple[object, ...]:
        """What the columns depend on besides `x`."""
        return ("matrix", self.x_columns)

    def matrices(self, weight: NDArray) -> NDArray:
        """Return the weight as (1, M, K)."""
        return np.ascontiguousarray(weight.T if self.weight_km else weight)[None]

    def restored(self, matrices__gmk: NDArray) -> NDArray:
        """Undo `matrices`."""
        return np.ascontiguousarray(matrices__gmk[0].T if self.weight_km else matrices__gmk[0])

    def rows(self, site: Site, most: int) -> int:
        """Return the number of rows (or columns) of x."""
        x = site.input(1 - self.slot)
        assert x is not None, "these nodes have two operands"
        return x.size // self.inputs

    def columns(self, site: Site, rng: np.random.Generator, most: int) -> Iterator[NDArray[np.float32]]:
        """Yield all rows (or columns) of x, (1, rows, K)."""
        x = site.input(1 - self.slot)
        assert x is not None, "these nodes have two operands"
        rows = np.swapaxes(x, -1, -2) if self.x_columns and x.ndim > 1 else x
        yield rows.reshape(1, -1, self.inputs)


def of_product(source: Source, index: int, name: str) -> Iterator[MatrixLayer]:
    """Yield the layer of a Gemm or MatMul, if one operand is a constant matrix."""
    node = source.nodes[index]
    slot = _constant_slot(source, node)
    if slot is None:
        return
    right = slot == 1
    transposed = bool(attribute(node, "transB" if right else "transA", 0))
    shape = source.shape(node.input[slot])
    outputs, inputs = shape if transposed == right else shape[::-1]
    bias_of = _gemm_bias if node.op_type == "Gemm" else _bias_behind
    yield MatrixLayer(
        index,
        name,
        node.op_type,
        node.input[slot],
        slot,
        node.input[1 - slot],
        (1, outputs, inputs),
        inputs,
        bias_of(source, index, outputs, right),
        weight_km=transposed != right,
        x_columns=bool(attribute(node, "transA" if right else "transB", 0)) == right,
    )


def _gemm_bias(source: Source, index: int, outputs: int, right: bool) -> Bias | None:
    node = source.nodes[index]
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    shape = (outputs,) if right else (outputs, 1)
    if len(node.input) < 3 or not node.input[2]:
        return Bias(index, 2, shape, scale=alpha / beta) if source.opset >= GEMM_WITHOUT_C and beta else None
    name = node.input[2]
    if not source.is_weight(name) or not beta:
        return None
    full = (1,) * (2 - len(source.shape(name))) + source.shape(name)
    features = full[1 if right else 0]
    return Bias(index, 2, shape, scale=alpha / beta) if full[0 if right else 1] == 1 and features in (1, outputs) else None


def _constant_slot(source: Source, node: NodeProto) -> int | None:
    """Return which operand is a constant matrix of float32, while the other one is not constant."""
    if node.domain not in ONNX or source.is_constant(node.input[0]) == source.is_constant(node.input[1]):
        return None
    slot = 0 if source.is_constant(node.input[0]) else 1
    usable = source.is_weight(node.input[slot]) and len(source.shape(node.input[slot])) == 2
    return slot if usable else None


def _bias_behind(source: Source, index: int, outputs: int, right: bool) -> Bias | None:
    """Return the constant that an Add adds to the product of a matrix on the right, where the Add alone reads it."""
    product = source.nodes[index].output[0]
    reader = source.only_reader(product) if right else None
    if reader is None or source.nodes[reader].op_type != "Add" or source.nodes[reader].domain not in ONNX:
        return None
    slot = 1 if source.nodes[reader].input[0] == product else 0
    name = source.nodes[reader].input[slot]
    if not source.is_weight(name):
        return None
    shape = source.shape(name)
    return Bias(reader, slot, shape) if shape and shape[-1] == outputs == source.constants_size(name) else None
