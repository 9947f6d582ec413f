"""Sessions of either provider for workers and measurements, which nodes the provider has in them, and questions to it."""

from __future__ import annotations

import json
import math
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import NDArray

from ..options import EP_NAME
from . import registration

CPU = "CPUExecutionProvider"

Model = str | os.PathLike[str] | bytes
Feeds = Mapping[str, NDArray]


@dataclass(frozen=True)
class Ownership:
    """The number of nodes that a provider has in a session, the number of all nodes, and its operators with their counts."""

    owned: int
    nodes: int
    operators: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields as keys."""
        return asdict(self)


def make_session(
    model: Model,
    provider: str,
    options: Mapping[str, object] | None = None,
    threads: int = 0,
    sizes: Mapping[str, int] | None = None,
    *,
    silent: bool = False,
    folder: str | os.PathLike[str] | None = None,
    profile: str | os.PathLike[str] | None = None,
    optimized: bool = True,
    entries: Mapping[str, str] | None = None,
) -> Any:
    """Create a session without spinning between runs and without fallback, which records the assignment of nodes.

    `threads` 0 leaves the number of threads to ONNX Runtime. `sizes` are those of open dimensions by their names. A `silent` session prints
    no message of ONNX Runtime. `folder` is where the external data of a model in bytes are. With `profile`, ONNX Runtime writes its profile
    to a file whose name begins so. Where it is not `optimized`, it runs the nodes of the file. `entries` are more configuration entries.

    ValueError for a wrong option; onnxruntime's own exceptions for a model that it cannot load.
    """
    ort = registration.runtime()
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads = threads
    if not optimized:
        chosen.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if silent:
        chosen.log_severity_level = 4
    if provider == EP_NAME:
        chosen = registration.session_options(options, chosen)
    else:
        chosen.register_custom_ops_library(registration.get_library_path())
        chosen.add_provider(provider, {})
    for name, size in (sizes or {}).items():
        chosen.add_free_dimension_override_by_name(name, size)
    chosen.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        chosen.enable_profiling = True
        chosen.profile_file_prefix = os.fspath(profile)
    if folder is not None:
        chosen.add_session_config_entry("session.model_external_initializers_file_folder_path", os.fspath(folder) or ".")
    for key, value in {**(entries or {}), "session.record_ep_graph_assignment_info": "1"}.items():
        chosen.add_session_config_entry(key, value)
    return ort.InferenceSession(model if isinstance(model, bytes) else os.fspath(model), chosen, enable_fallback=0)


def ownership(session: Any, provider: str = EP_NAME) -> Ownership:
    """Return which nodes a provider has in a session of `make_session`, as ONNX Runtime records it."""
    operators: dict[str, int] = {}
    nodes = 0
    for part in session.get_provider_graph_assignment_info():
        members = part.get_nodes()
        nodes += len(members)
        if part.ep_name == provider:
            for node in members:
                operators[node.op_type] = operators.get(node.op_type, 0) + 1
    return Ownership(sum(operators.values()), nodes, dict(sorted(operators.items())))


def ask(session: Any, key: str) -> Any:
    """Return the provider's answer to one of its dynamic options. ValueError if the session does not have the provider."""
    if EP_NAME not in session.get_providers():
        raise ValueError(f"this session has no {EP_NAME}, only {', '.join(session.get_providers())}")
    from . import _plugin

    token = uuid.uuid4().hex
    session.set_ep_dynamic_options({key: token})
    return json.loads(_plugin.take_answer(token))


def create(
    model: Model, provider: str, options: Mapping[str, object] | None = None, threads: int = 0, *, repeat: int = 3, budget_s: float = 10.0
) -> tuple[Any, float]:
    """Create a session `repeat` times, fewer once `budget_s` seconds are spent. Return the last one and the best time in seconds."""
    best, spent = math.inf, 0.0
    for _ in range(repeat):
        session = None  # released before the next one is created: two at once need twice the memory
        began = time.perf_counter()
        session = make_session(model, provider, options, threads)
        seconds = time.perf_counter() - began
        best, spent = min(best, seconds), spent + seconds
        if spent > budget_s:
            break
    return session, best
