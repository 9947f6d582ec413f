"""Grows regions: connected pieces of a graph that can be contracted into one node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
            if first == second or regions.isdisjoint((first, second)):
                continue
            if other_path(first, second, successors, predecessors, max(last, b)):
                continue
            regions -= {first, second}
            regions.add(contract(first, second, group, members, successors, predecessors))
            last, left = max(last, b), 2
        candidates.reverse()
    return [sorted(members[region]) for region in regions]


def other_path(first: int, second: int, successors: dict[int, set[int]], predecessors: dict[int, set[int]], last: int) -> bool:
    """Return whether a path other than the direct edge leads from the one contracted node to the other.

    The search goes forwards and backwards in turn, and ends with the shorter of the two. Nodes after `last` lead to neither: all are
    uncontracted, and so are their successors.
    """
    if len(successors[first]) == 1 or len(predecessors[second]) == 1:
        return False
    ahead, behind = {first}, {second}
    for n, m in zip(search(first, second, successors, ahead, last), search(second, first, predecessors, behind, last), strict=False):
        if n in behind or m in ahead:
            return True
    return False


def search(start: int, end: int, edges: dict[int, set[int]], seen: set[int], last: int) -> Iterator[int | None]:
    """Visit what `edges` lead to from `start`, other than directly to `end`: yield each new node, or None, after each edge."""
    stack = [iter(edges[start])]
    while stack:
        n = next(stack[-1], None)
        if n is None:
            stack.pop()
        elif n in seen or n > last or (n == end and len(stack) == 1):
            yield None
        else:
            seen.add(n)
            stack.append(iter(edges[n]))
            yield n


def contract(
    first: int,
    second: int,
    group: dict[int, int],
    members: dict[int, list[int]],
    successors: dict[int, set[int]],
    predecessors: dict[int, set[int]],
) -> int:
    """Make one node of two. The larger keeps its number, which is returned, so that a node is renumbered only a few times."""
    kept, gone = sorted((first, second), key=lambda n: len(members[n]) + len(successors[n]) + len(predecessors[n]), reverse=True)
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
    return kept


def contractible(graph: Graph, regions: Iterable[Iterable[int]]) -> bool:
    """Return whether all regions, which share no node, can be contracted at once: the contracted graph has no cycle."""
    place = {index: n for n, region in enumerate(regions) for index in region}
    group = {node.index: place.get(node.index, -1 - node.index) for node in graph.nodes}
    successors: dict[int, set[int]] = {n: set() for n in group.values()}
    for node in graph.nodes:
        for name in node.inputs + node.implicit_inputs:
            if name in graph.producer and group[graph.producer[name].index] != group[node.index]:
                successors[group[graph.producer[name].index]].add(group[node.index])
    waiting = dict.fromkeys(successors, 0)
    for following in successors.values():
        for n in following:
            waiting[n] += 1
    ready = [n for n, count in waiting.items() if not count]
    for n in ready:  # it grows
        for m in successors[n]:
            waiting[m] -= 1
            if not waiting[m]:
                ready.append(m)
    return len(ready) == len(successors)
