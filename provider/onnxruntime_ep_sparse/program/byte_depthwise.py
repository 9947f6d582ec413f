"""A depthwise weight of 8 bits by the windows of four taps that the kernels read.

`vpmaddubsw` adds the two products of bytes 0 and 1 of a window, and of bytes 2 and 3, in 16 bits. That is exact where the sum of both
weights is at most 128 either way. So a group of four taps is one entry if its pairs are; or one entry a tap earlier, which pairs others;
or two, of every other tap.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .byte_packing import Quantised, bias_and_scale
from .kinds.byte_depthwise import ByteDepthwise, groups_of
from .kinds.byte_product import FOUR
from .steps import Window

MOST = 128
"""The largest sum of two weights of one sign that 16 bits hold times 255."""


def depthwise(weight: NDArray[np.float32], window: Window, channels: int, how: Quantised) -> ByteDepthwise:
    """Pack a Conv weight of shape (M, 1, *kernel), whole numbers of 8 bits less their zero point.

    ValueError for a weight that is not an integer of 8 bits.
    """
    m, columns, groups = len(weight), window.kernel[-1], groups_of(window)
    whole = weight.reshape(m, -1, columns)
    wrong = ~((whole == np.rint(whole)) & (whole >= -128) & (whole <= 127))
    if wrong.any():
        raise ValueError(f"the weight {whole[wrong][0]} is not an integer of 8 bits")
    rows = whole.shape[1]
    weight__mrgt = np.zeros((m, rows, groups, FOUR), np.int32)
    weight__mrgt.reshape(m, rows, -1)[:, :, :columns] = whole
    # of each group up to two entries, and whether the first begins a tap earlier
    first, second = weight__mrgt.copy(), np.zeros_like(weight__mrgt)
    unsafe = ~(_is_safe(weight__mrgt[..., :2]) & _is_safe(weight__mrgt[..., 2:]))
    early = unsafe & (weight__mrgt[..., 3] == 0) & _is_safe(weight__mrgt[..., 1:3]) & (window.stride[-1] == 1)
    first[early] = np.roll(weight__mrgt[early], 1, axis=-1)
    apart = unsafe & ~early
    first[apart, 1::2] = 0
    second[apart, 1::2] = weight__mrgt[apart, 1::2]
    value = np.stack([first, second], axis=3).astype(np.int8).view(np.int32).reshape(m, rows, groups, 2)
    group = np.broadcast_to(2 * np.arange(rows * groups).reshape(rows, groups, 1), value.shape) + np.stack(
        [early, np.zeros_like(early)], -1
    )
    kept = value != 0
    start = np.concatenate([[0], np.cumsum(kept.reshape(m, -1).sum(axis=1))]).astype(np.int32)
    bits, scale__m = bias_and_scale(whole.astype(np.int64).sum(axis=(1, 2)), how)
    entries = group[kept].astype(np.int32), value[kept].view(np.float32)
    return ByteDepthwise(
        m, channels, window, start, *entries, how.signed, how.zero_x, bits, scale__m, how.zero_y, how.low, how.high, how.divisor
    )


def _is_safe(pair: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return whether the products of two weights (..., 2) and any bytes add up to what 16 bits hold."""
    least, most = np.minimum(pair, 0).sum(axis=-1), np.maximum(pair, 0).sum(axis=-1)
    return (least >= -MOST) & (most <= MOST)
