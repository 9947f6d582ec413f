"""Pruned models made here: topologies with random weights, and a small net that has learnt something (`models.digits`).

Importing this imports neither onnx nor onnxruntime; calling a builder imports onnx. In the builders of nets every Conv, MatMul, Gemm,
LSTM and GRU weight has exactly round(sparsity * size) zeros at uniformly random places of a fixed seed, except the first convolution,
depthwise ones, squeeze-and-excite and embeddings; activations stay near unit size. It must not import `measure`, `diagnostics` or `cli`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .images import efficientnet_b0, mobilenet_v1, mobilenet_v2, resnet50, unet
from .inputs import Input, inputs_for, signature
from .masks import PATTERNS, mask, smallest
from .sequences import bert_base, deep_speech, lstm
from .single import single_conv, single_gemm, single_matmul

if TYPE_CHECKING:
    import onnx

BUILDERS: dict[str, Callable[..., onnx.ModelProto]] = {
    builder.__name__: builder for builder in (resnet50, mobilenet_v1, mobilenet_v2, efficientnet_b0, bert_base, unet, lstm, deep_speech)
}
"""The nets by name; each takes `sparsity`, `pattern` and `seed`, and sizes of its own."""

__all__ = [
    "BUILDERS",
    "PATTERNS",
    "Input",
    "bert_base",
    "deep_speech",
    "efficientnet_b0",
    "inputs_for",
    "lstm",
    "mask",
    "mobilenet_v1",
    "mobilenet_v2",
    "resnet50",
    "signature",
    "single_conv",
    "single_gemm",
    "single_matmul",
    "smallest",
    "unet",
]
