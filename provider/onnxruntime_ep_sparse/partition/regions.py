"""Grows regions: connected pieces of a graph that can be contracted into one node."""

from __future__ import annotations

from collections.abc import Iterable

from ..graph.ir import Graph


def grow(graph: Graph, runnable: set[int], wanted: set[int]) -> Iterable[list[int]]:
    """Maximal regions of runnable nodes around the wanted ones.

    An edge between a region and another or a node beside it is contracted unless another path leads from the one to the other: then the
    contracted graph would have a cycle, which ONNX Runtime refuses.
    """
    if not wanted:
        return []
    group = {node.index: node.index for node in graph.nodes}
    members = {index: [index] for index in group}
    edges = list(
        dict.fromkeys(
            (graph.producer[name].index, node.index)
            for node in graph.nodes
            for name in node.inputs + node.implicit_inputs
            if name in graph.producer
        )
    )
    successors: dict[int, set[int]] = {index: set() for index in group}
    predecessors: dict[int, set[int]] = {index: set() for index in group}
    for a, b in edges:
        successors[a].add(b)
        predecessors[b].add(a)
    regions, last = set(wanted), 0
    candidates = [(a, b) for a, b in edges if a in runnable and b in runnable]
    left = 2  # until neither direction finds anything: forwards regions take what follows, backwards what leads to them
    while left:
        left -= 1
        for a, b in candidates:
            first, second = group[a], group[b]
            if first == second or regions.isdisjoint((first, second)) or other_path(first, second, successors, max(last, b)):
                continue
            contract(first, second, group, members, successors, predecessors)
            regions.discard(second)
            regions.add(first)
            last, left = max(last, b), 2
        candidates.reverse()
    return [sorted(members[region]) for region in regions]


def other_path(first: int, second: int, successors: dict[int, set[int]], last: int) -> bool:
    """Whether a path other than the direct edge leads from the one contracted node to the other. Nodes behind `last` lead to neither: all
    are uncontracted, and so are those that they lead to."""
    stack = [n for n in successors[first] if n != second and n <= last]
    seen = set(stack)
    while stack:
        n = stack.pop()
        if n == second:
            return True
        fresh = successors[n] - seen
        seen |= fresh
        stack.extend(m for m in fresh if m <= last)
    return False


def contract(
    kept: int,
    gone: int,
    group: dict[int, int],
    members: dict[int, list[int]],
    successors: dict[int, set[int]],
    predecessors: dict[int, set[int]],
) -> None:
    """Make one node of two."""
    for index in members[gone]:
        group[index] = kept
    members[kept] += members.pop(gone)
    for n in successors.pop(gone):
        predecessors[n].discard(gone)
        if n != kept:
            predecessors[n].add(kept)
            successors[kept].add(n)
    for n in predecessors.pop(gone):
        successors[n].discard(gone)
        if n != kept:
            successors[n].add(kept)
            predecessors[kept].add(n)
    successors[kept].discard(kept)
    predecessors[kept].discard(kept)
