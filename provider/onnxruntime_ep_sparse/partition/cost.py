"""Expected times of nodes and regions with both providers, from which `select` decides.

The rows of `ops` say how much work a node is, `ops/rates.py` how long each kind of work takes on an instruction set; here they meet.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from onnxruntime_ep_sparse_kernels.isa import ISAS, SHARED, Isa, byte_sets_for

from ..graph.ir import Graph, Node
from ..ops import table
from ..ops.byte_costs import BYTE_RATES
from ..ops.costs import Amounts, Estimate, Setting, combined, moved, nominal_size, scaled, shared
from ..ops.matrix import other_work
from ..ops.quantized_costs import INT8_RATES, of_bytes
from ..ops.rates import RATES, Rates
from ..ops.row import MOVED
from ..program.packing import SHARED_ROW_COST

T = TypeVar("T")

MARGIN = REGION_MARGIN = 1.05
"""A product is a reason to take a region only if it is expected to win by this factor at the nominal sizes. It may not lose at any others.
A region is taken only if it is expected to win by the same factor as a whole ..."""
ROWS_MARGIN = 1.02
"""... by this factor for every number of rows that it is judged by ..."""
LEAST_SAVED = 5e-7
"""... and to save so many seconds per run."""
SHORT_S, SHORT_MARGIN = 30e-6, 1.15
"""Where ONNX Runtime takes less than SHORT_S for a region, the region has to win by SHORT_MARGIN: calls and steps weigh as much as the work
there. MLP policies that were expected to be 1.07 to 1.13 times as fast were 0.90 to 1.10 times as fast."""

CONVERTED = 4
"""Floats read or written for each element of 16 bits that crosses a border: one side rounds it, ONNX Runtime's node Cast or ours, the other
widens it."""
MOST_OUTSIDE = 256
"""Nodes outside a region that are looked at for whether they wake threads."""


@dataclass(frozen=True, slots=True)
class Density:
    """The density of a weight: the share of nonzeros, and whether they stand in blocks of 4 outputs by 1 input."""

    share: float = 1.0
    in_blocks: bool = False

    @property
    def columns(self) -> float:
        """Return the expected share of columns of SHARED rows in which something is left."""
        return self.share if self.in_blocks else 1 - (1 - self.share) ** SHARED

    @property
    def shares_columns(self) -> bool:
        """Return whether `packing.choose_rows` chooses the kernels whose rows share columns."""
        return self.columns * SHARED_ROW_COST < self.share

    @property
    def left(self) -> float:
        """Return the share of the multiply-adds that the kernels do."""
        return self.columns if self.shares_columns else self.share


DENSE = Density()
MOST_APART = max((percent / 1000 for percent in range(1001) if not Density(percent / 1000).shares_columns), default=0.0)
"""The largest share of nonzeros with which rows are apart, where zeros stand anywhere."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """Expected seconds of a node: ONNX Runtime's; ours whatever the weight, and of a whole weight by the kinds of kernels.

    `shared` and `dense` are None where no such kernel runs the weight; where `dense` does not, `rows` come to `apart`. `second` holds those
    of another weight of the node, if there is one. `alone` holds those of our step on one thread, where it stays on its caller's up to a
    share `alone_to` of its multiply-adds. `ort_splits` says whether ONNX Runtime shares the node between threads.
    """

    ort: float
    fixed: float
    apart: float
    shared: float | None
    dense: float | None
    rows: float
    second: Seconds | None = None
    alone: Seconds | None = None
    alone_to: float = math.inf
    ort_splits: bool = False

    def splits(self, density: Density) -> bool:
        """Return whether we share the node between threads, with such a weight."""
        return density.left > self.alone_to or (self.second is not None and self.second.splits(density))

    def ours(self, density: Density) -> float:
        """Return our seconds with such a weight."""
        if self.alone is not None and density.left <= self.alone_to:
            return self.alone.ours(density)
        fixed = self.fixed + (self.second.ours(density) if self.second is not None else 0.0)
        if self.shared is not None and density.shares_columns:
            return fixed + density.columns * self.shared
        apart = density.share * self.apart + self.rows
        return fixed + (apart if self.dense is None else min(apart, self.dense))

    def break_even(self, margin: float, density: Density) -> float:
        """Return the sparsity from which ours are fewer by a factor of `margin`, for such a pattern; above 1 if none is enough."""
        if self.second is not None or self.alone is not None:
            return self._bisected(margin, density)
        left = self.ort / margin - self.fixed
        if left <= 0 or not self.apart:
            return 2.0
        if self.dense is not None and self.dense <= left:
            return 0.0
        if left <= self.rows:
            return 2.0
        apart = min((left - self.rows) / self.apart, 1.0)
        if self.shared is None:
            return 1.0 - apart
        columns = min(left / self.shared, 1.0)
        if density.in_blocks:
            return 1.0 - columns
        if apart < MOST_APART:
            return 1.0 - apart
        return 1.0 - max(MOST_APART, 1 - (1 - columns) ** (1 / SHARED))

    def _bisected(self, margin: float, density: Density) -> float:
        """Return the same of a node with two weights, or of one that becomes too small for several threads, to a millionth."""

        def wins(sparsity: float) -> bool:
            return margin * self.ours(replace(density, share=1 - sparsity)) <= self.ort

        if not wins(1.0):
            return 2.0
        # between these one kind of kernel runs, and fewer zeros never take less time
        edges = sorted({1.0, 1 - MOST_APART, 0.0, *self._alone_from()}, reverse=True)
        while len(edges) > 1 and wins(edges[1]):
            edges.pop(0)
        high, low = edges[0], edges[1] if len(edges) > 1 else edges[0]
        while high - low > 1e-6:
            middle = (low + high) / 2
            low, high = (low, middle) if wins(middle) else (middle, high)
        return high

    def _alone_from(self) -> set[float]:
        """Return sparsities, from 0 to 1, from which our steps stay on one thread, whether rows share columns or not."""
        found = set() if self.second is None else self.second._alone_from()
        if self.alone is not None and 0 < self.alone_to < 1:
            found |= {1 - self.alone_to, (1 - self.alone_to) ** (1 / SHARED)}
        return found


class Prices:
    """Expected times of the nodes of a graph on an instruction set, with a number of threads.

    `byte_set` names the kernels for bytes, by default the best ones of the instruction set.
    """

    def __init__(self, graph: Graph, isa: Isa, threads: int, byte_set: str = "") -> None:
        self.graph = graph
        self.isa = isa
        self.threads = threads
        self.byte_set = byte_set
        self._handovers: dict[str, float] = {}

    def of(self, graph: Graph) -> Prices:
        """Return the prices of what the passes have made of the graph, for the same sizes."""
        prices = Prices(graph, self.isa, self.threads, self.byte_set)
        prices.setting = replace(self.setting, graph=graph, products=results_of_products(graph))
        return prices

    @cached_property
    def setting(self) -> Setting:
        """Return the setting of the graph, made when a price is first asked for: of most models none is."""
        return setting_of(self.graph, self.isa)

    @cached_property
    def _ort(self) -> dict[str, float]:
        return seconds_per_unit(ort_rates(self.isa, self.byte_set), self.threads)

    @cached_property
    def _ort_alone(self) -> dict[str, float]:
        return seconds_per_unit(ort_rates(self.isa, self.byte_set), 1)

    @cached_property
    def _ours_alone(self) -> dict[str, float]:
        return seconds_per_unit(our_rates(self.isa, self.byte_set), 1)

    @cached_property
    def _ours(self) -> dict[str, float]:
        return seconds_per_unit(our_rates(self.isa, self.byte_set), self.threads)

    def seconds(self, node: Node, rows: int | None = None) -> Seconds:
        """Return the expected seconds of a node that has a row."""
        row = table.row_for(node)
        assert row is not None, node.op_type
        estimate = row.estimate(self.setting if rows is None else self.setting.with_rows(rows), node)
        return self.price(of_bytes(self.graph, node, estimate) if row.types == MOVED else estimate)

    def price(self, estimate: Estimate) -> Seconds:
        """Return the seconds of some work."""
        ort_splits = self.threads > 1 and estimate.ort_splits
        ort = price(shared(estimate.ort), self._ort) if ort_splits else price(estimate.ort, self._ort_alone)
        second = None if estimate.second is None else self.price(estimate.second)
        # with all its zeros a step multiplies once by every weight
        alone_to = estimate.alone_to if self.threads > 1 and estimate.alone_to < 1 else math.inf
        alone = _ours(estimate, estimate.ours, self._ours_alone) if alone_to > 0 else None
        if alone is not None and alone_to == math.inf:
            return Seconds(ort, *alone, second, ort_splits=ort_splits)
        ours = _ours(estimate, shared(estimate.ours), self._ours)
        return Seconds(ort, *ours, second, None if alone is None else Seconds(ort, *alone, second), alone_to, ort_splits)

    def left(self, node: Node) -> float:
        """Return ONNX Runtime's expected seconds of a node that no region may hold, as far as the size of its result is known."""
        known = [name for name in node.outputs if name and self._has_shape(name)]
        return price(other_work(self.setting, node, known), self._ort)

    def _has_shape(self, name: str) -> bool:
        return name in self.graph.values and self.graph.values[name].shape is not None

    def break_even(self, node: Node, density: Density = DENSE) -> float:
        """Return the sparsity from which a node with a weight wins by MARGIN at its nominal sizes, and loses at no others; above 1 if none
        is enough."""
        row = table.row_for(node)
        assert row is not None, node.op_type
        counts = row.row_counts(self.graph, node)
        return max(self.seconds(node, rows).break_even(MARGIN if rows is None else 1.0, density) for rows in counts)

    def row_counts(self, node: Node) -> tuple[int | None, ...]:
        """Return the numbers of rows to judge a node with weights by, None for the nominal one; none of another node."""
        row = table.row_for(node)
        return row.row_counts(self.graph, node) if row is not None and table.weights_of(self.graph, node) else ()

    def handover(self, name: str) -> float:
        """Return the seconds to hand over a value at the border of a region.

        ONNX Runtime reorders it within its blocked layout; elsewhere the layout is ours anyway. A value of 16 bits is rounded by the side
        that makes it and widened by the other one, and stays float32 where both are the same.
        """
        if name not in self._handovers:
            nodes = (self.graph.producer[name], *self.graph.consumers.get(name, ()))
            blocked = len(self.graph.values[name].shape or ()) == 4 if name in self.graph.values else False
            blocked = blocked and table.is_blocked(nodes[0]) and any(map(table.is_blocked, nodes[1:]))
            size = math.prod(self.setting.sizes(name))
            amounts = dict(moved("reordered", size)) if blocked else {}
            if name in self.graph.narrow:
                amounts |= {"node": 1, **moved("float", CONVERTED * size)}
            self._handovers[name] = price(amounts, self._ort)
        return self._handovers[name]

    @property
    def call(self) -> float:
        """Seconds that a run takes besides its nodes, with either provider."""
        return self._ort["call"]

    @property
    def wake(self) -> float:
        """Seconds that a run takes to wake other threads, with either provider: they sleep unless one run follows the other at once."""
        return self._ort["wake"] if self.threads > 1 else 0.0

    def shared_outside(self, members: Collection[int], runnable: Collection[int], rows: int | None) -> bool | None:
        """Return whether ONNX Runtime shares any node but the `members` between threads; None where that is not known.

        Only `runnable` nodes have a price.

        Of more than MOST_OUTSIDE nodes that is not asked: their run takes so long that waking threads is little of it.
        """
        if len(self.graph.nodes) - len(members) > MOST_OUTSIDE:
            return None
        found: bool | None = False
        for node in self.graph.nodes:
            if node.index not in members:
                if node.index not in runnable:
                    found = None
                elif self.seconds(node, rows).ort_splits:
                    return True
        return found

    @property
    def region(self) -> float:
        """Seconds that a region takes besides its steps."""
        return self._ours["region"]


