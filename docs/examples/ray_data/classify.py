"""Classifies a folder of images with Ray Data, on this machine or on a cluster. The same command again goes on where it was stopped."""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import worker
from ray.data import ActorPoolStrategy, DataContext
from results import Results
from worker import Classifier, Job

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.models import mobilenet_v1
from onnxruntime_ep_sparse.prune.images import SUFFIXES, ImageOptions

BLOCK_BATCHES = 8
"""The most batches in a block. A worker answers once per block; when it dies, Ray gives the block to another worker."""
BLOCKS_LEFT = 2
"""A block is at most this part of what is left for each worker: the last ones are small, so that all workers end at the same time."""
IMAGENET = "mean=0.485,0.456,0.406,std=0.229,0.224,0.225"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("images", type=Path, help="folder of images, with folders in it; every host reads it under this path")
    add("results", type=Path, help="folder for the results; only this process writes to it")
    add("--model", type=Path, help="ONNX file with one input of images (default: MobileNetV1 with 90 %% zeros and random weights)")
    add("--by-path", action="store_true", help="workers read --model under its path instead of getting its bytes (for external data)")
    add("--image", default=IMAGENET, metavar="size=224,mean=...,std=...", help="how images become the input (default %(default)s)")
    add("--output", help="name of the output to keep (default: the first)")
    add("--top", type=int, default=5, help="keep so many of the largest values; 0 keeps the whole output (default %(default)s)")
    add("--provider", choices=("sparse", "cpu"), default="sparse", help="cpu: ONNX Runtime's own, for comparison")
    add("--workers", type=int, default=2, help="number of processes with a session each (default %(default)s)")
    add("--threads", type=int, default=1, help="threads of each session (default %(default)s)")
    add("--batch", type=int, default=16, help="images per run, unless the model fixes it (default %(default)s)")
    add("--address", help="address of a Ray cluster, such as 10.0.0.1:6379 or auto (default: start Ray on this machine)")
    add("--cpus", type=int, help="CPUs to declare when Ray is started here (default: workers x threads + 2)")
    add("--write-every", type=float, default=5.0, metavar="SECONDS", help="time between two parts of results (default %(default)s)")
    add("--retry-errors", action="store_true", help="try images again that could not be read before")
    add("--json", metavar="FILE", help="write a summary as JSON, - for standard output")
    given = parser.parse_args()
    for name in ("workers", "threads", "batch"):
        if getattr(given, name) < 1:
            raise ValueError(f"--{name} must be at least 1")
    if not given.images.is_dir():
        raise ValueError(f"there is no folder {given.images}")
    if given.model and not given.model.is_file():
        raise ValueError(f"there is no file {given.model}")
    if given.by_path and not given.model:
        raise ValueError("--by-path needs --model")
    return given


