"""The one table of formats in which the built-in nets can be stored besides float32: INT8 of several kinds, and 16 bits.

Importing this imports neither onnx nor onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .half import bfloat16, float16
from .quantised import dynamic, qdq, qoperator, signed
from .sparseml import sparseml

if TYPE_CHECKING:
    import onnx

FORMATS: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "int8": qdq,
    "int8-qoperator": qoperator,
    "int8-dynamic": dynamic,
    "int8-s8s8": signed,
    "int8-sparseml": sparseml,
    "fp16": float16,
    "bf16": bfloat16,
}
"""Name -> function that returns a float32 model in that format. It raises ValueError for a model without a layer that it can change."""
