"""The decision about each node of a model, with the reason."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..options import EP_NAME
from ..ort import registration
from ..ort.sessions import ask
from ..partition.decision import NodeDecision
from ..records import Record, Tabular

FUSED = "/MatMulAddFusion"
"""Suffix that ONNX Runtime appends to the name of a MatMul when it fuses it with the next Add into a Gemm."""


class Decisions(list[NodeDecision], Tabular):
    """The decisions about all nodes of a model, as a list.

    `to_pandas()` and `to_csv()` have the rows of `records()`, which Jupyter shows as a table.
    """

    _repr_pretty_ = Tabular._repr_pretty_  # IPython would show a list otherwise

    def records(self) -> list[Record]:
        """Return a row per node, with the fields of its `NodeDecision`."""
        return [decision.to_dict() for decision in self]

    def caption(self) -> str:
        """Return how many nodes are taken, and how fast that is expected to be."""
        taken = sum(decision.taken for decision in self)
        times = expected(self)
        about = "" if times is None else f", expected to be {times.speedup:.2f} times as fast"
        return f"{EP_NAME} takes {taken} of {len(self)} nodes{about}"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict: `nodes` has a dict per node, `expected` the milliseconds of a run or None."""
        times = expected(self)
        return {"nodes": self.records(), "expected": None if times is None else times.to_dict()}


def explain(session_or_model: Any) -> Decisions:
    """Return the decision about every node that ONNX Runtime showed to the provider, in topological order.

    `session_or_model` is an `InferenceSession` that has the provider, or a model: a path, bytes or an `onnx.ModelProto`. For a model, a
    session with the default options is created. The nodes are those after ONNX Runtime's basic optimisations, so names may differ from the
    model's, and BatchNormalization may be missing. Nodes in bodies of If, Loop and Scan come first. The result is a list; Jupyter shows it
    as a table. ValueError if the session does not have the provider.
    """
    session = session_or_model
    if not hasattr(session, "set_ep_dynamic_options"):
        session = _session(session_or_model)
    graphs = ask(session, "explain")
    return Decisions(_decision(entry) for decisions in graphs.values() for entry in decisions)


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
