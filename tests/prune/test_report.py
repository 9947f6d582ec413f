"""What the report says of results: the measures are those of their definitions, the sentence is plain."""

import json

import numpy as np
import pytest

from onnxruntime_ep_sparse.prune.left_out import Skipped
from onnxruntime_ep_sparse.prune.report import LayerReport, OutputQuality, Quality, Report


def quality(pairs, *, classes=True, by_sample=True):
    found = Quality("y", classes)
    for dense, pruned in pairs:
        found.add(np.float32(dense), np.float32(pruned), by_sample=by_sample)
    return found.result()


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def test_equal():
    """Equal results have cosine 1, no divergence, and agree."""
    y = np.random.default_rng(0).standard_normal((5, 7))
    found = quality([(y, y), (2 * y, 2 * y)])
    assert found.cosine == pytest.approx(1)
    assert found.kl == pytest.approx(0, abs=1e-6)
    assert found.top1 == 1


def test_by_their_definitions():
    """Mean cosine of the samples, mean divergence of the classes, share of equal largest classes; logits and probabilities alike."""
    rng = np.random.default_rng(1)
    dense, pruned = rng.standard_normal((2, 40, 7)).astype(np.float32)
    p, q = softmax(dense), softmax(pruned)
    found = quality([(dense[:15], pruned[:15]), (dense[15:], pruned[15:])])
    cosines = (dense * pruned).sum(1) / np.linalg.norm(dense, axis=1) / np.linalg.norm(pruned, axis=1)
    assert found.cosine == pytest.approx(cosines.mean(), rel=1e-5)
    assert found.kl == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-4)
    assert found.top1 == (dense.argmax(1) == pruned.argmax(1)).mean()
    assert quality([(p, q)]).kl == pytest.approx(found.kl, rel=1e-4)


def test_without_classes():
    """An output that no classifier makes has neither divergence nor largest classes."""
    found = quality([(np.ones((2, 3)), np.ones((2, 3)))], classes=False)
    assert (found.kl, found.top1) == (None, None)


def test_nothing_but_zeros():
    """Two results of zeros are equal, one of zeros is not equal to another."""
    assert quality([(np.zeros((1, 3)), np.zeros((1, 3)))]).cosine == 1
    assert quality([(np.zeros((1, 3)), np.ones((1, 3)))]).cosine == 0


def report(outputs):
    layer = LayerReport("fc", "Gemm", "w", (30, 20), 600, 450, 30, 900, True, 0.125)
    skipped = (Skipped("head", "Gemm", "it is a classifier"),)
    return Report("admm", "unstructured", "uniform", samples=100, held_out=20, layers=(layer,), skipped=skipped, outputs=outputs)


def test_sentence_and_json():
    """The sentence has the numbers that matter; the dict can be written as JSON."""
    outputs = (OutputQuality("y", 0.9876, 0.02, 0.01, 0.95), OutputQuality("z", 0.99, 0.01, None, None))
    assert report(outputs).sentence() == (
        "75.0% of 600 weights in 1 layers are zero; on 20 held-out samples the results have cosine 0.988 with the dense model's; "
        "95.0% have the same largest class."
    )
    assert "not known" in report(()).sentence()
    document = json.loads(json.dumps(report(outputs).to_dict()))
    assert document["layers"][0]["sparsity"] == 0.75
    assert (document["zeros"], document["size"], document["cosine"]) == (450, 600, 0.9876)
