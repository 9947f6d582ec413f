"""Which nodes the provider takes, and why the others stay where they were.

The unit is a region: a connected piece of the graph that can be contracted into one node, grown around the products worth taking. Its
neighbours come along because handing them back in the middle would cost more than computing them (layout changes, lost fusions).

Each node is first judged on its own: can it be run, is it a reason to take a region. Then the graph of all runnable nodes goes through
the passes, because what they leave is what would run: products are judged again by the weights that are left, and regions by its nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .. import reasons
from ..graph.ir import EP_CONTEXT, FLOAT, NOTES, Graph, Node, sizes_of, subgraph, type_name, weight_of
from ..graph.nonzeros import Nonzeros
from ..ops import table
from ..options import EP_NAME, Options, byte_set_of, isa_of, workers_of
from ..passes.decompress import join_weights
from ..passes.quantized import read_quantized
from ..passes.run import run_passes
from ..passes.unblock import block_size, blocked_values, fitting
from ..reasons import Finding
from . import cost
from .decision import NodeDecision, Selection
from .gain import RegionGain, wakes
from .regions import grow
from .sparsity import LIKELY, Zeros, zeros_of_all

MOST_NOTES = 1000
"""Characters of a compiled region's notes in a reason."""
EITHER_BLOCKS = (
    "operators in ONNX Runtime's blocked layout are read in blocks of {here} channels, as ONNX Runtime reads them here. "
    "If a CPU of another kind saved the file, which it does not tell, results are wrong with any provider: "
    "save it at ORT_ENABLE_EXTENDED instead"
)
"""The doubt about a file whose channels fit blocks of both sizes."""


def select(graph: Graph, options: Options) -> Selection:
    """Choose the regions of `graph` under `options` (policy, min_sparsity).

    A quantised group is decided as the one operator that it is, and so is an operator with its compressed weights. Operators in ONNX
    Runtime's blocked layout are taken with all that share a value in it, or none is.
    """
    meanings, here = fitting(graph), block_size()
    if here in meanings:
        unblocked, inner = meanings[here], blocked_values(graph)
        touching = frozenset(node.index for node in graph.nodes if not inner.isdisjoint((*node.inputs, *node.outputs)))
        selection = select_units(graph, read_quantized(join_weights(unblocked)), options, touching)
        # whole ones are in ONNX's order between regions too, but a measured region may be left later
        whole = () if options.policy == "measure" else [name for name in inner if unblocked.values[name] == graph.values[name]]
        if stays_inside(graph, selection.regions, inner, whole):
            return replace(selection, doubt=EITHER_BLOCKS.format(here=here)) if len(meanings) > 1 else selection
    selection = select_units(graph, read_quantized(join_weights(graph)), options)
    if here in meanings or not meanings:
        return selection
    finding = reasons.OTHER_BLOCKS(saved=min(meanings), here=here)
    elsewhere = (replace(d, code=finding.code, reason=finding.text) if d.domain == table.BLOCKED else d for d in selection.decisions)
    return replace(selection, decisions=tuple(elsewhere), doubt=f"the file was saved on another kind of CPU: {finding.text}")


def stays_inside(graph: Graph, regions: Sequence[Collection[int]], inner: Collection[str], whole: Collection[str]) -> bool:
    """Return whether of each of the values `inner` one region holds all nodes that make or read it, or no region holds any.

    Several regions together may hold those of a value that is `whole`.
    """
    number = {index: n for n, region in enumerate(regions) for index in region}
    users: dict[str, set[int]] = {}
    for node in graph.nodes:
        for name in {*node.inputs, *node.outputs}.intersection(inner):
            users.setdefault(name, set()).add(number.get(node.index, -1))
    return all(len(found) == 1 or (name in whole and -1 not in found) for name, found in users.items())


