"""Times of the steps inside the regions of a session."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..ort.sessions import ask
from .explain import explain


@dataclass(frozen=True)
class Cost:
    """Time and work in `runs` runs. The other fields are sums over these runs.

    `macs` are multiply-adds by nonzero weights, `dense_macs` by all weights. Both count every tap of a depthwise convolution, and are 0
    without weights. `moved_bytes` are the activations that were read and written, 0 if they need not be moved.
    """

    runs: int
    ns: int
    macs: int
    dense_macs: int
    moved_bytes: int

    @property
    def ms(self) -> float:
        """Mean time per run in ms; 0 before the first run."""
        return self.ns / max(self.runs, 1) / 1e6

    @property
    def gflops(self) -> float:
        """Effective GFLOP/s, with two operations per multiply-add by a nonzero weight."""
        return 2 * self.macs / max(self.ns, 1)

    @property
    def gmac_s(self) -> float:
        """Multiply-adds by nonzero weights, in 1e9 per second: the rate of integers, of which nothing is a FLOP."""
        return self.macs / max(self.ns, 1)

    @property
    def dense_gmac_s(self) -> float:
        """Multiply-adds by all weights, in 1e9 per second, that a dense kernel would need to be equally fast."""
        return self.dense_macs / max(self.ns, 1)

    @property
    def dense_gflops(self) -> float:
        """GFLOP/s that a dense kernel would need to be equally fast."""
        return 2 * self.dense_macs / max(self.ns, 1)

    @property
    def gb_s(self) -> float:
        """Activations read and written, in GB/s."""
        return self.moved_bytes / max(self.ns, 1)

    @classmethod
    def total(cls, costs: Iterable[Cost]) -> Cost:
        """Return the sum of several parts of the same runs."""
        parts = list(costs)
        sums = (sum(values) for values in zip(*((c.ns, c.macs, c.dense_macs, c.moved_bytes) for c in parts), strict=True))
        return Cost(max(c.runs for c in parts), *sums) if parts else Cost(0, 0, 0, 0, 0)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields and the rates as keys."""
        return {
            **asdict(self),
            "ms": self.ms,
            "gflops": self.gflops,
            "dense_gflops": self.dense_gflops,
            "gmac_s": self.gmac_s,
            "gb_s": self.gb_s,
        }


@dataclass(frozen=True)
class StepTime(Cost):
    """Time and work of one step of a region, in all runs of its session so far.

    `kind` is a name of `StepKind` in lower case. `name` is the ONNX node, with the operators fused into it (`conv1 + Relu`). `description`
    says what the step computes (`64->256 1x1/1, 90 % zeros`), cut for so many `threads`. In `within_next` of the runs, it ran together with
    the next step, band by band of the rows of an image. The time of such a step is that of all threads, divided by their number. `dtype`
    is the element type that the weight has in the file, in numpy's words; it is "" without a weight, and in a compiled model, which does
    not hold it.
    """

    region: str
    index: int
    within_next: int
    kind: str
    name: str
    description: str
    threads: int
    dtype: str = ""

    def since(self, earlier: StepTime) -> StepTime:
        """Return the time and work since an `earlier` state of the same step."""
        counted = ("runs", "within_next", "ns", "macs", "dense_macs", "moved_bytes")
        return replace(self, **{name: getattr(self, name) - getattr(earlier, name) for name in counted})


def step_times(session: Any) -> list[StepTime]:
    """Return the times of all steps inside a session's regions, in the order in which they run in each region.

    ValueError if the session does not have the provider, or was created without its option `profile=1`.
    """
    steps = ask(session, "profile")
    if steps is None:
        raise ValueError("step_times() needs a session with the provider option profile=1")
    types = {decision.name: decision.dtype for decision in explain(session)}
    return [StepTime(**step, dtype=types.get(step["name"].split(" + ")[0], "")) for step in steps]
