"""Patterns: exact counts of zeros in the right places, and the highest scores kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxruntime_ep_sparse.partition.sparsity import OUTPUT_BLOCKS, zeros_of
from onnxruntime_ep_sparse.prune.patterns import PATTERNS, block_sums, choices, pattern_of
from support.making import examples

FREE = [name for name in PATTERNS if pattern_of("1:2").name != name and name != "N:M"]


def scores(rows, columns, seed=0):
    return np.random.default_rng(seed).random((rows, columns)).astype(np.float32)


@given(
    st.sampled_from(FREE),
    st.integers(1, 3),
    st.integers(1, 13),
    st.integers(1, 3),
    st.integers(1, 11),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 99),
)
@examples(100)
def test_exact_number_of_blocks(name, groups, rows, taps, run, sparsity, by_row, seed):
    """Over all matrices of a layer, round(sparsity * blocks) blocks are zero, and every block is zero or kept as a whole."""
    pattern = pattern_of(name)
    shape = (groups, rows, taps * run)
    zero_blocks, blocks = 0, 0
    for choice in choices(pattern, sparsity, shape, run, by_row):
        kept = choice.kept(scores(rows, taps * run, seed))
        assert choice.makes_zeros == (not kept.all())
        zeros = block_sums((~kept).astype(np.float32), pattern, run)
        full = block_sums(np.ones(kept.shape, np.float32), pattern, run)
        assert ((zeros == 0) | (zeros == full)).all()
        zero_blocks += int((zeros > 0).sum())
        blocks += zeros.size
    assert zero_blocks == round(sparsity * blocks)


@given(st.integers(1, 7), st.integers(2, 8), st.integers(1, 9), st.integers(1, 3), st.integers(1, 19), st.integers(0, 99))
@examples(50)
def test_n_of_m(kept, more, rows, taps, run, seed):
    """Of every M neighbours of a tap the N highest scores stay; the last ones of a tap keep as many, if there are so many."""
    inputs = kept + more - 1
    score = scores(rows, taps * run, seed)
    (choice,) = choices(pattern_of(f"{kept}:{inputs}"), 0.5, (1, rows, taps * run), run, False)
    mask = choice.kept(score)
    assert choice.makes_zeros == (not mask.all())
    for tap in range(taps):
        for begin in range(0, run, inputs):
            part = slice(tap * run + begin, tap * run + min(begin + inputs, run))
            for row in range(rows):
                values = score[row, part]
                expected = values >= np.sort(values)[::-1][min(kept, len(values)) - 1]
                assert (mask[row, part] == expected).all()


@given(st.sampled_from([*FREE, "2:4"]), st.integers(1, 9), st.integers(1, 4), st.integers(1, 40), st.floats(0, 1), st.integers(1, 64))
@examples(50)
def test_columns_add_up(name, rows, taps, run, sparsity, width):
    """Chosen piece by piece, the zeros are as many as chosen at once."""
    pattern = pattern_of(name)
    columns = taps * run
    (choice,) = choices(pattern, sparsity, (1, rows, columns), run, False)
    score = scores(rows, columns)
    step = max(width // pattern.inputs, 1) * pattern.inputs
    starts = [tap * run + begin for tap in range(taps) for begin in range(0, run, step)]
    pieces = [choice.kept_columns(score[:, a:b], a, columns) for a, b in zip(starts, [*starts[1:], columns], strict=True)]
    blocks = block_sums((~np.concatenate(pieces, axis=1)).astype(np.float32), pattern, run) > 0
    wanted = block_sums((~choice.kept(score)).astype(np.float32), pattern, run) > 0
    assert blocks.sum() == wanted.sum()


def test_rows_get_the_same_number():
    """By row, no output has more than one zero more than another one."""
    (choice,) = choices(pattern_of("unstructured"), 0.37, (1, 7, 23), 23, True)
    counts = (~choice.kept(scores(7, 23))).sum(axis=1)
    assert counts.max() - counts.min() <= 1
    assert counts.sum() == round(0.37 * 7 * 23)


def test_smallest_scores_become_zero():
    """Unstructured zeros are the smallest scores of all."""
    score = scores(9, 11)
    (choice,) = choices(pattern_of("unstructured"), 0.5, (1, 9, 11), 11, False)
    mask = choice.kept(score)
    assert score[mask].min() > score[~mask].max()


@pytest.mark.parametrize(("name", "seen"), [("unstructured", "unstructured"), ("4x1", OUTPUT_BLOCKS[4]), ("2:4", "2:4")])
def test_partition_sees_the_pattern(name, seen):
    """The words of the pruner and what the provider makes of such a weight agree."""
    (choice,) = choices(pattern_of(name), 0.5, (1, 64, 96), 96, False)
    assert zeros_of(scores(64, 96) * choice.kept(scores(64, 96, 1))).pattern == seen


@pytest.mark.parametrize("name", ["", "N:M", "4:2", "0:4", "4:4", "4x4x", "dense"])
def test_unknown(name):
    """Other words are refused."""
    with pytest.raises(ValueError, match="pattern"):
        pattern_of(name)
