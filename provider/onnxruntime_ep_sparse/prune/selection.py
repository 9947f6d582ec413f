"""Which layers are pruned, and why the others are not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from onnx import ModelProto
from onnx.inliner import inline_selected_functions

from ..formats.constants import fold
from ..formats.onnx_file import graphs_within
from ..formats.schema import DOMAIN
from .layers import Layer
from .left_out import Skipped, left_out
from .operators import LAYERS, operator_of
from .source import ONNX, RECURRENT, Model, Source, loaded

LEAST_OUTPUTS, LEAST_INPUTS = 8, 16
"""A smaller matrix costs too little time for zeros in it to save any."""
BEHIND_CLASSIFIER = {
    *("Add", "ArgMax", "Cast", "Flatten", "GlobalAveragePool", "Identity", "LogSoftmax", "Relu", "Reshape"),
    *("Sigmoid", "Softmax", "Squeeze", "Transpose", "Unsqueeze"),
}
"""Operators that may stand between the last product of a classifier and an output of the model."""


def source_of(given: Model) -> Source:
    """Read a model, without its external data. Weights and biases that nodes compute of constants alone become initializers.

    Functions of the model's own that contain layers are expanded. ValueError if it is not a model, if its weights are compressed, or if a
    model in memory has its data elsewhere.
    """
    model, path = loaded(given)
    if any(imported.domain == DOMAIN for imported in model.opset_import):
        raise ValueError("the weights of this model are compressed: ort-sparse unpack it first")
    model = _with_layers_at_the_top(model)
    around = {*LAYERS, "Add"}  # an Add is the bias of a MatMul
    names = [name for node in model.graph.node if node.op_type in around for name in node.input if name]
    made = [name for node in model.graph.node if node.op_type == "Constant" for name in node.output]
    fold(model, [*made, *names], path, integers=True)
    return Source(model, path)


def _with_layers_at_the_top(model: ModelProto) -> ModelProto:
    """Return a model none of whose functions contains an operator with layers: they are written out where they are called."""
    within = {
        (each.domain, each.name): {(node.domain, node.op_type) for part in (each, *graphs_within(each.node)) for node in part.node}
        for each in model.functions
    }
    heavy = {(domain, name) for domain in ONNX for name in LAYERS}
    size = 0
    while size < len(heavy):
        size = len(heavy)
        heavy |= {function for function, called in within.items() if called & heavy}
    chosen = [function for function in within if function in heavy]
    return inline_selected_functions(model, chosen) if chosen else model


@dataclass(frozen=True, slots=True)
class Selected:
    """Layers by what becomes of them, each list in the order of the nodes.

    `pruned` get zeros. `dense` stay dense for their role, not because someone named them. `skipped` has the reasons for all but `pruned`,
    also of nodes with weights that are not layers.
    `classes` are the outputs of the model that classifiers make.
    """

    pruned: list[Layer]
    dense: list[Layer]
    skipped: list[Skipped]
    classes: set[str]


def select(source: Source, skip: str | None, only: str | None) -> Selected:
    """Choose the layers that are pruned.

    `skip` is a regular expression of names that are left out. `only` is one of names that are pruned, whatever they are. Without `only`,
    layers are left out by their role: the first convolutions, depthwise ones, classifiers, small ones. ValueError if none is left.
    """
    skipped_names, only_names = _pattern("skip", skip), _pattern("only", only)
    selected = Selected([], [], [], set())
    roles = _Roles(source)
    found = list(layers(source))
    skipped = list(left_out(source, {(layer.index, layer.slot) for layer in found}))
    for layer in found:
        selected.classes.update(roles.outputs_of(layer))
        reason = ""
        if skipped_names and skipped_names.search(layer.name):
            reason = "its name matches skip"
        elif only_names:
            reason = "" if only_names.search(layer.name) else "its name does not match only"
        elif reason := roles.reason(layer):
            selected.dense.append(layer)
        if reason:
            skipped.append((layer.index, Skipped(layer.name, layer.op_type, reason)))
        else:
            selected.pruned.append(layer)
    selected.skipped.extend(each for _, each in sorted(skipped, key=lambda each: each[0]))
    if not selected.pruned:
        why = Counter(each.reason for each in selected.skipped).most_common()
        reasons = "; ".join(f"{count} x {reason}" for reason, count in why) or f"no {', '.join(LAYERS)} with a constant float32 weight"
        hint = "; layers that 'only' names are pruned whatever their role" if selected.dense else ""
        raise ValueError(f"nothing to prune: {reasons}{hint}")
    return selected


def layers(source: Source) -> Iterator[Layer]:
    """Yield all layers of a model, in the order of its nodes."""
    for index, node in enumerate(source.nodes):
        if row := operator_of(node):
            yield from row.layers(source, index, source.name(index))


def _pattern(what: str, text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise ValueError(f"{what} {text!r} is not a regular expression: {error}") from None


class _Roles:
    """Roles of layers that are left out without being named."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._behind_a_layer: set[str] = set()
        self._before_a_layer: set[str] = set()
        weighty = [node.op_type in LAYERS and any(map(source.is_constant, node.input)) for node in source.nodes]
        for index, node in enumerate(source.nodes):
            if weighty[index] or not self._behind_a_layer.isdisjoint(source.reads[index]):
                self._behind_a_layer.update(node.output)
        for index in reversed(range(len(source.nodes))):
            if weighty[index] or not self._before_a_layer.isdisjoint(source.nodes[index].output):
                self._before_a_layer.update(source.reads[index])

    def reason(self, layer: Layer) -> str:
        """Return why a layer is left out, "" if it is not."""
        groups, outputs, inputs = layer.shape__gmk
        if layer.op_type == "Conv" and layer.x not in self._behind_a_layer:
            return "it is a first convolution"
        if layer.op_type == "Conv" and groups > 1 and layer.run == 1:
            return "it is a depthwise convolution"
        if groups * outputs < LEAST_OUTPUTS or inputs < LEAST_INPUTS:
            return f"it has fewer than {LEAST_OUTPUTS} outputs or {LEAST_INPUTS} inputs"
        if self.outputs_of(layer):
            return "it is a classifier: its result is the model's"
        return ""

    def outputs_of(self, layer: Layer) -> set[str]:
        """Return the outputs of the model that are a layer's result but for a bias, the form, and functions that keep the order.

        Nothing is one if another layer comes after it, as after keys and values that a decoder returns, or if it is recurrent: its result
        is a state.
        """
        source = self._source
        names = set(source.nodes[layer.index].output)
        if layer.op_type in RECURRENT or not names.isdisjoint(self._before_a_layer):
            return set()
        for node in source.nodes[layer.index + 1 :]:
            others = [name for name in node.input if name and name not in names]
            if node.op_type in BEHIND_CLASSIFIER and len(others) < len(node.input) and all(map(source.is_constant, others)):
                names.update(node.output)
        return names.intersection(source.outputs)
