"""The names of the package: what they need is imported when they are used."""

import numpy as np
import pytest

import onnxruntime_ep_sparse as sparse


def test_nothing_is_imported_too_early(fresh):
    """Neither for sessions nor for masks; `prune` stays a function once its module is there."""
    fresh(
        """if True:
        import sys
        import onnxruntime_ep_sparse as sparse
        heavy = {"onnx", "onnxruntime", "scipy", "threadpoolctl"}
        assert not heavy & set(sys.modules)
        assert sparse.Masks and sparse.Gradual and sparse.Cubic
        assert not heavy & set(sys.modules)
        import onnxruntime_ep_sparse.prune.engine
        assert sparse.prune.__name__ == "prune" and callable(sparse.prune)
        """
    )


def test_names():
    """All that are listed are there, and no others."""
    assert all(getattr(sparse, name) is not None for name in sparse.__all__)
    with pytest.raises(AttributeError, match="no attribute 'prunes'"):
        _ = sparse.prunes


def test_prune(chain):
    """A model, masks, a report; progress in between."""
    steps = []
    x = np.random.default_rng(0).standard_normal((30, 64, 28, 28)).astype(np.float32)
    pruned = sparse.prune(chain(0.0), [{"x": x}], sparsity=0.5, method="wanda", only="product", progress=lambda *step: steps.append(step))
    assert np.mean(pruned.masks["v"]) == pytest.approx(0.5)
    assert isinstance(pruned.masks, sparse.Masks)
    assert pruned.model.graph.node
    assert pruned.report.cosine is None or pruned.report.cosine <= 1
    assert steps[-1][0] == steps[-1][1]


def test_a_package_that_is_missing(fresh):
    """The message says what to install."""
    fresh(
        """if True:
        import sys
        sys.modules["scipy"] = None
        import onnxruntime_ep_sparse as sparse
        try:
            sparse.prune("model.onnx", [])
        except ImportError as error:
            assert str(error) == "pruning needs scipy: pip install scipy", error
        else:
            raise AssertionError
        """
    )
