"""The form of a row in the table of operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..graph.ir import BOOL, CARRIED, FLOAT, INTEGERS, Graph, Node
from ..program.builder import Builder
from ..reasons import Finding
from . import costs
from .channels import ChannelPlan, Flow
from .costs import Estimate, Setting

Shape = tuple[int | str | None, ...]
ONNX = ("", "ai.onnx")


MICROSOFT = ("com.microsoft",)
FUSED = "ep.sparse.fused"
"""Domain of operators that only `passes` make, of several nodes: no file has them."""
FLOATS = (FLOAT,)
MOVED = (FLOAT, *CARRIED)
"""Element types of what steps move as it is, whatever they mean."""
ANY = (*MOVED, *INTEGERS)
"""All element types of values in regions."""
TRUTHS = (FLOAT, BOOL)
"""Element types of operators with truths among their operands or results."""


def no_weights(graph: Graph, node: Node) -> tuple[str, ...]:
    """Return no names: the node has no weight that is packed."""
    return ()


def nothing_implied(graph: Graph, node: Node) -> dict[str, Shape]:
    """Return no shapes: those of the inputs say nothing about each other."""
    return {}


def no_zero_points(graph: Graph, node: Node) -> tuple[str, ...]:
    """Return no names: zeros of the weights are zeros."""
    return ()


def never(graph: Graph, node: Node) -> bool:
    """Return False."""
    return False


def first_axis(graph: Graph, node: Node) -> int:
    """Return 0."""
    return 0


def can_run_if(found_of: Callable[[Graph, Node], object]) -> Callable[[Graph, Node], Finding | None]:
    """Return a `can_run` by a function that returns what a node asks for, or a finding that says why it cannot run."""

    def can_run(graph: Graph, node: Node) -> Finding | None:
        found = found_of(graph, node)
        return found if isinstance(found, Finding) else None

    return can_run


@dataclass(frozen=True, slots=True)
class OpRow:
    """One operator: all that the provider knows about it.

    `role` is product (packed weights), recurrent (the same, two of them), activation (fusable unary), neighbour, or integers (a neighbour
    that computes with int64 and int32). `can_run` returns None, or a finding that says why the node cannot run; `lower` appends its steps
    to a builder. `note` says in the documentation what is declined. Outputs beyond `results` are declined if they are read, and so are
    versions before `first_version`, which mean something else. `parameters` are the indices of inputs that are not data: shapes, axes,
    exponents, lengths, scales. `types` are the element types of data.

    `weights` returns the names of the constant weights that are packed, and `output_axis` their axis of output features. `zero_points`
    returns the names of the constants that hold the numbers that stand for 0 in them, "" for 0. `channels` is the
    rule by which dead channels are followed through the node, None if it mixes channels. `estimate` returns the work of a node.
    `row_counts` returns the numbers of rows to judge it by, None for the nominal one, and `open_sizes` the sizes to assume for symbols in
    its shapes. `blocked` says that ONNX Runtime runs it in its blocked layout, between convolutions of two dimensions; `adds`, that it
    begins with an addition, which a product that makes an operand can do. `implied` returns what the weight or the operator says about
    the shapes of values, as far as that is certain: for values of unknown rank. `only_here` says that ONNX Runtime's CPU provider has no
    kernel for the node.
    """

    op_type: str
    role: str
    can_run: Callable[[Graph, Node], Finding | None]
    lower: Callable[[Builder, Node], None]
    note: str = ""
    domains: tuple[str, ...] = ONNX
    results: int = 1
    first_version: int = 1
    parameters: tuple[int, ...] = ()
    types: tuple[int, ...] = FLOATS
    weights: Callable[[Graph, Node], tuple[str, ...]] = no_weights
    output_axis: Callable[[Graph, Node], int] = first_axis
    zero_points: Callable[[Graph, Node], tuple[str, ...]] = no_zero_points
    channels: Callable[[Flow, Node], ChannelPlan | None] | None = None
    estimate: Callable[[Setting, Node], Estimate] = costs.copied
    row_counts: Callable[[Graph, Node], tuple[int | None, ...]] = costs.one_count
    blocked: bool = False
    adds: bool = False
    open_sizes: Callable[[Graph, Node], Mapping[str, int]] = costs.no_open_sizes
    implied: Callable[[Graph, Node], dict[str, Shape]] = nothing_implied
    only_here: Callable[[Graph, Node], bool] = never
