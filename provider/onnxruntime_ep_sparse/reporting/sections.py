"""The one table of a report's sections, and the functions that collect their figures, each as a JSON-ready dict."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..diagnostics.explain import expected, explain
from ..measure import Feeds, Progress, bench, make_session, measure
from ..measure.bench import FeedsOf
from ..measure.machine import environment
from ..options import EP_NAME
from .density import density_of

if TYPE_CHECKING:
    from ..prune.layers import Layer
    from ..prune.source import Source

BATCHES = (1, 2, 4, 8)
"""Of the curve over batches."""
CURVE_PAIRS, CURVE_BUDGET_S = 12, 3.0
"""Of each point of a curve."""
SHARES = ("0.7", "0.8", "0.9", "0.95")
"""Zeros of the what-if."""
SHOWN_SHARE = "0.9"
"""Of these zeros, the gain of each layer is told."""


@dataclass(frozen=True)
class Subject:
    """The model of a report, and how it is measured.

    `feeds_of` returns the inputs of a batch; `batch_open` says whether it may differ. `words` are options of commands that give the same
    inputs, each with its value.
    """

    name: str
    source: str | bytes
    feeds_of: FeedsOf
    batch: int | None
    batch_open: bool
    threads: int
    options: dict[str, str]
    pairs: int
    budget_s: float
    weight: str | None
    words: tuple[tuple[str, str], ...]
    progress: Progress

    @property
    def feeds(self) -> Feeds:
        """Return the inputs of the measurements at one batch."""
        return self.feeds_of(self.batch)


Figures = dict[str, Any]


@dataclass(frozen=True)
class Section:
    """A part of a report: its key, its title, and the function that collects it, which gets what the sections before it have found."""

    key: str
    title: str
    collect: Callable[[Subject, Mapping[str, Figures]], Figures]


def about(subject: Subject) -> Figures:
    """Return what is known without a measurement: file, inputs, machine, commands."""
    inputs = {name: {"shape": list(x.shape), "dtype": str(x.dtype)} for name, x in subject.feeds.items()}
    fixed = {"model": subject.name, "file_bytes": _size(subject.source), "inputs": inputs, "options": subject.options}
    return {**fixed, "threads": subject.threads, "environment": environment(), "commands": list(_commands(subject))}


def decisions(subject: Subject, _: Mapping[str, Figures]) -> Figures:
    """Return the decision about every node, the expected times, and totals over nodes and weights."""
    found = explain(make_session(subject.source, EP_NAME, subject.options, subject.threads, silent=True))
    times = expected(found)
    sized = [(_count(d.shape), d.sparsity) for d in found if d.shape is not None and d.sparsity is not None]
    weights = sum(size for size, _ in sized)
    return {
        "nodes": found.records(),
        "expected": None if times is None else times.to_dict(),
        "taken": sum(d.taken for d in found),
        "regions": len({d.region for d in found if d.taken}),
        "weights": weights,
        "sparsity": sum(size * share for size, share in sized) / weights if weights else None,
    }


def speed(subject: Subject, _: Mapping[str, Figures]) -> Figures:
    """Return the measurement of both providers, as `bench` makes it, with the agreement of their results."""
    arguments: dict[str, Any] = {"pairs": subject.pairs, "budget_s": subject.budget_s, "progress": subject.progress}
    return measure(subject.source, subject.feeds, subject.options, subject.threads, **arguments).to_dict()


def layers(subject: Subject, found: Mapping[str, Figures]) -> Figures:
    """Return the measured times of each layer with both providers, and what is left of a run's time."""
    from ..prune import layer_times, selection

    source = _source(subject)
    chosen = list(selection.layers(source))
    if not chosen:
        raise ValueError("the model has no layer with a weight of its own")
    subject.progress("times of layers", 0)
    with _file(subject.source) as path:
        times = layer_times.times_of_layers(path, source, chosen, subject.feeds, subject.options, subject.threads)
    subject.progress("times of layers", 1)
    nodes = {layer_times.SUFFIXES.sub("", node["name"]): node for node in found["decisions"]["nodes"]}
    rows = []
    for layer in chosen:
        node = nodes.get(source.nodes[layer.index].name) or nodes.get(layer.name) or {}
        cpu_ms, ms = times[layer.name]
        about = {key: node.get(key) for key in ("sparsity", "pattern", "taken")}
        row = {"name": layer.name, "node": node.get("name"), "op_type": layer.op_type, "shape": list(source.shape(layer.weight))}
        rows.append({**row, **about, "cpu_ms": cpu_ms, "ms": ms})
    return {"rows": rows, "rest": _rest(rows, found["speed"])}


def density(subject: Subject, found: Mapping[str, Figures]) -> Figures:
    """Return where the nonzeros of one weight are: of the node or the constant that the user names, else of the largest pruned weight."""
    from ..prune import selection

    source = _source(subject)
    if subject.weight is not None:
        chosen = layers_named(source, subject.weight)
    else:
        chosen = list(selection.layers(source))
        zeros = {node["name"]: node["sparsity"] or 0.0 for node in found["decisions"]["nodes"] if node["pattern"] not in ("", "dense")}
        chosen.sort(key=lambda layer: (source.nodes[layer.index].name not in zeros, -layer.size))
    if not chosen:
        raise ValueError("the model has no layer with a weight of its own")
    layer = chosen[0]
    matrix = layer.matrices(source.array(layer.weight))[0]
    named = {"layer": layer.name, "weight": layer.weight, "shape": list(source.shape(layer.weight))}
    return {**named, "outputs": matrix.shape[0], "inputs": matrix.shape[1], "density": density_of(matrix)}


