"""What became of every node, and why."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class NodeDecision:
    """What became of a node. `shape` and `sparsity` are those of its constant weight, None without one; `region` numbers the region that
    took it; `reason` says why it was or was not taken, `option` which provider option overrides that ("" if none does)."""

    name: str
    op_type: str
    domain: str
    shape: tuple[int, ...] | None
    sparsity: float | None
    pattern: str
    region: int | None
    taken: bool
    reason: str
    option: str

    def to_dict(self) -> dict:
        """A JSON-ready dict with the fields as keys."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Selection:
    """`regions` hold indices into `graph.nodes`, ascending; `decisions` stand in the order of the nodes."""

    regions: tuple[tuple[int, ...], ...]
    decisions: tuple[NodeDecision, ...]
