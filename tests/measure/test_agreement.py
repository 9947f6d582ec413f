"""Agreement of outputs whose errors are known."""

import json
import math

import numpy as np
import pytest

from onnxruntime_ep_sparse import measure


def test_agreement():
    """Errors relative to the scale of the output, and the share of equal decisions."""
    theirs = np.array([[1.0, 2.0, -4.0], [0.0, 3.0, 1.0]], np.float32)
    ours = theirs + np.array([[0, 0, 0.5], [0, 0, 3]], np.float32)
    (a,) = measure.agree(["y"], [ours], [theirs])
    assert (a.output, a.shape, a.scale, a.max_abs, a.max_relative, a.argmax) == ("y", (2, 3), 4.0, 3.0, 0.75, 0.5)
    assert a.mean_abs == pytest.approx(3.5 / 6)
    assert a.within(0.75)
    assert not a.within(0.74)


def test_agreement_of_what_is_not_finite():
    """Equal where both have it, infinitely wrong where one has; the document stays valid JSON."""
    theirs = np.array([1.0, np.nan, np.inf, 2.0], np.float32)
    (a,) = measure.agree(["y"], [theirs.copy()], [theirs])
    assert (a.max_abs, a.scale) == (0.0, 2.0)
    (a,) = measure.agree(["y"], [np.array([1.0, np.nan, -np.inf, 2.0], np.float32)], [theirs])
    assert a.max_abs == math.inf
    assert not a.within(1.0)
    assert json.loads(json.dumps(a.to_dict(), allow_nan=False))["max_abs"] is None


def test_agreement_of_nothing_and_of_zeros():
    """Empty outputs and all-zero ones agree with themselves; what is no number is not compared."""
    for y in (np.zeros((0, 3), np.float32), np.zeros((2, 3), np.float32), np.array([True, False]), np.float32(2)):
        (a,) = measure.agree(["y"], [np.asarray(y)], [np.asarray(y)])
        assert a.within(0.0)
        assert a.cosine == 1.0
    assert measure.agree(["text", "list"], [np.array(["a"]), [1]], [np.array(["a"]), [1]]) == ()


def test_agreement_of_8_bit_integers():
    """One step is allowed, unless a tolerance is given; the elements that differ are counted."""
    theirs = np.array([3, 200, 7, 9], np.uint8)
    (a,) = measure.agree(["q"], [np.array([4, 199, 7, 9], np.uint8)], [theirs])
    assert (a.dtype, a.different, a.max_abs) == ("uint8", 2, 1.0)
    assert a.within()
    assert not a.within(1e-4)
    (a,) = measure.agree(["q"], [np.array([5, 200, 7, 9], np.uint8)], [theirs])
    assert not a.within()
    assert measure.agree(["q"], [theirs[:2]], [theirs])[0].different == 4
