"""`ort-sparse bench`: the speed of a model on both providers, beside other files and providers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from .. import measure
from ..files import check_target
from ..measure import CPU, Baseline, Bench, Change, Measurement
from ..measure.bench import AXES
from ..measure.providers import find
from ..records import counted
from .bench_tables import show, show_changes, show_steps
from .common import (
    MOST_THREADS,
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
    positive,
    provider_options,
    written,
)
from .given import GivenModel, run
from .inputs import feeds_for

T = TypeVar("T")
AXIS = re.compile(rf"({'|'.join(AXES)})=(.*)", re.S)
Pairs = Annotated[int, typer.Option("--pairs", metavar="N", min=1, help="Pairs of runs, one on each provider.")]
Others = Annotated[list[str] | None, typer.Argument(metavar="[OTHER]", help="A second model to compare with, such as the dense one.")]
Sweep = Annotated[
    list[str] | None,
    typer.Option("--sweep", metavar="AXIS=N,N,...", help=f"Measure several values of {', '.join(AXES)}. More axes may follow."),
]
Against = Annotated[
    list[str] | None,
    typer.Option("--against", metavar="PROVIDER", help="Another provider, or a plugin: its module or library. Can be repeated."),
]


def bench(
    model: ModelArgument,
    others: Others = None,
    *,
    batch: Batch = None,
    shape: Shapes = None,
    inputs: Inputs = None,
    seed: Seed = 0,
    threads: Threads = 0,
    streams: Annotated[int, typer.Option("--streams", metavar="N", min=1, help="Callers that use one session at once.")] = 1,
    sweep: Sweep = None,
    pairs: Pairs = 30,
    seconds: Annotated[
        float | None, typer.Option("--seconds", metavar="SECONDS", help="Measure for so many seconds, whatever the number of pairs.")
    ] = None,
    budget: Budget = 60.0,
    against: Against = None,
    price: Annotated[str | None, typer.Option("--price", metavar="cpu=1.2,gpu=3", help="Money per hour, by device or provider.")] = None,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="OLD.json", help="An earlier --json document to compare with.")
    ] = None,
    fail_under: Annotated[
        float | None,
        typer.Option(
            "--fail-under", metavar="RATIO", help="Exit with 1 below this speed-up. With --baseline, it is relative to the earlier one."
        ),
    ] = None,
    option: ProviderOptions = None,
    no_memory: Annotated[bool, typer.Option("--no-memory", help="Do not measure memory, which takes two more processes.")] = False,
    per_step: Annotated[bool, typer.Option("--per-step", help="Also time every step inside the sparse provider's regions.")] = False,
    csv: Annotated[str | None, typer.Option("--csv", metavar="FILE", help="Write a row per point and provider; - is stdout.")] = None,
    json: JsonOption = None,
) -> None:
    """Measure the speed of a model on both providers.

    Both run in turn, with the same number of threads. The speed-up is the median ratio of paired runs, with its 95 %
    confidence interval. It is valid if the CPU provider, measured against itself, differs from 1 by at most 3 %.
    With --streams, several callers use each session at once, and the ratios are those of throughputs. All files and
    providers take turns, and each ratio is to the CPU provider on MODEL.
    --per-step times every step inside the regions. It takes more runs, which do not count for the speed-up.
    Ctrl-C ends a sweep early: the points that were complete by then are shown and written, and the exit code is 130.
    Exit code 1 if no node is taken, if the results differ, or by --fail-under.
    """
    files, axes = _sorted(others or [], sweep or [], {"batch": batch, "threads": threads, "streams": streams})
    out = Output("bench", json, model, [inputs, baseline, *files, csv if csv != "-" else None], quiet=csv == "-")
    _check_csv(csv, json, [Path(model), *map(Path, files), *([Path(inputs)] if inputs else []), *([baseline] if baseline else [])])
    options, prices = provider_options(option), _prices(price)
    for name, number in (("--seconds", seconds), ("--fail-under", fail_under)):
        positive(name, number)
    if inputs is not None and axes["batch"] != [None]:
        raise UsageError("the arrays of --inputs have a batch already: leave out --sweep batch")
    try:
        earlier = None if baseline is None else Baseline(baseline)
        rivals = [find(name) for name in against or ()]
    except ValueError as error:
        raise UsageError(str(error)) from None
    given = GivenModel.of(model, out.steps)
    second = GivenModel.of(files[0], out.steps) if files else None
    session = given.session(CPU, threads=threads)
    feeds = {size: feeds_for(session, size, shape, inputs, seed) for size in axes["batch"]}
    run(session, feeds[axes["batch"][0]], CPU)  # reports errors of the model or the inputs before the measurement
    if second is not None:
        second.session(CPU, threads=threads)
    del session
    arguments: dict[str, Any] = {
        **{"other": second and second.source, "against": rivals, **axes},
        **{"seconds": seconds, "pairs": pairs, "budget_s": budget, "options": options, "prices": prices, "memory": not no_memory},
        **{"seed": seed, "names": (given.name, *((second.name,) if second else ())), "progress": out.steps},
    }
    result = _attempted(given, out, lambda: measure.bench(given.source, feeds.__getitem__, **arguments))
    show(result, out)
    if not result.complete:
        out.print(f"stopped by Ctrl-C after {counted(len(result.points), 'point')} of the sweep")
    changes = _changes(earlier, result)
    show_changes(changes, baseline, out)
    profile = None
    if per_step and result.complete and result.points[0].ownership.owned:
        more: dict[str, Any] = {"runs": pairs, "budget_s": budget, "progress": out.steps}
        first = feeds[axes["batch"][0]]
        profile = _attempted(given, out, lambda: measure.profile(given.source, first, options, axes["threads"][0], **more))
        show_steps(profile, out)
    if csv is not None:
        written(csv, result.to_csv())
    out.document(
        {
            **result.to_dict(),
            "steps_s": out.steps.seconds,
            **({"per_step": profile.to_dict()} if profile is not None else {}),
            **({"baseline": str(baseline), "changes": [change.to_dict() for change in changes]} if earlier is not None else {}),
        }
    )
    if not result.complete:
        raise typer.Exit(STOPPED)
    _judge(result, changes, fail_under, second is not None or bool(rivals))


def _judge(result: Bench, changes: list[Change], fail_under: float | None, compared: bool) -> None:
    """End with 1 if nothing was measured, if results differ, or if a point is slower than allowed."""
    if fail_under is not None:
        found = [(each, each.ratio, "{:.3f} times the speed-up of the baseline") for each in changes]
        now = [(each, each.speed_up.median if each.speed_up is not None else 0.0, "a speed-up of {:.3f}") for each in result.points]
        for point, ratio, words in found or now:
            if ratio < fail_under:
                where = ", ".join(f"{axis} {getattr(point, axis)}" for axis in AXES)
                raise FailedError(f"{where}: {words.format(ratio)} is below --fail-under {fail_under:g}")
    measured_something = any(point.cpu is not None if compared else point.speed_up is not None for point in result.points)
    if not measured_something or not result.agrees:
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


def _changes(earlier: Baseline | None, result: Bench) -> list[Change]:
    """Return the changes since the baseline, none without one."""
    try:
        return [] if earlier is None else earlier.changes(result)
    except ValueError as error:
        raise FailedError(str(error)) from None


def _sorted(words: list[str], sweep: list[str], alone: dict[str, Any]) -> tuple[list[str], dict[str, list[Any]]]:
    """Return the files among the arguments after MODEL, and the values of each axis: more axes of --sweep may stand among the files."""
    axes: dict[str, list[Any]] = {}
    files = [word for word in words if not (sweep and AXIS.fullmatch(word))]
    for text in [*(part for each in sweep for part in each.split()), *(word for word in words if word not in files)]:
        match = AXIS.fullmatch(text)
        values = match[2].split(",") if match else []
        least, most = (0, MOST_THREADS) if match and match[1] == "threads" else (1, 2**31 - 1)
        if match is None or not all(value.isdecimal() and least <= int(value) <= most for value in values):
            raise UsageError(f"--sweep {text!r}: expected {' or '.join(f'{axis}=1,2,4' for axis in AXES)}")
        if match[1] in axes:
            raise UsageError(f"--sweep: {match[1]} is given twice")
        axes[match[1]] = list(dict.fromkeys(map(int, values)))
    if len(files) > 1:
        raise UsageError(f"at most two models can be compared, {files[1]!r} is one too many")
    return files, {axis: axes.get(axis, [value]) for axis, value in alone.items()}


def _prices(text: str | None) -> dict[str, float]:
    """Return the prices of `--price cpu=1.2,gpu=3`."""
    prices = {}
    for part in (text or "").split(",") if text is not None else ():
        name, _, number = part.partition("=")
        try:
            prices[name.strip()] = float(number)
        except ValueError:
            prices[name.strip()] = 0.0
        if not name.strip() or not 0 < prices[name.strip()] < float("inf"):
            raise UsageError(f"--price {part!r}: expected NAME=NUMBER above 0, such as cpu=1.2")
    return prices


def _check_csv(csv: str | None, json: str | None, kept: list[Path]) -> None:
    """Raise UsageError if the file of --csv cannot be written, or would replace another file of the command."""
    if csv in (None, "-"):
        if csv == json == "-":
            raise UsageError("--csv - and --json -: only one of them can go to stdout")
        return
    files = {path: "a file of the command" for path in kept}
    if json not in (None, "-"):
        files[Path(str(json))] = "the document of --json"
    try:
        check_target(Path(str(csv)), files, special=True)
    except ValueError as error:
        raise UsageError(f"--csv: {error}") from None