def select_units(graph: Graph, read: Graph, options: Options, kept: Collection[int] = ()) -> Selection:
    """Choose the regions of a graph by the nodes that its passes have `read` in it. No region gives back a node that is `kept`."""
    if read is graph:
        return select_read(graph, options)
    units = [(node.index, *node.covers) for node in read.nodes]
    nodes = tuple(replace(node, index=place, covers=()) for place, node in enumerate(read.nodes))
    places = {place for place, unit in enumerate(units) if not set(kept).isdisjoint(unit)}
    selection = select_read(replace(read, nodes=nodes), options, places)
    decided: dict[int, NodeDecision] = {}
    for unit, decision in zip(units, selection.decisions, strict=True):
        decided[unit[0]] = decision
        for index in unit[1:]:
            decided[index] = part_of(decision, graph.nodes[index], graph.nodes[unit[0]])
    regions = sorted(tuple(sorted(i for place in region for i in units[place])) for region in selection.regions)
    number = {index: n for n, region in enumerate(regions) for index in region}
    decisions = [replace(decided[node.index], region=number.get(node.index)) for node in graph.nodes]
    original = [
        replace(decision, name=node.name, op_type=node.op_type, domain=node.domain)
        for decision, node in zip(decisions, graph.nodes, strict=True)
    ]
    return Selection(tuple(regions), tuple(original))


def part_of(decision: NodeDecision, node: Node, main: Node) -> NodeDecision:
    """Return the decision about a node that is decided together with the operator `main` of its group."""
    finding = reasons.PART_OF_OTHER(operator=main.op_type, name=main.name)
    seconds = None if decision.cpu_ms is None else (0.0, 0.0)
    return NodeDecision.of(node, finding, decision.region, seconds=seconds)


def select_read(graph: Graph, options: Options, kept: Collection[int] = ()) -> Selection:
    """Choose the regions of a graph as it has been read. No region gives back a node that is `kept`."""
    prices = cost.Prices(graph, isa_of(options), workers_of(options), byte_set_of(options))
    weighty = [node for node in graph.nodes if table.weights_of(graph, node) or table.left_weights_of(graph, node)]
    judgements = {node.index: judge(prices, node, options) for node in weighty}
    # Most models have nothing to take: their other nodes need not be looked at.
    idle = not any(j.wanted or (j.runnable and j.density.share <= 1 - LIKELY) for j in judgements.values())
    compiled = {node.index: judge_compiled(node) for node in graph.nodes if is_compiled(node) and not node.ep_name}
    judgements |= compiled
    for node in graph.nodes:
        if node.index not in judgements:
            judgements[node.index] = judge_bystander(graph, node, options) if idle else judge(prices, node, options)
    runnable = {index for index, j in judgements.items() if j.runnable}
    rewritten = prices
    if options.policy == "auto" and not idle:
        rewritten = prices.of(run_passes(subgraph(graph, runnable)))
        for node in rewritten.graph.nodes:
            judge_rewritten(prices, rewritten, node, options, judgements[node.index])
    wanted = {index for index, j in judgements.items() if j.wanted} - compiled.keys()
    densities = {index: j.density for index, j in judgements.items()}
    regions = [[index] for index in compiled]
    gains = []
    for region in grow(graph, runnable, wanted):
        if options.policy == "always":
            regions.append(region)
            continue
        gain = RegionGain(prices, rewritten, region, densities, runnable)
        gain.trim(wanted.union(kept))
        needed = any(table.runs_only_here(graph, graph.nodes[i]) for i in gain.members)
        if needed or gain.is_enough() or options.min_sparsity is not None:  # the user's figure stands above our estimate
            regions.append(sorted(gain.members))
            gains.append(gain)
        else:
            finding = reasons.REGION_TOO_SMALL(ms=gain.total() * 1e3, cpu_ms=gain.theirs() * 1e3)
            for i in region:
                judgements[i].finding = finding
    regions.sort()
    place = {index: n for n, region in enumerate(regions) for index in region}
    seconds = expected_seconds(prices, gains, runnable) if gains else {}
    decisions = tuple(judgements[node.index].decision(node, place.get(node.index), seconds.get(node.index)) for node in graph.nodes)
    return Selection(tuple(tuple(region) for region in regions), decisions)


