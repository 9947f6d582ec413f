"""Gradual pruning: the schedule, and masks that get sparser under a pattern while parameters change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxruntime_ep_sparse.prune.gradual import Cubic, Gradual
from support.making import examples
from support.module import Module

RNG = np.random.default_rng(0)


def normal(*shape):
    """Values of a weight."""
    return RNG.standard_normal(shape).astype(np.float32)


@examples(50)
@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 50), st.integers(1, 100))
def test_schedules_grow(one, other, begin, length):
    """From the initial sparsity to the final one, fast at first."""
    initial, final = sorted((one, other))
    schedule = Cubic(final, begin, begin + length, initial)
    values = [schedule(step) for step in range(begin + length + 5)]
    assert values == sorted(values)
    assert values[begin] == pytest.approx(initial)
    assert values[begin + length :] == [pytest.approx(final)] * 5
    assert schedule(begin + length / 2) == pytest.approx(initial + 7 / 8 * (final - initial))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1.5, 0, 10), "from 0.0 to 1.5"),
        ((0.5, 0, 10, 0.8), "from 0.8 to 0.5"),
        ((0.5, 10, 10), "step 10 and 10"),
        ((0.5, -1, 10), "step -1 and 10"),
    ],
)
def test_schedules_that_make_no_sense(arguments, words):
    """One line."""
    with pytest.raises(ValueError, match=words):
        Cubic(*arguments)


@pytest.mark.parametrize("pattern", ["unstructured", "4x1", "1x4", "2:4"])
@pytest.mark.parametrize("shape", [(16, 24), (16, 8, 3, 3), (8, 8, 5)])
def test_masks_get_sparser(pattern, shape):
    """With exact counts, in blocks of the pattern, and never back."""
    module = Module(layer__weight=normal(*shape), layer__bias=normal(shape[0]))
    final = 0.5
    prune = Gradual(module, Cubic(final, 0, 20), pattern=pattern, every=5)
    before = np.ones(shape, bool)
    for step in range(26):
        module["layer.weight"][...] += 0.1 * normal(*shape)  # a step of an optimizer, which knows no masks
        prune(step)
        mask = prune.masks["layer.weight"]
        assert not np.any(mask & ~before)
        assert not np.any(module["layer.weight"][~mask])
        assert np.array_equal(mask, before) or step % 5 == 0
        before = mask
    assert 1 - before.mean() == pytest.approx(final)
    if pattern == "4x1":
        assert np.array_equal(before, np.repeat(before[::4], 4, axis=0))
    elif pattern == "1x4":
        assert np.array_equal(before, np.repeat(before[:, ::4], 4, axis=1))
    elif pattern == "2:4":
        assert np.all(before.reshape(shape[0], -1, 4, *shape[2:]).sum(axis=2) == 2)
    assert module["layer.bias"].all()


def test_the_smallest_weights_go():
    """Of each layer by itself."""
    weights = {"small": 0.01 * normal(8, 8), "large": normal(8, 8)}
    module = Module(**weights)
    Gradual(module, lambda step: 0.75)(0)
    for name, weight in weights.items():
        assert np.abs(module[name][module[name] != 0]).min() >= np.sort(np.abs(weight), axis=None)[48]
        assert np.count_nonzero(module[name]) == 16


def test_which_parameters():
    """Those of two and more dimensions that the expressions leave."""
    module = Module(embed__weight=normal(8, 8), fc__weight=normal(8, 8), fc__bias=normal(8), head__weight=normal(4, 8))
    every = {"skip": None, "only": None}
    for arguments, names in (
        (every, ["embed.weight", "fc.weight", "head.weight"]),
        ({"skip": "embed|head"}, ["fc.weight"]),
        ({"only": "^(fc|head)"}, ["fc.weight", "head.weight"]),
        ({"only": "weight", "skip": "^h"}, ["embed.weight", "fc.weight"]),
    ):
        assert list(Gradual(module, lambda step: 0.5, **arguments).masks) == names


def test_wrong_use():
    """One line each."""
    module = Module(fc__weight=normal(8, 8), fc__bias=normal(8))
    for arguments, words in (
        ({"only": "bias"}, "nothing to prune"),
        ({"pattern": "3x3"}, "unknown pattern '3x3'"),
        ({"every": 0}, "every 0: expected a number of steps of at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            Gradual(module, lambda step: 0.5, **arguments)


def test_masks_that_are_saved_fit_the_module(tmp_path):
    """By the names of its parameters."""
    module = Module(fc__weight=normal(8, 8))
    prune = Gradual(module, lambda step: 0.5)
    prune(0)
    prune.masks.save(tmp_path / "m.npz")
    other = Module(fc__weight=normal(8, 8))
    type(prune.masks).load(tmp_path / "m.npz").attach(other).apply()
    np.testing.assert_array_equal(other["fc.weight"] == 0, module["fc.weight"] == 0)
