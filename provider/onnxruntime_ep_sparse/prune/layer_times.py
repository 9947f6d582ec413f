"""Measured times of layers with both providers: ours by the steps of regions, the CPU provider's by ONNX Runtime's own profile."""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..diagnostics.step_times import step_times
from ..options import EP_NAME
from ..ort.sessions import CPU, Feeds, make_session
from .layers import Layer
from .source import Source

RUNS = 15
"""Runs of each session; the median counts."""
SUFFIXES = re.compile(r"(?:_kernel_time|_nchwc|_token_\d+|/MatMulAddFusion|/MatMulScaleFusion/?|/GemmActivationFusion/?)+$")
"""Suffixes that ONNX Runtime appends to the name of a node that it has rewritten, or of the value that such a node makes."""
PREFIX = "fused "
"""ONNX Runtime puts this before the name of a Gemm into which it has fused an activation."""

FUSED_AFTER = {
    *("Add", "BatchNormalization", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Mul", "Relu", "Sigmoid", "Sum", "Tanh"),
}
"""Operators that ONNX Runtime fuses with the convolution or the product before them."""

Times = dict[str, tuple[float | None, float | None]]
"""By the names of layers, the ms of a run with the CPU provider and with ours; None where the time of a layer cannot be told."""


def times_of_layers(
    model: Path, source: Source, layers: Sequence[Layer], feeds: Feeds, options: Mapping[str, object] | None, threads: int
) -> Times:
    """Measure the layers of a changed model; `source` has its nodes. One that ours does not take has the CPU provider's time in both."""
    theirs = _of_cpu(model, source, layers, feeds, threads)
    ours = _of_steps(model, source, layers, feeds, options, threads)
    return {layer.name: (theirs.get(layer.name), ours.get(layer.name, theirs.get(layer.name))) for layer in layers}


def _of_steps(
    model: Path, source: Source, layers: Sequence[Layer], feeds: Feeds, options: Mapping[str, object] | None, threads: int
) -> dict[str, float | None]:
    """Return the median ms of the step of each layer that ours takes."""
    names = {source.nodes[layer.index].name or layer.name: layer.name for layer in layers}
    session = make_session(model, EP_NAME, {**(options or {}), "profile": "1"}, threads, silent=True)
    session.run(None, feeds)
    before = step_times(session)
    samples: dict[str, list[float]] = {}
    for _ in range(RUNS):
        session.run(None, feeds)
        after = step_times(session)
        for step, earlier in zip(after, before, strict=True):
            name = names.get(SUFFIXES.sub("", step.name.split(" + ")[0]))
            if name is not None:
                samples.setdefault(name, []).append(step.since(earlier).ms)
        before = after
    return {name: float(np.median(values)) for name, values in samples.items()}


def _of_cpu(model: Path, source: Source, layers: Sequence[Layer], feeds: Feeds, threads: int) -> dict[str, float]:
    """Return the median ms of the node of each layer, by ONNX Runtime's profile of the CPU provider."""
    with tempfile.TemporaryDirectory() as folder:
        session = make_session(model, CPU, None, threads, silent=True, profile=Path(folder, "profile"))
        for _ in range(RUNS + 1):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    samples: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            samples[event["name"]].append(event["dur"] / 1e3)
    means = {name: float(np.median(values[1:])) for name, values in samples.items() if len(values) == RUNS + 1}
    return {layer: means[event] for event, layer in layers_of_events(means, source, layers).items()}


def layers_of_events(events: Iterable[str], source: Source, layers: Sequence[Layer]) -> dict[str, str]:
    """Return the layer of each event of a profile that belongs to one.

    An event has the name of a node, or of the last value that a rewritten node makes. From there the way leads back, over nodes that the
    runtime fuses, to the layers that may be computed there. An event belongs to the one of them that no other event belongs to.
    """
    of_node = {source.nodes[layer.index].name or layer.name: layer for layer in layers}
    of_index = {layer.index: layer for layer in layers}
    makers = {name: index for index, node in enumerate(source.nodes) for name in node.output if name}
    indices = {node.name: index for index, node in enumerate(source.nodes) if node.name}
    found: dict[str, str] = {}
    open_events: dict[str, set[str]] = {}
    for event in events:
        name = SUFFIXES.sub("", event)
        name = name if name in of_node else name.removeprefix(PREFIX)
        if name in of_node:
            found[event] = of_node[name].name
            continue
        start = makers.get(name, indices.get(name))
        if start is not None:
            open_events[event] = _before(start, source, makers, of_index)
    while True:
        taken = set(found.values())
        known = {event: left for event, names in open_events.items() if event not in found and len(left := names - taken) == 1}
        if not known:
            return found
        for event, (name,) in known.items():
            if name not in found.values():
                found[event] = name


def _before(start: int, source: Source, makers: Mapping[str, int], layers: Mapping[int, Layer]) -> set[str]:
    """Return the layers from which a node is reached over nodes without a weight of their own that read few values."""
    names: set[str] = set()
    places, seen = [start], {start}
    while places:
        index = places.pop()
        if index in layers:
            names.add(layers[index].name)
            continue
        node: Any = source.nodes[index]
        if node.op_type not in FUSED_AFTER:
            continue
        for name in node.input:
            if name in makers and makers[name] not in seen:
                seen.add(makers[name])
                places.append(makers[name])
    return names
