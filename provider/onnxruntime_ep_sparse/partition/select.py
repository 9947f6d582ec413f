"""Which nodes the provider takes, and why the others stay where they were.

The unit is a region: a connected piece of the graph that can be contracted into one node, grown around the products worth taking. Its
neighbours come along because handing them back in the middle would cost more than computing them (layout changes, lost fusions). The
answer depends on nothing but the graph and the options: `Compile` repeats it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from ..graph.ir import EP_CONTEXT, FLOAT, Graph, Node, shape_of, weight_of
from ..ops import table as ops
from ..options import EP_NAME, Options
from ..passes.dead_channels import fold
from . import cost
from .sparsity import LIKELY, Zeros, zeros_of_all


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


def select(graph: Graph, options: Options) -> Selection:
    """Choose the regions of `graph` under `options` (policy, min_sparsity)."""
    verdicts = {node.index: verdict(graph, node, options) for node in graph.nodes if weights_of(graph, node)}
    # Most models have nothing to take: their other nodes need not be looked at.
    idle = not any(v.wanted or (v.runnable and v.density <= 1 - LIKELY) for v in verdicts.values())
    compiled = {node.index: compiled_verdict(node) for node in graph.nodes if is_compiled(node) and not node.ep_name}
    verdicts |= compiled
    for node in graph.nodes:
        if node.index not in verdicts:
            verdicts[node.index] = bystander(graph, node, options) if idle else verdict(graph, node, options)
    runnable = {index for index, v in verdicts.items() if v.runnable}
    folded = graph
    if options.policy == "auto" and not idle:
        folded = fold(graph, runnable)
        for node in graph.nodes:
            judge_folded(graph, folded, node, options, verdicts[node.index])
    wanted = {index for index, v in verdicts.items() if v.wanted} - compiled.keys()
    regions = [[index] for index in compiled]
    for region in grow(graph, runnable, wanted):
        if options.policy == "always":
            regions.append(region)
            continue
        trimmed = trim(graph, folded, region, wanted, verdicts)
        gain = trimmed.total()
        if gain > 0 or options.min_sparsity is not None:  # the user's figure stands above our estimate
            regions.append(sorted(trimmed.members))
        else:
            for i in region:
                verdicts[i].reason = f"the region around it would lose {-gain * 1e3:.2f} ms by estimate"
                verdicts[i].option = "policy=always"
    regions.sort()
    place = {index: n for n, region in enumerate(regions) for index in region}
    decisions = []
    for node in graph.nodes:
        v = verdicts[node.index]
        number = place.get(node.index)
        taken = number is not None
        reason, option = v.reason, v.option
        if taken and not v.wanted:
            reason, option = "neighbour of pruned nodes in its region", ""
        elif not taken and v.wanted and not reason:
            reason = "its region was not worth taking"
        elif not taken and not reason:
            reason = "not next to a node that is taken"
        decisions.append(NodeDecision(node.name, node.op_type, node.domain, v.shape, v.sparsity, v.pattern, number, taken, reason, option))
    return Selection(tuple(tuple(region) for region in regions), tuple(decisions))


@dataclass(slots=True)
class Verdict:
    """Before regions: can a node be run, and is it a reason to take one."""

    runnable: bool
    wanted: bool
    reason: str
    option: str = ""
    shape: tuple[int, ...] | None = None
    sparsity: float | None = None
    pattern: str = ""
    density: float = 1.0
    """Of the weight that will be packed."""


def bystander(graph: Graph, node: Node, options: Options) -> Verdict:
    """A node that holds no constant weight, in a graph in which nothing is worth taking."""
    if options.policy == "never":
        return Verdict(False, False, "policy is never", "policy=auto")
    row = ops.row_for(node)
    if row is None:
        return Verdict(False, False, f"operator {node.op_type} is not supported")
    if row.role in ("product", "recurrent"):
        return Verdict(False, False, ops.can_run(graph, node) or "")
    return Verdict(False, False, "")


def is_compiled(node: Node) -> bool:
    """Whether a node is a region that this provider has compiled."""
    return (node.domain, node.op_type) == EP_CONTEXT and node.attributes.get("source") == EP_NAME


def compiled_verdict(node: Node) -> Verdict:
    """A region of a compiled model: nobody else can run it, so that no option keeps it away."""
    return Verdict(False, True, f"compiled: by version {node.attributes.get('ep_sdk_version')}")


def verdict(graph: Graph, node: Node, options: Options) -> Verdict:
    """Judge one node on its own."""
    weights = weights_of(graph, node)
    v = Verdict(False, False, "")
    if weights and (graph.values[weights[0]].dtype == FLOAT or graph.values[weights[0]].shape is not None):
        v.shape = tuple(int(d) for d in (graph.values[weights[0]].shape or ()) if isinstance(d, int))
    if options.policy == "never":
        v.reason, v.option = "policy is never", "policy=auto"
        return v
    if node.ep_name:
        v.reason = f"already taken by {node.ep_name}"
        return v
    if graph.is_subgraph:
        v.reason = "inside the body of a control-flow node"
        return v
    try:
        reason = ops.can_run(graph, node)
    except (RuntimeError, OSError) as error:
        reason = f"its constants cannot be read: {error}"
    if reason is not None:
        v.reason = reason
        return v
    v.runnable = True
    if not weights:
        return v
    zeros = zeros_of_all([(weight_of(graph, name), output_axis(graph, node)) for name in weights])
    v.sparsity, v.pattern, v.density = zeros.sparsity, zeros.pattern, 1.0 - zeros.sparsity
    if options.policy == "always":
        v.wanted, v.reason = True, "policy is always"
    else:
        judge(graph, node, zeros, options, v)
    return v


def judge(graph: Graph, node: Node, zeros: Zeros, options: Options, v: Verdict) -> None:
    """Under `auto`: is this product's sparsity above its break-even?"""
    percent = f"{'' if zeros.counted else 'about '}{zeros.sparsity:.1%}"
    if options.min_sparsity is not None:
        limit, option = options.min_sparsity, "min_sparsity"
    else:
        limit, option = cost.break_even(graph, node), "min_sparsity"
    v.wanted = zeros.sparsity >= limit and (zeros.sparsity > 0 or options.min_sparsity is not None)
    if limit > 1:
        v.reason, v.option = "too small to gain from sparsity", "policy=always"
    elif v.wanted:
        v.reason = f"sparsity {percent}, break-even {limit:.1%}"
    else:
        v.reason, v.option = f"sparsity {percent} is below the break-even {limit:.1%}", option


