"""What runs on the hosts of a cluster: reads images, runs the model on them, makes rows of results."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import ray

from onnxruntime_ep_sparse.prune.images import ImageOptions

SCHEMA = pa.schema(
    {
        "path": pa.string(),  # relative to the folder of images
        "classes": pa.list_(pa.int32()),  # positions of the largest values, largest first; null with `top` 0 and for errors
        "values": pa.list_(pa.float32()),  # these values, or with `top` 0 the whole output; null for errors
        "error": pa.string(),  # why the image cannot be read; null for results
        "worker": pa.string(),  # address:pid of the worker
    }
)


@dataclass(frozen=True)
class Job:
    """What is done to each image: the same on every worker. `batch` images are a run, exactly so many if the model `fixes` that."""

    folder: Path
    images: ImageOptions
    batch: int
    fixes: bool
    output: str
    top: int


def cpu_session(model: str | bytes, threads: int) -> onnxruntime.InferenceSession:
    """Return a session of the CPU provider for comparison: as many threads, which do not spin between runs either."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def sample_shape(images: ImageOptions) -> tuple[int, ...]:
    """Return the shape of an image as the model takes it, without the batch."""
    size = (images.height, images.width)
    return (*size, images.channels) if images.channels_last else (images.channels, *size)


class Classifier:
    """A worker. Ray makes one per process and calls it with batches of paths."""

    def __init__(self, make_session: ray.ObjectRef, job: Job) -> None:
        """Fetch what makes the session, with the model in it, from Ray's object store: it is sent once to each host."""
        factory: Callable[[], onnxruntime.InferenceSession] = ray.get(make_session)
        self.session, self.job = factory(), job
        self.name = f"{ray.util.get_node_ip_address()}:{os.getpid()}"
        # one array for all batches: new memory costs more time than the copy into it
        self.x = np.zeros((job.batch, *sample_shape(job.images)), job.images.dtype)

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        """Return a row for each path, at most `job.batch`: its results, or an error if there is no readable image."""
        read, rows = [], []
        for path in batch["path"]:
            try:
                self.x[len(read)] = self.job.images.read(self.job.folder / path)
            except ValueError as error:
                rows.append({"path": path, "error": str(error)})
            else:
                read.append(path)
        if read:
            x = self.x if self.job.fixes else self.x[: len(read)]
            (values,) = self.session.run([self.job.output], {self.job.images.name: x})
            rows += [{"path": path, **self.result(row)} for path, row in zip(read, values, strict=not self.job.fixes)]
        return pa.Table.from_pylist([{**row, "worker": self.name} for row in rows], SCHEMA)

    def result(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns for the output of an image."""
        values = values.reshape(-1).astype(np.float32)
        if not self.job.top:
            return {"values": values}
        classes = np.argsort(-values, kind="stable")[: self.job.top]
        return {"classes": classes, "values": values[classes]}