def layers_named(source: Source, name: str) -> list[Layer]:
    """Return the layers of which the layer, its node or its weight has that name. ValueError if there is none."""
    from ..prune import selection

    found = [layer for layer in selection.layers(source) if name in (layer.name, layer.weight, source.nodes[layer.index].name)]
    if not found:
        raise ValueError(f"no layer and no weight has the name {name!r}")
    return found


def batch_curve(subject: Subject, _: Mapping[str, Figures]) -> Figures:
    """Return the speed at several batches."""
    if not subject.batch_open:
        raise ValueError("the model, or its inputs, fix the batch")
    return _curve(subject, "batch", {"batch": BATCHES, "threads": subject.threads})


def thread_curve(subject: Subject, _: Mapping[str, Figures]) -> Figures:
    """Return the speed with several numbers of threads, up to the cores of the process."""
    cores = environment()["cores"]
    counts = [*(1 << i for i in range(cores.bit_length()) if 1 << i < cores), cores]
    return _curve(subject, "threads", {"batch": subject.batch, "threads": counts})


def what_if(subject: Subject, _: Mapping[str, Figures]) -> Figures:
    """Return what the model is expected to gain from more zeros: totals for several shares, and the gain of each layer for one."""
    from ..prune.what_if import what_if as imposed

    shares, rows = [], []
    for i, share in enumerate(SHARES):
        subject.progress("impose zeros", max(i / len(SHARES), 1e-9) if i else 0)
        result = imposed(subject.source, share, feeds=subject.feeds, threads=subject.threads, options=subject.options)
        times = {"cpu_ms": None, "ms": None} if result.expected is None else {"cpu_ms": result.expected.cpu_ms, "ms": result.expected.ms}
        shares.append({"sparsity": float(share), "speedup": result.speedup, **times})
        if share == SHOWN_SHARE:
            keys = ("name", "op_type", "shape", "sparsity", "taken", "cpu_ms", "ms", "gain_ms")
            rows = [{key: row[key] for key in keys} for row in result.records()]
    subject.progress("impose zeros", 1)
    return {"shares": shares, "layers": rows, "layers_sparsity": float(SHOWN_SHARE)}


CURVES = ("batch_curve", "thread_curve")
SECTIONS = (
    Section("decisions", "Decisions", decisions),
    Section("speed", "Speed and agreement", speed),
    Section("density", "Where the nonzeros of a weight are", density),
    Section("layers", "Time by layer", layers),
    Section("what_if", "What more zeros would gain", what_if),
    Section("batch_curve", "Speed by batch", batch_curve),
    Section("thread_curve", "Speed by threads", thread_curve),
)
"""In the order in which they are collected: what matters most comes first, because Ctrl-C keeps what is done."""


def _curve(subject: Subject, axis: str, axes: Mapping[str, Any]) -> Figures:
    """Return a point per value of an axis."""
    arguments: dict[str, Any] = {"pairs": CURVE_PAIRS, "budget_s": CURVE_BUDGET_S, "options": subject.options, "progress": subject.progress}
    result = bench(subject.source, subject.feeds_of, **axes, **arguments)
    points = []
    for point in result.points:
        ms = {key: None if side is None else side.latency.p50_ms for key, side in (("cpu_ms", point.cpu), ("ms", point.sparse))}
        ratio = (
            None if point.speed_up is None else {"median": point.speed_up.median, "low": point.speed_up.low, "high": point.speed_up.high}
        )
        points.append({axis: getattr(point, axis), **ms, "speed_up": ratio, "valid": point.valid})
    return {"axis": axis, "points": points}


def _rest(rows: list[Figures], measured: Figures) -> Figures:
    """Return the median ms of a run that are not in the layers, for each provider; None where that cannot be told."""
    rest: Figures = {}
    for key, side in (("cpu_ms", measured["cpu"]), ("ms", measured["sparse"])):
        left = None if side is None else side["latency"]["p50_ms"] - sum(row[key] or 0.0 for row in rows)
        rest[key] = None if left is None or left < 0 else left
    return rest


def _source(subject: Subject) -> Source:
    from ..prune.selection import source_of

    return source_of(subject.source)


@contextmanager
def _file(source: str | bytes) -> Iterator[Path]:
    """Give the path of a model; one in memory is written to a temporary file."""
    if not isinstance(source, bytes):
        yield Path(source)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(source)
        yield path


def _size(source: str | bytes) -> int:
    """Return the bytes of a model with all files that it refers to."""
    if isinstance(source, bytes):
        return len(source)
    from ..formats.onnx_file import load, referenced_files

    path = Path(source)
    return sum(os.path.getsize(file) for file in {file.resolve() for file in referenced_files(path, load(path))} if file.is_file())


def _commands(subject: Subject) -> Iterator[str]:
    """Yield the commands that give the figures of the report again."""
    batch = [("--batch", str(subject.batch))] if subject.batch else []
    options = [("--option", f"{key}={value}") for key, value in subject.options.items()]
    common = [*batch, ("--threads", str(subject.threads)), *options]
    same, shapes = [*common, *subject.words], [*common, *(each for each in subject.words if each[0] == "--shape")]

    def command(name: str, *words: str, options: list[tuple[str, str]]) -> str:
        return shlex.join(["ort-sparse", name, subject.name, *words, *(word for option in options for word in option)])

    weight = [("--weight", subject.weight)] if subject.weight is not None else []
    yield command("report", "-o", "report.html", options=[*same, *weight])
    yield command("bench", "--pairs", str(subject.pairs), options=same)
    yield command("analyze", "--all", options=shapes)
    yield command("analyze", "--impose-sparsity", SHOWN_SHARE, options=shapes)


def _count(shape: tuple[int, ...]) -> int:
    """Return the number of elements of a shape."""
    size = 1
    for length in shape:
        size *= length
    return size
