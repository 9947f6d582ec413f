"""Takes channels out of a graph that are the same number everywhere or that nobody reads: what channel pruning leaves behind.

Forwards, constants are followed: an output whose weights are all zero is its bias at every position, and so is what comes of it until it
meets padding or a channel that is not constant. A product adds a constant input to its bias. Where its padding makes zeros beside the
constant, one constant channel remains in place of all: they differ by a factor, which goes into the weights. Backwards, a channel is
needed where weights read it, where it leaves the graph, or where it is joined with a needed one. The others go from weights, biases and
shapes. Every sum that is changed is computed in float64 and rounded once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels.call import activate

from ..graph.ir import FLOAT, INT64, Graph, Node, Value, shape_of, sizes_of
from ..ops import layout as moves
from ..ops.elementwise import BINARY, activation_of
from ..ops.normalization import batchnorm_of
from ..ops.table import OPS
from ..ops.windows import window_of
from ..program.enums import AutoPad
from ..program.steps import Activation, Resize
from .channels import Channels, Link, Plan, alive, merged, split


def remove_dead_channels(graph: Graph, among: Collection[int] | None = None) -> Graph:
    """The same nodes with fewer channels between them; inputs and outputs of the graph stay as they are, and `graph` if nothing can go.

    `among` holds the indices of the nodes that may change, by default all: `ops.can_run` must be None for them. Results are those of
    `graph` up to rounding, except that Inf or NaN in a channel that nobody reads no longer matters.
    """
    with np.errstate(all="ignore"):  # what is not finite is not known
        folding = Folding(graph, among)
    folding.spread()
    return folding.result()


@dataclass
class Folding:
    """Follows constants through `graph` when made; then `spread` finds the needed channels, and `result` leaves out the others."""

    graph: Graph
    among: Collection[int] | None
    constants: dict[str, NDArray] = field(default_factory=dict)
    channels: dict[str, Channels] = field(default_factory=dict)
    plans: list[Plan] = field(default_factory=list)

    def __post_init__(self) -> None:
        for node in self.graph.nodes:
            rule = RULES.get(node.op_type) if self.among is None or node.index in self.among else None
            plan = rule(self, node) if rule is not None else None
            if plan is None:
                self.keep(node.inputs + node.implicit_inputs)
                plan = Plan(node)
            self.plans.append(plan)
        self.keep(self.graph.outputs)

    # what rules use

    def keep(self, names: Iterable[str]) -> None:
        """All channels of these values are needed."""
        for name in names:
            if name in self.channels:
                self.channels[name].needed__c[:] = True

    def load(self, name: str) -> NDArray:
        """A constant, new or old."""
        return self.constants[name] if name in self.constants else self.graph.load(name)

    def rank(self, name: str) -> int:
        """Number of dimensions of a value."""
        return len(shape_of(self.graph, name))

    def known_of(self, name: str, axis: int, size: int) -> Channels | None:
        """The channels of an operand, if they are `size` along `axis`; else None, and all that there may be are kept."""
        channels = self.channels.get(name)
        if channels is not None and (channels.axis, channels.size) == (axis, size):
            return channels
        self.keep([name])
        return None

    def make(self, name: str, axis: int, known__c: NDArray[np.bool_], value__c: NDArray) -> None:
        """Note the channels of a result; `known` where `value` is finite."""
        value__c = np.broadcast_to(value__c, known__c.shape).astype(np.float32)
        self.channels[name] = Channels(axis, known__c & np.isfinite(value__c), value__c, np.zeros(len(known__c), bool))

    def same(self, node: Node, x: str, known__c: NDArray[np.bool_], value__c: NDArray, **plan) -> Plan:
        """The plan of a node whose result has the channels of `x`."""
        self.make(node.outputs[0], self.channels[x].axis, known__c, value__c)
        return Plan(node, (Link(x),), **plan)

    def constant(self, node: Node, index: int, array: NDArray) -> Node:
        """The node with a new constant as its input `index`."""
        inputs = [*node.inputs, *[""] * (index + 1 - len(node.inputs))]
        inputs[index] = f"{inputs[index]} of {node.index}.{index}"
        self.constants[inputs[index]] = array
        return replace(node, inputs=tuple(inputs))

    def product(self, node: Node, x: str, rows: int, bias__m: NDArray | None, *, padded: bool = False, alpha: float = 1.0) -> Plan:
        """Conv of one group, Gemm or MatMul on the right. `rows` is the axis of outputs in the weight, which is input 1; the bias is
        input 2. Without one (None: MatMul), or with padding, constants stay in one channel."""
        y, axis = node.outputs[0], self.rank(x) - 1 if node.op_type == "MatMul" else 1
        shape = sizes_of(self.graph, node.inputs[1])
        source = self.known_of(x, axis, shape[1 - rows])
        bias = np.zeros(shape[rows], np.float32) if bias__m is None else bias__m
        moves_constants = source is not None and source.known__c.any()
        nonzeros = None if moves_constants else self.graph.nonzeros(node.inputs[1])
        if nonzeros is not None:
            alive__m, read = nonzeros.alive(rows), partial(nonzeros.alive, 1 - rows)
        else:
            weight = np.moveaxis(self.load(node.inputs[1]), rows, 0)
            weight__mct = weight.reshape(*weight.shape[:2], -1)
            if source is not None and source.known__c.any():
                known__c = source.known__c.copy()
                known__c[known__c] = np.isfinite(weight__mct[:, known__c]).all(axis=(0, 2))
                value__c = source.value__c.astype(np.float64)
                if padded or bias__m is None:
                    weight__mct = merged(weight__mct, known__c, value__c)
                else:
                    weight__mct, addend__m = split(weight__mct, known__c, value__c)
                    bias = (bias + alpha * addend__m).astype(np.float32)
                    node = self.constant(node, 2, bias)
                node = self.constant(node, 1, np.moveaxis(weight__mct.reshape(weight.shape), 0, rows))
            alive__m, read = alive(weight__mct.swapaxes(0, 1)), partial(alive, weight__mct)
        self.make(y, axis, ~alive__m, bias)
        sliced = [(1, rows, y)]
        if source is not None:
            sliced.append((1, 1 - rows, x))
        if len(node.inputs) > 2 and node.inputs[2] and self.load(node.inputs[2]).size == shape[rows]:
            sliced.append((2, self.load(node.inputs[2]).ndim - 1, y))
        return Plan(node, (), x if source is not None else "", read, tuple(sliced))

    # which channels stay

    def spread(self) -> None:
        """Carry `needed` to all that it implies; a value keeps at least one channel."""
        touching: dict[str, list[Plan]] = {}
        for plan in self.plans:
            for name in {plan.y, plan.x, *(link.x for link in plan.links)}:
                touching.setdefault(name, []).append(plan)
        self._spread_from([name for name, channels in self.channels.items() if channels.needed__c.any()], touching)
        for name, channels in reversed(self.channels.items()):
            if not channels.needed__c.any():
                channels.needed__c[int(np.argmax(channels.known__c))] = True
                self._spread_from([name], touching)

    def _spread_from(self, names: list[str], touching: dict[str, list[Plan]]) -> None:
        waiting = deque(names)
        while waiting:
            name = waiting.popleft()
            for plan in touching[name]:
                if plan.x != name:
                    waiting.extend(self._implied(plan))

    def _implied(self, plan: Plan) -> list[str]:
        """Carry `needed` over one node; the names of the values for which that was news."""
        y = self.channels.get(plan.y)
        if y is None:
            return []
        news = []
        read = self.channels.get(plan.x)
        if read is not None and not read.needed__c.all() and plan.read is not None and self._need(read, plan.read(y.needed__c)):
            news.append(plan.x)
        for link in plan.links:
            x = self.channels[link.x]
            if y.needed__c.all() and x.needed__c.all():
                continue
            part = y.needed__c[link.begin : link.begin + x.size * link.times].reshape(x.size, link.times)
            if self._need(x, np.logical_or.reduce(part, axis=1)):
                news.append(link.x)
            if (part != x.needed__c[:, None]).any():
                part[:] = x.needed__c[:, None]  # a view into y
                news.append(plan.y)
        return news

    @staticmethod
    def _need(channels: Channels, more__c: NDArray[np.bool_]) -> bool:
        news = bool((more__c & ~channels.needed__c).any())
        channels.needed__c |= more__c
        return news

    # the smaller graph

    def result(self) -> Graph:
        """The graph with the needed channels."""
        nodes = tuple(self._cut(plan) for plan in self.plans)
        if not self.constants and all(channels.needed__c.all() for channels in self.channels.values()):
            return self.graph
        values = dict(self.graph.values)
        for name, channels in self.channels.items():
            shape = list(shape_of(self.graph, name))
            if shape[channels.axis] is not None and not channels.needed__c.all():
                shape[channels.axis] = channels.left
                values[name] = replace(values[name], shape=tuple(shape))
        used = {name for node in nodes for name in node.inputs}
        new = {name: array for name, array in self.constants.items() if name in used}
        values |= {name: Value(name, FLOAT if array.dtype == np.float32 else INT64, array.shape) for name, array in new.items()}
        load = self.graph.load

        def load_either(name: str) -> NDArray:
            return new[name] if name in new else load(name)

        return replace(self.graph, nodes=nodes, values=values, constant_names=self.graph.constant_names | set(new), load=load_either)

    def _cut(self, plan: Plan) -> Node:
        """The node without the channels that nobody needs."""
        node = plan.node
        for index, axis, name in plan.sliced:
            needed__c = self.channels[name].needed__c
            if not needed__c.all():
                node = self.constant(node, index, self.load(node.inputs[index]).compress(needed__c, axis))
        if plan.counted and not self.channels[plan.y].needed__c.all():
            for index, place in plan.counted:
                numbers = self.load(node.inputs[index]).copy()
                numbers[place] = self.channels[plan.y].left
                node = self.constant(node, index, numbers)
        if node.op_type == "Conv" and plan.links:
            node = replace(node, attributes={**node.attributes, "group": self.channels[plan.y].left})
        return node


# --- rules: the plan of a node, or None where nothing is known of its result and all channels of its operands must stay


def _conv(folding: Folding, node: Node) -> Plan | None:
    x, y = node.inputs[0], node.outputs[0]
    shape, groups = sizes_of(folding.graph, node.inputs[1]), int(node.attributes.get("group", 1))  # type: ignore[call-overload]  # an INT attribute
    has_bias = len(node.inputs) > 2 and bool(node.inputs[2])
    bias__m = folding.load(node.inputs[2]) if has_bias else np.zeros(shape[0], np.float32)
    window = window_of(node, shape[2:])
    padded = window.auto_pad != AutoPad.EXPLICIT or any(window.pad_begin + window.pad_end)
    if groups == 1:
        return folding.product(node, x, 0, bias__m, padded=padded)
    weight = folding.load(node.inputs[1])
    dead__m = ~(weight != 0).reshape(len(weight), -1).any(axis=1)
    source = folding.known_of(x, 1, groups) if weight.shape[:2] == (groups, 1) else None
    if source is None:
        folding.keep([x])
        folding.make(y, 1, dead__m, bias__m)
        folding.keep([y])
        return Plan(node)
    value__m = bias__m + source.value__c.astype(np.float64) * weight.reshape(groups, -1).sum(axis=1, dtype=np.float64)
    flat__m = source.known__c & ((source.value__c == 0) | (not padded))
    return folding.same(node, x, dead__m | flat__m, np.where(dead__m, bias__m, value__m), sliced=((1, 0, y), *[(2, 0, y)] * has_bias))


def _gemm(folding: Folding, node: Node) -> Plan | None:
    if not folding.graph.is_constant(node.inputs[1]) or node.attributes.get("transA"):
        return None
    rows = 0 if node.attributes.get("transB") else 1
    outputs = sizes_of(folding.graph, node.inputs[1])[rows]
    alpha, beta = (float(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))  # type: ignore[arg-type]  # FLOAT attributes
    c = node.inputs[2] if len(node.inputs) > 2 else ""
    addend = folding.graph.constant(c) if c else np.zeros(1, np.float32)
    if addend is None or not (addend.size == 1 or addend.size == addend.shape[-1] == outputs):
        return None
    bias__m = np.broadcast_to(addend.reshape(-1) * np.float32(beta), outputs)
    plan = folding.product(node, node.inputs[0], rows, bias__m, alpha=alpha)
    if plan.node.inputs[2:3] != node.inputs[2:3]:
        plan.node = replace(plan.node, attributes={**node.attributes, "beta": 1.0})
    return plan


def _matmul(folding: Folding, node: Node) -> Plan | None:
    right = folding.graph.is_constant(node.inputs[1]) and folding.rank(node.inputs[1]) == 2
    return folding.product(node, node.inputs[0], 1, None) if right and folding.rank(node.inputs[0]) >= 2 else None


def _activation(folding: Folding, node: Node) -> Plan | None:
    x = folding.channels.get(node.inputs[0])
    activation = activation_of(folding.graph, node)
    if x is None or not isinstance(activation, Activation):
        return None
    isa = kernels.available_isas()[0]
    value__c = activate(kernels.table(isa), x.value__c, activation.act, activation.alpha, activation.beta)
    return folding.same(node, node.inputs[0], x.known__c, value__c)


def _binary(folding: Folding, node: Node) -> Plan | None:
    """Operands with the same channels, or one number for each of them, or one for all."""
    graph, y = folding.graph, node.outputs[0]
    rank = folding.rank(y)
    joined = [name for name in node.inputs if name in folding.channels and folding.rank(name) == rank]
    if not joined:
        return None
    first = max((folding.channels[name] for name in joined), key=lambda channels: channels.size)
    axis, size = first.axis, first.size
    links, sliced, operands = [], [], []
    for i, name in enumerate(node.inputs):
        shape = (1,) * (rank - folding.rank(name)) + shape_of(graph, name)
        known__c, value__c = np.zeros(size, bool), np.zeros(size, np.float32)
        if graph.is_constant(name):
            array = folding.load(name)
            if shape[axis] not in (1, size):
                return None
            if shape[axis] == size:
                sliced.append((i, axis - rank + array.ndim, y))
            if array.size == shape[axis]:
                known__c, value__c = ~known__c, np.broadcast_to(array.reshape(-1), size)
        elif name in joined and folding.known_of(name, axis, size) is not None:
            links.append(Link(name))
            known__c, value__c = folding.channels[name].known__c, folding.channels[name].value__c
        elif shape[axis] == 1:
            folding.keep([name])
        else:
            return None
        operands.append((known__c, value__c))
    (known_a__c, a__c), (known_b__c, b__c) = operands
    value__c = UFUNCS[node.op_type](a__c, b__c)
    known__c = known_a__c & known_b__c
    if node.op_type == "Mul":
        for known_0__c, zero__c, gate in ((known_a__c, a__c, node.inputs[1]), (known_b__c, b__c, node.inputs[0])):
            if gate in graph.producer and graph.producer[gate].op_type in BOUNDED:
                gone__c = known_0__c & (zero__c == 0)
                known__c, value__c = known__c | gone__c, np.where(gone__c, np.float32(0), value__c)
    folding.make(y, axis, known__c, value__c)
    return Plan(node, tuple(links), sliced=tuple(sliced))


UFUNCS = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Max": np.maximum, "Min": np.minimum}
BOUNDED = ("Sigmoid", "HardSigmoid")
"""What a channel of zeros can be multiplied by and stay zeros: the gates of squeeze-and-excite."""


def _batchnorm(folding: Folding, node: Node) -> Plan | None:
    x = folding.channels.get(node.inputs[0])
    if x is None or x.axis != 1:
        return None
    factor__c, offset__c = batchnorm_of(folding.graph, node)
    sliced = tuple((i, 0, node.outputs[0]) for i in range(1, 5))
    return folding.same(node, node.inputs[0], x.known__c, x.value__c * factor__c + offset__c, sliced=sliced)


def _pool(folding: Folding, node: Node) -> Plan | None:
    """A maximum leaves padding out; an average may count its zeros."""
    x = folding.channels.get(node.inputs[0])
    if x is None or x.axis != 1:
        return None
    known__c = x.known__c
    if node.op_type == "MaxPool" and node.attributes.get("ceil_mode"):
        known__c = np.zeros_like(known__c)  # a window may lie beyond the image
    if node.op_type == "AveragePool" and node.attributes.get("count_include_pad"):
        window = window_of(node, tuple(node.attributes["kernel_shape"]))  # type: ignore[arg-type]  # an INTS attribute
        if window.auto_pad != AutoPad.EXPLICIT or any(window.pad_begin + window.pad_end):
            known__c = known__c & (x.value__c == 0)
    return folding.same(node, node.inputs[0], known__c, x.value__c)


def _resize(folding: Folding, node: Node) -> Plan | None:
    x = folding.channels.get(node.inputs[0])
    if x is None or x.axis != 1 or not isinstance(moves.resize_of(folding.graph, node), Resize):
        return None
    axes = [int(a) % 4 for a in node.attributes.get("axes") or range(4)]  # type: ignore[attr-defined]  # an INTS attribute
    sizes = len(node.inputs) > 3 and bool(node.inputs[3]) and 1 in axes
    return folding.same(node, node.inputs[0], x.known__c, x.value__c, counted=((3, axes.index(1)),) if sizes else ())


def _pad(folding: Folding, node: Node) -> Plan | None:
    x, padding = folding.channels.get(node.inputs[0]), moves.padding_of(folding.graph, node)
    if x is None or isinstance(padding, str) or padding[0][x.axis] or padding[1][x.axis]:
        return None
    before, after, fill = padding
    known__c = x.known__c & (x.value__c == fill) if any(before + after) else x.known__c
    return folding.same(node, node.inputs[0], known__c, x.value__c)


def _concat(folding: Folding, node: Node) -> Plan | None:
    rank = folding.rank(node.inputs[0])
    axis = int(node.attributes.get("axis", 0)) % rank  # type: ignore[call-overload]  # an INT attribute
    sizes = [shape_of(folding.graph, name)[axis] for name in node.inputs]
    links: list[Link] = []
    known: list[NDArray[np.bool_]] = []
    value: list[NDArray[np.float32]] = []
    for name, dimension in zip(node.inputs, sizes, strict=True):
        channels = folding.channels.get(name)
        if channels is not None and channels.axis == axis:
            links.append(Link(name, sum(len(part) for part in known)))
            known.append(channels.known__c)
            value.append(channels.value__c)
        elif isinstance(dimension, int):
            known.append(np.zeros(dimension, bool))
            value.append(np.zeros(dimension, np.float32))
        else:
            return None
    if not links:
        return None
    y = node.outputs[0]
    folding.make(y, axis, np.concatenate(known), np.concatenate(value))
    linked__c = np.zeros(folding.channels[y].size, bool)
    for link in links:
        linked__c[link.begin : link.begin + folding.channels[link.x].size] = True
    folding.channels[y].needed__c[~linked__c] = True
    folding.keep(name for name in node.inputs if name not in {link.x for link in links})
    return Plan(node, tuple(links))


def _reshape(folding: Folding, node: Node) -> Plan | None:
    """The channels and what lies within each become the last dimension: images flattened, or rows of features regrouped."""
    name, y = node.inputs[0], node.outputs[0]
    x, rank = folding.channels.get(name), folding.rank(y)
    if x is None or rank < 2:
        return None
    within = [d for d in shape_of(folding.graph, name)[x.axis + 1 :] if isinstance(d, int)]
    times = int(np.prod(within, dtype=np.int64))
    last = shape_of(folding.graph, y)[-1]
    counted: tuple[tuple[int, int], ...] = ()
    if len(within) < folding.rank(name) - x.axis - 1 or times == 0:
        return None
    if node.op_type == "Flatten":
        if int(node.attributes.get("axis", 1)) % folding.rank(name) != x.axis:  # type: ignore[call-overload]  # an INT attribute
            return None
    else:
        target = [int(d) for d in folding.load(node.inputs[1]).reshape(-1)]
        copied = [i for i, d in enumerate(target) if d == 0]
        if any(i >= x.axis for i in copied) or (copied and node.attributes.get("allowzero")):
            return None
        if target[-1] != x.size * times and not (target[-1] == -1 and last == x.size * times):
            return None
        counted = ((1, -1),) if target[-1] > 0 else ()
    folding.make(y, rank - 1, x.known__c.repeat(times), x.value__c.repeat(times))
    return Plan(node, (Link(name, 0, times),), counted=counted)


RULES: dict[str, Callable[[Folding, Node], Plan | None]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    **{name: _activation for name, row in OPS.items() if row.role == "activation"},
    **dict.fromkeys(BINARY, _binary),
    "BatchNormalization": _batchnorm,
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"), _pool),
    "Resize": _resize,
    "Pad": _pad,
    "Concat": _concat,
    **dict.fromkeys(("Flatten", "Reshape"), _reshape),
}
"""Operators that keep channels apart; through all others nothing is followed."""