def rates_of(isa: Isa) -> Rates:
    """Return the rates of an instruction set, or of the best one below it that has been measured."""
    names = [row.name for row in ISAS]
    return next(RATES[name] for name in names[names.index(isa.name) :] if name in RATES)


def ort_rates(isa: Isa, byte_set: str = "") -> Mapping[str, tuple[float, float]]:
    """Return ONNX Runtime's rates on an instruction set; those of 8-bit operators are of a CPU that has the instructions of `byte_set`."""
    return {**rates_of(isa).ort, **INT8_RATES[_measured(isa, byte_set)]}


def our_rates(isa: Isa, byte_set: str = "") -> Mapping[str, tuple[float, float]]:
    """Return our rates on an instruction set, those of products by these kernels for bytes among them."""
    return {**rates_of(isa).ours, **BYTE_RATES[_measured(isa, byte_set)]}


def _measured(isa: Isa, byte_set: str) -> str:
    """Return the name of a set of kernels for bytes ("": the best one of an instruction set), or of the best one below it with the same dot
    that has been measured."""
    rows = byte_sets_for(ISAS[ISAS.index(isa) :])
    wanted = next(row for row in rows if byte_set in ("", row.name))
    return next(row.name for row in rows if row.dot.name == wanted.dot.name and row.name in BYTE_RATES)