def main() -> None:
    """Classify what has no result yet."""
    given = arguments()
    model = given.model.read_bytes() if given.model else mobilenet_v1(0.9).SerializeToString()
    shipped = str(given.model.resolve()) if given.by_path else model
    if given.provider == "sparse":
        make_session = sparse.SessionFactory(shipped, threads=given.threads, require_owned=True)
    else:
        make_session = functools.partial(worker.cpu_session, shipped, given.threads)
    job = checked(given, make_session)
    settings = {
        "model": hashlib.sha256(model).hexdigest(),
        "provider": given.provider,
        "image": given.image,
        "output": job.output,
        "top": given.top,
    }
    found = sorted(path.relative_to(job.folder).as_posix() for path in job.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    with Results(given.results, settings) as results:
        if given.retry_errors:
            results.forget_errors()
        to_do = [path for path in found if path not in results.done]
        summary = {"images": len(found), "done_before": len(found) - len(to_do), "provider": given.provider}
        summary |= {"workers": given.workers, "threads": given.threads}
        with contextlib.redirect_stdout(sys.stderr):  # Ray prints messages, and standard output is for the summary
            summary |= run(given, make_session, job, to_do, results) if to_do else {"done": 0, "errors": 0}
    text = json.dumps(summary, indent=1)
    if given.json == "-":
        print(text)
        return
    if given.json:
        Path(given.json).write_text(text + "\n")
    print(f"{summary['done_before']} of {len(found)} images had results, {summary['done']} are new, {summary['errors']} cannot be read")
    if to_do:
        print(f"{summary['images_per_second']:.1f} images/s, {summary['seconds']:.1f} s with the start of {given.workers} worker(s)")


def checked(given: argparse.Namespace, make_session: Callable[[], Any]) -> Job:
    """Return what to do to each image. ValueError if the model cannot be used, so that this shows here and not on every worker."""
    try:
        session = make_session()
    except RuntimeError:  # the provider takes no node
        raise
    except Exception as error:
        raise ValueError(f"cannot load {given.model}: {error}") from None
    inputs, outputs = session.get_inputs(), [output.name for output in session.get_outputs()]
    images = ImageOptions.of(given.image, inputs)
    if given.output and given.output not in outputs:
        raise ValueError(f"no output {given.output!r}; the model has {', '.join(outputs)}")
    fixed = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else None
    job = Job(given.images.resolve(), images, fixed or given.batch, fixed is not None, given.output or outputs[0], given.top)
    (values,) = session.run([job.output], {images.name: np.zeros((job.batch, *worker.sample_shape(images)), images.dtype)})
    if values.shape[:1] != (job.batch,):
        raise ValueError(f"{job.output} has the shape {values.shape} for {job.batch} images: choose an --output with a row per image")
    return job


def run(given: argparse.Namespace, make_session: Any, job: Job, paths: list[str], results: Results) -> dict[str, Any]:
    """Classify images on the workers, write their rows, and return numbers about it."""
    connect(given)
    # workers on other hosts need no copy of worker.py: its functions are sent with the job
    ray.cloudpickle.register_pickle_by_value(worker)
    rows = ray.data.from_arrow(list(blocks(paths, job.batch, given.workers))).map_batches(
        Classifier,
        fn_constructor_args=(ray.put(make_session), job),
        batch_size=job.batch,
        compute=ActorPoolStrategy(size=given.workers),
        num_cpus=given.threads,
    )
    progress = Progress(len(paths), given.workers)
    written = time.monotonic()
    for block in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
        results.add(block)
        progress.add(block)
        if time.monotonic() - written > given.write_every:
            results.write()
            written = time.monotonic()
    ray.shutdown()
    return progress.summary()


def blocks(paths: list[str], batch: int, workers: int) -> Iterator[pa.Table]:
    """Yield the paths in blocks of whole batches, large ones first.

    Ray takes 6 ms for a block, so that small ones cost time, and large ones at the end leave a worker busy alone.
    """
    start = 0
    while start < len(paths):
        batches = -(-(len(paths) - start) // batch)
        end = start + batch * max(1, min(BLOCK_BATCHES, batches // (BLOCKS_LEFT * workers)))
        yield pa.table({"path": paths[start:end]})
        start = end


def connect(given: argparse.Namespace) -> None:
    """Join the cluster, or start Ray here. ValueError if none answers, or if workers would wait for CPUs for ever."""
    host, _, port = (given.address or "").rpartition(":")
    if host and port.isdecimal():  # Ray itself tries for ten minutes
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise ValueError(f"no Ray cluster answers at {given.address}: {error}") from None
    here = {} if given.address else {"num_cpus": given.cpus or given.workers * given.threads + 2, "include_dashboard": False}
    ray.init(address=given.address, log_to_driver=False, logging_level="error", **here)
    needed = given.workers * given.threads
    if (declared := int(ray.cluster_resources().get("CPU", 0))) < needed:
        raise ValueError(f"{given.workers} workers with {given.threads} thread(s) need {needed} CPUs, and Ray has {declared}")
    context = DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False


class Progress:
    """Counts images as they come, shows that on stderr, and knows the images per second.

    A worker's time begins with its first answer and ends with its last one, so that the start of Ray and of the workers does not count.
    """

    def __init__(self, total: int, workers: int) -> None:
        self.total, self.wanted, self.done, self.errors = total, workers, 0, 0
        self.began = self.shown = self.last = time.monotonic()
        self.workers: Counter[str] = Counter()
        self.answers: dict[str, tuple[float, float]] = {}
        self.timed = 0

    def add(self, block: pa.Table) -> None:
        """Count a block of rows, which is the answer of one worker."""
        self.last = time.monotonic()
        self.done += len(block)
        self.errors += len(block) - block["error"].null_count
        worker = block["worker"][0].as_py()
        self.workers[worker] += len(block)
        if worker in self.answers:
            self.timed += len(block)
        self.answers[worker] = self.answers.get(worker, (self.last,))[0], self.last
        if self.last - self.shown > 2 or self.done == self.total:
            self.shown = self.last
            print(f"{self.done} of {self.total} images, {self.errors} errors, {self.rate():.1f} images/s", file=sys.stderr)

    def rate(self) -> float:
        """Return the images per second of a worker between its answers, times the workers.

        Where each worker has answered once, it is over all the time.
        """
        if not self.timed:
            return self.done / (self.last - self.began)
        return self.wanted * self.timed / sum(last - first for first, last in self.answers.values())

    def summary(self) -> dict[str, Any]:
        """Return the numbers as plain data."""
        seconds = self.last - self.began
        numbers = {"done": self.done, "errors": self.errors, "seconds": seconds, "images_per_second": self.rate()}
        return {**numbers, "by_worker": dict(sorted(self.workers.items()))}


def cause(error: Exception) -> str:
    """Return the last line of what a worker's code has raised: the text of Ray's error is the traceback, then what Ray makes of it."""
    return str(error).split("\n\nThe above exception")[0].rstrip().splitlines()[-1]


if __name__ == "__main__":
    try:
        main()
    except ray.exceptions.RayError as problem:  # before ValueError, which it is as well if that is what a worker has raised
        print(f"error: a worker failed: {cause(problem)}; results that were written stay", file=sys.stderr)
        sys.exit(1)
    except (ValueError, RuntimeError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
