"""Expected times of nodes and regions with both providers, from which `select` decides. Estimates of operators stand in `ops`."""

from __future__ import annotations

from ..graph.ir import Graph, Node
from ..ops.table import row_for

HANDOVER_FLOATS = 1.5e9
"""Floats per second that cross the border of a region: ONNX Runtime leaves and re-enters its blocked layout and loses a fusion."""
MARGIN = 1.1
"""A product is taken for its own sake only if it is expected to win by this factor."""


def node_seconds(graph: Graph, node: Node, density: float) -> tuple[float, float]:
    """Return the expected seconds (ONNX Runtime, ours) of a supported node whose weight has this share of nonzeros."""
    row = row_for(node)
    assert row is not None, node.op_type
    estimate = row.estimate(graph, node, None)
    return estimate.ort, estimate.ours(density)


def break_even(graph: Graph, node: Node) -> float:
    """Return the sparsity from which a node with a weight is expected to win by MARGIN; above 1 if none is enough.

    Where the number of rows is not known, the worst case counts.
    """
    row = row_for(node)
    assert row is not None, node.op_type
    worst = 0.0
    for rows in row.row_counts(graph, node):
        estimate = row.estimate(graph, node, rows)
        # without pixels there is nothing to win
        density = (estimate.ort / MARGIN - estimate.fixed) / estimate.dense if estimate.dense > 0 else 0.0
        worst = max(worst, 1.0 - min(density, 1.0) if density > 0 else 2.0)
    return worst
