"""Pruned models made here: topologies with random weights, and a small net that has learnt something (`models.digits`).

Importing this imports neither onnx nor onnxruntime; calling a builder imports onnx. In the builders of nets every Conv, MatMul, Gemm,
LSTM and GRU weight has exactly round(sparsity * size) zeros at uniformly random places of a fixed seed, except the first convolution,
depthwise ones, squeeze-and-excite and embeddings; activations stay near unit size. It must not import `measure`, `diagnostics` or `cli`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .images import (
    convnext_tiny,
    deeplab_v3,
    efficientnet_b0,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    nasnet_mobile,
    r3d18,
    resnet50,
    unet,
    vgg16,
)
from .inputs import Input, inputs_for, signature
from .masks import PATTERNS, mask, smallest
from .number_formats import FORMATS
from .sequences import bert_base, deep_speech, gru, lstm, mlp_policy, streaming_lstm
from .single import single_conv, single_gemm, single_matmul

if TYPE_CHECKING:
    import onnx

BUILDERS: dict[str, Callable[..., onnx.ModelProto]] = {
    builder.__name__: builder
    for builder in (
        resnet50,
        mobilenet_v1,
        mobilenet_v2,
        mobilenet_v3,
        efficientnet_b0,
        nasnet_mobile,
        convnext_tiny,
        vgg16,
        unet,
        deeplab_v3,
        r3d18,
        bert_base,
        lstm,
        gru,
        streaming_lstm,
        deep_speech,
        mlp_policy,
    )
}
"""The nets by name; each takes `sparsity`, `pattern` and `seed`, and sizes of its own."""

__all__ = [
    "BUILDERS",
    "FORMATS",
    "PATTERNS",
    "Input",
    "bert_base",
    "convnext_tiny",
    "deep_speech",
    "deeplab_v3",
    "efficientnet_b0",
    "gru",
    "inputs_for",
    "lstm",
    "mask",
    "mlp_policy",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3",
    "nasnet_mobile",
    "r3d18",
    "resnet50",
    "signature",
    "single_conv",
    "single_gemm",
    "single_matmul",
    "smallest",
    "streaming_lstm",
    "unet",
    "vgg16",
]
