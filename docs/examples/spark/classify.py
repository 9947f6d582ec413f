"""Runs a pruned model on a folder of images with Spark, and writes its outputs as parquet."""

from __future__ import annotations

import argparse
import functools
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import score
from pyspark.sql import SparkSession

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.models import mobilenet_v1
from onnxruntime_ep_sparse.prune.images import SUFFIXES, ImageOptions

IMAGENET = "mean=0.485,0.456,0.406,std=0.229,0.224,0.225"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("images", type=Path, help="folder of images, with folders in it; every host reads it under this path")
    add("results", type=Path, help="new folder for the results")
    add("--model", type=Path, help="ONNX file with one input of images, in any number (default: MobileNetV1 with 90 %% zeros)")
    add("--image", default=IMAGENET, metavar="size=224,mean=...,std=...", help="how images become the input (default %(default)s)")
    add("--threads", type=int, default=1, help="threads of each session (default %(default)s)")
    add("--batch", type=int, default=16, help="images per run (default %(default)s)")
    add("--partitions", type=int, default=8, help="tasks that the images are dealt to (default %(default)s)")
    add("--master", help="Spark's master, such as local[2] (default: what spark-submit says, else local[*])")
    given = parser.parse_args()
    if not given.images.is_dir():
        raise ValueError(f"there is no folder {given.images}")
    if given.results.exists():
        raise ValueError(f"{given.results} exists: choose another folder for the results")
    if given.model and not given.model.is_file():
        raise ValueError(f"there is no file {given.model}")
    return given


def main() -> None:
    """Send the model to the executors, deal the paths to tasks, write the rows."""
    given = arguments()
    folder = given.images.resolve()
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"there is no image in {given.images}")
    with tempfile.TemporaryDirectory() as made:
        model = given.model or Path(made) / "mobilenet_v1.onnx"
        if not given.model:
            model.write_bytes(mobilenet_v1(0.9).SerializeToString())
        inputs = checked(sparse.SessionFactory(model, threads=given.threads, require_owned=True))
        images = ImageOptions.of(given.image, inputs)
        spark = connect(given)
        spark.sparkContext.addFile(str(model))
        spark.sparkContext.addPyFile(score.__file__)
        classify = functools.partial(score.rows, folder=folder, model=model.name, images=images, threads=given.threads)
        tasks = spark.createDataFrame([(path,) for path in paths], "path string").repartition(given.partitions)
        began = time.monotonic()
        tasks.mapInPandas(classify, score.SCHEMA).write.parquet(str(given.results.resolve()))
        seconds = time.monotonic() - began
        errors = spark.read.parquet(str(given.results.resolve())).where("error is not null").count()
        spark.stop()
    print(f"{len(paths)} rows in {given.results}, {errors} of them errors, {len(paths) / seconds:.1f} images/s")


def checked(factory: sparse.SessionFactory) -> list[Any]:
    """Return the inputs of the model. ValueError if it cannot be used, so that this shows here and not on every executor."""
    try:
        inputs = factory().get_inputs()
    except RuntimeError:  # the provider takes no node
        raise
    except Exception as error:
        raise ValueError(f"cannot load {factory.model}: {error}") from None
    if isinstance(inputs[0].shape[0], int):
        raise ValueError(f"{factory.model} takes exactly {inputs[0].shape[0]} images at once: export it with an open batch")
    return inputs


def connect(given: argparse.Namespace) -> SparkSession:
    """Start Spark, or join the cluster that spark-submit names."""
    # Spark runs `python3` of PATH otherwise, which is not that of a virtual environment
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName("classify").config("spark.task.cpus", given.threads)
    if given.master:
        builder = builder.master(given.master)
    spark = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", given.batch).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


if __name__ == "__main__":
    try:
        main()
    except (ValueError, RuntimeError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
