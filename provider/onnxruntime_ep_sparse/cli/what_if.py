"""The gain of more zeros, for `analyze --impose-sparsity`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..measure import CPU
from ..options import EP_NAME
from ..records import counted
from .common import FailedError, Output, UsageError
from .given import GivenModel
from .inputs import feeds_for

if TYPE_CHECKING:
    from ..prune.what_if import WhatIf

Impose = Annotated[
    list[str] | None,
    typer.Option("--impose-sparsity", metavar="[TYPE=]SHARE[:PATTERN]", help="Tell what such zeros would gain; or FILE.json by layer."),
]


def impose_files(given: list[str] | None) -> list[Path]:
    """Return the files among the values of --impose-sparsity."""
    return [Path(text) for text in given or () if text.endswith(".json")]


def show_what_if(
    given: GivenModel, out: Output, impose: list[str], *, batch: int | None, shapes: list[str] | None, **arguments: Any
) -> None:
    """Print the gain of each layer and the totals of operators. ImportError if what pruning needs is missing."""
    try:
        from ..prune.what_if import what_if
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise ImportError(f"--impose-sparsity needs {package}: pip install {package}") from None
    feeds = feeds_for(given.session(CPU, threads=arguments["threads"]), batch, shapes)
    try:
        result = what_if(given.source, impose, feeds=feeds, progress=out.steps, **arguments)
    except (ImportError, UnicodeError):
        raise
    except ValueError as error:
        raise UsageError(str(error)) from None
    except MemoryError:
        raise FailedError(f"cannot impose zeros on {given.name}: out of memory") from None
    except OSError as error:
        raise FailedError(f"cannot impose zeros on {given.name}: {error.strerror or error}") from None
    except Exception as error:
        raise FailedError(f"{given.name}: {error}") from None
    finally:
        out.steps.close()
    show(result, out)
    out.document({"model": given.name, "options": arguments["options"], "impose_sparsity": impose, **result.to_dict()})


def show(result: WhatIf, out: Output) -> None:
    """Print a row per layer, the largest expected gain first, the totals of operators, and the expected speed-up."""
    measured = result.measured is not None and result.measured.speed_up is not None
    columns = ("layer", "op", "weight", ">zeros", "pattern", ">CPU ms", ">ms", ">gain ms")
    table = out.table(*columns, *[">measured CPU ms", ">ms", ">gain ms"] * measured)
    for layer in result.layers:
        times = [layer.cpu_ms, layer.ms if layer.taken else layer.cpu_ms, layer.gain_ms]
        times += [layer.measured_cpu_ms, layer.measured_ms, layer.measured_gain_ms] * measured
        weight = "x".join(map(str, layer.shape))
        shown = ("" if ms is None else f"{ms:.3f}" for ms in times)
        table.add_row(layer.name, layer.op_type, weight, f"{layer.sparsity:.1%}", layer.pattern, *shown)
    out.print(table)
    if result.types:
        table = out.table("all nodes", ">nodes", ">CPU ms", ">ms", ">gain ms")
        for each in result.types:
            table.add_row(each.op_type, str(each.nodes), f"{each.cpu_ms:.3f}", f"{each.ms:.3f}", f"{each.cpu_ms - each.ms:.3f}")
        out.print(table)
    left = [layer for layer in result.layers if not layer.taken]
    if left:
        out.print(f"{counted(len(left), 'layer')} with these zeros would stay with the CPU provider: {_some([each.name for each in left])}")
    for reason in dict.fromkeys(result.skipped.values()):
        names = [name for name, why in result.skipped.items() if why == reason]
        out.print(f"no zeros in {counted(len(names), 'layer')}: {reason}: {_some(names)}")
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape)) or 'a scalar'}" for name, shape in result.shapes.items())
    if result.expected is None:
        out.print(f"{EP_NAME} would take nothing at {shapes}: these zeros gain nothing")
    else:
        ms = f"{result.expected.cpu_ms:.3f} ms with the CPU provider, {result.expected.ms:.3f} ms with {EP_NAME}"
        out.print(f"expected at {shapes}: {ms}, {result.speedup:.2f} times as fast")
    if measured and result.measured is not None and result.measured.speed_up is not None:
        found, sides = result.measured.speed_up, (result.measured.cpu, result.measured.sparse)
        ms = " and ".join(f"{side.latency.p50_ms:.3f} ms" for side in sides if side is not None)
        valid = "" if result.measured.valid else " (NOT VALID, there is other load on the machine)"
        out.print(f"measured: {ms}, {found.median:.2f} times as fast [{found.low:.2f}, {found.high:.2f}]{valid}")


def _some(names: list[str]) -> str:
    """Return the first names of a list."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
