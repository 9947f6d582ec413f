"""LSTM, GRU and RNN: when a node can be run, and how it becomes two steps.

The input projection X W^T is one product over all times, directions and sequences; the other step does the rest time by time
(`runtime/_recurrent.pyx`). Rows of W and R are reordered for that: UNITS hidden units with all their gates, then the next ones, so that
the worker that has multiplied the rows of some units can finish these units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.elementwise import Act
from onnxruntime_ep_sparse_kernels.isa import FEW_VECTORS, STRIP

from .. import reasons
from ..graph.ir import INT32, Graph, Node, attribute_of, number_of, shape_of
from ..program import packing
from ..program.builder import Builder
from ..program.enums import Cell, ShapeRule, StepKind
from ..program.kinds.recurrent import Recurrent
from ..program.limits import MAX_HIDDEN
from ..program.steps import Activation, Step
from ..reasons import Finding
from .activations import RECURRENT, InRecurrent, recurrent_activation
from .costs import (
    FEW_SEQUENCES,
    NOMINAL_BATCH,
    NOMINAL_TIMES,
    NONE,
    OUR_CELL_SPLIT,
    OUR_SPLIT,
    Estimate,
    Setting,
    matrix_product,
    moved,
    open_sizes_of,
)
from .row import OpRow, Shape

UNITS = STRIP
"""Number of hidden units that are finished together: each of their gates is a strip of rows."""
VECTORS = 2
"""Number of vectors of sequences for which K is cut."""
PROJECTED_VECTORS = 5
"""The same of W, whose tiles have 4 to 7."""


@dataclass(frozen=True, slots=True)
class CellRow:
    """One recurrent operator: its cell, the number of gates, the default activations of a direction, and the number of results."""

    op_type: str
    cell: Cell
    gates: int
    functions: tuple[Activation, ...]
    results: int


SIGMOID, TANH = Activation(Act.SIGMOID), Activation(Act.TANH)
CELLS = {
    row.op_type: row
    for row in (
        CellRow("LSTM", Cell.LSTM, 4, (SIGMOID, TANH, TANH), 3),
        CellRow("GRU", Cell.GRU, 3, (SIGMOID, TANH), 2),
        CellRow("RNN", Cell.RNN, 1, (TANH,), 2),
    )
}
REVERSE = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
READS_ONCE = 5
"""Sequences up to which ONNX Runtime's matrix kernels read R once per time step (`core/mlas/lib/amd64/SgemmKernelAvx512F.S`)."""
LENGTHS = 4
"""Index of the input `sequence_lens`, whose type is int32."""


def _can_run(graph: Graph, node: Node) -> Finding | None:
    x, w, r, b, lengths, h, c, p = _inputs_of(node)
    if not graph.is_constant(w) or not graph.is_constant(r):
        return reasons.WEIGHT_NOT_CONSTANT()
    for name, operand in (("B", b), ("P", p)):
        if operand and not graph.is_constant(operand):
            return reasons.PARAMETER_NOT_CONSTANT(name=name)
    if lengths and graph.values[lengths].dtype != INT32:
        return reasons.LENGTHS_NOT_INT32()
    direction = attribute_of(node, "direction", "forward")
    if direction not in REVERSE:
        return reasons.UNSUPPORTED_ATTRIBUTE(name="direction", value=direction)
    directions, shape = len(REVERSE[direction]), _shape(graph, w)
    hidden = _hidden_of(graph, node)
    rows = CELLS[node.op_type].gates * hidden
    if rows == 0 or 0 in shape:
        return reasons.WEIGHT_EMPTY()
    if attribute_of(node, "hidden_size", hidden) != hidden:
        return reasons.MISMATCHED(what=f"hidden_size {node.attributes['hidden_size']}", other=f"R of {hidden} units")
    depth = shape[-1]
    for name, operand, fitting in (
        ("W", w, (directions, rows, depth)),
        ("R", r, (directions, rows, hidden)),
        ("B", b, (directions, 2 * rows)),
        ("P", p, (directions, 3 * hidden)),
    ):
        if operand and _shape(graph, operand) != fitting:
            return reasons.MISMATCHED(what=f"the shape of {name}", other=f"{direction} and hidden_size {hidden}")
    if hidden > MAX_HIDDEN:
        return reasons.OUT_OF_RANGE(what="hidden_size", value=hidden, low=1, high=MAX_HIDDEN)
    for name, rank in ((x, 3), (h, 3), (c, 3), (lengths, 1)):
        if name and len(_shape(graph, name)) != rank:
            return reasons.UNSUPPORTED_RANK(rank=len(_shape(graph, name)), supported=rank)
    for name in ("layout", "linear_before_reset", "input_forget"):
        if attribute_of(node, name, 0) not in (0, 1):
            return reasons.UNSUPPORTED_ATTRIBUTE(name=name, value=node.attributes[name])
    if not number_of(node, "clip", math.inf) > 0:
        return reasons.UNSUPPORTED_ATTRIBUTE(name="clip", value=node.attributes["clip"])
    functions = _activations_of(node)
    return functions if isinstance(functions, Finding) else None


