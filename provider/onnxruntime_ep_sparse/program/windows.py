"""Which windows the runtime can run, and how they are described."""

from __future__ import annotations

from dataclasses import replace

from .. import reasons
from ..graph.auto_pad import CONV_STRIDE_BEYOND, pads_as_defined
from ..reasons import Finding
from .enums import AutoPad
from .limits import MAX_REACH, MAX_WINDOW
from .steps import Window


def check_window(window: Window) -> Finding | None:
    """Return None if the runtime can represent this window, else the reason."""
    rank = len(window.kernel)
    if rank not in (1, 2, 3):
        return reasons.UNSUPPORTED_SPATIAL_RANK(rank=rank, supported="1, 2 and 3")
    for attribute, sizes, low in (
        ("kernel_shape", window.kernel, 1),
        ("strides", window.stride, 1),
        ("dilations", window.dilation, 1),
        ("pads", window.pad_begin, 0),
        ("pads", window.pad_end, 0),
    ):
        if len(sizes) != rank:
            return reasons.MISMATCHED(what=attribute, other="kernel_shape")
        for size in sizes:
            if not low <= size <= MAX_WINDOW:
                return reasons.OUT_OF_RANGE(what=attribute, value=size, low=low, high=MAX_WINDOW)
    if window.image and len(window.image) != rank:
        return reasons.MISMATCHED(what="the image", other="kernel_shape")
    for k, d in zip(window.kernel, window.dilation, strict=True):
        if (k - 1) * d > MAX_REACH:
            return reasons.OUT_OF_RANGE(what="the window's extent", value=(k - 1) * d + 1, low=1, high=MAX_REACH + 1)
    return None


def check_convolution(window: Window) -> Finding | None:
    """Return None if a Conv can have this window, else the reason."""
    return check_window(window) or _check_same(window, CONV_STRIDE_BEYOND)


def check_pool(window: Window) -> Finding | None:
    """Return None if a pool can have this window, else the reason."""
    finding = check_window(window)
    if finding is not None:
        return finding
    if any(p >= k for k, p in zip(window.kernel * 2, window.pad_begin + window.pad_end, strict=True)):
        return reasons.PADS_COVER_WINDOW()
    return _check_same(window, 0)


def _check_same(window: Window, beyond: int) -> Finding | None:
    """Return None unless ONNX Runtime pads other than ONNX defines; a stride may be larger than the window by `beyond`."""
    if window.auto_pad == AutoPad.EXPLICIT or pads_as_defined(window.kernel, window.stride, window.dilation, beyond):
        return None
    return reasons.SAME_WITH_DILATION() if any(d != 1 for d in window.dilation) else reasons.STRIDE_BEYOND_WINDOW()


def meeting_taps(window: Window, image: tuple[int | None, ...]) -> tuple[Window, tuple[slice, ...]]:
    """Return the window without the taps at its ends that never meet an image of these sizes, and where the others stand in the kernel.

    Padding shrinks with the window, so that results are the same; None stands for a size that is not known.
    """
    if window.auto_pad != AutoPad.EXPLICIT or any(size is not None and size < 1 for size in image):
        return window, tuple(slice(k) for k in window.kernel)
    slices, begins, ends, fixed = [], [], [], []
    for size, k, stride, d, begin, end in zip(
        image, window.kernel, window.stride, window.dilation, window.pad_begin, window.pad_end, strict=True
    ):
        first, last = 0, k - 1
        if size is not None:
            span = (size + begin + end - (k - 1) * d - 1) // stride * stride
            while first < last and first * d - begin + span < 0 and begin >= (first + 1) * d:
                first += 1
            while last > first and last * d - begin >= size and end >= (k - last) * d:
                last -= 1
        kept = slice(first, last + 1)
        slices.append(kept)
        begins.append(begin - first * d)
        ends.append(end - (k - 1 - last) * d)
        fixed.append(size if size is not None and kept != slice(0, k) else 0)
    if not any(fixed):
        return window, tuple(slices)
    kernel = tuple(s.stop - s.start for s in slices)
    smaller = replace(window, kernel=kernel, pad_begin=tuple(begins), pad_end=tuple(ends), image=tuple(fixed))
    return smaller, tuple(slices)


def proper_window(window: Window | None) -> Window:
    """Return the window of a convolution that comes from a file; ValueError if there is none or the runtime cannot run it."""
    reason = "none" if window is None else check_convolution(window)
    if window is None or reason is not None:
        raise ValueError(f"the window of a convolution is missing or invalid: {reason}")
    return window


def describe_window(window: Window) -> str:
    """Return kernel and stride as people write them: `3x3/2`."""
    stride = window.stride[:1] if len(set(window.stride)) == 1 else window.stride
    return "/".join("x".join(map(str, sizes)) for sizes in (window.kernel, stride))
