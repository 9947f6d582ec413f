"""`ort-sparse bench`: how fast a model is on both providers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .. import measure
from ..measure import CONTROL_TOLERANCE, CPU, Measurement, Ratio, Side
from ..options import EP_NAME
from .common import (
    Batch,
    FailedError,
    GivenModel,
    Inputs,
    JsonOption,
    ModelArgument,
    Output,
    ProviderOptions,
    Seed,
    Shapes,
    Threads,
    environment,
    provider_options,
    run,
)
from .inputs import feeds_for

TOLERANCE = 1e-4
Pairs = Annotated[int, typer.Option("--pairs", min=1, help="Pairs of runs to measure, one on each provider.")]


def bench(
    model: ModelArgument,
    *,
    batch: Batch = None,
    shape: Shapes = None,
    inputs: Inputs = None,
    seed: Seed = 0,
    threads: Threads = 0,
    pairs: Pairs = 30,
    budget: Annotated[float, typer.Option("--budget", help="Seconds after which a slow model gets fewer pairs, and that is said.")] = 60.0,
    option: ProviderOptions = None,
    no_memory: Annotated[bool, typer.Option("--no-memory", help="Do not measure memory (in two more processes).")] = False,
    json: JsonOption = None,
) -> None:
    """Measure the speed of a model on both providers.

    They run in turn, with the same threads. The speed-up is the median of paired ratios with its 95 % confidence interval,
    valid if the CPU provider against itself stays within 3 %. Exit code 1 if no node is taken or the results differ.
    """
    out = Output("bench", json)
    options = provider_options(option)
    given = GivenModel.of(model, out.steps)
    session = given.session(CPU, threads=threads)
    feeds = feeds_for(session, batch, shape, inputs, seed)
    run(session, feeds, CPU)  # what is wrong with model or inputs is said before the measurement
    del session
    result = measured(given, feeds, out, options=options, threads=threads, pairs=pairs, budget_s=budget, memory=not no_memory)
    show(result, out)
    out.document(
        {
            "model": given.name,
            "inputs": {name: {"shape": list(x.shape), "dtype": str(x.dtype)} for name, x in feeds.items()},
            "options": options,
            "environment": environment(),
            "steps_s": out.steps.seconds,
            "agrees": agrees(result),
            **result.to_dict(),
        }
    )
    if result.speed_up is None or not agrees(result):
        raise typer.Exit(1)


def measured(given: GivenModel, feeds: measure.Feeds, out: Output, **arguments: Any) -> Measurement:
    """`measure.measure` with a command's output. FailedError for what goes wrong in it: the CPU provider could load and run the model."""
    try:
        return measure.measure(given.source, feeds, **arguments, progress=out.steps)
    except ImportError:
        raise
    except Exception as error:
        raise FailedError(f"{given.name}: {error}") from None
    finally:
        out.steps.close()


def agrees(result: Measurement) -> bool:
    """Whether there is something to compare, and all of it is within the tolerance."""
    return bool(result.agreement) and all(a.within(TOLERANCE) for a in result.agreement)


def show(result: Measurement, out: Output) -> None:
    """Tables for people."""
    owned = result.ownership
    operators = ", ".join(f"{count} {name}" for name, count in owned.operators.items())
    out.print(f"{EP_NAME} has {owned.owned} of {owned.nodes} nodes{': ' if operators else ''}{operators}")
    if result.control is None or result.speed_up is None or result.cpu is None or result.sparse is None:
        out.print("It takes nothing of this model, so there is no speed-up to measure; `ort-sparse analyze` says why.")
        return
    memory = result.sparse.memory_mb is not None
    table = out.table("provider", ">p50 ms", ">p90 ms", ">best ms", ">item/s", ">create ms", *[">MB"] * memory)
    for side in (result.cpu, result.sparse):
        table.add_row(*_row(side))
    out.print(table)
    out.print(f"A/A ratio  {_words(result.control)}: {'valid' if result.valid else 'NOT VALID'} (within {CONTROL_TOLERANCE:.0%})")
    out.print(f"speed-up   {_words(result.speed_up)}{'' if result.valid else ': NOT VALID, the machine is not quiet'}")
    if result.speed_up.pairs < result.requested_pairs:
        out.print(f"           {result.speed_up.pairs} pairs instead of {result.requested_pairs}: the time for them was up")
    worst = max(result.agreement, key=lambda a: a.max_relative, default=None)
    if worst is None:
        out.print("agreement  NOTHING COMPARED: no output is a tensor of numbers")
    else:
        verdict = "within" if agrees(result) else "DIFFERS, not within"
        out.print(f"agreement  max|y - y_ort| = {worst.max_relative:.1e} max|y_ort| in {worst.output}: {verdict} {TOLERANCE:.0e}")


def _row(side: Side) -> tuple[str, ...]:
    times = (f"{ms:.2f}" for ms in (side.latency.p50_ms, side.latency.p90_ms, side.latency.min_ms))
    memory = () if side.memory_mb is None else (f"{side.memory_mb:.1f}",)
    return side.provider, *times, f"{side.latency.items_per_s:.1f}", f"{side.creation_ms:.1f}", *memory


def _words(ratio: Ratio) -> str:
    return f"{ratio.median:.3f}  [{ratio.low:.3f}, {ratio.high:.3f}] {ratio.confidence:.0%} of {ratio.pairs} pairs"