def _inputs_of(node: Node) -> tuple[str, ...]:
    """Return the names of X, W, R, B, sequence_lens, initial_h, initial_c and P, "" for missing ones."""
    return (*node.inputs, *[""] * 8)[:8]


def _hidden_of(graph: Graph, node: Node) -> int:
    """Return the number of hidden units per direction, from the shape of R; 0 if it is not known."""
    size = _shape(graph, node.inputs[2])[-1]
    return size if isinstance(size, int) else 0


def _shape(graph: Graph, name: str) -> tuple[int | str | None, ...]:
    return graph.values[name].shape or ()


def _activations_of(node: Node) -> tuple[Activation, ...] | Finding:
    """Return f, g and h of each direction, Tanh for those that the cell lacks; or the reason why they cannot run.

    Numbers of `activation_alpha` and `activation_beta` go to the functions that take one, in order, as in ONNX Runtime.
    """
    directions, functions = len(REVERSE[attribute_of(node, "direction", "forward")]), CELLS[node.op_type].functions
    names, count = attribute_of(node, "activations", ()), directions * len(functions)
    found = list(functions * directions)
    if names:
        if len(names) < count:
            return reasons.MISMATCHED(what=f"the number of activations, {len(names)},", other="the direction")
        alphas, betas = (iter(_floats(node, f"activation_{name}")) for name in ("alpha", "beta"))
        # exporters write the two defaults of an RNN even where it has one direction, which takes the first
        for i, name in enumerate(names[:count]):
            function = recurrent_activation(name, alphas, betas)
            if isinstance(function, Finding):
                return function
            found[i] = function
    rows = [(*found[i : i + len(functions)], TANH, TANH)[:3] for i in range(0, count, len(functions))]
    return tuple(function for row in rows for function in row)


def _floats(node: Node, name: str) -> tuple[float, ...]:
    numbers = node.attributes.get(name)
    return tuple(map(float, numbers)) if isinstance(numbers, tuple) else ()


def _phases_of(node: Node) -> tuple[tuple[int, ...], ...]:
    """Return the gates, numbered in ONNX's order, in groups that are multiplied at once.

    A GRU that resets the state before it multiplies by R multiplies twice per time step.
    """
    row = CELLS[node.op_type]
    if row.cell == Cell.GRU and not node.attributes.get("linear_before_reset"):
        return (0, 1), (2,)
    return (tuple(range(row.gates)),)