def expected_seconds(prices: cost.Prices, gains: Iterable[RegionGain], runnable: Collection[int]) -> dict[int, tuple[float, float]]:
    """Return the seconds that the CPU provider is expected to take for every node, and those that it takes with these regions."""
    seconds: dict[int, tuple[float, float]] = {}
    theirs_wake = ours_wake = False
    for gain in gains:
        theirs, ours = wakes(gain.shared)
        theirs_wake, ours_wake = theirs_wake or theirs, ours_wake or ours
        units = dict.fromkeys(gain.members, (0.0, 0.0)) | {unit[-1]: both for unit, both in gain.seconds.items()}
        first = min(units)
        units[first] = units[first][0], units[first][1] + gain.overhead()
        seconds |= units
    for node in prices.graph.nodes:
        if node.index not in seconds:
            stays = prices.seconds(node) if node.index in runnable else None
            alone = prices.left(node) if stays is None else stays.ort
            seconds[node.index] = alone, alone
            if stays is None or stays.ort_splits:
                theirs_wake = ours_wake = True
    cpu, with_regions = seconds[0]
    seconds[0] = cpu + prices.call + prices.wake * theirs_wake, with_regions + prices.call + prices.wake * ours_wake
    return seconds


@dataclass(slots=True)
class Judgement:
    """Before regions: can a node be run, and is it a reason to take one."""

    runnable: bool = False
    wanted: bool = False
    finding: Finding | None = None
    """Why the node is wanted, or why it cannot be taken; None where that follows from its neighbours."""
    shape: tuple[int, ...] | None = None
    sparsity: float | None = None
    pattern: str = ""
    dtype: str = ""
    density: cost.Density = cost.DENSE
    """The density of the weight that will be packed."""

    def decision(self, node: Node, region: int | None, seconds: tuple[float, float] | None) -> NodeDecision:
        """Return what became of `node`, which `region` has taken, if any; `seconds` as in `NodeDecision.of`."""
        finding = self.finding
        if region is not None and (not self.wanted or finding is None):
            finding = reasons.NEIGHBOUR()
        elif finding is None:
            finding = reasons.NOT_ADJACENT()
        return NodeDecision.of(
            node,
            finding,
            region,
            shape=self.shape,
            sparsity=self.sparsity,
            pattern=self.pattern,
            dtype=self.dtype,
            seconds=seconds,
        )


def judge_bystander(graph: Graph, node: Node, options: Options) -> Judgement:
    """Judge a node that holds no constant weight, in a graph in which nothing is worth taking."""
    if options.policy == "never":
        return Judgement(finding=reasons.POLICY_NEVER())
    row = table.row_for(node)
    if row is None:
        return Judgement(finding=table.unsupported(node))
    return Judgement(finding=table.can_run(graph, node) if row.role in ("product", "recurrent") else None)


def is_compiled(node: Node) -> bool:
    """Return whether a node is a region that this provider has compiled."""
    return (node.domain, node.op_type) == EP_CONTEXT and node.attributes.get("source") == EP_NAME


def judge_compiled(node: Node) -> Judgement:
    """Judge a region of a compiled model: only this provider can run it, so that every option takes it."""
    notes = node.attributes.get(NOTES)
    words = f"; {notes[:MOST_NOTES]}" if isinstance(notes, str) and notes else ""
    return Judgement(wanted=True, finding=reasons.COMPILED(version=node.attributes.get("ep_sdk_version"), notes=words))


def judge(prices: cost.Prices, node: Node, options: Options) -> Judgement:
    """Judge one node on its own."""
    graph = prices.graph
    weights = table.weights_of(graph, node)
    j = Judgement()
    if weights and (graph.values[weights[0]].dtype == FLOAT or graph.values[weights[0]].shape is not None):
        j.shape = tuple(int(d) for d in (graph.values[weights[0]].shape or ()) if isinstance(d, int))
        j.dtype = type_in_file(graph, weights[0])
    j.finding = refusal(graph, node, options)
    if j.finding is not None:
        if options.policy != "never" and not node.ep_name:
            judge_left(graph, node, j)
        return j
    j.runnable = True
    if not weights:
        return j
    axis, offsets = table.output_axis(graph, node), table.zero_points_of(graph, node)
    zeros = zeros_of_all([(left_weight(graph, name, axis, zero), axis) for name, zero in zip(weights, offsets, strict=True)])
    j.sparsity, j.pattern, j.density = zeros.sparsity, zeros.pattern, cost.Density(1.0 - zeros.sparsity, zeros.in_blocks)
    if options.policy == "always":
        j.wanted, j.finding = True, reasons.POLICY_ALWAYS()
    elif table.runs_only_here(graph, node):
        j.wanted, j.finding = True, reasons.ONLY_HERE()
    else:
        j.wanted, j.finding = judge_sparsity(prices, node, zeros, j.density, options)
    return j


