"""A trace of runs with both providers in one file: ONNX Runtime's own profile, and our steps within it."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..options import EP_NAME
from ..ort.registration import register
from ..ort.sessions import CPU, Feeds, Model, make_session
from .explain import Decisions, explain
from .step_times import StepTime, step_times

RUNS = 10
KERNEL = "_kernel_time"
"""Suffix of ONNX Runtime's events of nodes."""

Event = dict[str, Any]


def trace(
    model: Any,
    feeds: Feeds,
    *,
    runs: int = RUNS,
    threads: int = 0,
    options: Mapping[str, object] | None = None,
    progress: Callable[[str, float], None] = lambda step, share: None,
) -> dict[str, Any]:
    """Return a trace of some runs with the CPU provider and with this one, as a JSON-ready dict in the format of Chrome's trace events.

    `model` is a path, bytes or an `onnx.ModelProto`. Each provider is a process of the trace, with the events of ONNX Runtime's profile.
    The steps of a region are slices within its event: one after the other, each as long as it took in that run. Their arguments are the
    work, the rates and the number of nonzero weights, if the node has a constant weight. A step that the next one computes too has no
    slice. The steps of a region that is in a loop are left out: ONNX Runtime has several events of it in a run.

    ValueError for a wrong option; onnxruntime's exceptions for a model that it cannot load or run.
    """
    register()
    source: Model = model if isinstance(model, bytes | str) or hasattr(model, "__fspath__") else model.SerializeToString()
    events: list[Event] = []
    for pid, provider in enumerate((CPU, EP_NAME), 1):
        progress(f"trace {provider}", 0)
        ours = provider == EP_NAME
        given = {**(options or {}), "profile": "1"} if ours else None
        with tempfile.TemporaryDirectory() as folder:
            session = make_session(source, provider, given, threads, silent=True, profile=Path(folder, "profile"))
            totals = [step_times(session)] if ours else []
            for i in range(runs):
                session.run(None, dict(feeds))
                if ours:
                    totals.append(step_times(session))
                progress(f"trace {provider}", (i + 1) / (runs + 1))
            recorded = json.loads(Path(session.end_profiling()).read_text("utf-8"))
        if ours:
            recorded += steps_within(recorded, totals, nonzeros_of(explain(session)))
        del session
        events.append({"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": provider}})
        events += [{**event, "pid": pid} for event in recorded]
        progress(f"trace {provider}", 1)
    return {"displayTimeUnit": "ms", "traceEvents": events}


def steps_within(recorded: Sequence[Event], totals: Sequence[Sequence[StepTime]], nonzeros: Mapping[str, int]) -> list[Event]:
    """Return a slice per step and run, within the events of regions. `totals` has what the steps have cost before each run, and at last."""
    regions: dict[str, list[Event]] = defaultdict(list)
    for event in recorded:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            regions[event["name"].removesuffix(KERNEL)].append(event)
    slices = []
    for run, (before, after) in enumerate(pairwise(totals)):
        place: dict[str, float] = {}
        for step, earlier in zip(after, before, strict=True):
            found = regions.get(step.region, [])
            cost = step.since(earlier)
            if len(found) != len(totals) - 1 or cost.ns == 0:
                continue
            event = found[run]
            begin = place.get(step.region, float(event["ts"]))
            end = min(begin + cost.ns / 1e3, float(event["ts"] + event["dur"]))  # viewers need slices that lie within each other
            place[step.region] = end
            slices.append(_slice(event, cost, begin, end, nonzeros))
    return slices


def _slice(event: Event, step: StepTime, begin: float, end: float, nonzeros: Mapping[str, int]) -> Event:
    """Return the event of one step."""
    seconds = step.ns / 1e9
    arguments: dict[str, Any] = {"kind": step.kind, "computes": step.description, "step": step.index, "threads": step.threads}
    if step.macs:
        arguments |= {"macs": step.macs, "dense_macs": step.dense_macs, "macs_per_s": step.macs / seconds}
    weight = nonzeros.get(step.name.split(" + ")[0])
    if weight is not None:
        arguments["nnz"] = weight
    arguments |= {"moved_bytes": step.moved_bytes, "gb_per_s": step.gb_s}
    place = {"pid": event["pid"], "tid": event["tid"], "ts": begin, "dur": max(end - begin, 0.0)}
    return {"cat": "Step", "ph": "X", "name": step.name or step.kind, **place, "args": arguments}


def nonzeros_of(decisions: Decisions) -> dict[str, int]:
    """Return the number of nonzero weights of each node that has a constant weight."""
    found = {}
    for decision in decisions:
        if decision.shape is not None and decision.sparsity is not None:
            size = 1
            for length in decision.shape:
                size *= length
            found[decision.name] = round(size * (1 - decision.sparsity))
    return found
