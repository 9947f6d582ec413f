"""What runs on Spark's executors: a session per Python process, and rows of results from rows of paths."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyspark import SparkFiles

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.prune.images import ImageOptions

SCHEMA = "path string, output array<float>, error string"
"""Columns of the results: `output` is the model's first output of an image as one row of numbers, null where `error` says what is wrong."""


@functools.cache
def session(model: str, threads: int) -> Any:
    """Return the session of this process. Spark uses a Python process for many tasks, one after the other."""
    return sparse.SessionFactory(SparkFiles.get(model), threads=threads, require_owned=True)()


def rows(frames: Iterator[pd.DataFrame], folder: Path, model: str, images: ImageOptions, threads: int) -> Iterator[pd.DataFrame]:
    """Yield a frame of results for each frame of paths: `mapInPandas` calls this with the parts of a partition."""
    for frame in frames:
        read: dict[str, np.ndarray] = {}
        results: list[dict[str, Any]] = []
        for path in frame["path"]:
            try:
                read[path] = images.read(folder / path)
            except ValueError as error:
                results.append({"path": path, "output": None, "error": str(error)})
        if read:
            y = session(model, threads).run(None, {images.name: np.stack(list(read.values()))})[0]
            results += [{"path": path, "output": row.reshape(-1), "error": None} for path, row in zip(read, y, strict=True)]
        yield pd.DataFrame(results, columns=["path", "output", "error"])
