"""The form of a row in the table of operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..graph.ir import Graph, Node

if TYPE_CHECKING:
    from ..program.builder import Builder


ONNX = ("", "ai.onnx")


MICROSOFT = ("com.microsoft",)
FUSED = "ep.sparse.fused"
"""Domain of operators that only `passes` make, of several nodes: no file has them."""


@dataclass(frozen=True, slots=True)
class OpRow:
    """One operator. `role`: product (packed weights), recurrent (the same, two of them), activation (fusable unary), or neighbour. `note`
    says what is declined. More than `results` outputs are declined."""

    op_type: str
    role: str
    can_run: Callable[[Graph, Node], str | None]
    lower: Callable[[Builder, Node], None]
    note: str = ""
    domains: tuple[str, ...] = ONNX
    results: int = 1


def _always(graph: Graph, node: Node) -> str | None:
    return None
