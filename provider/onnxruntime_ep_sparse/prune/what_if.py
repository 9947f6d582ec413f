"""How fast a model would be with more zeros: `what_if()`. The zeros are imposed by magnitude on a copy, which the cost model judges.

With a measurement, the copy runs. The times of its layers are those of our steps, and of the nodes in ONNX Runtime's own profile.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..diagnostics.explain import FUSED, Decisions, Expected, expected, explain
from ..files import shown
from ..measure.protocol import Measurement, measure
from ..models.inputs import inputs_for
from ..options import EP_NAME
from ..ort.registration import register
from ..ort.sessions import Feeds, make_session
from ..records import Record, Tabular
from .impose import impose, saved
from .layer_times import times_of_layers
from .layers import Layer
from .patterns import Pattern, pattern_of
from .selection import layers, select, source_of
from .source import Source
from .speed import undisturbed

EVERYTHING = ""
"""Target of a rule for all layers that `prune` would choose."""
RULE = re.compile(r"(?:(?P<type>[^=:]+)=)?(?P<share>\d*\.?\d+)(?::(?P<pattern>.+))?")
PAIRS, BUDGET_S = 30, 20.0
"""Of a measurement."""
TURN_S = 0.02
"""Of a provider, so that caches hold its own data, as where it runs alone: MobileNetV2 at 90 % then takes 2.07 ms, and 2.43 ms right after
a run of the other provider."""

Plan = dict[str, tuple[float, Pattern]]
"""Sparsity and pattern by the names of layers."""
Progress = Any
"""As `measure.Progress`."""


@dataclass(frozen=True)
class LayerGain:
    """A layer with the zeros that were imposed. Times are ms in a run: of the CPU provider, and with this one.

    `taken` says whether the provider takes it then. The measured times are None without a measurement, or where the runtime computes the
    layer together with others in a way that cannot be told apart.
    """

    name: str
    op_type: str
    shape: tuple[int, ...]
    sparsity: float
    pattern: str
    taken: bool
    cpu_ms: float | None
    ms: float | None
    measured_cpu_ms: float | None = None
    measured_ms: float | None = None

    @property
    def gain_ms(self) -> float:
        """Return the ms that the layer is expected to save, 0 if it is not taken."""
        return 0.0 if self.cpu_ms is None or self.ms is None or not self.taken else self.cpu_ms - self.ms

    @property
    def measured_gain_ms(self) -> float | None:
        """Return the ms that the layer saves by the measurement, None if one of the times is not known."""
        return None if self.measured_cpu_ms is None or self.measured_ms is None else self.measured_cpu_ms - self.measured_ms

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields as keys, `gain_ms` and `measured_gain_ms`."""
        return {**asdict(self), "gain_ms": self.gain_ms, "measured_gain_ms": self.measured_gain_ms}


@dataclass(frozen=True)
class TypeTotal:
    """All nodes of one operator type, pruned or not: how many, and the ms that they are expected to take with each provider."""

    op_type: str
    nodes: int
    cpu_ms: float
    ms: float


