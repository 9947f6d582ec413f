"""Prunes a model: the arguments of a user, a pass or several, and the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from .allocation import ALLOCATIONS, Allocation, is_uniform, weights
from .batches import read
from .methods import METHODS, WITHOUT_FIT
from .patterns import Pattern, pattern_of
from .pruned import Pruned
from .report import WITHIN, Report, Speed, mean_error
from .selection import select, source_of
from .sequential import Pass, Plan, Progress, Setting, needed_memory
from .source import Model
from .speed import LEAST_ZEROS, MOST_ZEROS, Bench, LayerTimes, Search
from .store import Store
from .workers import Workers

MEMORY = 2 << 30
CORRECTIONS = 2
"""How often a model is pruned anew because it is not as fast as was asked for."""


def prune(
    model: Model,
    data: Iterable[Mapping[str, NDArray]],
    *,
    sparsity: float | None = None,
    speedup: float | None = None,
    pattern: str = "unstructured",
    method: str = "admm",
    allocation: str | None = None,
    skip: str | None = None,
    only: str | None = None,
    samples: int | None = None,
    holdout: float = 0.2,
    memory: int = MEMORY,
    threads: int | None = None,
    seed: int = 0,
    timed: bool = True,
    progress: Progress = lambda done, total, what: None,
) -> Pruned:
    """Prune a model on calibration data, without labels and without training.

    `model` is a path, bytes or a `ModelProto`, which do not change. `data` yields dicts from input names to arrays; the first axis counts
    samples where the model leaves its size open. At most `samples` of them are used, and of these a share `holdout` only to judge the
    result. `sparsity` is the share of zeros in all pruned layers; the pattern "N:M" implies it. `speedup`, such as 1.5, in its place
    searches the sparsity for this factor of speed over the CPU provider, on the batch of median size. Speeds are measured with the
    model's open dimensions fixed to that size; a warning says where fewer nodes are taken while they are open.

    `allocation` says how zeros are spread over the layers: "uniform", or "measured" by the error that each layer causes when it alone is
    pruned, if that leaves more of the model on held-out data; it takes several times as long, and is what `speedup` does by default.

    `skip` and `only` are regular expressions of the layers' names. Without `only`, first convolutions, depthwise ones, classifiers and
    small layers stay dense. `memory` is a limit in bytes on what is needed besides the model. Results depend on `seed`, not on `threads`,
    except that a `speedup` depends on measured times. `timed` measures the speed of the result for the report, in some seconds.

    ValueError, of one line, if the arguments, the model or the data do not allow it.
    """
    chosen_pattern, chosen_method = pattern_of(pattern), _row("method", method, METHODS)
    if speedup is None:
        sparsity = _sparsity(sparsity, chosen_pattern)
    else:
        _check_speedup(speedup, sparsity, chosen_pattern)
    allocation = allocation or ("uniform" if speedup is None else "measured")
    allocate = _row("allocation", allocation, ALLOCATIONS)
    if threads is not None and threads < 1:
        raise ValueError(f"threads {threads}: at least 1 is needed")
    source = source_of(model)
    selected = select(source, skip, only)
    sizes = [needed_memory(layer, way) for layer in selected.pruned for way in (chosen_method, WITHOUT_FIT)]
    solving = max((size for size in sizes if size <= memory), default=0)
    inputs = Store((memory - solving) // 2)
    held = read(source, data, samples, holdout, seed, inputs)
    with Workers(threads) as workers:
        setting = Setting(
            source, selected, chosen_method, chosen_pattern, held, workers, solving, memory - solving - inputs.used, seed, progress
        )
        bench = Bench(setting, threads or 0) if timed or speedup is not None else None
        speed: Speed | None = None
        times: LayerTimes = {}
        if speedup is not None and bench is not None:
            run, speed, times = _as_fast(setting, allocate, bench, speedup)
        else:
            run = _best(setting, allocate(setting, sparsity or 0.0, weights(setting)))
            if bench is not None:
                speed, times = bench.judge(run.changes, None)
    report = Report(
        method,
        pattern,
        "uniform" if is_uniform(run.plan) else allocation,
        held.samples,
        held.held_out_samples,
        tuple(replace(each, cpu_ms=cpu_ms, ms=ms) for each in run.reports for cpu_ms, ms in [times.get(each.name, (None, None))]),
        tuple(replace(each, refitted=each.name in run.refitted) for each in selected.skipped),
        tuple(run.outputs),
        (*run.warnings, *_missed(speed)),
        speed,
    )
    return Pruned(run.changes, run.masks, report)


def _best(setting: Setting, plans: Iterable[Plan]) -> Pass:
    """Prune by each plan, and return the pass that leaves most of the model on held-out data."""
    best: Pass | None = None
    for plan in plans:
        run = Pass(setting, plan)
        run.run()
        if best is None or mean_error(run.outputs) < mean_error(best.outputs):
            best = run
    assert best is not None
    return best


def _as_fast(setting: Setting, allocate: Allocation, bench: Bench, speedup: float) -> tuple[Pass, Speed, LayerTimes]:
    """Prune so that the model is `speedup` times as fast: the result is measured, and pruned anew with other sparsities if it is not."""
    search = Search([layer.name for layer in setting.selected.pruned], speedup, bench.speed_up, setting.progress)
    sparsity = search.sparsity()
    costs = bench.costs(sorted({LEAST_ZEROS, sparsity, MOST_ZEROS}))
    plans = allocate(setting, sparsity, costs)
    run = _best(setting, [plan if is_uniform(plan) else search.as_fast(plan) for plan in plans])
    speed, times = bench.judge(run.changes, speedup)
    tried = [(run.plan, speed.factor)]
    while speed.off > WITHIN and len(tried) <= CORRECTIONS:
        other = _best(setting, [search.next_plan(tried)])
        other_speed, other_times = bench.judge(other.changes, speedup)
        tried.append((other.plan, other_speed.factor))
        if other_speed.off < speed.off:
            run, speed, times = other, other_speed, other_times
    return run, speed, times


def _missed(speed: Speed | None) -> list[str]:
    """Return warnings if a speed-up was asked for and not reached, and if the model is slower while its sizes are open."""
    if speed is None:
        return []
    missed = f"the speed-up is {speed.factor:.2f}, not the {speed.asked:g} that was asked for" if speed.reached is False else None
    return [warning for warning in (missed, speed.warning()) if warning]


def _row(what: str, name: str, table: Mapping[str, Any]) -> Any:
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}; there are {', '.join(table)}")
    return table[name]


def _sparsity(given: float | None, pattern: Pattern) -> float:
    """Return the share of zeros. ValueError if there is none, or if it is not what the pattern implies."""
    if pattern.sparsity is not None:
        if given is not None and abs(given - pattern.sparsity) > 1e-6:
            raise ValueError(f"sparsity {given:g}: the pattern {pattern.name} implies {pattern.sparsity:g}; leave it out")
        return pattern.sparsity
    if given is None:
        raise ValueError(f"the pattern {pattern.name} needs a sparsity, such as 0.6, or a speedup")
    if not 0 < given < 1:
        percent = f": for {given:g} % give {given / 100:g}" if 1 < given < 100 else ""
        raise ValueError(f"sparsity {given:g} is not between 0 and 1{percent}")
    return given


def _check_speedup(speedup: float, sparsity: float | None, pattern: Pattern) -> None:
    """Raise ValueError if a speed-up cannot be asked for."""
    if sparsity is not None:
        raise ValueError("sparsity and speedup: give one of them")
    if pattern.sparsity is not None:
        raise ValueError(f"speedup: the pattern {pattern.name} implies a sparsity; give another pattern")
    if not 1 < speedup < 100:
        raise ValueError(f"speedup {speedup:g} is not above 1")
