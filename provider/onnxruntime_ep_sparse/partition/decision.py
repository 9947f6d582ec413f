"""What became of every node, and why."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..graph.ir import Node
from ..reasons import Finding


@dataclass(frozen=True, slots=True)
class NodeDecision:
    """What became of a node.

    `shape` and `sparsity` are those of its constant weight, None without one; `region` numbers the region that took it. `reason` says why
    it was or was not taken, `code` is that reason's stable name, `option` the provider option that overrides it, "" if there is none.
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
    ) -> NodeDecision:
        """Return the decision about `node`, which is taken if it has a region."""
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
        )

    def to_dict(self) -> dict:
        """Return a JSON-ready dict with the fields as keys."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Selection:
    """`regions` hold indices into `graph.nodes`, ascending; `decisions` stand in the order of the nodes."""

    regions: tuple[tuple[int, ...], ...]
    decisions: tuple[NodeDecision, ...]
