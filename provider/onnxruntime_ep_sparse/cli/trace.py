"""`ort-sparse trace` and `ort-sparse annotate`: decisions and times for the viewers that people already use."""

from __future__ import annotations

import json as text_of
from pathlib import Path
from typing import Annotated

import typer

from ..diagnostics.annotate import annotate as annotated
from ..diagnostics.trace import RUNS, is_step
from ..diagnostics.trace import trace as traced
from ..files import check_target, shown
from ..measure import CPU
from ..options import EP_NAME
from ..records import counted
from .common import (
    Batch,
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
from .given import GivenModel, check_name, check_source, run
from .inputs import feeds_for, open_sizes_for, shapes_for


def trace(
    model: ModelArgument,
    *,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="The trace to write; - is stdout.")] = "trace.json",
    batch: Batch = None,
    shape: Shapes = None,
    inputs: Inputs = None,
    seed: Seed = 0,
    threads: Threads = 0,
    runs: Annotated[
        int, typer.Option("--runs", metavar="N", min=1, help="Runs with each provider. The first one makes plans and is slower.")
    ] = RUNS,
    option: ProviderOptions = None,
    json: JsonOption = None,
) -> None:
    """Write a trace of runs with both providers, for Perfetto.

    chrome://tracing shows it too. Each provider is a process of the trace, with the events of ONNX Runtime's own profile.
    The steps of our regions are slices within them, with their kernels, work, rates and nonzero weights.
    --json writes the numbers of runs and steps.
    """
    if output == "-" and json == "-":
        raise UsageError("-o - and --json -: only one of them can go to stdout")
    out = Output("trace", json, model, [inputs, None if output == "-" else output], quiet=output == "-")
    kept = {**files_of(model), **({Path(inputs): "a file of the command"} if inputs is not None else {})}
    if output != "-":
        try:
            check_target(Path(output), kept, special=True)
        except ValueError as error:
            raise UsageError(f"--output: {error}") from None
    options = provider_options(option)
    given = GivenModel.of(model, out.steps)
    session = given.session(CPU, threads=threads)
    feeds = feeds_for(session, batch, shape, inputs, seed)
    run(session, feeds, CPU)  # reports errors of the model or the inputs before the trace
    del session
    try:
        found = traced(given.source, feeds, runs=runs, threads=threads, options=options, progress=out.steps)
    except (ImportError, UnicodeError):
        raise
    except Exception as error:
        raise FailedError(f"{given.name}: {error}") from None
    finally:
        out.steps.close()
    say = out.replaces(Path(output)) if output != "-" else lambda: None
    written(output, f"{text_of.dumps(found)}\n")
    say()
    steps = sum(is_step(event) for event in found["traceEvents"])
    out.print(f"{counted(runs, 'run')} with each provider, {counted(steps, 'step')} of {EP_NAME}: open it in https://ui.perfetto.dev")
    out.document({"model": given.name, "output": output, "options": options, "threads": threads, "runs": runs, "steps": steps})
    if not steps:
        raise typer.Exit(1)


def annotate(
    source: Annotated[Path, typer.Argument(metavar="IN", help="ONNX file.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="ONNX file to write; a link is followed.")],
    *,
    batch: Batch = None,
    shape: Shapes = None,
    threads: Threads = 0,
    option: ProviderOptions = None,
    json: JsonOption = None,
) -> None:
    """Write a copy of a model whose nodes have their decisions.

    Each node says whether it is taken, and why. Netron shows the metadata of a node beside its attributes. Runs of the
    copy give the same results. Nodes that ONNX Runtime removes or fuses before it asks the provider have none.
    External data are copied to OUT.data.
    """
    out = Output("annotate", json, source, [target])
    options = provider_options(option)
    check_source(source)
    check_name(source)
    session = GivenModel.of(str(source), out.steps).session(EP_NAME, options, threads)
    sizes = open_sizes_for(session, batch, shapes_for(session, shape))
    del session
    say = out.replaces(target)
    try:
        decisions = annotated(source, target, threads=threads, options=options, sizes=sizes)
    except (ImportError, UnicodeError):
        raise
    except ValueError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise FailedError(f"cannot write {shown(target)}: {error.strerror or error}") from None
    except Exception as error:
        raise FailedError(f"{source}: {error}") from None
    say()
    out.print(decisions.caption())
    out.document({"source": str(source), "target": str(target), "options": options, **decisions.to_dict()})
