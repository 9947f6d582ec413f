"""Where ONNX Runtime's auto_pad SAME_* pads as ONNX defines it."""

from __future__ import annotations

from collections.abc import Sequence

CONV_STRIDE_BEYOND = 1
"""By how much the stride of a Conv may be larger than its window: -1 is taken from the end of the image, where nothing is read."""


def pads_as_defined(kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], beyond: int) -> bool:
    """Return whether auto_pad SAME_* pads these windows by the same zeros in ONNX Runtime, whatever the size of the image.

    Without `strides` or `dilations` these are 1. A stride may be larger than the window by `beyond`: ONNX Runtime then computes negative
    padding, which moves the first window where it is less than -1 (https://github.com/microsoft/onnxruntime/issues/10086).
    """
    return all(d == 1 for d in dilations) and all(s <= k + beyond for s, k in zip(strides, kernel, strict=False))
