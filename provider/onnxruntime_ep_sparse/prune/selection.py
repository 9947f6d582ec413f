"""Which layers are pruned, and why the others are not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..formats.constants import fold
from ..formats.schema import DOMAIN
from .conv_layers import of_conv
from .layers import Layer
from .matrix_layers import of_product
from .recurrent_layers import of_recurrent
from .source import ONNX, Model, Source, loaded

LAYERS: Mapping[str, Callable[[Source, int, str], Iterator[Layer]]] = MappingProxyType(
    {"Conv": of_conv, "Gemm": of_product, "MatMul": of_product, "LSTM": of_recurrent, "GRU": of_recurrent, "RNN": of_recurrent}
)
"""The one table of operators with weights that can be pruned. A row is a function of a model, the index of a node, and its name."""
LEAST_OUTPUTS, LEAST_INPUTS = 8, 16
"""A smaller matrix costs too little time for zeros in it to save any."""
BEHIND_CLASSIFIER = {
    *("Add", "ArgMax", "Cast", "Flatten", "GlobalAveragePool", "Identity", "LogSoftmax", "Relu", "Reshape"),
    *("Sigmoid", "Softmax", "Squeeze", "Transpose", "Unsqueeze"),
}
"""Operators that may stand between the last product of a classifier and an output of the model."""


def source_of(given: Model) -> Source:
    """Read a model, without its external data. Weights and biases that nodes compute of constants alone become initializers.

    ValueError if it is none, if its weights are compressed, or if a model in memory has its data elsewhere.
    """
    model, path = loaded(given)
    if any(imported.domain == DOMAIN for imported in model.opset_import):
        raise ValueError("the weights of this model are compressed: ort-sparse unpack it first")
    around = {*LAYERS, "Add"}  # an Add is the bias of a MatMul
    names = [name for node in model.graph.node if node.op_type in around for name in node.input if name]
    made = [name for node in model.graph.node if node.op_type == "Constant" for name in node.output]
    fold(model, [*made, *names], path, integers=True)
    return Source(model, path)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A layer that gets no zeros, and why. `refitted` says whether its weights are fitted to its new inputs all the same."""

    name: str
    op_type: str
    reason: str
    refitted: bool = False


@dataclass(frozen=True, slots=True)
class Selected:
    """Layers by what becomes of them, each list in the order of the nodes.

    `pruned` get zeros. `dense` stay dense for their role, not because someone named them. `skipped` has the reasons for all but `pruned`.
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
    for layer in layers(source):
        selected.classes.update(roles.outputs_of(layer))
        reason = ""
        if skipped_names and skipped_names.search(layer.name):
            reason = "its name matches skip"
        elif only_names:
            reason = "" if only_names.search(layer.name) else "its name does not match only"
        elif reason := roles.reason(layer):
            selected.dense.append(layer)
        if reason:
            selected.skipped.append(Skipped(layer.name, layer.op_type, reason))
        else:
            selected.pruned.append(layer)
    if not selected.pruned:
        why = Counter(each.reason for each in selected.skipped).most_common()
        found = "; ".join(f"{count} x {reason}" for reason, count in why) or f"no {', '.join(LAYERS)} with a constant float32 weight"
        raise ValueError(f"nothing to prune: {found}")
    return selected


def layers(source: Source) -> Iterator[Layer]:
    """Yield all layers of a model, in the order of its nodes."""
    names = Counter(node.name for node in source.nodes)
    for index, node in enumerate(source.nodes):
        if node.domain in ONNX and node.op_type in LAYERS:
            yield from LAYERS[node.op_type](source, index, node.name if names[node.name] == 1 and node.name else node.output[0])


def _pattern(what: str, text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise ValueError(f"{what} {text!r} is not a regular expression: {error}") from None


class _Roles:
    """What layers are in a model, for those that are left out without being named."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._behind_a_layer: set[str] = set()
        for index, node in enumerate(source.nodes):
            behind = any(name in self._behind_a_layer for name in source.reads[index])
            if behind or (node.op_type in LAYERS and any(source.is_constant(name) for name in node.input)):
                self._behind_a_layer.update(node.output)

    def reason(self, layer: Layer) -> str:
        """Return why a layer is left out, "" if it is not."""
        groups, outputs, inputs = layer.shape__gmk
        if layer.op_type == "Conv" and layer.x not in self._behind_a_layer:
            return "it is a first convolution"
        if groups > 1 and layer.run == 1:
            return "it is a depthwise convolution"
        if groups * outputs < LEAST_OUTPUTS or inputs < LEAST_INPUTS:
            return f"it has fewer than {LEAST_OUTPUTS} outputs or {LEAST_INPUTS} inputs"
        if self.outputs_of(layer):
            return "it is a classifier: its result is the model's"
        return ""

    def outputs_of(self, layer: Layer) -> set[str]:
        """Return the outputs of the model that are a layer's result but for a bias, the form, and functions that keep the order."""
        source = self._source
        names = set(source.nodes[layer.index].output)
        for node in source.nodes[layer.index + 1 :]:
            others = [name for name in node.input if name and name not in names]
            if node.op_type in BEHIND_CLASSIFIER and len(others) < len(node.input) and all(map(source.is_constant, others)):
                names.update(node.output)
        return names.intersection(source.outputs)
