"""Operators of ONNX Runtime alone for ONNX's reference implementation, in the type of their inputs.

Only what random graphs hold: normalizations are over the last axis.

Formulas: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

import math

import numpy as np
from onnx.reference.op_run import OpRun

erf = np.vectorize(math.erf, otypes=[np.float64])


class Gelu(OpRun):
    op_domain = "com.microsoft"

    def _run(self, x, approximate=None):  # an attribute of ONNX's Gelu, which the implementation looks up by name
        return (0.5 * x * (1 + erf(x * math.sqrt(0.5))),)


class QuickGelu(OpRun):
    op_domain = "com.microsoft"

    def _run(self, x, alpha=None):
        return (x / (1 + np.exp(-alpha * x)),)


class SkipLayerNormalization(OpRun):
    op_domain = "com.microsoft"

    def _run(self, x, skip, gamma, beta=None, epsilon=None):
        total = x + skip
        total = total - total.mean(-1, keepdims=True)
        y = total / np.sqrt(np.square(total).mean(-1, keepdims=True) + epsilon) * gamma
        return (y if beta is None else y + beta,)


class SimplifiedLayerNormalization(OpRun):
    op_domain = ""

    def _run(self, x, scale, axis=None, epsilon=None, stash_type=None):
        return (x / np.sqrt(np.square(x).mean(-1, keepdims=True) + epsilon) * scale,)


class SkipSimplifiedLayerNormalization(OpRun):
    op_domain = "com.microsoft"

    def _run(self, x, skip, gamma, epsilon=None):
        total = x + skip
        return (total / np.sqrt(np.square(total).mean(-1, keepdims=True) + epsilon) * gamma,)


class Expand(OpRun):
    """As ONNX Runtime takes it: a shape of any rank, read in order."""

    op_domain = ""

    def _run(self, x, shape):
        return (x * np.ones(shape.reshape(-1), x.dtype),)


OPERATORS = [Expand, Gelu, QuickGelu, SimplifiedLayerNormalization, SkipLayerNormalization, SkipSimplifiedLayerNormalization]
