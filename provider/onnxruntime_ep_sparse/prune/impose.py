"""Makes zeros in a model by magnitude alone, without data: it is as fast then as one that is pruned with care."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .layers import Layer
from .methods import METHODS, scored
from .patterns import Pattern, choices
from .pruned import save
from .source import Changes, Source


def impose(source: Source, plan: Iterable[tuple[Layer, float, Pattern]], *, by_row: bool = False) -> Changes:
    """Return the model with the smallest weights of some layers zero, each with its sparsity and pattern.

    With `by_row`, all outputs of a Gemm or MatMul get about the same number of zeros.
    """
    magnitude = METHODS["magnitude"]
    changes = Changes(source)
    for layer, sparsity, pattern in plan:
        dense__gmk = layer.matrices(source.array(layer.weight))
        options = choices(pattern, sparsity, layer.shape__gmk, layer.run, layer.by_row and by_row)
        nothing__k = np.ones(layer.inputs, np.float32)
        kept__gmk = np.stack([scored(magnitude, matrix, nothing__k, each) for matrix, each in zip(dense__gmk, options, strict=True)])
        changes.set_input(layer.index, layer.slot, layer.weight, layer.restored(np.where(kept__gmk, dense__gmk, np.float32(0))))
    return changes


@contextmanager
def saved(changes: Changes, sizes: Mapping[str, int]) -> Iterator[Path]:
    """Give the path of a temporary file with a changed model, whose open dimensions have these sizes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        save(changes, path, sizes)
        yield path
