"""Masks: what they hold, and their files."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxruntime_ep_sparse.prune.masks import Masks
from support.making import examples

RNG = np.random.default_rng(0)


def of_net():
    """Masks of three weights, with everything that can be known of them."""
    masks = Masks()
    for name, shape in (("a/conv.weight", (8, 4, 3, 3)), ("fc", (16, 8)), ("lstm:W", (2, 12, 5))):
        dense = RNG.standard_normal(shape).astype(np.float32)
        kept = RNG.random(shape) > 0.7
        masks.add(name, kept, dense, np.where(kept, 2 * dense, 0), np.arange(np.prod(shape[:-1])) if name != "fc" else None)
    masks.add_fitted("head", dense, 3 * dense)
    return masks


def same(one, other):
    """Whether everything is equal, to the bit."""
    assert list(one) == list(other)
    assert one.entries().keys() == other.entries().keys()
    for name, entry in one.entries().items():
        found = other.entries()[name]
        for a, b in ((entry.kept, found.kept), (entry.pruned, found.pruned), (entry.shift, found.shift)):
            assert (a is None) == (b is None)
            if a is not None:
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)
        assert (entry.dense is None) == (found.dense is None)
        if entry.dense is not None:
            assert entry.dense.size == found.dense.size
            assert entry.dense.signatures.keys() == found.dense.signatures.keys()
            for way, rows in entry.dense.signatures.items():
                np.testing.assert_array_equal(rows, found.dense.signatures[way])


def test_a_mapping_of_names_to_masks():
    """With the share of zeros of all of them."""
    masks = Masks({"a": np.array([[True, False]]), "b": np.array([[False, False]])})
    assert list(masks) == ["a", "b"]
    assert masks["a"].tolist() == [[True, False]]
    assert masks.sparsity == pytest.approx(3 / 4)
    assert "2 weights" in repr(masks)
    assert Masks().sparsity == 0
    masks.add_fitted("c", np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32))
    assert list(masks) == ["a", "b"]
    assert len(masks) == 2
    assert "c" not in masks
    assert masks.sparsity == pytest.approx(3 / 4)


def test_there_and_back(tmp_path):
    """A file has all of it."""
    masks = of_net()
    masks.save(tmp_path / "m.npz")
    same(masks, Masks.load(tmp_path / "m.npz"))
    assert [path.name for path in tmp_path.iterdir()] == ["m.npz"]
    with np.load(tmp_path / "m.npz") as archive:  # as anybody may read it
        np.testing.assert_array_equal(archive["kept:a/conv.weight"], masks["a/conv.weight"])


@examples(50)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: "\0" not in name and name.isprintable()),
        hnp.arrays(np.bool_, hnp.array_shapes(min_dims=1, max_dims=5, min_side=1, max_side=4)),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
def test_any_masks_there_and_back(tmp_path_factory, masks, with_weights):
    """Whatever the names and shapes."""
    path = tmp_path_factory.mktemp("masks") / "m.npz"
    weights = {name: np.where(mask, 1.5, 0).astype(np.float32) for name, mask in masks.items()}
    given_masks = Masks(masks, weights if with_weights else None)
    given_masks.save(path)
    same(given_masks, Masks.load(path))


def test_same_masks_same_bytes(tmp_path):
    """Files can be compared."""
    masks = of_net()
    masks.save(tmp_path / "one.npz")
    masks.save(tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_what_does_not_fit_together():
    """Names twice, shapes, values that the mask says are zero."""
    masks = Masks({"a": np.ones((2, 3), bool)})
    with pytest.raises(ValueError, match="the weight 'a' was added before"):
        masks.add("a", np.ones((2, 3), bool))
    with pytest.raises(ValueError, match="different shapes"):
        masks.add("b", np.ones((2, 3), bool), np.ones((3, 2), np.float32))
    with pytest.raises(ValueError, match="not zero where the mask is False"):
        masks.add("b", np.zeros((2, 3), bool), None, np.ones((2, 3), np.float32))
    assert list(masks) == ["a"]


def test_a_write_that_fails_keeps_the_older_file(tmp_path, monkeypatch):
    """A full disk, and targets that are no ordinary files."""
    path = tmp_path / "m.npz"
    path.write_bytes(b"older")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        of_net().save(path)
    assert path.read_bytes() == b"older"
    assert [file.name for file in tmp_path.iterdir()] == ["m.npz"]
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not an ordinary file"):
        of_net().save(tmp_path / "pipe")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 damaged"])
def test_files_that_are_no_masks(tmp_path, content):
    """One line that names the file."""
    (tmp_path / "m.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read .*m\.npz"):
        Masks.load(tmp_path / "m.npz")
    with pytest.raises(ValueError, match="No such file"):
        Masks.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.ones((2, 2), bool)}, "has no masks"),
        ({"kept:a": np.ones((2, 2), np.float32)}, "other types"),
        ({"kept:a": np.ones((2, 2), bool), "values:a": np.ones(3, np.float32)}, "keeps 4 values, and there are 3"),
        ({"kept:a": np.ones((2, 2), bool), "values:a": np.ones(4)}, "other types"),
        ({"kept:a": np.ones((2, 2), bool), "rows:a": np.ones((3, 9), np.float32)}, "signatures of 'a' do not fit"),
        ({"kept:a": np.ones((2, 2), bool), "rows:a": np.ones((2, 5), np.float32)}, "signatures of 'a' do not fit"),
    ],
)
def test_files_of_other_arrays(tmp_path, arrays, words):
    """A file of inputs, or one that something else has changed."""
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        Masks.load(tmp_path / "m.npz")
