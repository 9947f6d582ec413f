"""The decisions of `explain` as metadata of the nodes in a copy of a model, which viewers such as Netron show."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..formats.onnx_file import Writer, external_bytes, is_external, load, tensors
from ..graph.ir import EP_CONTEXT
from ..options import EP_NAME
from ..ort.registration import register
from ..ort.sessions import make_session
from ..partition.decision import NodeDecision
from .explain import FUSED, Decisions, explain

PREFIX = "ep.sparse."
"""Of the keys of the metadata."""


def annotate(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    threads: int = 0,
    options: Mapping[str, object] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Decisions:
    """Write a copy of the model `source` to `target`, whose nodes have the decisions as `metadata_props`, and return the decisions.

    The keys begin with `ep.sparse.`: taken, reason, pattern, region, sparsity, needed_sparsity, expected_cpu_ms and expected_ms, as far as
    they are known. Nodes that ONNX Runtime removes or fuses with others before it asks the provider get none. `sizes` are those of open
    dimensions by their names. If the model has external data, they are copied to `target`.data. Runs of the copy give the same results.

    ValueError if the model is not valid, is compiled, or would be overwritten; OSError if the copy cannot be written.
    """
    register()
    path, place = Path(source), Path(target)
    model = load(path)
    unnamed = [(node, node.HasField("name")) for node in model.graph.node if not node.name]
    for i, (node, _) in enumerate(unnamed):  # a decision says which node it is about by its name
        node.name = f"{PREFIX}{i}"
    with Writer(path, place, model) as writer:
        if any((node.domain, node.op_type) == EP_CONTEXT for node in model.graph.node):
            raise ValueError(f"{path} is a compiled model, which has no nodes to annotate: give the model that was compiled")
        session = make_session(model.SerializeToString(), EP_NAME, options, threads, sizes, silent=True, folder=path.parent)
        decisions = explain(session)
        del session
        found = {decision.name.removesuffix(FUSED): decision for decision in decisions}
        for node in model.graph.node:
            for entry in [entry for entry in node.metadata_props if entry.key.startswith(PREFIX)]:
                node.metadata_props.remove(entry)  # of an earlier copy
            if node.name in found:
                for key, value in _words(found[node.name]).items():
                    node.metadata_props.add(key=f"{PREFIX}{key}", value=value)
        for node, empty in unnamed:
            node.ClearField("name")
            if empty:
                node.name = ""
        for tensor in tensors(model):
            if is_external(tensor):
                writer.external(tensor, external_bytes(tensor, path))
        writer.save(model)
    return decisions


def _words(decision: NodeDecision) -> dict[str, str]:
    """Return what is known of a decision, as texts."""
    shares = {"sparsity": decision.sparsity, "needed_sparsity": decision.limit}
    times = {"expected_cpu_ms": decision.cpu_ms, "expected_ms": decision.ms}
    texts = {"taken": "yes" if decision.taken else "no", "reason": decision.reason, "pattern": decision.pattern}
    texts |= {"region": "" if decision.region is None else str(decision.region)}
    texts |= {key: f"{share:.1%}" for key, share in shares.items() if share is not None}
    texts |= {key: f"{ms:.4f}" for key, ms in times.items() if ms is not None}
    return {key: text for key, text in texts.items() if text}