def order_of(hidden: int, gates: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the rows of W or R, gate * hidden + unit, in the order in which they are packed."""
    blocks = [np.arange(unit, min(unit + UNITS, hidden)) for unit in range(0, hidden, UNITS)]
    return np.concatenate([gate * hidden + units for units in blocks for gate in gates])


def _lower(builder: Builder, node: Node) -> None:
    """Append a product and a recurrent step."""
    graph, hidden = builder.graph, _hidden_of(builder.graph, node)
    x, w, r, b, lengths, initial_h, initial_c, p = _inputs_of(node)
    weight__dgk, recurrent__dgh = builder.floats(w), builder.floats(r)
    directions, rows, depth = weight__dgk.shape
    bias__dbg = (builder.floats(b) if b else np.zeros((directions, 2 * rows), np.float32)).reshape(directions, 2, rows)
    phases = _phases_of(node)
    orders = [order_of(hidden, gates) for gates in phases]
    order = np.concatenate(orders)
    bias__dg = bias__dbg.sum(axis=1)
    late__dh = None
    if CELLS[node.op_type].cell == Cell.GRU and len(phases) == 1:
        # R's bias of the hidden gate is added before the reset gate scales it
        bias__dg[:, 2 * hidden :] = bias__dbg[:, 0, 2 * hidden :]
        late__dh = bias__dbg[:, 1, 2 * hidden :]
    projection = builder.matrices(
        [weight__dgk[:, order].reshape(-1, depth)],
        right=True,
        batch=(),
        vector_operand=False,
        bias__m=bias__dg[:, order].reshape(-1),
        usual=PROJECTED_VECTORS,
    )
    projected = builder.new_value()
    builder.step(Step(StepKind.PRODUCT, builder.value(x), projected, spec=projection))
    functions = _activations_of(node)
    assert not isinstance(functions, Finding)
    outputs = [name if graph.is_read(name) else "" for name in (*node.outputs, "", "", "")[:3]]
    y, last_h, last_c = (builder.value(name) if name else -1 for name in outputs)
    recurrent = Recurrent(
        cell=CELLS[node.op_type].cell,
        hidden=hidden,
        reverse=REVERSE[str(node.attributes.get("direction", "forward"))],
        gates=tuple(map(len, phases)),
        products=tuple(
            packing.matrices(
                [matrix__gh[own]],
                None,
                ShapeRule.MATMUL_RIGHT,
                x_rows=True,
                y_rows=True,
                isa=builder.isa,
                usual=VECTORS,
                any_order=False,
            )
            for matrix__gh in recurrent__dgh
            for own in orders
        ),
        activations=functions,
        clip=number_of(node, "clip", math.inf),
        peephole__dgh=builder.floats(p).reshape(directions, 3, hidden) if p else None,
        late__dh=late__dh,
        couples=bool(node.attributes.get("input_forget")),
        batch_first=bool(node.attributes.get("layout")),
        lengths=builder.whole(lengths) if lengths else -1,
        initial_h=builder.value(initial_h) if initial_h else -1,
        initial_c=builder.value(initial_c) if initial_c else -1,
        last_h=last_h,
        last_c=last_c,
    )
    builder.step(Step(StepKind.RECURRENT, projected, y if y >= 0 else builder.new_value(), spec=recurrent))


def _weights(graph: Graph, node: Node) -> tuple[str, ...]:
    return tuple(name for name in node.inputs[1:3] if graph.is_constant(name))


def _implied(graph: Graph, node: Node) -> dict[str, Shape]:
    """Return the ranks of what a recurrent node reads and makes: Y has four dimensions, all else three."""
    x, _, _, _, _, h, c, _ = _inputs_of(node)
    y, *last = node.outputs
    return {**dict.fromkeys((x, h, c, *last), (None,) * 3), y: (None,) * 4}


def _sequences_first(node: Node) -> bool:
    return bool(node.attributes.get("layout"))


def _only_here(graph: Graph, node: Node) -> bool:
    """Return whether ONNX Runtime has no kernel for the node: sequences stand first in its operands."""
    return _sequences_first(node)


def _sequence_counts(graph: Graph, node: Node) -> tuple[int | None, ...]:
    """Return the numbers of sequences to judge by: a few where the number is only known at run time."""
    sequences = shape_of(graph, node.inputs[0])[0 if _sequences_first(node) else 1]
    return (None,) if isinstance(sequences, int) else (None, *FEW_SEQUENCES)


def _open_sizes(graph: Graph, node: Node) -> dict[str, int]:
    """Return the sizes to assume for symbols in the shape of X."""
    nominal = (NOMINAL_TIMES, NOMINAL_BATCH)
    return open_sizes_of(shape_of(graph, node.inputs[0]), nominal[::-1] if _sequences_first(node) else nominal)


def _estimate(setting: Setting, node: Node) -> Estimate:
    """Return the work of the input projection of all times, and of R time by time."""
    shape = shape_of(setting.graph, node.inputs[0])
    times, sequences = shape[1::-1] if _sequences_first(node) else shape[:2]
    times = setting.size(times, 1, 3) if isinstance(times, int | str) else NOMINAL_TIMES
    if not isinstance(sequences, int):
        sequences = setting.size(sequences, 0, 3) if setting.rows is None else setting.rows
    directions, gates, depth = setting.sizes(node.inputs[1])
    hidden = setting.sizes(node.inputs[2])[-1]
    gates *= directions
    projection = matrix_product(setting.isa, setting.weights, times * sequences, depth, gates, gates * depth)
    cells, size = times * sequences * gates, times * gates * hidden
    ort = {**projection.ort, "cell": cells}
    # R is read in every time step: caches hold what they can
    ort |= moved("recurrent_weight", size, gates * hidden)
    if sequences > 1:
        ort |= {"recurrent_few_mac" if sequences <= READS_ONCE else "recurrent_mac": size * sequences}
    # the dense kernels run as many sequences as they run rows of a matrix (runtime/_recurrent.pyx)
    isa, weights = setting.isa, size / setting.isa.lanes
    apart = {"recurrent": weights * isa.nonzero_cost(sequences)}
    few = sequences <= FEW_VECTORS * isa.lanes
    kind = "recurrent_dense" if sequences == 1 else "recurrent_dense_several"
    dense = {kind: weights * isa.dense_cost(sequences, gates * hidden)} if few else NONE
    # two directions run side by side, one waits for its threads in every time (runtime/_recurrent.pyx)
    macs = size * sequences * OUR_SPLIT / OUR_CELL_SPLIT / (times if directions == 1 else 1)
    ours = {"step": 1, "recurrent_node": 1, "cell": cells}
    second = Estimate(NONE, ours, apart, dense=dense, floats=0, macs=macs)
    return replace(projection, ort=ort, ort_splits=True, second=second)


def _second_axis(graph: Graph, node: Node) -> int:
    return 1


NUMBERED = sorted(row.op_type for row in RECURRENT.values() if row.in_recurrent is InRecurrent.WITH_NUMBERS)
ROWS = tuple(
    OpRow(
        row.op_type,
        "recurrent",
        _can_run,
        _lower,
        f"constant W, R, B and P; activations {', '.join(NUMBERED[:-1])} and {NUMBERED[-1]} only with their numbers given",
        results=row.results,
        first_version=7,
        parameters=(LENGTHS,),
        weights=_weights,
        output_axis=_second_axis,
        estimate=_estimate,
        row_counts=_sequence_counts,
        open_sizes=_open_sizes,
        implied=_implied,
        only_here=_only_here,
    )
    for row in CELLS.values()
)
