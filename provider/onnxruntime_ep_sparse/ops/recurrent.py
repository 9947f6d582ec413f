"""LSTM, GRU and RNN: when a node can be run, and how it becomes two steps.

The input projection X W^T is one product over all times, directions and sequences; the other step does the rest time by time
(`runtime/_recurrent.pyx`). Rows of W and R are reordered for that: UNITS hidden units with all their gates, then the next ones, so that
who has multiplied the rows of some units can finish these units.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.elementwise import Act
from onnxruntime_ep_sparse_kernels.isa import STRIP

from ..graph.ir import INT32, Graph, Node
from ..program import packing
from ..program.enums import Cell, ShapeRule, StepKind
from ..program.limits import MAX_HIDDEN
from ..program.steps import Activation, Recurrent, Step

if TYPE_CHECKING:
    from ..program.builder import Builder

UNITS = STRIP
"""Hidden units that are finished together: each gate of theirs is a strip of rows."""
VECTORS = 3
"""Of sequences, for which K is cut."""
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
"""Default activations of a direction."""
CELLS = {"LSTM": Cell.LSTM, "GRU": Cell.GRU, "RNN": Cell.RNN}
REVERSE = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
LENGTHS = 4
"""The input `sequence_lens`, whose type is int32."""

ACTIVATIONS = {
    "relu": Activation(Act.CLAMP, 0.0, math.inf),
    "leakyrelu": Activation(Act.LEAKY_RELU, 0.01),
    "tanh": Activation(Act.TANH),
    "sigmoid": Activation(Act.SIGMOID),
    "hardsigmoid": Activation(Act.HARD_SIGMOID, 0.2, 0.5),
    "elu": Activation(Act.ELU, 1.0, 1.0),
    "softsign": Activation(Act.SOFTSIGN),
    "softplus": Activation(Act.SOFTPLUS),
    "thresholdedrelu": Activation(Act.THRESHOLDED_RELU, math.nan),
    "scaledtanh": Activation(Act.SCALED_TANH, math.nan, math.nan),
    "affine": Activation(Act.AFFINE, math.nan, math.nan),
}
"""By ONNX's names in lower case (ONNX Runtime ignores case), with their defaults; NaN where ONNX Runtime's differ from ONNX's."""
TAKES_BETA = ("hardsigmoid", "scaledtanh", "affine")
TAKES_ALPHA = ("leakyrelu", "elu", "thresholdedrelu", *TAKES_BETA)


