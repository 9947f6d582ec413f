"""The inner loop of reading a list of gaps: see `formats/weight_codec.py`."""

import numpy as np

from libc.stdint cimport int64_t, uint8_t

cdef enum:
    SKIP = 255


def after_gaps(const uint8_t[::1] gaps):
    """Return the ascending places (int64) that the gaps list, and how many elements they describe."""
    cdef int64_t i, n = 0, at = 0
    places = np.empty(gaps.shape[0], np.int64)
    cdef int64_t[::1] place = places
    with nogil:
        for i in range(gaps.shape[0]):
            at += gaps[i]
            place[n] = at  # written first and counted after, as in the kernels' row_by_row
            n += gaps[i] != SKIP
            at += gaps[i] != SKIP
    return places[:n], at
