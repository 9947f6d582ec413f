"""Which windows the runtime can run."""

from __future__ import annotations

from .enums import AutoPad
from .limits import MAX_REACH, MAX_WINDOW
from .steps import Window


def check_window(window: Window) -> str | None:
    """None if a Conv or a pool can have this window, else the reason in words."""
    rank = len(window.kernel)
    if rank not in (1, 2, 3):
        return f"{rank} spatial dimensions: 1, 2 and 3 are supported"
    if any(len(v) != rank for v in (window.stride, window.dilation, window.pad_begin, window.pad_end)):
        return "kernel, strides, dilations and pads differ in length"
    if any(v < 0 for v in window.pad_begin + window.pad_end):
        return "negative pads are not supported"
    if any(v < 1 for v in window.kernel + window.stride + window.dilation):
        return "kernel, strides and dilations must be positive"
    if any(v > MAX_WINDOW for v in window.kernel + window.stride + window.dilation + window.pad_begin + window.pad_end):
        return f"kernel, strides, dilations and pads above {MAX_WINDOW} are not supported"
    if any((k - 1) * d > MAX_REACH for k, d in zip(window.kernel, window.dilation, strict=True)):
        return f"a window of more than {MAX_REACH} pixels is not supported"
    return None


def check_pool(window: Window) -> str | None:
    """None if a pool can have this window, else the reason in words."""
    reason = check_window(window)
    if reason is not None:
        return reason
    if any(p > (k - 1) * d for k, d, p in zip(window.kernel * 2, window.dilation * 2, window.pad_begin + window.pad_end, strict=True)):
        return "pads as wide as the window are not supported"
    if window.auto_pad != AutoPad.EXPLICIT and any(
        s > (k - 1) * d + 1 for s, k, d in zip(window.stride, window.kernel, window.dilation, strict=True)
    ):
        return "auto_pad SAME with a stride beyond the window is not supported"
    return None
