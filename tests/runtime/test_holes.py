"""Places by first fit: those that a plain search finds, in time that grows with the logarithm of the holes."""

from itertools import pairwise
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxruntime_ep_sparse.runtime._holes import first_fit
from support.making import examples


def plain_first_fit(requests):
    """The offsets of `first_fit` by a search through all places."""
    offsets, sizes, taken = [], [], set()
    for request in requests:
        if request < 0:
            taken.remove(-1 - request)
            continue
        ends = sorted((offsets[i], offsets[i] + sizes[i]) for i in taken)
        gaps = [(end, begin) for (_, end), (begin, _) in pairwise([(0, 0), *ends, (1 << 62, 0)])]
        offsets.append(next(end for end, begin in gaps if begin - end >= request))
        taken.add(len(sizes))
        sizes.append(request)
    return offsets


@st.composite
def requests(draw):
    """Places of few sizes, so that holes often fit, given back in any order."""
    found, taken = [], []
    for size in draw(st.lists(st.integers(0, 6), max_size=80)):
        if size or not taken:
            taken.append(len([r for r in found if r > 0]))
            found.append(16 * (size or 1))
        else:
            found.append(-1 - taken.pop(draw(st.integers(0, len(taken) - 1))))
    return found


@examples(300)
@given(requests())
def test_first_fit(found):
    """The first hole that is long enough, whatever came before."""
    assert first_fit(found)[0] == plain_first_fit(found)


def chain(n):
    """Each value is read once, by the step that makes the next."""
    return [r for i in range(n) for r in ((16, -i) if i else (16,))]


def fan(n):
    """All values are needed at the end, and go in the order in which they came."""
    return [16] * n + [-1 - i for i in range(n)]


def comb(n):
    """Every second value goes; what follows fits into none of the holes."""
    return [16] * n + [-1 - i for i in range(0, n, 2)] + [32] * (n // 2)


def stairs(n):
    """Holes ascend, and what follows descends: each search passes many that are too short."""
    sizes = [16 * (1 + i // 2) if i % 2 else 16 for i in range(n)]
    return sizes + [-1 - i for i in range(1, n, 2)] + sizes[1::2][::-1]


@pytest.mark.parametrize("pattern", [chain, fan, comb, stairs])
def test_work_by_length(pattern):
    """No request looks at more holes than some times the logarithm of their number, at any length."""
    for n in (100, 1000, 10000, 100000):
        found = pattern(n)
        visits = first_fit(found)[1]
        assert visits <= 3 * len(found) * log2(n), f"{visits / len(found):.0f} for each of {len(found)} requests"


@pytest.mark.parametrize("pattern", [chain, fan, comb, stairs])
def test_patterns_by_plain_search(pattern):
    """The same patterns have the places that they should have."""
    found = pattern(200)
    assert first_fit(found)[0] == plain_first_fit(found)
