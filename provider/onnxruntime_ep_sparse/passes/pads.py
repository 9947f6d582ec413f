"""Moves the zeros that a Pad puts around an image into the convolutions that read it."""

from __future__ import annotations

from dataclasses import replace

from ..graph.ir import Graph, Node
from ..ops import layout as moves
from ..ops.windows import window_of
from ..program.windows import check_window
from ..reasons import Finding
from .patterns import exchanged, fused


def fold_pads(graph: Graph) -> Graph:
    """Let convolutions pad for themselves where a Pad puts zeros around the images that they alone read."""
    moved: dict[str, tuple[Node, tuple[int, ...]]] = {}
    dropped: set[int] = set()
    for node in graph.nodes:
        if node.op_type != "Pad":
            continue
        padding = moves.padding_of(graph, node)
        y = node.outputs[0]
        readers = graph.consumers.get(y, [])
        if (
            isinstance(padding, Finding)
            or node.attributes.get("mode", "constant") != "constant"
            or y in graph.outputs
            or not all(pads_itself(reader, y) for reader in readers)
        ):
            continue
        before, after, value = padding
        pads = before[2:] + after[2:]
        if (
            value == 0
            and not any(before[:2] + after[:2])
            and min(pads, default=0) >= 0
            and all(may_pad(reader, pads) for reader in readers)
        ):
            moved[y] = node, pads
            dropped.add(node.index)
    replaced: dict[int, Node] = {}
    for y, (pad, pads) in moved.items():
        for i, reader in enumerate(graph.consumers.get(y, [])):
            replaced[reader.index] = fused(padded(reader, pad.inputs[0], pads), [] if i else [pad])
    return exchanged(graph, replaced, dropped)


def pads_itself(node: Node, x: str) -> bool:
    """Return whether `node` is a Conv of the images `x` whose padding does not depend on their size."""
    return node.op_type == "Conv" and node.inputs[0] == x and (node.attributes.get("auto_pad") or "NOTSET") in ("NOTSET", "VALID")


def may_pad(node: Node, pads: tuple[int, ...]) -> bool:
    """Return whether that much more padding makes no window that is too large."""
    return check_window(window_of(padded(node, node.inputs[0], pads), (1,) * (len(pads) // 2))) is None


def padded(node: Node, x: str, pads: tuple[int, ...]) -> Node:
    """Return the Conv with more padding around `x`."""
    own = window_of(node, (1,) * (len(pads) // 2))
    total = tuple(a + b for a, b in zip(own.pad_begin + own.pad_end, pads, strict=True))
    return replace(node, inputs=(x, *node.inputs[1:]), attributes={**node.attributes, "pads": total, "auto_pad": "NOTSET"})
