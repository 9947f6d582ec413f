"""The decision about each node of a model, with the reason."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..ort import registration
from ..ort.sessions import ask
from ..partition.decision import NodeDecision


def explain(session_or_model: Any) -> list[NodeDecision]:
    """Return the decision about every node that ONNX Runtime showed to the provider, in topological order.

    `session_or_model` is an `InferenceSession` that has the provider, or a model: a path, bytes or an `onnx.ModelProto`. For a model, a
    session with the default options is created. The nodes are those after ONNX Runtime's basic optimisations, so names may differ from the
    model's, and BatchNormalization may be missing. Nodes in bodies of If, Loop and Scan come first. ValueError if the session does not have
    the provider.
    """
    session = session_or_model
    if not hasattr(session, "set_ep_dynamic_options"):
        session = _session(session_or_model)
    graphs = ask(session, "explain")
    return [_decision(entry) for decisions in graphs.values() for entry in decisions]


@dataclass(frozen=True)
class Expected:
    """Milliseconds that a run is expected to take: with ONNX Runtime's CPU provider alone, and with the provider."""

    cpu_ms: float
    ms: float

    @property
    def speedup(self) -> float:
        """Return how many times as fast the model is expected to be with the provider."""
        return self.cpu_ms / self.ms

    def to_dict(self) -> dict[str, float]:
        """Return a JSON-ready dict with the fields and the speed-up as keys."""
        return {"cpu_ms": self.cpu_ms, "ms": self.ms, "speedup": self.speedup}


def expected(decisions: Iterable[NodeDecision]) -> Expected | None:
    """Return what a run is expected to take, by what `explain` returned; None where the provider takes nothing or has estimated nothing.

    Sizes that are only known at run time count with nominal ones: batch 1, 128 rows, images of 28 x 28.
    """
    estimated = [(d.cpu_ms, d.ms) for d in decisions if d.cpu_ms is not None and d.ms is not None]
    cpu_ms, ms = (sum(column) for column in zip(*estimated, strict=True)) if estimated else (0.0, 0.0)
    return Expected(cpu_ms, ms) if ms > 0 else None


def _session(model: Any) -> Any:
    """Create a session of `model` with the provider and without fallback."""
    if hasattr(model, "SerializeToString"):
        model = model.SerializeToString()
    source = model if isinstance(model, bytes) else os.fspath(model)
    return registration.runtime().InferenceSession(source, registration.session_options(), enable_fallback=0)


def _decision(entry: dict[str, Any]) -> NodeDecision:
    shape = entry["shape"]
    return NodeDecision(**{**entry, "shape": None if shape is None else tuple(shape)})
