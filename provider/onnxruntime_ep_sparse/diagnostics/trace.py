"""A trace of runs with both providers in one file: ONNX Runtime's own profiles, in which our steps are slices (`ort/_profiler.pyx`)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..options import EP_NAME
from ..ort.registration import register
from ..ort.sessions import CPU, Feeds, Model, make_session

RUNS = 10

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
    The steps of a region are slices within its event (`is_step`). Their arguments are the kernel, how it reads its operands, and threads.
    Under `work` they have multiply-adds, nonzero weights, bytes of activations, and rates. A step has no slice if the next one computes
    it too, or if it finds its result in place.

    ValueError for a wrong option; onnxruntime's exceptions for a model that it cannot load or run.
    """
    register()
    source: Model = model if isinstance(model, bytes | str) or hasattr(model, "__fspath__") else model.SerializeToString()
    events: list[Event] = []
    for pid, provider in enumerate((CPU, EP_NAME), 1):
        progress(f"trace {provider}", 0)
        with tempfile.TemporaryDirectory() as folder:
            given = options if provider == EP_NAME else None
            session = make_session(source, provider, given, threads, silent=True, profile=Path(folder, "profile"))
            for i in range(runs):
                session.run(None, dict(feeds))
                progress(f"trace {provider}", (i + 1) / (runs + 1))
            recorded = json.loads(Path(session.end_profiling()).read_text("utf-8"))
        del session
        events.append({"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": provider}})
        events += [{**event, "pid": pid} for event in recorded]
        progress(f"trace {provider}", 1)
    return {"displayTimeUnit": "ms", "traceEvents": events}


def is_step(event: Event) -> bool:
    """Return whether an event of a trace is a step of a region."""
    return event.get("cat") == "Kernel" and event["args"].get("provider") == EP_NAME and "kind" in event["args"]
