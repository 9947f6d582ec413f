"""Chooses regions by measuring both providers (`policy=measure`), where `select` alone goes by expected times.

The widest candidates come from `select` with a low `min_sparsity`: every product with a fair share of zeros, and what is expected to be
worth having beside it. Each is timed as a whole. Where it is not faster, the smaller regions that `auto` takes within it get their turn.
Regions that cannot be measured are decided as by `auto`.

The caller passes the function that measures, because this folder does not import ONNX Runtime.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from .. import reasons
from ..graph.ir import Graph, subgraph
from ..options import Options
from ..reasons import Finding
from .decision import NodeDecision, Selection
from .nominal import Sizes, sizes_of
from .regions import contractible
from .select import is_compiled, select
from .sparsity import LIKELY
from .verdict import UnmeasuredError, Verdict

LEAST_ZEROS = LIKELY
"""Products with this share of zeros are candidates. Weights with fewer are called dense everywhere."""

Region = tuple[int, ...]
Timer = Callable[[Graph, Sequence[Sizes], float], Verdict]
"""Measures a region at some sizes in so many seconds; UnmeasuredError if it cannot."""

log = logging.getLogger("onnxruntime_ep_sparse")


def choose(graph: Graph, options: Options, timer: Timer, clock: Callable[[], float] = time.perf_counter) -> Selection:
    """Choose the regions of `graph` by measuring, in `measure_budget_ms` milliseconds of `clock`, which counts seconds.

    Each candidate gets an equal share of the time that is left. Those with the largest weights come first.
    """
    estimated = select(graph, replace(options, policy="auto"))
    wide = estimated
    if options.min_sparsity is None:
        wide = select(graph, replace(options, policy="auto", min_sparsity=LEAST_ZEROS))
    groups = _groups(*([r for r in kind.regions if not is_compiled(graph.nodes[r[0]])] for kind in (wide, estimated)))
    groups.sort(key=lambda group: (group.alone, -_weights(estimated.decisions, group.regions[0])))
    compiled = [region for region in estimated.regions if is_compiled(graph.nodes[region[0]])]
    state = _State(graph, estimated.decisions, frozenset(estimated.regions), timer, clock, taken=compiled)
    deadline = clock() + options.measure_budget_ms / 1e3
    for n, group in enumerate(groups):
        state.decide(group, f"region {n + 1} of {len(groups)}", clock() + max(deadline - clock(), 0) / (len(groups) - n))
    return replace(state.selection(), doubt=estimated.doubt or wide.doubt)


@dataclass(frozen=True, slots=True)
class _Group:
    """A candidate, and after it the smaller ones that lie within.

    All wide regions can be contracted at once, and so can parts of them in their place. One that stands `alone`, since it lies in none of
    them, may cross another.
    """

    regions: list[Region]
    alone: bool


def _groups(wide: list[Region], estimated: list[Region]) -> list[_Group]:
    """Return the wide regions, each with the estimated ones that are smaller and within it, then the other estimated ones."""
    groups = [_Group([region], False) for region in wide]
    place = {i: n for n, region in enumerate(wide) for i in region}
    for region in estimated:
        places = {place.get(i) for i in region}
        within = places.pop()
        if places or within is None:
            groups.append(_Group([region], True))
        elif region != wide[within]:
            groups[within].regions.append(region)
    return groups


def _weights(decisions: Sequence[NodeDecision], region: Region) -> int:
    """Return how many weights the products of a region have."""
    return sum(math.prod(decisions[i].shape or (0,)) for i in region)


@dataclass
class _State:
    """The decisions so far: the regions taken, and findings about nodes by index."""

    graph: Graph
    estimated: Sequence[NodeDecision]
    """The decisions of `auto` ..."""
    expected: Collection[Region]
    """... and its regions."""
    timer: Timer
    clock: Callable[[], float]
    taken: list[Region]
    findings: dict[int, Finding] = field(default_factory=dict)

    def decide(self, group: _Group, name: str, end: float) -> None:
        """Decide about a candidate, and about those within it if it is not faster; `end` is when its time is used up."""
        if group.alone and self._is_crossed(group.regions[0]):
            left = set(group.regions[0]).difference(*self.taken)
            self._note(left, reasons.NOT_MEASURED, why="another region that was taken crosses it")
            return
        for n, region in enumerate(group.regions):
            which = name if n == 0 else f"{name}, part {n} of {len(group.regions) - 1}"
            log.info("policy=measure: %s, %d nodes", which, len(region))
            try:
                part = subgraph(self.graph, set(region))
                verdict = self.timer(part, sizes_of(part), (end - self.clock()) / (len(group.regions) - n))
            except UnmeasuredError as error:
                log.info("policy=measure: %s not measured: %s", which, error)
                self._note(region, reasons.NOT_MEASURED, why=error)
                if region in self.expected:
                    self.taken.append(region)
                continue
            log.info("policy=measure: %s: %s", which, verdict)
            self._note(region, reasons.MEASURED_FASTER if verdict.faster else reasons.MEASURED_SLOWER, figures=verdict)
            if verdict.faster:
                self.taken.append(region)
                if n == 0:
                    return

    def _is_crossed(self, region: Region) -> bool:
        """Return whether a region shares nodes with those taken, or would make a cycle with them."""
        return any(not set(region).isdisjoint(other) for other in self.taken) or not contractible(self.graph, [*self.taken, region])

    def _note(self, region: Iterable[int], reason: reasons.Reason, **values: object) -> None:
        """Keep a finding about the nodes of a region."""
        for i in region:
            self.findings[i] = reason(reason=self.estimated[i].reason, **values)

    def selection(self) -> Selection:
        """Return the regions taken, and the decisions about all nodes."""
        self.taken.sort()
        place = {index: n for n, region in enumerate(self.taken) for index in region}
        return Selection(tuple(self.taken), tuple(self._decision(i, place.get(i)) for i in range(len(self.graph.nodes))))

    def _decision(self, index: int, region: int | None) -> NodeDecision:
        """Return what became of a node. Those outside of all candidates are decided as by `auto`."""
        decision, finding = self.estimated[index], self.findings.get(index)
        decision = replace(decision, region=region, taken=region is not None, cpu_ms=None, ms=None)
        return decision if finding is None else replace(decision, code=finding.code, reason=finding.text, option=finding.option)