def judge_folded(graph: Graph, folded: Graph, node: Node, options: Options, v: Verdict) -> None:
    """Under `auto`: does a product gain enough once dead channels are gone, its own and its operand's?"""
    smaller = folded.nodes[node.index]
    weights = weights_of(graph, node) if smaller is not node and v.runnable else ()
    if not weights:
        return
    weight = weights[0]
    before, after = graph.load(weight), folded.load(smaller.inputs[node.inputs.index(weight)])
    v.density = int(np.count_nonzero(after)) / after.size
    if v.wanted or options.min_sparsity is not None:
        return
    theirs, ours = cost.node_seconds(graph, node, v.density)[0], cost.node_seconds(folded, smaller, v.density)[1]
    if theirs > cost.MARGIN * ours:
        v.wanted, v.option = True, ""
        v.reason = f"without dead channels {after.size / before.size:.1%} of its weights are left, {v.density:.1%} of them not zero"


def weights_of(graph: Graph, node: Node) -> tuple[str, ...]:
    """The constant weight of a product, W and R of a recurrent node, nothing of others."""
    row = ops.row_for(node)
    if row is None or row.role not in ("product", "recurrent"):
        return ()
    if row.role == "recurrent":
        return tuple(name for name in node.inputs[1:3] if graph.is_constant(name))
    candidates = node.inputs[1:2] if node.op_type == "Conv" else node.inputs[:2]
    return tuple(name for name in candidates if graph.is_constant(name))[:1]


def output_axis(graph: Graph, node: Node) -> int:
    """The axis of a constant weight that holds its output features."""
    if node.op_type not in ("Gemm", "MatMul"):
        return 0 if node.op_type == "Conv" else 1
    right = graph.is_constant(node.inputs[1])
    if node.op_type == "MatMul":
        return -1 if right else max(-2, -len(shape_of(graph, node.inputs[0])))
    return int(right) ^ bool(node.attributes.get("transB" if right else "transA"))


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


def trim(graph: Graph, folded: Graph, region: list[int], wanted: set[int], verdicts: dict[int, Verdict]) -> cost.RegionGain:
    """Give back unwanted nodes at the region's rim, one at a time, as long as that is expected to save time."""
    gain = cost.RegionGain(graph, folded, region, {i: verdicts[i].density for i in region})
    changed = True
    while changed:
        changed = False
        for i in sorted(gain.members - wanted):
            node = graph.nodes[i]
            before = any(graph.producer[n].index in gain.members for n in node.inputs if n in graph.producer)
            after = any(reader.index in gain.members for n in node.outputs for reader in graph.consumers.get(n, ()))
            if not (before and after) and gain.without(i) > 0:
                gain.members.discard(i)
                changed = True
    return gain
