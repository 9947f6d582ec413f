"""Whether a batch may run in parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .enums import ShapeRule, StepKind
from .steps import Product, Step


def separates(step: Step, constants: dict[int, NDArray[np.float32]], ranks: dict[int, int]) -> bool:
    """Whether a step treats the slices along the first dimension of its operands independently. `ranks` of the values with names."""
    if step.kind == StepKind.PRODUCT:
        product = step.product
        assert isinstance(product, Product)
        if product.rule == ShapeRule.CONV:
            return True
        if product.rule == ShapeRule.GEMM:
            return product.x_rows and product.y_rows
        rank, least = ranks.get(step.x, 0), 2 if product.rule == ShapeRule.MATMUL_RIGHT else 3
        return rank >= least and (not product.batch or len(product.batch) < rank - 2)
    if step.kind == StepKind.BINARY:
        x, r = constants.get(step.x), constants.get(step.r)
        if x is None and r is None:
            return step.x in ranks and ranks[step.x] == ranks.get(step.r)
        array, rank = (r, ranks.get(step.x, 0)) if x is None else (x, ranks.get(step.r, 0))
        assert array is not None
        return array.ndim < rank or (array.ndim == rank and array.shape[0] == 1)
    if step.kind == StepKind.RESHAPE and (step.removed or step.inserted):
        return 0 not in step.removed + step.inserted
    if step.kind == StepKind.RESHAPE:
        return step.flatten_axis >= 1 or (bool(step.target) and (step.target[0] == -1 or (step.target[0] == 0 and not step.allow_zero)))
    if step.kind == StepKind.NORMALIZE:
        return ranks.get(step.x, 0) >= 2
    if step.kind == StepKind.TRANSPOSE:
        return step.target[:1] == (0,)
    if step.kind == StepKind.CONCAT:
        return step.axis >= 1 and step.x not in constants
    if step.kind == StepKind.PAD:
        return step.before[0] == step.after[0] == 0
    return step.kind != StepKind.RECURRENT
