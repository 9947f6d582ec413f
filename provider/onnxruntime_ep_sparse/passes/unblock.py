"""Reads operators in ONNX Runtime's blocked layout as ONNX's: files that ONNX Runtime saved at the level ALL hold them.

A tensor in that layout has blocks of channels beside each pixel; its shape is that of ONNX's order, with as many channels as fill its
blocks. Weights stand in blocks too. ReorderInput and ReorderOutput, which lead there and back, vanish: what is between them runs on images
in ONNX's order. So a region holds all nodes that make or read a value in that layout, or none (`blocked_values`).

A block has as many channels as the CPU's vectors have lanes, and no attribute of a file says how many that were where it was saved.
The numbers of channels tell it if one of them would be filled up otherwise (`fitting`). If all fit both sizes, a region reads the file
as ONNX Runtime does here, which is wrong for both if it was saved on the other kind of CPU.

The layouts are those of `onnxruntime/core/mlas/lib/reorder.cpp`, the rule which of them a weight has that of
`onnxruntime/core/optimizer/nchwc_transformer.cc`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels.isa import WIDE_VECTORS, X86

from ..graph.ir import Graph, Node, attribute_of, derived, input_of, shape_of, sizes_of, with_constants
from ..ops.table import BLOCKED
from .patterns import fused

POOLS = frozenset(("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"))
BLOCKS = (8, 16)
"""How many channels the blocks of a file may have."""
LATER = 13
"""The version of ONNX's operators that those in the blocked layout mean."""


def block_size() -> int:
    """Return how many channels ONNX Runtime's blocks have on this CPU, 0 where that is not known."""
    if platform.machine().lower() not in X86:
        return 0
    return 16 if kernels.cpu_features()[WIDE_VECTORS] else 8


def blocked_values(graph: Graph) -> frozenset[str]:
    """Return the values in the blocked layout: those of its operators, and of others on these, such as an Add."""
    found: set[str] = set()
    for node in graph.nodes:
        if node.domain == BLOCKED and node.op_type != "ReorderOutput":
            found.update(node.outputs)
        elif node.domain != BLOCKED and not found.isdisjoint(node.inputs):
            found.update(name for name in node.outputs if name)
    return frozenset(found)


def unblock(graph: Graph) -> Graph:
    """Return a region with ONNX's operators in the place of those in the blocked layout.

    Without any, or if one of them cannot be read, return the graph itself.
    """
    return _fitting(graph, (block_size(),), is_region=True).get(block_size(), graph)


def fitting(graph: Graph) -> dict[int, Graph]:
    """Return the sizes of blocks that a whole graph may have been saved with, and what its operators in the blocked layout then mean.

    No size does without such operators, or if one of them cannot be read.
    """
    return _fitting(graph, BLOCKS, is_region=False)


def _fitting(graph: Graph, blocks: Sequence[int], is_region: bool) -> dict[int, Graph]:
    found: dict[int, Graph] = {}
    if any(node.domain == BLOCKED for node in graph.nodes):
        for block in blocks:
            with suppress(NotReadError):
                found[block] = Reading(graph, block, is_region).result()
    return found


class NotReadError(Exception):
    """An operator in the blocked layout, or what is around it, has a form that is not known."""


def known(what: bool) -> None:
    """Raise NotReadError unless `what` is true."""
    if not what:
        raise NotReadError