@dataclass(frozen=True)
class WhatIf(Tabular):
    """The result of `what_if()`. `layers` are those that get zeros, the largest expected gain first; `types` are totals of all nodes.

    `expected` is None where the provider would take nothing. `measured` is None without a measurement. `shapes` are those of the inputs,
    and `skipped` says why other layers get no zeros. `to_pandas()` and `to_csv()` have the rows of `records()`, which Jupyter shows as a
    table.
    """

    layers: tuple[LayerGain, ...]
    types: tuple[TypeTotal, ...]
    expected: Expected | None
    measured: Measurement | None
    threads: int
    shapes: dict[str, tuple[int, ...]]
    skipped: dict[str, str]

    @property
    def speedup(self) -> float:
        """Return how many times as fast as with the CPU provider the model is expected to be, 1 if nothing is taken."""
        return 1.0 if self.expected is None else self.expected.speedup

    def records(self) -> list[Record]:
        """Return a row per layer."""
        return [layer.to_dict() for layer in self.layers]

    def caption(self) -> str:
        """Return the expected speed-up, and the measured one."""
        found = self.measured.speed_up if self.measured is not None else None
        words = "" if found is None else f", measured {found.median:.2f} [{found.low:.2f}, {found.high:.2f}]"
        if not any(layer.taken for layer in self.layers):
            return f"no layer with these zeros would be taken{words}"
        return f"expected to be {self.speedup:.2f} times as fast{words}"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields as keys, and `speedup`."""
        return {
            "speedup": self.speedup,
            "expected": None if self.expected is None else self.expected.to_dict(),
            "measured": None if self.measured is None else self.measured.to_dict(),
            "threads": self.threads,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "layers": self.records(),
            "types": [asdict(each) for each in self.types],
            "skipped": self.skipped,
        }


def what_if(
    model: Any,
    sparsity: float | str | Sequence[str] | Mapping[str, float | str],
    *,
    feeds: Feeds | None = None,
    batch: int = 1,
    seed: int = 0,
    threads: int = 0,
    options: Mapping[str, object] | None = None,
    measured: bool = False,
    pairs: int = PAIRS,
    budget_s: float = BUDGET_S,
    progress: Progress = lambda step, share: None,
) -> WhatIf:
    """Tell how fast a model would be with more zeros, before it is pruned.

    `model` is a path, bytes or an `onnx.ModelProto`, dense or not. `sparsity` is a share, or share and pattern as in "0.9:4x1" and
    "0.5:2:4", for the layers that `prune` would choose; "Conv=0.9" means those of one operator. Several such texts may be given: later ones
    override earlier ones. A mapping has shares or such texts by the names of layers, whatever their role; so has a file NAME.json.

    Open dimensions get the sizes of the `feeds`, or of random inputs of this `batch`. `measured` also runs the model with the zeros, by the
    protocol of `bench` with longer turns, and tells the times of its layers.

    ValueError if the model or what is imposed is not valid.
    """
    register()
    source = source_of(model)
    plan = planned(source, sparsity)
    inputs = feeds if feeds is not None else inputs_for(list(source.inputs.values()), batch=batch, seed=seed)
    sizes = {d: n for name, x in inputs.items() for d, n in zip(source.inputs[name].shape, x.shape, strict=False) if isinstance(d, str)}
    chosen = [layer for layer in layers(source) if layer.name in plan]
    progress("impose zeros", 0)
    changes = impose(source, ((layer, *plan[layer.name]) for layer in chosen))
    progress("impose zeros", 0.5)
    with saved(changes, sizes) as path:
        progress("impose zeros", 1)
        session = make_session(path, EP_NAME, options, threads, silent=True)
        decisions = explain(session)
        del session
        result, times = None, {}
        if measured:
            arguments: dict[str, Any] = {"pairs": pairs, "budget_s": budget_s, "memory": False, "turn_s": TURN_S, "progress": progress}
            result = undisturbed(lambda: measure(path, inputs, options, threads, **arguments))
            if result.speed_up is not None:
                progress("times of layers", 0)
                times = times_of_layers(path, source, chosen, inputs, options, threads)
                progress("times of layers", 1)
    gains = [_gain(layer, plan, changes.array(_weight(changes, layer)), source, decisions, times) for layer in chosen]
    return WhatIf(
        tuple(sorted(gains, key=lambda gain: -gain.gain_ms)),
        tuple(_types(decisions)),
        expected(decisions),
        result,
        threads,
        {name: x.shape for name, x in inputs.items()},
        {name: reason for name, reason in _skipped(source).items() if name not in plan},
    )


def planned(source: Source, given: float | str | Sequence[str] | Mapping[str, float | str]) -> Plan:
    """Return the sparsity and the pattern of each layer that gets zeros. ValueError if a text is not valid, or names no layer."""
    if isinstance(given, Mapping):
        return _by_name(source, given, "")
    plan: Plan = {}
    for text in [given] if isinstance(given, str | float | int) else given:
        if str(text).endswith(".json"):
            plan |= _by_name(source, _read(Path(str(text))), f"{shown(str(text))}: ")
            continue
        target, wanted = parsed(str(text))
        chosen = _chosen(source)
        found = [layer for layer in chosen if target in (EVERYTHING, layer.op_type)]
        if not found:
            there = ", ".join(sorted({layer.op_type for layer in chosen}))
            raise ValueError(f"{text!r}: there is no layer of type {target} to prune; there are {there}")
        plan |= {layer.name: wanted for layer in found}
    return plan


def parsed(text: str) -> tuple[str, tuple[float, Pattern]]:
    """Return target, sparsity and pattern of a text such as "0.9", "0.9:4x1" or "Conv=0.5:2:4". ValueError if it is not valid."""
    match = RULE.fullmatch(text.strip())
    if match is None or not 0 <= float(match["share"]) <= 1:
        raise ValueError(f"{text!r}: expected a share from 0 to 1 and maybe a pattern, such as 0.9, 0.9:4x1 or Conv=0.9")
    share, pattern = float(match["share"]), pattern_of(match["pattern"] or "unstructured")
    if pattern.sparsity is not None and abs(pattern.sparsity - share) > 1e-6:
        raise ValueError(f"{text!r}: the pattern {pattern.name} implies a share of {pattern.sparsity:g}")
    return match["type"] or EVERYTHING, (share, pattern)


def _read(file: Path) -> Mapping[str, Any]:
    """Return the layers of a file. ValueError if it cannot be read, or is not a JSON object."""
    try:
        found = json.loads(file.read_text())
    except OSError as error:
        raise ValueError(f"cannot read {shown(file)}: {error.strerror}") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str | float | int) for value in found.values()):
        raise ValueError(
            f'{shown(file)}: expected a JSON object from names of layers to shares, such as {{"layer1": 0.9, "layer2": "0.9:4x1"}}'
        )
    return found


def _by_name(source: Source, given: Mapping[str, float | str], where: str) -> Plan:
    known = {layer.name for layer in layers(source)}
    plan: Plan = {}
    for name, text in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {len(known)}, which `ort-sparse analyze` lists"
            raise ValueError(f"{where}there is no layer {name!r} with a weight that can be pruned{hint}")
        target, wanted = parsed(str(text))
        if target != EVERYTHING:
            raise ValueError(f"{where}{name}: {text!r} names an operator; give a share")
        plan[name] = wanted
    return plan


def _chosen(source: Source) -> list[Layer]:
    """Return the layers that `prune` would choose. ValueError if there is none."""
    try:
        return select(source, None, None).pruned
    except ValueError as error:
        reasons = str(error).partition("; layers that")[0]
        raise ValueError(f"{reasons}; a file NAME.json may name layers whatever their role") from None


def _skipped(source: Source) -> dict[str, str]:
    """Return the layers that `prune` would not choose, with the reasons."""
    try:
        return {each.name: each.reason for each in select(source, None, None).skipped}
    except ValueError:  # there is no layer that it would choose
        return {}


def _weight(changes: Any, layer: Layer) -> str:
    """Return the name of the changed weight of a layer."""
    return str(changes.nodes[layer.index].input[layer.slot])


def _gain(
    layer: Layer, plan: Plan, weight: Any, source: Source, decisions: Decisions, times: Mapping[str, tuple[float | None, float | None]]
) -> LayerGain:
    """Return the gain of one layer."""
    node = source.nodes[layer.index].name
    found = next((d for d in decisions if d.name.removesuffix(FUSED) in (layer.name, node)), None)
    sparsity = 1 - float((weight != 0).sum()) / max(weight.size, 1)
    cpu_ms, ms = (None, None) if found is None else (found.cpu_ms, found.ms)
    taken = found is not None and found.taken
    name = plan[layer.name][1].name
    return LayerGain(layer.name, layer.op_type, weight.shape, sparsity, name, taken, cpu_ms, ms, *times.get(layer.name, (None, None)))


def _types(decisions: Decisions) -> Iterator[TypeTotal]:
    """Yield the totals of each operator type, the one that takes longest with the CPU provider first; nothing if no times are expected."""
    known = [(d.op_type, d.cpu_ms, d.ms) for d in decisions if d.cpu_ms is not None and d.ms is not None]
    for op_type in sorted({each for each, _, _ in known}, key=lambda op_type: -sum(cpu for each, cpu, _ in known if each == op_type)):
        own = [(cpu, ms) for each, cpu, ms in known if each == op_type]
        yield TypeTotal(op_type, len(own), sum(cpu for cpu, _ in own), sum(ms for _, ms in own))
