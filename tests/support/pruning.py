"""Pruning for tests that are not about speed."""

from functools import partial

from onnxruntime_ep_sparse.prune import engine

prune = partial(engine.prune, timed=False)
"""`engine.prune` without a measurement of the result."""
