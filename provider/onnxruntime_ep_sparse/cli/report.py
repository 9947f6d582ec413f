"""`ort-sparse report`: everything that is known of a model's speed, as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..files import check_target, shown
from ..measure import CPU
from ..reporting.page import check_jinja
from ..reporting.report import BUDGET_S, PAIRS, check_weight
from ..reporting.report import report as collected
from ..reporting.sections import SECTIONS
from .common import (
    STOPPED,
    Batch,
    Budget,
    FailedError,
    Inputs,
    JsonOption,
    ModelArgument,
    Output,
    ProviderOptions,
    Seed,
    Shapes,
    Threads,
    UsageError,
    files_of,
    provider_options,
    written,
)
from .given import GivenModel, run
from .inputs import feeds_for


def report(
    model: ModelArgument,
    *,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="The page to write; - is stdout.")] = "report.html",
    batch: Batch = None,
    shape: Shapes = None,
    inputs: Inputs = None,
    seed: Seed = 0,
    threads: Threads = 0,
    option: ProviderOptions = None,
    weight: Annotated[str | None, typer.Option("--weight", metavar="NAME", help="Layer or weight whose nonzeros are shown.")] = None,
    no_curves: Annotated[bool, typer.Option("--no-curves", help="Do not measure other batches and numbers of threads.")] = False,
    pairs: Annotated[int, typer.Option("--pairs", metavar="N", min=1, help="Pairs of runs, one on each provider.")] = PAIRS,
    budget: Budget = BUDGET_S,
    json: JsonOption = None,
) -> None:
    """Write a page about the speed of a model.

    The page shows the speed-up with its interval, agreement, memory, and the time of each layer with both providers. It
    shows zeros and patterns, every decision with its reason, speed by batch and threads, and the gain of more zeros. It is
    one file without links to others, so you can send it to a colleague. --json writes the same figures.

    Ctrl-C ends the work early: the page has what was done by then, and the exit code is 130. Exit code 1 if the results of
    both providers differ.
    """
    quiet = output == "-"
    if quiet and json == "-":
        raise UsageError("-o - and --json -: only one of them can go to stdout")
    out = Output("report", json, model, [inputs, None if quiet else output], quiet=quiet)
    _check_page(output, model, inputs)
    check_jinja()
    options = provider_options(option)
    given = GivenModel.of(model, out.steps)
    session = given.session(CPU, threads=threads)
    run(session, feeds_for(session, batch, shape, inputs, seed), CPU)  # reports errors of the model or the inputs before the measurement
    if weight is not None:
        try:
            check_weight(given.source, weight)
        except ValueError as error:
            raise UsageError(f"--weight: {error}") from None
    words = [("--shape", text) for text in shape or ()] + ([("--inputs", inputs)] if inputs is not None else [])
    words += [("--seed", str(seed))] if seed else []
    feeds = feeds_for(session, batch, shape, inputs, seed) if inputs is not None or shape else None
    try:
        result = collected(
            given.source,
            feeds,
            batch=batch,
            threads=threads,
            options=options,
            curves=not no_curves,
            weight=weight,
            pairs=pairs,
            budget_s=budget,
            seed=seed,
            name=given.name,
            words=words,
            progress=out.steps,
        )
    except (ImportError, UnicodeError):
        raise
    except Exception as error:
        raise FailedError(f"{given.name}: {error}") from None
    finally:
        out.steps.close()
    say = out.replaces(Path(output)) if not quiet else lambda: None
    written(output, result.html)
    say()
    out.print(result.caption())
    titles = {section.key: section.title for section in SECTIONS}
    for key, reason in result.left_out.items():
        out.print(f"not in the report: {titles[key]}: {reason}")
    out.document(result.to_dict())
    if not quiet:
        out.steps.line(f"wrote {shown(output)}")
    if not result.complete:
        raise typer.Exit(STOPPED)
    if not result.sections["speed"]["agrees"]:
        raise typer.Exit(1)


def _check_page(output: str, model: str, inputs: str | None) -> None:
    """Raise UsageError if the page cannot be written, or would replace the model, a file that it refers to, or the inputs."""
    if output == "-":
        return
    kept = {**files_of(model), **({Path(inputs): "a file of the command"} if inputs is not None else {})}
    try:
        check_target(Path(output), kept, special=True)
    except ValueError as error:
        raise UsageError(f"--output: {error}") from None