def judge_left(graph: Graph, node: Node, j: Judgement) -> None:
    """Say what the weights of a product look like that no region may hold, so that pruned ones count as left."""
    weights = table.left_weights_of(graph, node)
    if not weights:
        return
    try:
        zeros = zeros_of_all([(left_weight(graph, name, axis, zero_point), axis) for name, axis, zero_point in weights])
    except (RuntimeError, OSError, ValueError):  # constants that cannot be read, or zero points that do not fit
        return
    j.shape, j.sparsity, j.pattern = sizes_of(graph, weights[0][0]), zeros.sparsity, zeros.pattern
    j.dtype = type_in_file(graph, weights[0][0])


def type_in_file(graph: Graph, name: str) -> str:
    """Return the name of the element type that a constant has in the file."""
    return type_name(graph.narrow.get(name, graph.values[name].dtype))


def left_weight(graph: Graph, name: str, axis: int, zero_point: str) -> np.ndarray | Nonzeros:
    """Return a weight whose zeros can be counted: a quantised one is 0 where it equals its zero point, per tensor or per output feature."""
    weight = weight_of(graph, name)
    offset = graph.constant(zero_point)
    if offset is None or isinstance(weight, Nonzeros) or not offset.any():
        return weight
    return weight != offset.reshape([-1 if i == axis % weight.ndim else 1 for i in range(weight.ndim)])


def refusal(graph: Graph, node: Node, options: Options) -> Finding | None:
    """Return why no region may hold a node, or None."""
    if options.policy == "never":
        return reasons.POLICY_NEVER()
    if node.ep_name:
        return reasons.TAKEN_BY_OTHER(provider=node.ep_name)
    if graph.is_subgraph:
        return reasons.IN_SUBGRAPH()
    try:
        return table.can_run(graph, node)
    except (RuntimeError, OSError) as error:
        return reasons.CONSTANTS_UNREADABLE(error=error)


def judge_sparsity(prices: cost.Prices, node: Node, zeros: Zeros, density: cost.Density, options: Options) -> tuple[bool, Finding]:
    """Return whether the sparsity of a product is above its break-even, under `auto`, and the finding that says so."""
    limit, above, below = options.min_sparsity, reasons.ABOVE_MIN_SPARSITY, reasons.BELOW_MIN_SPARSITY
    if limit is None:
        limit, above, below = prices.break_even(node, density), reasons.ABOVE_BREAK_EVEN, reasons.BELOW_BREAK_EVEN
        if limit > 1:
            return False, reasons.TOO_SMALL()
    wanted = zeros.sparsity >= limit and (zeros.sparsity > 0 or options.min_sparsity is not None)
    return wanted, (above if wanted else below)(about="" if zeros.counted else "about ", sparsity=zeros.sparsity, limit=limit)


def judge_rewritten(prices: cost.Prices, rewritten: cost.Prices, node: Node, options: Options, j: Judgement) -> None:
    """Under `auto`: judge a product by the weight that the passes have left, without dead channels, its own and its operand's."""
    graph, left_graph = prices.graph, rewritten.graph
    original = graph.nodes[node.index]
    weights = table.weights_of(graph, original)
    if not weights or node.inputs == original.inputs:
        return
    weight, left = weights[0], node.inputs[original.inputs.index(weights[0])]
    if weight == left:
        return
    j.density = cost.Density(density_of(left_graph, left), j.density.in_blocks)
    share = np.prod(sizes_of(left_graph, left)) / np.prod(sizes_of(graph, weight))
    if j.wanted or options.min_sparsity is not None or share == 1:
        return
    if prices.seconds(original).ort > cost.MARGIN * rewritten.seconds(node).ours(j.density):
        j.wanted, j.finding = True, reasons.DEAD_CHANNELS(left=share)


def density_of(graph: Graph, name: str) -> float:
    """Return the share of nonzeros in a constant weight."""
    weight = weight_of(graph, name)
    return 1.0 - weight.sparsity if isinstance(weight, Nonzeros) else int(np.count_nonzero(weight)) / weight.size
