"""`ort-sparse pack` and `ort-sparse unpack`: compress the weights of a pruned model, and restore them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ..files import shown
from ..formats import compressed_model
from ..formats import onnx_file as model_file
from ..formats.compressed_model import MIN_SPARSITY, Weight
from ..records import counted
from .common import FailedError, JsonOption, Output, UsageError
from .given import check_source

Source = Annotated[Path, typer.Argument(metavar="IN", help="ONNX file.")]
Target = Annotated[
    Path, typer.Argument(metavar="OUT", help="ONNX file to write; a link is followed. If IN has external data, OUT.data is written too.")
]


def pack(
    source: Source,
    target: Target,
    *,
    min_sparsity: Annotated[
        float, typer.Option("--min-sparsity", metavar="SHARE", min=0.0, max=1.0, help="Weights with a smaller share of zeros stay dense.")
    ] = MIN_SPARSITY,
    standard: Annotated[
        bool, typer.Option("--standard", help="Write ONNX's sparse_initializer. It is larger; any runtime reads it.")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Compress the weights of a pruned model.

    The compression is lossless: `unpack` restores the same model. Conv, MatMul and Gemm with a pruned weight become the
    operators of the same name in the domain ep.sparse. Other weights, of 8-bit integers and of LSTM, GRU and RNN, are made by a node
    Weight of that domain. Where nodes compute a weight of constants, as exporters leave masks, the weight
    takes their place. IN stays as it is, and OUT appears when it is complete.
    """
    out = Output("pack", json, source, [target, model_file.data_beside(target)])
    arguments = {"min_sparsity": min_sparsity, "standard": standard}
    weights = _written("pack", compressed_model.pack, source, target, out, arguments)
    kept = [weight for weight in weights if weight.reason]
    folded = sum(bool(weight.folded) for weight in weights)
    words = f" ({folded} in the place of nodes that computed them of constants)" if folded else ""
    _report(out, source, target, weights, f"{len(weights) - len(kept)} of {counted(len(weights), 'weight')} compressed{words}", arguments)


def unpack(source: Source, target: Target, *, json: JsonOption = None) -> None:
    """Restore the model that was given to `pack`, bit for bit."""
    out = Output("unpack", json, source, [target, model_file.data_beside(target)])
    weights = _written("unpack", compressed_model.unpack, source, target, out, {})
    _report(out, source, target, weights, f"{counted(len(weights), 'weight')} restored", {})


def _written(
    step: str, work: Callable[..., list[Weight]], source: Path, target: Path, out: Output, arguments: dict[str, Any]
) -> list[Weight]:
    """Return what became of each weight. UsageError if the model cannot be used, FailedError if OUT cannot be written."""
    check_source(source)
    say = out.replaces(target)
    out.steps(step, 0)
    try:
        weights = work(source, target, **arguments, progress=lambda share: out.steps(step, max(share, 1e-9)))
    except UnicodeError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise FailedError(f"cannot write {shown(target)}: {error.strerror or error}") from None
    except MemoryError:
        raise FailedError(f"cannot write {shown(target)}: out of memory") from None
    finally:
        out.steps.close()
    out.steps(step, 1)
    say()
    return weights


def _report(out: Output, source: Path, target: Path, weights: list[Weight], summary: str, arguments: dict[str, Any]) -> None:
    table = out.table("weight", "op", "shape", ">sparsity", ">bytes", ">now", "stays because")
    for w in weights:
        sparsity = "" if w.sparsity is None else f"{w.sparsity:.1%}"
        table.add_row(w.name, w.op_type, "x".join(map(str, w.shape)), sparsity, str(w.bytes_before), str(w.bytes_after), w.reason)
    out.print(table)
    before, after = (size_of(path) for path in (source, target.resolve()))
    out.print(f"{summary}; {before / 1e6:.4g} MB became {after / 1e6:.4g} MB ({after / before:.1%})")
    document = {"source": str(source), "target": str(target), **arguments, "bytes_before": before, "bytes_after": after}
    out.document({**document, "weights": [asdict(w) for w in weights]})


def size_of(path: Path) -> int:
    """Return the size in bytes of a model with all files that it refers to."""
    files = {file.resolve() for file in model_file.referenced_files(path, model_file.load(path))}
    return sum(file.stat().st_size for file in files if file.is_file())
