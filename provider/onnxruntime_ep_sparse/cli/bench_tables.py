"""The tables of commands that measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..diagnostics.step_times import Cost
from ..files import shown
from ..measure import CONTROL_TOLERANCE, CPU, Bench, Change, Measurement, Profile, Ratio
from ..measure.agreement import BYTES
from ..measure.bench import AXES, FIGURES
from ..options import EP_NAME
from ..records import counted
from ..timing import CONFIDENCE, Interval
from .common import Output

COSTS = (">ms", ">share", ">GFLOP/s", ">of peak", ">dense-equivalent", ">GB/s")
INTEGERS = {">GFLOP/s": ">GMAC/s"}
"""Columns with another unit where weights are 8-bit integers: multiply-adds, half as many as GFLOP."""
INVALID = "NOT VALID, there is other load on the machine"


def show(result: Bench, out: Output) -> None:
    """Print a measurement: all about it if it has one point, else a row per point and provider."""
    if len(result.points) == 1:
        show_point(result.points[0], out, result)
        return
    per_money = any(row["per_money"] is not None for row in result.records())
    files = result.other is not None
    columns = [*["file"] * files, *(f">{axis}" for axis in AXES), "provider", ">p50 ms", ">p90 ms", ">p99 ms", ">item/s", ">speed-up"]
    table = out.table(*columns, *[">items per money"] * per_money, "remarks")
    for point in result.points:
        axes = [str(getattr(point, axis)) for axis in AXES]
        remarks = "" if point.valid or point.control is None else "not valid"
        for name, side, ratio in result.sides(point):
            t = side.latency
            figures = [*map(_ms, (t.p50_ms, t.p90_ms, t.p99_ms)), f"{t.items_per_s:.1f}"]
            speed_up = "" if ratio is None else f"{ratio.median:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
            money = [_money(result.per_money(side))] * per_money
            table.add_row(*[name] * files, *axes, side.provider, *figures, speed_up, *money, remarks)
        if point.speed_up is None:
            row = [*[result.model] * files, *axes, EP_NAME, "", "", "", "", "", *[""] * per_money]
            table.add_row(*row, "no node is taken")
    out.print(table)
    out.print(f"speed-up: median ratio to {CPU} on {result.model}, with its 95 % confidence interval")
    for point in result.points:
        if not point.agrees:
            where = ", ".join(f"{axis} {getattr(point, axis)}" for axis in AXES)
            out.print(f"{where}: {_agreement(point)}")
    worst = max((point for point in result.points if point.agreement), key=_worst, default=None)
    if worst is not None and result.agrees:
        out.print(_agreement(worst))


def show_point(result: Measurement, out: Output, whole: Bench | None = None) -> None:
    """Print the measurement of one point; `whole` has names and prices."""
    owned = result.ownership
    operators = ", ".join(f"{count} {name}" for name, count in owned.operators.items())
    out.print(f"{EP_NAME} has {owned.owned} of {counted(owned.nodes, 'node')}{': ' if operators else ''}{operators}")
    for other in result.others:
        if other.side.provider != CPU:
            nodes = f"{other.ownership.owned} of {counted(other.ownership.nodes, 'node')}"
            out.print(f"{other.side.provider} has {nodes} of {other.name}")
    if result.control is None or result.cpu is None:
        out.print("No node was taken, so there is no speed-up to measure. Run `ort-sparse analyze` to see why.")
        return
    sides = [("", side) for side in (result.cpu, result.sparse) if side is not None]
    if whole is not None:
        sides = [(name, side) for name, side, _ in whole.sides(result)]
    files = len({name for name, _ in sides}) > 1
    memory = any(side.memory_mb is not None for _, side in sides)
    money = whole is not None and bool(whole.prices)
    columns = (*["file"] * files, "provider", ">p50 ms", ">p90 ms", ">p99 ms", ">best ms", ">item/s", ">create ms", *[">MB"] * memory)
    table = out.table(*columns, *[">items per money"] * money)
    for name, side in sides:
        t = side.latency
        times = map(_ms, (t.p50_ms, t.p90_ms, t.p99_ms, t.min_ms))
        used = ["" if side.memory_mb is None else f"{side.memory_mb:.1f}"] * memory
        cost = [_money(whole.per_money(side))] if money and whole is not None else []
        table.add_row(*[name] * files, side.provider, *times, f"{t.items_per_s:.1f}", f"{side.creation_ms:.1f}", *used, *cost)
    out.print(table)
    if whole is not None:
        table = out.table(*["file"] * files, "interval (95 %)", ">p50 ms", ">p90 ms", ">p99 ms", ">item/s")
        for name, side in sides:
            table.add_row(*[name] * files, side.provider, *(_ends(figure, side.latency.intervals[figure]) for figure in FIGURES))
        out.print(table)
    if result.streams > 1:
        out.print(f"{counted(result.streams, 'caller')} of each session at once; ratios are those of items per second")
    out.print(f"A/A ratio  {_words(result.control)}: {'valid' if result.valid else 'NOT VALID'} (within {CONTROL_TOLERANCE:.0%})")
    if result.speed_up is None:
        out.print(f"speed-up   none: {EP_NAME} takes no node of it")
    else:
        out.print(f"speed-up   {_words(result.speed_up)}{'' if result.valid else f': {INVALID}'}")
    for other in result.others:
        out.print(f"{other.name} on {other.side.provider}: {_words(other.ratio)}")
    pairs = result.control.pairs if result.speed_up is None else result.speed_up.pairs
    if result.requested_pairs is not None and pairs < result.requested_pairs:
        out.print(f"           {pairs} pairs instead of {result.requested_pairs}: the time budget was spent")
    out.print(_agreement(result))
    for other in result.others:
        if other.agreement:
            farthest = max(other.agreement, key=lambda a: a.max_relative / a.tolerance)
            out.print(f"{other.name} on {other.side.provider}: cosine {farthest.cosine:.6f} with the first, in {farthest.output}")


def show_changes(changes: Sequence[Change], baseline: Path | None, out: Output) -> None:
    """Print how the speed-up at each point has changed since the baseline."""
    if baseline is None:
        return
    table = out.table(*(f">{axis}" for axis in AXES), ">speed-up before", ">now", ">ratio", "interval")
    for each in changes:
        figures = (f"{each.before:.3f}", f"{each.now:.3f}", f"{each.ratio:.3f}", f"{each.low:.3f} to {each.high:.3f}")
        table.add_row(*(str(getattr(each, axis)) for axis in AXES), *figures)
    out.print(f"compared with {shown(baseline)}")
    out.print(table)


def _agreement(result: Measurement) -> str:
    """Return how far the outputs of both providers are from each other."""
    if not result.agreement:
        return "agreement  NOTHING COMPARED: no output is a tensor of numbers"
    worst = max(result.agreement, key=lambda a: (not a.within(), a.max_relative / a.tolerance))
    return f"agreement  max|y - y_ort| = {worst.max_relative:.1e} max|y_ort| in {worst.output}: {worst.verdict}"


def _ends(figure: str, interval: Interval) -> str:
    """Return the interval of a figure, with its confidence where that is below 95 %: there were too few runs."""
    *ends, confidence = interval
    low, high = (f"{end:.1f}" if figure == "items_per_s" else _ms(end) for end in ends)
    return f"{low} to {high}{'' if confidence >= CONFIDENCE else f' ({int(100 * confidence)}%)'}"


def _ms(ms: float) -> str:
    return f"{ms:.2f}" if ms >= 1 else f"{ms:.3f}"


def _worst(result: Measurement) -> float:
    return max(a.max_relative for a in result.agreement)


def _money(items: float | None) -> str:
    return "" if items is None else f"{items:,.0f}"


def show_steps(profile: Profile, out: Output) -> None:
    """Print tables of all steps in the order in which they run, and of their kinds."""
    regions = list(dict.fromkeys(step.region for step in profile.steps))
    spent = {region: Cost.total(step for step in profile.steps if step.region == region).ns for region in regions}
    types = {step.dtype for step in profile.steps} - {""}
    integers = bool(types.intersection(BYTES))
    costs = tuple(INTEGERS.get(title, title) for title in COSTS) if integers else COSTS
    typed = bool(types - {"float32"})
    table = out.table(">step", "kind", "node", "computes", *["dtype"] * typed, *costs)
    for step in profile.steps:
        number = f"{regions.index(step.region)}." if len(regions) > 1 else ""
        figures = _costs(step, spent[step.region], profile, integers)
        table.add_row(f"{number}{step.index}", step.kind, step.name, step.description, *[step.dtype] * typed, *figures)
    out.print()
    out.print(table)
    whole = Cost.total(profile.steps)
    table = out.table("kind", ">steps", *costs)
    for kind, cost in profile.kinds.items():
        table.add_row(kind, str(sum(step.kind == kind for step in profile.steps)), *_costs(cost, whole.ns, profile, integers))
    table.add_row("all", str(len(profile.steps)), *_costs(whole, whole.ns, profile, integers))
    out.print(table)
    out.print(f"{whole.ms:.2f} ms of {profile.wall_ms:.2f} ms per run, mean of {profile.runs} runs; shares are of the step's region")
    cores = counted(profile.threads, "thread")
    peak, rate = (profile.peak_gflops / 2, "GMAC/s") if integers else (profile.peak_gflops, "GFLOP/s")
    out.print(f"FMA peak {peak:.0f} {rate} per core, times {cores}; {rate} count nonzero weights, GB/s activations")


def _costs(cost: Cost, ns: int, profile: Profile, integers: bool) -> tuple[str, ...]:
    rate, dense = (cost.gmac_s, cost.dense_gmac_s) if integers else (cost.gflops, cost.dense_gflops)
    rates = (f"{rate:.1f}", f"{profile.of_peak(cost):.0%}", f"{dense:.0f}") if cost.macs else ("", "", "")
    return f"{cost.ms:.3f}", f"{cost.ns / max(ns, 1):.1%}", *rates, f"{cost.gb_s:.1f}" if cost.moved_bytes else ""


def _words(ratio: Ratio) -> str:
    return f"{ratio.median:.3f}  [{ratio.low:.3f}, {ratio.high:.3f}] ({ratio.confidence:.0%} confidence, {ratio.pairs} pairs)"
