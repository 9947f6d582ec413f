"""How far runs of the CPU provider with other settings are from each other: what can be asked of a quantised net.

A float near a tie becomes one of two integers, and later layers amplify that. Without its optimizations ONNX Runtime computes products in
float32; with `session.x64quantprecision` it has exact sums where CPUs without VNNI saturate. Outputs of INT8 nets with random weights
then differ by 0.03 to 0.7 of the largest. So where an output leaves its tolerance, these runs say how far correct runs may be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..ort.sessions import CPU, Feeds, Model, make_session
from .agreement import Agreement, agree_by_name

EXACT = {"session.x64quantprecision": "1"}
"""ONNX Runtime's configuration entry for exact sums of 8-bit products."""
SETTINGS: tuple[Mapping[str, Any], ...] = ({"optimized": False}, {"entries": EXACT})
"""Settings of the other runs: what `make_session` is given."""


def judged(
    agreements: Sequence[Agreement], ours: Mapping[str, Any], reference: Mapping[str, Any], model: Model, feeds: Feeds, threads: int
) -> tuple[Agreement, ...]:
    """Return the agreements, with `spread` and `nearest` in those that are not within their tolerance; if all are, nothing is run.

    `ours` and `reference` are outputs by name, `reference` those of the CPU provider, which runs `model` with other settings too.
    """
    doubtful = [each.output for each in agreements if not each.within()]
    if not doubtful:
        return tuple(agreements)
    runs = [reference]
    for setting in SETTINGS:
        session = make_session(model, CPU, None, threads, **setting)
        runs.append(dict(zip(doubtful, session.run(doubtful, feeds), strict=True)))
        del session

    def errors(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, float]:
        return {each.output: each.max_abs for each in agree_by_name(a, {name: b[name] for name in doubtful})}

    apart = [errors(a, b) for i, a in enumerate(runs) for b in runs[:i]]
    away = [errors(ours, run) for run in runs]

    def with_spread(each: Agreement) -> Agreement:
        if each.output not in doubtful or not each.scale:
            return each
        spread, nearest = max(found[each.output] for found in apart), min(found[each.output] for found in away)
        return replace(each, spread=spread / each.scale, nearest=nearest / each.scale)

    return tuple(map(with_spread, agreements))