def setting_of(graph: Graph, isa: Isa) -> Setting:
    """Return the setting of a graph, with nominal sizes."""
    return Setting(graph, isa, open_sizes(graph), weights=floats_in_constants(graph), products=results_of_products(graph))


def results_of_products(graph: Graph) -> frozenset[str]:
    """Return the names of the results of products that one node alone reads."""
    products = (node for node in graph.nodes if (row := table.row_for(node)) is not None and row.role == "product")
    names = (node.outputs[0] for node in products)
    return frozenset(name for name in names if len(graph.consumers.get(name, ())) == 1 and name not in graph.outputs)


def open_sizes(graph: Graph) -> dict[str, int]:
    """Return the sizes to assume for the symbols in a graph's shapes: what operators tell, then what their places suggest."""
    sizes: dict[str, int] = {}
    for node in graph.nodes:
        row = table.row_for(node)
        if row is not None and node.inputs[:1] and node.inputs[0] in graph.values and graph.values[node.inputs[0]].shape is not None:
            for symbol, size in row.open_sizes(graph, node).items():
                sizes.setdefault(symbol, size)
    # the more dimensions a value has, the more the place of one says
    shapes = sorted((value.shape for value in graph.values.values() if value.shape is not None), key=len, reverse=True)
    for shape in shapes:
        for axis, d in enumerate(shape):
            if isinstance(d, str):
                sizes.setdefault(d, nominal_size(axis, len(shape)))
    return sizes