def can_run(graph: Graph, node: Node) -> str | None:
    """None if the node can be run, else the reason in words."""
    x, w, r, b, lengths, h, c, p = inputs_of(node)
    for name, what in ((w, "W"), (r, "R"), (b, "B"), (p, "P")):
        if name and not graph.is_constant(name):
            return f"{what} is not constant"
    if lengths and graph.values[lengths].dtype != INT32:
        return "sequence_lens is not int32"
    direction = node.attributes.get("direction", "forward")
    if direction not in REVERSE:
        return f"direction {direction} is not supported"
    directions, shape = len(REVERSE[direction]), _shape(graph, w)
    rows = GATES[node.op_type] * hidden_of(graph, node)
    if rows == 0 or 0 in shape:
        return "the weight is empty"
    depth = shape[-1]
    if _shape(graph, r) != (directions, rows, rows // GATES[node.op_type]) or shape != (directions, rows, depth):
        return f"W {shape} and R {_shape(graph, r)} do not fit {directions} directions"
    if (b and _shape(graph, b) != (directions, 2 * rows)) or (p and _shape(graph, p) != (directions, 3 * rows // 4)):
        return "B or P does not fit W"
    if hidden_of(graph, node) > MAX_HIDDEN:
        return f"hidden_size beyond {MAX_HIDDEN} is not supported"
    ranks = [len(_shape(graph, name)) for name in (x, h, c) if name]
    if any(rank != 3 for rank in ranks) or (lengths and len(_shape(graph, lengths)) != 1):
        return "X or an initial state does not have 3 dimensions"
    if (node.attributes.get("layout") or 0) not in (0, 1):
        return f"layout {node.attributes['layout']} is not supported"
    functions = activations_of(node)
    return functions if isinstance(functions, str) else None


def inputs_of(node: Node) -> tuple[str, ...]:
    """Names of X, W, R, B, sequence_lens, initial_h, initial_c, P: "" for those that are missing."""
    return (*node.inputs, *[""] * 8)[:8]


def hidden_of(graph: Graph, node: Node) -> int:
    """Hidden units of a direction, which the weights tell."""
    size = _shape(graph, node.inputs[2])[-1]
    return size if isinstance(size, int) else 0


def _shape(graph: Graph, name: str) -> tuple[int | str | None, ...]:
    return graph.values[name].shape or ()


def activations_of(node: Node) -> tuple[Activation, ...] | str:
    """f, g and h of every direction, Tanh for those that the cell lacks; or the reason why they cannot be run.

    Numbers of `activation_alpha` and `activation_beta` go to the functions that take one, in order, as in ONNX Runtime.
    """
    directions, each = len(REVERSE[str(node.attributes.get("direction", "forward"))]), len(FUNCTIONS[node.op_type])
    names = node.attributes.get("activations") or FUNCTIONS[node.op_type] * directions
    assert isinstance(names, tuple)
    if len(names) < each * directions:
        return f"{len(names)} activations: {each * directions} are expected"
    alphas, betas = (iter(_floats(node, f"activation_{name}")) for name in ("alpha", "beta"))
    found = []
    # an RNN's default is two, of which one direction takes the first
    for name in map(str.lower, names[: each * directions]):
        if name not in ACTIVATIONS:
            return f"activation {name} is not supported"
        act = ACTIVATIONS[name]
        alpha = next(alphas, act.alpha) if name in TAKES_ALPHA else act.alpha
        beta = next(betas, act.beta) if name in TAKES_BETA else act.beta
        if math.isnan(alpha) or math.isnan(beta):
            return f"activation {name} without its numbers is not supported"
        found.append(Activation(act.act, alpha, beta))
    rows = [(*found[i : i + each], *[ACTIVATIONS["tanh"]] * 3)[:3] for i in range(0, len(found), each)]
    return tuple(function for row in rows for function in row)


def _floats(node: Node, name: str) -> tuple[float, ...]:
    numbers = node.attributes.get(name)
    return tuple(map(float, numbers)) if isinstance(numbers, tuple) else ()


def phases_of(node: Node) -> tuple[tuple[int, ...], ...]:
    """Gates in the order of ONNX, by what can be multiplied at once: a GRU whose reset comes before R multiplies twice a time."""
    if node.op_type == "GRU" and not node.attributes.get("linear_before_reset"):
        return (0, 1), (2,)
    return (tuple(range(GATES[node.op_type])),)


def order_of(hidden: int, gates: tuple[int, ...]) -> NDArray[np.int64]:
    """Rows of W or R (gate * hidden + unit) in the order in which they are packed."""
    blocks = [np.arange(unit, min(unit + UNITS, hidden)) for unit in range(0, hidden, UNITS)]
    return np.concatenate([gate * hidden + units for units in blocks for gate in gates])


def lower(builder: Builder, node: Node) -> None:
    """A product and a recurrent step."""
    graph, hidden = builder.graph, hidden_of(builder.graph, node)
    x, w, r, b, lengths, initial_h, initial_c, p = inputs_of(node)
    weight__dgk, recurrent__dgh = builder.floats(w), builder.floats(r)
    directions, rows, depth = weight__dgk.shape
    bias__dbg = (builder.floats(b) if b else np.zeros((directions, 2 * rows), np.float32)).reshape(directions, 2, rows)
    phases = phases_of(node)
    orders = [order_of(hidden, gates) for gates in phases]
    order = np.concatenate(orders)
    bias__dg = bias__dbg.sum(axis=1)
    late__dh = None
    if node.op_type == "GRU" and len(phases) == 1:
        # R's bias of the hidden gate is added before the reset gate scales it
        bias__dg[:, 2 * hidden :] = bias__dbg[:, 0, 2 * hidden :]
        late__dh = bias__dbg[:, 1, 2 * hidden :]
    projection = builder.matrices(
        [weight__dgk[:, order].reshape(-1, depth)], right=True, batch=(), vector_operand=False, bias__m=bias__dg[:, order].reshape(-1)
    )
    projected = builder.new_value()
    builder.step(Step(StepKind.PRODUCT, builder.value(x), projected, product=projection))
    functions = activations_of(node)
    assert not isinstance(functions, str)
    clip = node.attributes.get("clip")
    outputs = [name if name in graph.outputs or name in graph.consumers else "" for name in (*node.outputs, "", "", "")[:3]]
    y, last_h, last_c = (builder.value(name) if name else -1 for name in outputs)
    recurrent = Recurrent(
        cell=CELLS[node.op_type],
        hidden=hidden,
        reverse=REVERSE[str(node.attributes.get("direction", "forward"))],
        gates=tuple(map(len, phases)),
        products=tuple(
            packing.matrices([matrix__gh[own]], None, ShapeRule.MATMUL_RIGHT, x_rows=True, y_rows=True, isa=builder.isa, usual=VECTORS)
            for matrix__gh in recurrent__dgh
            for own in orders
        ),
        activations=functions,
        clip=float(clip) if isinstance(clip, int | float) and clip > 0 else math.inf,
        peephole__dgh=builder.floats(p).reshape(directions, 3, hidden) if p else None,
        late__dh=late__dh,
        couples=bool(node.attributes.get("input_forget")),
        batch_first=bool(node.attributes.get("layout")),
        lengths=builder.integers(lengths) if lengths else -1,
        initial_h=builder.value(initial_h) if initial_h else -1,
        initial_c=builder.value(initial_c) if initial_c else -1,
        last_h=last_h,
        last_c=last_c,
    )
    builder.step(Step(StepKind.RECURRENT, projected, y if y >= 0 else builder.new_value(), recurrent=recurrent))
