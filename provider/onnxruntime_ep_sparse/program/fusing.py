"""Operators that the product before them does: adding a constant bias, multiplying by a factor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..graph.ir import Graph, shape_of
from .enums import ShapeRule
from .kinds.byte_product import PendingBytes
from .kinds.depthwise import Depthwise
from .kinds.product import PendingProduct
from .steps import Activation, Step


def takes_factor(graph: Graph, step: Step, other: str) -> bool:
    """Return whether a step is a product of bytes that can multiply by the value `other`: one number, or one per output feature."""
    product, shape = step.spec, graph.values[other].shape
    if not isinstance(product, PendingBytes) or product.factor >= 0 or product.addend__m is not None or step.activation != Activation():
        return False
    return shape in ((), (1,)) or (product.y_rows and shape == (product.m,))


def with_bias(graph: Graph, step: Step, mine: str, other: str) -> Step | None:
    """Return the step that makes `mine` with the constant `other` added to its bias.

    None unless the step is a product, and `other` holds one number per output feature.
    """
    product = step.spec
    if not isinstance(product, PendingProduct | Depthwise | PendingBytes):
        return None
    if not graph.is_constant(other) or step.r >= 0 or (not isinstance(product, PendingBytes) and product.scale__m is not None):
        return None
    shape = shape_of(graph, mine)
    axis = 1
    if not isinstance(product, Depthwise):
        if isinstance(product, PendingProduct) and ((product.batch and max(product.batch) > 1) or product.vector_operand):
            return None
        axis = {ShapeRule.CONV: 1, ShapeRule.MATMUL_LEFT: len(shape) - 2}.get(product.rule, len(shape) - 1 if product.y_rows else 0)
    addend = graph.constant(other)
    assert addend is not None
    if addend.ndim > len(shape):
        return None
    full = addend.reshape((1,) * (len(shape) - addend.ndim) + addend.shape)
    if any(size != 1 for i, size in enumerate(full.shape) if i != axis) or full.shape[axis] not in (1, product.m):
        return None
    if isinstance(product, PendingBytes):
        # a second one would be rounded apart from the first
        one = product.addend__m is None and step.activation == Activation()
        addend__m = np.ascontiguousarray(np.broadcast_to(full.reshape(-1), product.m), np.float32)
        return replace(step, spec=replace(product, addend__m=addend__m)) if one else None
    return replace(step, spec=replace(product, bias__m=product.bias__m + full.reshape(-1)))


def may_have_one_shape(graph: Graph, a: str, b: str) -> bool:
    """Return whether two values can have the same shape at run time: an unknown dimension can be any."""
    shapes = shape_of(graph, a), shape_of(graph, b)
    return len(shapes[0]) == len(shapes[1]) and all(d == e or d is None or e is None for d, e in zip(*shapes, strict=True))
