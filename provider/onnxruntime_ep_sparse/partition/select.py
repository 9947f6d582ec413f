"""Which nodes the provider takes, and why the others stay where they were.

The unit is a region: a connected piece of the graph that can be contracted into one node, grown around the products worth taking. Its
neighbours come along because handing them back in the middle would cost more than computing them (layout changes, lost fusions). The
answer depends on nothing but the graph and the options: `Compile` repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..graph.ir import EP_CONTEXT, FLOAT, Graph, Node, weight_of
from ..ops import table as ops
from ..ops.table import output_axis, weights_of
from ..options import EP_NAME, Options
from ..passes.dead_channels import remove_dead_channels
from . import cost
from .decision import NodeDecision, Selection
from .regions import grow
from .sparsity import LIKELY, Zeros, zeros_of_all


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
        folded = remove_dead_channels(graph, runnable)
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
        return Verdict(False, False, str(ops.can_run(graph, node) or ""))
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
        reason = str(ops.can_run(graph, node) or "")
    except (RuntimeError, OSError) as error:
        reason = f"its constants cannot be read: {error}"
    if reason:
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