class Reading:
    """The graph that is read, and the operators that take the place of those in the blocked layout.

    Channels that only fill the last block up are left out: ReorderInput and ReorderOutput say how many a value has in the end.
    A region may have inputs in ONNX's order that are blocked in the whole graph.
    """

    def __init__(self, graph: Graph, block: int, is_region: bool) -> None:
        known(block > 0)
        self.graph, self.block, self.is_region = graph, block, is_region
        self.blocked = blocked_values(graph)
        self.root = {name: name for name in self.blocked}
        """A value that has as many channels, for each; in the end the same one for all of them."""
        self.channels: dict[str, int] = {}
        """How many the values with this root have, where a node says so."""
        self.replaced: dict[int, Node] = {}
        self.dropped: set[int] = set()
        self.names: dict[str, str] = {}
        """The names that values have now, where they are others."""
        self.constants: dict[str, tuple[tuple[int, ...], Callable[[], NDArray]]] = {}

    def result(self) -> Graph:
        """Return the graph that is left."""
        for node in self.graph.nodes:
            self.count(node)
        for node in self.graph.nodes:
            if node.domain == BLOCKED:
                self.read(node)
        nodes = tuple(self.renamed(node) for node in self.graph.nodes if node.index not in self.dropped)
        values = dict(self.graph.values)
        for name in self.blocked:
            shape = shape_of(self.graph, name)
            values[name] = replace(values[name], shape=(shape[0], self.channels_of(name), *shape[2:]))
        return with_constants(replace(self.graph, values=values), nodes, self.constants, {})

    # how many channels values have

    def root_of(self, name: str) -> str:
        """Return the root of a value."""
        while self.root[name] != name:
            name = self.root[name]
        return name

    def padded(self, name: str) -> int:
        """Return how many channels a value has with those that fill the last block up."""
        shape = self.graph.values[name].shape
        known(shape is not None and len(shape) == 4 and isinstance(shape[1], int))
        known(name not in self.blocked or shape[1] % self.block == 0)  # type: ignore[index, operator]  # an int, as asked above
        return shape[1]  # type: ignore[index, return-value]  # the same

    def channels_of(self, name: str) -> int:
        """Return how many channels a value has."""
        return self.channels.get(self.root_of(name), self.padded(name)) if name in self.blocked else self.padded(name)

    def say(self, name: str, channels: int) -> None:
        """Note how many channels a value has."""
        known(0 <= self.padded(name) - channels < self.block and self.channels.setdefault(self.root_of(name), channels) == channels)

    def join(self, names: Sequence[str]) -> None:
        """Note that values have equally many channels."""
        first, *others = [self.root_of(name) for name in names]
        for other in others:
            if other == first:
                continue
            known(self.padded(other) == self.padded(first))
            self.root[other] = first
            if other in self.channels:
                self.say(first, self.channels.pop(other))

    def count(self, node: Node) -> None:
        """Note what a node says about channels."""
        inputs, outputs = ([name for name in names if name in self.blocked] for names in (node.inputs, node.outputs))
        if node.op_type == "ReorderInput" and node.domain == BLOCKED:
            shape = self.graph.values[node.inputs[0]].shape
            channels = shape[3 if attribute_of(node, "channels_last", 0) else 1] if shape is not None and len(shape) == 4 else None
            known(isinstance(channels, int))
            self.say(node.outputs[0], channels)  # type: ignore[arg-type]  # an int, as asked above
        elif node.op_type == "ReorderOutput" and node.domain == BLOCKED:
            self.say(node.inputs[0], int(attribute_of(node, "channels", 0)))
        elif node.op_type == "Conv" and node.domain == BLOCKED:
            self.join([*node.outputs, *node.inputs[3:4]])
            if self.is_depthwise(node):
                self.join([*node.outputs, *inputs[:1]])
        elif node.op_type == "Concat":
            for name in (*inputs, *outputs):
                self.say(name, self.padded(name))
        elif inputs:
            # constants and values in ONNX's order have no blocks that are filled up
            if node.domain != BLOCKED and any(name and name not in self.blocked for name in node.inputs):
                self.say(inputs[0], self.padded(inputs[0]))
            self.join([*inputs, *outputs])

    def is_depthwise(self, node: Node) -> bool:
        """Return whether each output of a convolution reads one channel."""
        m, c = sizes_of(self.graph, node.inputs[1])[:2]
        return c == 1 and attribute_of(node, "group", 1) == m

    # nodes

    def renamed(self, node: Node) -> Node:
        """Return what stands in the place of a node, with the names that values have now."""
        node = self.now(node)
        inputs, outputs = (tuple(self.names.get(name, name) for name in names) for names in (node.inputs, node.outputs))
        return replace(node, inputs=inputs, outputs=outputs) if (inputs, outputs) != (node.inputs, node.outputs) else node

    def now(self, node: Node) -> Node:
        """Return what a node has become so far."""
        return self.replaced.get(node.index, node)

    def put(self, node: Node, op_type: str, **changes: Any) -> None:
        """Put an operator of ONNX in the place of a node, unless `changes` name another domain and version."""
        self.replaced[node.index] = replace(self.now(node), op_type=op_type, **{"domain": "", "since_version": LATER, **changes})

    def give(self, node: Node, other: Node) -> None:
        """Let a node be a part of another one."""
        self.replaced[other.index] = fused(self.now(other), [self.now(node)])
        self.dropped.add(node.index)

    def constant(self, what: str, node: Node, shape: tuple[int, ...], compute: Callable[[], NDArray]) -> str:
        """Make a constant for a node and return its name."""
        name = derived(what, node.outputs[0])
        self.constants[name] = shape, compute
        return name

    def read(self, node: Node) -> None:
        """Find what a node becomes."""
        if node.op_type == "Conv":
            self.conv(node)
        elif node.op_type in POOLS:
            self.put(node, node.op_type)
        elif node.op_type == "Upsample":
            scales = attribute_of(node, "scales", ())
            known(isinstance(scales, tuple) and len(scales) == 4)
            name = self.constant("scales", node, (4,), partial(np.array, scales, np.float32))
            kept = {key: value for key, value in node.attributes.items() if key in ("mode", "coordinate_transformation_mode")}
            self.put(node, "Resize", inputs=(node.inputs[0], "", name), attributes={**kept, "nearest_mode": "floor"})
        elif node.op_type == "ReorderInput":
            self.reorder_input(node)
        elif node.op_type == "ReorderOutput":
            self.reorder_output(node)
        else:
            raise NotReadError

    def conv(self, node: Node) -> None:
        """Read a convolution: its weight and bias in ONNX's order, what it adds and its activation."""
        graph, weight, bias = self.graph, input_of(node, 1), input_of(node, 2)
        known(graph.is_constant(weight) and (not bias or graph.is_constant(bias)))
        m, c, *kernel = sizes_of(graph, weight)
        known(len(kernel) == 2 and m % self.block == 0 and (c < self.block or c % self.block == 0))
        outputs, attributes = self.channels_of(node.outputs[0]), dict(node.attributes)
        inputs = c
        if self.is_depthwise(node):
            attributes["group"] = outputs
        elif attribute_of(node, "group", 1) == 1:
            # an image stays in ONNX's order if its channels do not fill a block
            is_image = node.inputs[0] not in self.blocked
            known(c == self.padded(node.inputs[0]) and (c < self.block if is_image and not self.is_region else is_image or c >= self.block))
            inputs = min(c, self.channels_of(node.inputs[0]))
        else:
            known(outputs == m and self.channels_of(node.inputs[0]) == self.padded(node.inputs[0]))
        names = [
            node.inputs[0],
            self.constant(
                "unblocked weight", node, (outputs, inputs, *kernel), partial(_weight, graph, weight, self.block, outputs, inputs)
            ),
        ]
        if bias:
            names.append(self.constant("unblocked bias", node, (outputs,), lambda: graph.load(bias)[:outputs]))
        if len(node.inputs) > 3 or "activation" in attributes:
            names += [""] * (3 - len(names)) + list(node.inputs[3:])
            self.put(node, "FusedConv", domain="com.microsoft", since_version=1, inputs=tuple(names), attributes=attributes)
        else:
            self.put(node, "Conv", inputs=tuple(names), attributes=attributes)

    def reorder_input(self, node: Node) -> None:
        """Drop a ReorderInput: what reads its result reads its operand. One of channels last is a Transpose."""
        readers = self.graph.consumers.get(node.outputs[0], [])
        known(bool(readers) and node.outputs[0] not in self.graph.outputs)
        if attribute_of(node, "channels_last", 0):
            self.put(node, "Transpose", attributes={"perm": (0, 3, 1, 2)})
            return
        self.names[node.outputs[0]] = node.inputs[0]
        self.give(node, readers[0])

    def reorder_output(self, node: Node) -> None:
        """Drop a ReorderOutput: what makes its operand makes its result. One of channels last is a Transpose."""
        x, maker = node.inputs[0], self.graph.producer.get(node.inputs[0])
        known(maker is not None and x not in self.graph.outputs)
        assert maker is not None
        if attribute_of(node, "channels_last", 0):
            self.put(node, "Transpose", attributes={"perm": (0, 2, 3, 1)})
            return
        known(x not in self.names)
        self.names[x] = node.outputs[0]
        self.give(node, maker)


def unblocked(weight: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """Return a weight (M, C / groups, height, width) of blocks of `block` outputs in ONNX's order.

    With fewer input channels than a block, the outputs of a block stand beside each other; else those of a block of inputs do.
    """
    m, c, *kernel = weight.shape
    if c < block:
        return np.ascontiguousarray(weight.reshape(m // block, c, *kernel, block).transpose(0, 4, 1, 2, 3)).reshape(weight.shape)
    blocks = weight.reshape(m // block, c // block, *kernel, block, block)
    return np.ascontiguousarray(blocks.transpose(0, 5, 1, 4, 2, 3)).reshape(weight.shape)


def _weight(graph: Graph, name: str, block: int, outputs: int, inputs: int) -> NDArray[np.float32]:
    return unblocked(graph.load(name), block)[:outputs, :inputs]
