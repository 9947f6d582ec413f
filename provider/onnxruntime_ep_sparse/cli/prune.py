"""`ort-sparse prune`: a sparse model from a dense one and calibration data."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..files import NewFiles, check_target, shown
from ..formats import onnx_file
from ..models import signature
from ..prune import prune as prune_model
from ..prune.data import READERS, Request, feeds_of
from ..prune.patterns import PATTERNS
from ..prune.source import Loaded, counts_times
from .common import MOST_THREADS, FailedError, JsonOption, Output, UsageError
from .given import check_source
from .pack import Source, Target

if TYPE_CHECKING:
    from ..prune.pruned import Pruned
    from ..prune.report import Report

LOW_COSINE = 0.9
"""Below this cosine there is a warning: little is left of the model without training."""
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

Data = Annotated[str, typer.Option("--data", metavar="DATA", help=f"Calibration data. One of: {', '.join(row.form for row in READERS)}.")]
Sparsity = Annotated[float | None, typer.Option("--sparsity", metavar="SHARE", help="Share of zeros in the pruned layers, such as 0.6.")]
SpeedUp = Annotated[float | None, typer.Option("--speedup", metavar="FACTOR", help="Speed-up over the CPU provider to reach, such as 1.5.")]
Image = Annotated[str | None, typer.Option("--image", metavar="size=224,mean=...,std=...", help="How images become an input.")]
Memory = Annotated[str, typer.Option("--memory", metavar="SIZE", help="Most memory to use besides the model, such as 2G.")]
MinCosine = Annotated[
    float | None,
    typer.Option("--min-cosine", metavar="COSINE", help="Least cosine on held-out data. Below it, exit with 1 and write nothing."),
]


def prune(
    source: Source,
    target: Target,
    *,
    data: Data,
    sparsity: Sparsity = None,
    speedup: SpeedUp = None,
    pattern: Annotated[str, typer.Option("--pattern", metavar="PATTERN", help=f"{', '.join(PATTERNS)} such as 2:4.")] = "unstructured",
    method: Annotated[
        str, typer.Option("--method", metavar="METHOD", help="admm, sparsegpt, wanda or magnitude: from best to fastest.")
    ] = "admm",
    allocation: Annotated[
        str | None,
        typer.Option("--allocation", metavar="NAME", help="How zeros are spread: uniform or measured. With --speedup, measured."),
    ] = None,
    skip: Annotated[str | None, typer.Option("--skip", metavar="REGEX", help="Names of layers that stay dense.")] = None,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="REGEX", help="Names of the layers to prune. They may be first convolutions and classifiers."),
    ] = None,
    image: Image = None,
    tokenizer: Annotated[str | None, typer.Option("--tokenizer", metavar="tokenizer.json", help="The tokenizer of texts.")] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", metavar="N", min=1, help="Use at most so many samples; all by default.")
    ] = None,
    holdout: Annotated[float, typer.Option("--holdout", metavar="SHARE", help="Share of the samples that only judge the result.")] = 0.2,
    memory: Memory = "2G",
    threads: Annotated[
        int,
        typer.Option(
            "--threads", metavar="N", min=0, max=MOST_THREADS, help="Threads; 0 is one for each CPU. Results do not depend on it."
        ),
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of all that is random. Equal seeds give equal files.")] = 0,
    masks: Annotated[Path | None, typer.Option("--masks", metavar="M.npz", help="Write the masks too, for fine-tuning.")] = None,
    min_cosine: MinCosine = None,
    no_timing: Annotated[bool, typer.Option("--no-timing", help="Do not measure the speed of the result.")] = False,
    json: JsonOption = None,
) -> None:
    """Prune a dense model, without labels or training.

    The calibration data are inputs as the model will see them, some hundred samples. Layer by layer, weights become zero
    and the others are refitted to the dense model's results. OUT runs anywhere; with this provider it runs faster. IN
    stays as it is, and OUT appears when it is complete.
    """
    out = Output("prune", json, None, [target, onnx_file.data_beside(target), masks, *_existing(data, tokenizer)])
    if min_cosine is not None and not holdout > 0:
        raise UsageError("--min-cosine judges by held-out data: give a --holdout above 0")
    limit = _bytes(memory)
    check_source(source)
    given: dict[str, Any] = {"sparsity": sparsity, "speedup": speedup, "pattern": pattern, "method": method, "allocation": allocation}
    given |= {"skip": skip, "only": only, "holdout": holdout, "memory": limit, "seed": seed}
    with _usage(), _warnings(out):
        model = Loaded(onnx_file.load(source), source)
        files = onnx_file.referenced_files(source, model.model)
        out.keep(files)
        _check_targets(model, target, masks, files | {path: "a file of the calibration data" for path in _existing(data, tokenizer)})
        inputs = signature(model.model)
        sequences = counts_times(model.model.graph.node, [i.name for i in inputs])
        request = Request(inputs, samples, seed, image, tokenizer, sequences)
        result = _pruned(model, feeds_of(data, request), {**given, "threads": threads or None, "timed": not no_timing}, out)
    show(result.report, out)
    cosine = result.report.cosine
    enough = min_cosine is None or (cosine is not None and cosine >= min_cosine)
    if enough:
        said = [out.replaces(path) for path in (target, masks) if path is not None]
        _write(result, target, masks)
        for say in said:
            say()
        out.print(f"wrote {shown(target)}{'' if masks is None else f' and {shown(masks)}'}")
    if cosine is not None and cosine < LOW_COSINE:
        out.steps.line(
            f"warning: cosine {cosine:.3f} with the dense model: fewer zeros, more data, or fine-tuning with --masks will make it better"
        )
    document = {"source": str(source), "target": str(target), "data": data, "samples": samples, **given}
    out.document(
        {**document, "masks": masks and str(masks), "min_cosine": min_cosine, "written": enough, "report": result.report.to_dict()}
    )
    if not enough:
        raise FailedError(f"cosine {cosine:.4f} on held-out data is below --min-cosine {min_cosine}: nothing is written")


def show(report: Report, out: Output) -> None:
    """Print what pruning did to each layer, to the outputs, and what is left of the model."""
    timed = any(layer.ms is not None for layer in report.layers)
    table = out.table("layer", "op", "shape", ">zeros", ">samples/K", "weights", ">error", *[">ms before", ">ms now"] * timed)
    for layer in report.layers:
        error = "" if layer.error is None else f"{layer.error:.4f}"
        shape, samples = "x".join(map(str, layer.shape)), f"{layer.samples / layer.inputs:.1f}"
        times = ["" if ms is None else f"{ms:.3f}" for ms in (layer.cpu_ms, layer.ms)] * timed
        weights = "refitted" if layer.refitted else "as before"
        table.add_row(layer.name, layer.op_type, shape, f"{layer.sparsity:.1%}", samples, weights, error, *times)
    out.print(table)
    for skipped in report.skipped:
        out.print(f"no zeros{', but refitted' if skipped.refitted else ''}: {skipped.name} ({skipped.op_type}): {skipped.reason}")
    if report.outputs:
        table = out.table("output", ">cosine", ">KL", ">largest class equal")
        for output in report.outputs:
            divergence, same = ("" if value is None else f"{value:.4f}" for value in (output.kl, output.top1))
            table.add_row(output.name, f"{output.cosine:.4f}", divergence, same)
        out.print(table)
    for warning in report.warnings:
        out.steps.line(f"warning: {warning}")
    for sentence in report.sentences():
        out.print(sentence)


def _pruned(model: Loaded, feeds: Any, given: dict[str, Any], out: Output) -> Pruned:
    """Prune, and show the progress. FailedError if that fails for another reason than wrong use."""
    out.steps("prune", 0)
    try:
        result = prune_model(model, feeds, **given, progress=lambda done, total, what: out.steps("prune", _within(done / total), what))
    except (ValueError, ImportError):
        raise
    except MemoryError:
        raise FailedError(f"cannot prune {shown(model.path)}: out of memory; give a smaller --memory or fewer --samples") from None
    except OSError as error:  # of the file that holds what does not fit into the memory
        raise FailedError(f"cannot prune {shown(model.path)}: {error.strerror or error}") from None
    finally:
        out.steps.close()
    out.steps("prune", 1)
    return result


def _within(share: float) -> float:
    """Return a share at which a step neither begins nor ends: a search goes over all layers several times."""
    return min(max(share, 1e-9), 1 - 1e-9)


def _write(result: Pruned, target: Path, masks: Path | None) -> None:
    """Write the model, and the masks if they are wanted: both or none. FailedError if that fails."""
    try:
        with NewFiles() as files:
            if masks is not None:
                file = files.open(masks)
                result.masks.write(file)
                file.flush()
                os.fsync(file.fileno())  # a full disk shows now, before the model is there
            result.save(target)
            files.commit()
    except ValueError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise FailedError(f"cannot write {shown(target)}: {error.strerror or error}") from None


def _check_targets(model: Loaded, target: Path, masks: Path | None, kept: Mapping[Path, str]) -> None:
    """Raise ValueError if a file cannot be written, or would replace one of `kept`, which says what they are, or the other one."""
    with onnx_file.Writer(model.path, target, model.model):  # it checks everything that `save` will check
        pass
    check_target(target, kept)
    if masks is not None:
        check_target(masks, {**kept, target: "the pruned model", onnx_file.data_beside(target): "the pruned model's external data"})


def _existing(data: str, tokenizer: str | None) -> list[Path]:
    """Return the files that the data are read from, without those in folders."""
    return [Path(name) for name in (data, tokenizer) if name is not None and os.path.isfile(name)]


def _bytes(text: str) -> int:
    """Return a size such as 2G in bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text, re.I)
    if match is None or not float(match[1]):
        raise UsageError(f"--memory {text!r}: expected a size such as 500M or 2G")
    return int(float(match[1]) * UNITS[match[2].upper()])


@contextmanager
def _usage() -> Iterator[None]:
    """Turn errors of use into UsageError. Names that are not UTF-8 have words of their own."""
    try:
        yield
    except UnicodeError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from None


@contextmanager
def _warnings(out: Output) -> Iterator[None]:
    """Print Python's warnings among the steps, a line each."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *rest: out.steps.line(f"warning: {message}")
        yield
