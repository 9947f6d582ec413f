"""The decision about every node, and its reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from ..graph.ir import Graph, Node
from ..ops.table import BLOCKED
from ..options import EP_NAME
from ..reasons import OTHER_BLOCKS, Finding

Decided = list[tuple[list[str], dict]]
"""Decisions about a graph, JSON-ready: the outputs of each node, and the fields of its NodeDecision."""


@dataclass(frozen=True, slots=True)
class NodeDecision:
    """The decision about a node.

    `shape`, `sparsity` and `dtype` are those of its constant weight, None and "" without one. `dtype` is the element type in the file, in
    numpy's words. `region` numbers the region that took it. `reason` says why
    it was or was not taken, and `code` is that reason's stable name. `option` is the provider option that overrides it, or "".

    `cpu_ms` is the expected time of the node with ONNX Runtime's CPU provider, `ms` its expected time as it runs now. Only their sums mean
    much. Of nodes that are computed together, the last one has the time of all. A region's first node has the time of handing over its
    values. They are None where `auto` has not decided, or takes nothing.

    `limit` is the sparsity from which the node is a reason to take a region: its break-even, or the option `min_sparsity`. It is None
    where that does not decide.
    """

    name: str
    op_type: str
    domain: str
    shape: tuple[int, ...] | None
    sparsity: float | None
    pattern: str
    region: int | None
    taken: bool
    code: str
    reason: str
    option: str
    cpu_ms: float | None = None
    ms: float | None = None
    limit: float | None = None
    dtype: str = ""

    @classmethod
    def of(
        cls,
        node: Node,
        finding: Finding,
        region: int | None = None,
        *,
        shape: tuple[int, ...] | None = None,
        sparsity: float | None = None,
        pattern: str = "",
        dtype: str = "",
        seconds: tuple[float, float] | None = None,
    ) -> NodeDecision:
        """Return the decision about `node`, which is taken if it has a region; `seconds` are those of the CPU provider and ours."""
        return cls(
            name=node.name,
            op_type=node.op_type,
            domain=node.domain,
            shape=shape,
            sparsity=sparsity,
            pattern=pattern,
            region=region,
            taken=region is not None,
            code=finding.code,
            reason=finding.text,
            option=finding.option,
            cpu_ms=None if seconds is None else seconds[0] * 1e3,
            ms=None if seconds is None else seconds[1] * 1e3,
            limit=finding.limit,
            dtype=dtype,
        )

    def to_dict(self) -> dict:
        """Return a JSON-ready dict with the fields as keys."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def merged(earlier: Decided, graph: Graph, decisions: Iterable[NodeDecision]) -> Decided:
    """Return the decisions about a graph after one more round of partitioning, with its regions numbered anew.

    ONNX Runtime partitions a graph, inlines functions that no provider has taken, and partitions it again. A region of an earlier round is
    one node by then, in place of which its nodes stand here. Nodes that another provider has got since keep the reason why they were not
    taken. This round has the decisions about all others: if ONNX Runtime begins anew, nothing earlier is left.
    """
    known = {name: entry for entry in earlier for name in entry[0] if name}
    members: dict[int | None, Decided] = {}
    for entry in earlier:
        members.setdefault(entry[1]["region"], []).append(entry)
    found: list[tuple[bool, tuple[list[str], dict]]] = []
    for node, decision in zip(graph.nodes, decisions, strict=True):
        before = next((known[name] for name in node.outputs if name in known), None)
        if node.ep_name == EP_NAME and before is not None and before[1]["taken"]:
            found += [(True, entry) for entry in members[before[1]["region"]]]
        elif node.ep_name and before is not None and before[1]["op_type"] == node.op_type:
            found.append((True, before))
        else:
            found.append((False, (list(node.outputs), decision.to_dict())))
    numbers: dict[tuple[bool, int], int] = {}
    result: Decided = []
    for old, (outputs, fields_of) in found:
        region = fields_of["region"]
        number = None if region is None else numbers.setdefault((old, region), len(numbers))
        result.append((outputs, {**fields_of, "region": number}))
    return result


@dataclass(frozen=True, slots=True)
class Selection:
    """`regions` hold indices into `graph.nodes`, ascending; `decisions` stand in the order of the nodes.

    `doubt` says what may be wrong with the results of operators in ONNX Runtime's blocked layout, with any provider, or "".
    """

    regions: tuple[tuple[int, ...], ...]
    decisions: tuple[NodeDecision, ...]
    doubt: str = ""

    @property
    def warning(self) -> str:
        """Return the doubt where it matters: if such an operator is taken, or left because of it; else ""."""
        blocked = (decision for decision in self.decisions if decision.domain == BLOCKED)
        return self.doubt if any(each.taken or each.code == OTHER_BLOCKS.code for each in blocked) else ""
