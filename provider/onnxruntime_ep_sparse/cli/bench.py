"""`ort-sparse bench`: the speed of a model on both providers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from .. import measure
from ..diagnostics.step_times import Cost
from ..measure import CONTROL_TOLERANCE, CPU, TOLERANCE, Measurement, Profile, Ratio, Side
from ..options import EP_NAME
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
    counted,
    provider_options,
)
from .given import GivenModel, run
from .inputs import feeds_for
from .machine import environment

T = TypeVar("T")
COSTS = (">ms", ">share", ">GFLOP/s", ">of peak", ">dense-equivalent", ">GB/s")
Pairs = Annotated[int, typer.Option("--pairs", min=1, help="Pairs of runs, one on each provider.")]


def bench(
    model: ModelArgument,
    *,
    batch: Batch = None,
    shape: Shapes = None,
    inputs: Inputs = None,
    seed: Seed = 0,
    threads: Threads = 0,
    pairs: Pairs = 30,
    budget: Annotated[float, typer.Option("--budget", help="Seconds after which a slow model gets fewer pairs.")] = 60.0,
    option: ProviderOptions = None,
    no_memory: Annotated[bool, typer.Option("--no-memory", help="Do not measure memory, which takes two more processes.")] = False,
    per_step: Annotated[bool, typer.Option("--per-step", help="Also time every step inside the sparse provider's regions.")] = False,
    json: JsonOption = None,
) -> None:
    """Measure the speed of a model on both providers.

    Both run in turn, with the same number of threads. The speed-up is the median ratio of paired runs, with its 95 %
    confidence interval. It is valid if the CPU provider, measured against itself, differs from 1 by at most 3 %.
    Exit code 1 if no node is taken or if the results differ. --per-step times every step inside the regions. It
    takes more runs, which do not count for the speed-up.
    """
    out = Output("bench", json, model, [inputs])
    options = provider_options(option)
    given = GivenModel.of(model, out.steps)
    session = given.session(CPU, threads=threads)
    feeds = feeds_for(session, batch, shape, inputs, seed)
    run(session, feeds, CPU)  # reports errors of the model or the inputs before the measurement
    del session
    result = measured(given, feeds, out, options=options, threads=threads, pairs=pairs, budget_s=budget, memory=not no_memory)
    show(result, out)
    profile = None
    if per_step and result.ownership.owned:
        arguments: dict[str, Any] = {"runs": pairs, "budget_s": budget, "progress": out.steps}
        profile = _attempted(given, out, lambda: measure.profile(given.source, feeds, options, threads, **arguments))
        show_steps(profile, out)
    out.document(
        {
            "model": given.name,
            "inputs": {name: {"shape": list(x.shape), "dtype": str(x.dtype)} for name, x in feeds.items()},
            "options": options,
            "environment": environment(),
            "steps_s": out.steps.seconds,
            "agrees": agrees(result),
            **result.to_dict(),
            **({"per_step": profile.to_dict()} if profile is not None else {}),
        }
    )
    if result.speed_up is None or not agrees(result):
        raise typer.Exit(1)


def measured(given: GivenModel, feeds: measure.Feeds, out: Output, **arguments: Any) -> Measurement:
    """Call `measure.measure` and show its progress."""
    return _attempted(given, out, lambda: measure.measure(given.source, feeds, **arguments, progress=out.steps))


def _attempted(given: GivenModel, out: Output, work: Callable[[], T]) -> T:
    """Return the result of a measurement. FailedError if it fails: the CPU provider could load and run the model before."""
    try:
        return work()
    except ImportError:
        raise
    except Exception as error:
        raise FailedError(f"{given.name}: {error}") from None
    finally:
        out.steps.close()


def agrees(result: Measurement) -> bool:
    """Return whether there were outputs to compare, and all of them are within the tolerance."""
    return bool(result.agreement) and all(a.within(TOLERANCE) for a in result.agreement)


def show(result: Measurement, out: Output) -> None:
    """Print the result of a measurement."""
    owned = result.ownership
    operators = ", ".join(f"{count} {name}" for name, count in owned.operators.items())
    out.print(f"{EP_NAME} has {owned.owned} of {owned.nodes} nodes{': ' if operators else ''}{operators}")
    if result.control is None or result.speed_up is None or result.cpu is None or result.sparse is None:
        out.print("No node was taken, so there is no speed-up to measure. Run `ort-sparse analyze` to see why.")
        return
    memory = result.sparse.memory_mb is not None
    table = out.table("provider", ">p50 ms", ">p90 ms", ">best ms", ">item/s", ">create ms", *[">MB"] * memory)
    for side in (result.cpu, result.sparse):
        table.add_row(*_row(side))
    out.print(table)
    out.print(f"A/A ratio  {_words(result.control)}: {'valid' if result.valid else 'NOT VALID'} (within {CONTROL_TOLERANCE:.0%})")
    out.print(f"speed-up   {_words(result.speed_up)}{'' if result.valid else ': NOT VALID, there is other load on the machine'}")
    if result.speed_up.pairs < result.requested_pairs:
        out.print(f"           {result.speed_up.pairs} pairs instead of {result.requested_pairs}: the time budget was spent")
    worst = max(result.agreement, key=lambda a: a.max_relative, default=None)
    if worst is None:
        out.print("agreement  NOTHING COMPARED: no output is a tensor of numbers")
    else:
        verdict = "within" if agrees(result) else "DIFFERS, not within"
        out.print(f"agreement  max|y - y_ort| = {worst.max_relative:.1e} max|y_ort| in {worst.output}: {verdict} {TOLERANCE:.0e}")


def show_steps(profile: Profile, out: Output) -> None:
    """Print tables of all steps in the order in which they run, and of their kinds."""
    regions = list(dict.fromkeys(step.region for step in profile.steps))
    spent = {region: Cost.total(step for step in profile.steps if step.region == region).ns for region in regions}
    table = out.table(">step", "kind", "node", "computes", *COSTS)
    for step in profile.steps:
        number = f"{regions.index(step.region)}." if len(regions) > 1 else ""
        costs = ("in next",) if step.within_next == step.runs else _costs(step, spent[step.region], profile)
        table.add_row(f"{number}{step.index}", step.kind, step.name, step.description, *costs)
    out.print()
    out.print(table)
    whole = Cost.total(profile.steps)
    table = out.table("kind", ">steps", *COSTS)
    for kind, cost in profile.kinds.items():
        table.add_row(kind, str(sum(step.kind == kind for step in profile.steps)), *_costs(cost, whole.ns, profile))
    table.add_row("all", str(len(profile.steps)), *_costs(whole, whole.ns, profile))
    out.print(table)
    out.print(f"{whole.ms:.2f} ms of {profile.wall_ms:.2f} ms per run, mean of {profile.runs} runs; shares are of the step's region")
    cores = counted(profile.threads, "thread")
    out.print(f"FMA peak {profile.peak_gflops:.0f} GFLOP/s per core, times {cores}; GFLOP/s count nonzero weights, GB/s activations")


def _costs(cost: Cost, ns: int, profile: Profile) -> tuple[str, ...]:
    rates = (f"{cost.gflops:.1f}", f"{profile.of_peak(cost):.0%}", f"{cost.dense_gflops:.0f}") if cost.macs else ("", "", "")
    return f"{cost.ms:.3f}", f"{cost.ns / max(ns, 1):.1%}", *rates, f"{cost.gb_s:.1f}" if cost.moved_bytes else ""


def _row(side: Side) -> tuple[str, ...]:
    times = (f"{ms:.2f}" for ms in (side.latency.p50_ms, side.latency.p90_ms, side.latency.min_ms))
    memory = () if side.memory_mb is None else (f"{side.memory_mb:.1f}",)
    return side.provider, *times, f"{side.latency.items_per_s:.1f}", f"{side.creation_ms:.1f}", *memory


def _words(ratio: Ratio) -> str:
    return f"{ratio.median:.3f}  [{ratio.low:.3f}, {ratio.high:.3f}] ({ratio.confidence:.0%} confidence, {ratio.pairs} pairs)"
