"""Prunes a model: the arguments of a user, a pass or several, and the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from .allocation import ALLOCATIONS, weights
from .batches import read
from .layers import Layer
from .methods import METHODS
from .patterns import Pattern, pattern_of
from .pruned import Pruned
from .report import Report, mean_error
from .selection import select
from .sequential import Pass, Progress, Setting
from .source import Model, Source
from .workers import Workers

MEMORY = 2 << 30


def prune(
    model: Model,
    data: Iterable[Mapping[str, NDArray]],
    *,
    sparsity: float | None = None,
    pattern: str = "unstructured",
    method: str = "admm",
    allocation: str = "uniform",
    skip: str | None = None,
    only: str | None = None,
    samples: int | None = None,
    holdout: float = 0.2,
    memory: int = MEMORY,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress = lambda done, total, what: None,
) -> Pruned:
    """Prune a model on calibration data, without labels and without training.

    `model` is a path, bytes or a `ModelProto`, which do not change. `data` yields dicts from input names to arrays; the first axis counts
    samples where the model leaves its size open. At most `samples` of them are used, and of these a share `holdout` only to judge the
    result. `sparsity` is the share of zeros in all pruned layers; the pattern "N:M" implies it.

    `skip` and `only` are regular expressions of the layers' names. Without `only`, first convolutions, depthwise ones, classifiers and
    small layers stay dense. `memory` is a limit in bytes on what is needed besides the model. Results depend on `seed`, not on `threads`.

    ValueError, of one line, if the arguments, the model or the data do not allow it.
    """
    chosen_pattern, chosen_method = pattern_of(pattern), _row("method", method, METHODS)
    sparsity = _sparsity(sparsity, chosen_pattern)
    allocate = _row("allocation", allocation, ALLOCATIONS)
    if threads is not None and threads < 1:
        raise ValueError(f"threads {threads}: at least 1 is needed")
    source = source_of(model)
    selected = select(source, skip, only)
    largest = max(selected.pruned, key=_needed_memory)
    needed = _needed_memory(largest)
    if needed > memory:
        raise ValueError(f"memory {memory / 1e6:.0f} MB is too little: layer {largest.name!r} needs {needed / 1e6:.0f} MB, or skip it")
    held = read(source, data, samples, holdout, seed)
    selected.dense[:] = [layer for layer in selected.dense if _needed_memory(layer) <= needed]
    with Workers(threads) as workers:
        setting = Setting(source, selected, chosen_method, chosen_pattern, held, workers, memory - needed, seed, progress)
        runs = []
        for plan in allocate(setting, sparsity, weights(setting)):
            runs.append(Pass(setting, plan))
            runs[-1].run()
    run = min(runs, key=lambda each: mean_error(each.outputs))
    report = Report(
        method,
        pattern,
        held.samples,
        held.held_out_samples,
        tuple(run.reports),
        tuple(replace(each, refitted=each.name in run.refitted) for each in selected.skipped),
        tuple(run.outputs),
        tuple(run.warnings),
    )
    return Pruned(run.changes, run.masks, report)


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
        raise ValueError(f"the pattern {pattern.name} needs a sparsity, such as 0.6")
    if not 0 < given < 1:
        raise ValueError(f"sparsity {given:g} is not between 0 and 1")
    return given


def _needed_memory(layer: Layer) -> int:
    """Return the bytes that solving a layer needs: its matrices (K, K), and copies of its weight."""
    groups, outputs, inputs = layer.shape__gmk
    return 4 * ((4 * groups + 1) * inputs**2 + 10 * outputs * inputs + groups * outputs * inputs)