def floats_in_constants(graph: Graph) -> int:
    """Return how many elements the constants of a graph have."""
    shapes = (graph.values[name].shape for name in graph.constant_names if name in graph.values)
    return sum(math.prod(d for d in shape if isinstance(d, int)) for shape in shapes if shape)


def seconds_per_unit(rates: Mapping[str, tuple[float, float]], threads: int) -> dict[str, float]:
    """Return seconds per unit of every rate for a number of threads: measured for one and two, more share the work as two do."""
    if threads < 2:
        return {name: one * 1e-9 for name, (one, _) in rates.items()}
    return {name: two * 1e-9 * (1.0 if name in PER_NODE else 2 / threads) for name, (_, two) in rates.items()}


PER_NODE = frozenset({"call", "node", "step", "region", "recurrent_node", "wake", "section"})
"""Rates of what does not get less with more threads."""


def kernels_work(estimate: Estimate, density: Density) -> Amounts:
    """Return the work of the kernels for such a weight."""
    if estimate.shared and density.shares_columns:
        work = scaled(estimate.shared, density.columns)
    else:
        work = scaled(estimate.apart, density.share)
        is_dense = estimate.dense and sum(estimate.dense.values()) < sum(work.values())
        work = estimate.dense if is_dense else combined(work, estimate.rows)
    return work if estimate.second is None else combined(work, kernels_work(estimate.second, density))


def _ours(estimate: Estimate, fixed: Amounts, rates: Mapping[str, float]) -> tuple[float, float, float | None, float | None, float]:
    """Return our seconds as `Seconds` has them: those of `fixed` work, apart, shared, dense and rows."""
    shared, dense = (price(work, rates) if work else None for work in (estimate.shared, estimate.dense))
    return price(fixed, rates), price(estimate.apart, rates), shared, dense, price(estimate.rows, rates)


def price(amounts: Amounts, rates: Mapping[str, float]) -> float:
    """Return the seconds of some work."""
    return sum(amount * rates[name] for name, amount in amounts.items())
