"""Layers of Gemm and MatMul: a constant matrix on either side, or a stack of matrices that MatMul pairs with a stack of inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
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
    """`stack` has the dimensions of the weight before its last two, () for one matrix.

    `weight_km`: a matrix is stored as (K, M). `x_columns`: a column of x, not a row, holds the K inputs.
    """

    stack: tuple[int, ...]
    weight_km: bool
    x_columns: bool

    by_row: ClassVar[bool] = True

    @property
    def geometry(self) -> tuple[object, ...]:
        """Return the parameters besides `x` on which the columns depend."""
        return ("matrix", self.x_columns, self.stack if prod(self.stack) > 1 else ())

    def matrices(self, weight: NDArray) -> NDArray:
        """Return the weight as (G, M, K)."""
        stacked = weight.reshape(-1, *weight.shape[-2:])
        return np.ascontiguousarray(np.swapaxes(stacked, 1, 2) if self.weight_km else stacked)

    def restored(self, matrices__gmk: NDArray) -> NDArray:
        """Undo `matrices`."""
        stacked = np.swapaxes(matrices__gmk, 1, 2) if self.weight_km else matrices__gmk
        return np.ascontiguousarray(stacked).reshape(*self.stack, *stacked.shape[1:])

    def rows(self, site: Site, most: int) -> int:
        """Return the number of rows (or columns) of x that each matrix is multiplied by."""
        x = _other_operand(self, site)
        pairs = prod(np.broadcast_shapes(x.shape[:-2], self.stack))
        return pairs * prod(x.shape[-2:]) // self.inputs // self.shape__gmk[0]

    def columns(self, site: Site, rng: np.random.Generator, most: int) -> Iterator[NDArray[np.float32]]:
        """Yield all rows (or columns) of x, (G, rows, K)."""
        x = _other_operand(self, site)
        rows = np.swapaxes(x, -1, -2) if self.x_columns and x.ndim > 1 else x
        if prod(self.stack) > 1:
            rows = self._paired(rows)
        yield rows.reshape(self.shape__gmk[0], -1, self.inputs)

    def _paired(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return rows with the axes that the weight counts its matrices by before all others, as MatMul broadcasts both.

        ValueError for a vector: its product has no axis of rows, which the shape of the bias relies on.
        """
        if rows.ndim == 1:
            raise ValueError(f"layer {self.name!r} multiplies a vector by a stack of matrices, which cannot be pruned: skip it")
        own = np.broadcast_shapes(rows.shape[:-2], self.stack)
        full = np.broadcast_to(rows, (*own, *rows.shape[-2:]))
        matrices = [len(own) - len(self.stack) + axis for axis, size in enumerate(self.stack) if size > 1]
        return full.transpose(*matrices, *(axis for axis in range(full.ndim) if axis not in matrices))


def _other_operand(layer: MatrixLayer, site: Site) -> NDArray[np.float32]:
    x = site.input(1 - layer.slot)
    assert x is not None, "these nodes have two operands"
    return x


def of_product(source: Source, index: int, name: str) -> Iterator[MatrixLayer]:
    """Yield the layer of a Gemm or MatMul, if one operand is a constant matrix, or a stack of matrices."""
    node = source.nodes[index]
    slot = _constant_slot(source, node)
    if slot is None:
        return
    right = slot == 1
    transposed = bool(attribute(node, "transB" if right else "transA", 0))
    *stack, rows, columns = source.shape(node.input[slot])
    outputs, inputs = (rows, columns) if transposed == right else (columns, rows)
    if node.op_type == "Gemm":
        bias = _gemm_bias(source, index, outputs, right)
    else:
        bias = _bias_behind(source, index, stack, outputs) if right else None
    yield MatrixLayer(
        index,
        name,
        node.op_type,
        node.input[slot],
        slot,
        node.input[1 - slot],
        (prod(stack), outputs, inputs),
        inputs,
        bias,
        tuple(stack),
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
    """Return which operand is constant and has matrices of float32, while the other one is not constant."""
    if node.domain not in ONNX or source.is_constant(node.input[0]) == source.is_constant(node.input[1]):
        return None
    slot = 0 if source.is_constant(node.input[0]) else 1
    name = node.input[slot]
    usable = source.is_weight(name) and len(source.shape(name)) >= 2 and source.constants_size(name) > 0
    return slot if usable else None


def _bias_behind(source: Source, index: int, stack: Sequence[int], outputs: int) -> Bias | None:
    """Return the constant that an Add adds to the product of a weight on the right, where the Add alone reads it."""
    product = source.nodes[index].output[0]
    reader = source.only_reader(product)
    if reader is None or source.nodes[reader].op_type != "Add" or source.nodes[reader].domain not in ONNX:
        return None
    slot = 1 if source.nodes[reader].input[0] == product else 0
    name = source.nodes[reader].input[slot]
    if not source.is_weight(name):
        return None
    shape = source.shape(name)
    if prod(stack) == 1:
        return Bias(reader, slot, shape) if shape and shape[-1] == outputs == source.constants_size(name) else None
    wanted = (1,) * (len(shape) - len(stack) - 2) + (*stack, 1, outputs)
    fits = all(size in (1, full) for size, full in zip(shape[::-1], wanted[::-1], strict=False))
    return Bias(reader, slot, wanted) if fits else None
