"""The first node of a model whose value differs between both providers: `compare_nodes()`.

Both providers run a model that has all values as outputs, so that every region is cut at every value. The outputs are asked for in groups,
in the order of the nodes, so that only one group is in memory. A difference that no cut shows lies in what regions fuse: it is searched
in beginnings of the model, each cut at its end only.

In a quantised model a float at a tie may be rounded to either of two integers. Values after it differ, though no node is wrong. So once an
8-bit value has differed by a step, a node is judged apart from those before it: on the inputs that the CPU provider has.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..formats.cut_model import nodes_apart, prefix_of, values_of, with_all_values
from ..formats.onnx_file import load
from ..models.inputs import fitting, inputs_for
from ..options import EP_NAME
from ..ort.registration import register
from ..ort.sessions import CPU, Feeds, make_session, ownership
from .agreement import BYTES, HALF_TOLERANCE, STEPS, TOLERANCE, Agreement, agree
from .node_results import Element, FirstDifference, NodeComparison, Statistics, ValueComparison, WeightDifference
from .protocol import Progress

MEMORY = 512 << 20
"""Bytes of values that are compared at once, unless one value alone has more."""
FIRST_GROUP, GROWTH = 4, 4
"""Number of values in the first group, while sizes are not known; and how many times as many the next group has at most."""
WORST = 5
"""Elements that are shown of a value."""
DECADES = tuple(10.0**power for power in range(-9, 2))
"""Upper ends of the bins of a histogram of errors, relative to the scale of the value; the last bin has no end."""
POWERS_OF_TWO = (0.0, *(2.0**power for power in range(8)))
"""The same in steps, of 8-bit integers."""
INHERITED = 4
"""How many times as large the error of an output may be without cuts as with them, where integers were rounded the other way."""


def compare_nodes(
    model: Any,
    feeds: Feeds | None = None,
    *,
    other: Any = None,
    options: Mapping[str, object] | None = None,
    threads: int = 0,
    tolerance: float | None = None,
    batch: int = 1,
    seed: int = 0,
    memory: int = MEMORY,
    progress: Progress = lambda step, share: None,
) -> NodeComparison:
    """Find the first node whose value differs between the CPU provider and this one by more than `tolerance`, relative to its largest.

    Without `tolerance`, it is 1e-4, and 2e-3 where a value is float16; 8-bit integers may differ by one step. Where they do, the nodes
    after them are judged on the inputs that the CPU provider has.

    `model` is a path, bytes or an `onnx.ModelProto`, `feeds` are inputs by name; random ones of this `batch` and `seed` without them. With
    `other`, the CPU provider runs `model`, and this one runs `other`, whose values have the same names: a copy, or another export. While
    regions are cut, the provider takes all nodes that it can run, unless `options` have another policy. At most `memory` bytes of values
    are held at once, or one value.

    ValueError if a model is compiled, or if the two have no value in common; onnxruntime's exceptions if one cannot be loaded or run.
    """
    register()
    files = [_Given(each) for each in (model, *([] if other is None else [other]))]
    reference, ours = files[0], files[-1]
    given = dict(options or {})
    cut_options = {"policy": "always", **given}
    progress("find values", 0)
    theirs = make_session(reference.all_values(), CPU, None, threads, folder=reference.folder)
    limit = _Limit.of(theirs, tolerance)
    inputs = inputs_for(theirs, batch=batch, seed=seed) if feeds is None else fitting(feeds, theirs)
    mine = make_session(ours.all_values(), EP_NAME, cut_options, threads, folder=ours.folder)
    names = _shared_names(theirs, mine, reference.makers)
    if not names:
        raise ValueError("the two models have no value of the same name")
    progress("find values", 1)

    progress("compare values", 0)
    values: list[ValueComparison] = []
    found: tuple[str, NDArray, NDArray] | None = None
    for group in _groups(mine, theirs, names, inputs, memory, lambda share: progress("compare values", share)):
        compared = agree(*zip(*group, strict=True))
        inherited = _inherited(ours, theirs, limit, compared, inputs, cut_options, threads)
        for each in compared:
            about = reference.name_of(each.output), reference.makers[each.output].op_type
            inherits = each.output in inherited
            values.append(ValueComparison(*about, each, limit.allows(each) or inherits, inherits))
            if not values[-1].ok:
                found = next(one for one in group if one[0] == each.output)
                break
        if found is not None:
            break
    progress("compare values", 1)
    del mine

    progress("compare outputs", 0)
    whole = make_session(ours.source, EP_NAME, given, threads, folder=ours.folder)
    owned = ownership(whole)
    shown = [output.name for output in whole.get_outputs() if output.name in names]
    outputs = agree(shown, whole.run(shown, inputs), theirs.run(shown, inputs)) if shown else ()
    del whole
    progress("compare outputs", 1)
    fused = False
    limit.cut = {each.value: each.agreement for each in values}
    wrong = next((each.output for each in outputs if not limit.allows(each)), None)
    if found is None and wrong is not None:
        fused, found = True, _in_prefixes(ours, theirs, [*names[: names.index(wrong)], wrong], inputs, given, threads, limit, progress)
    first = None if found is None else _described(reference, ours, *found, fused, {each.value: each for each in values}, limit)
    labels = [each.label for each in files]
    return NodeComparison(
        labels[0], labels[1] if other is not None else None, limit.tolerance, len(reference.nodes), owned, outputs, tuple(values), first
    )


class _Limit:
    """How far values may be from those of the CPU provider."""

    def __init__(self, tolerance: float, chosen: bool) -> None:
        self.tolerance = tolerance
        self.chosen = chosen
        """By the caller, for integers too."""
        self.rounded = False
        """Whether 8-bit integers have differed, which values after them inherit."""
        self.cut: dict[str, Agreement] = {}
        """The same values in the cut model, where another one is compared."""

    @classmethod
    def of(cls, session: Any, tolerance: float | None) -> _Limit:
        """Return the limit that a caller chose, or the one of the element types of a session's outputs."""
        if tolerance is not None:
            return cls(tolerance, True)
        half = any(output.type == "tensor(float16)" for output in session.get_outputs())
        return cls(HALF_TOLERANCE if half else TOLERANCE, False)

    def allows(self, value: Agreement) -> bool:
        """Return whether a value is near enough."""
        if value.within(None if value.dtype in BYTES and not self.chosen else self.tolerance):
            return True
        return self.rounded and value.output in self.cut and value.max_abs <= INHERITED * self.cut[value.output].max_abs


class _Given:
    """A model of the caller: its structure, and what sessions are made of."""

    def __init__(self, model: Any) -> None:
        self.path = None if isinstance(model, bytes | ModelProto) else Path(model)
        self.source: str | bytes
        if self.path is not None:
            self.model, self.source, self.label = load(self.path), os.fspath(self.path), os.fspath(self.path)
        else:
            self.source = model if isinstance(model, bytes) else model.SerializeToString()
            self.model, self.label = ModelProto.FromString(self.source), "a model in memory"
        self.folder = None if self.path is None else self.path.parent
        """Where external data are."""
        self.nodes: list[NodeProto] = list(self.model.graph.node)
        self.makers = values_of(self.model)

    def all_values(self) -> bytes:
        """Return the model with all values as outputs, serialised."""
        return with_all_values(self.model).SerializeToString()

    def prefix(self, name: str) -> bytes:
        """Return the beginning of the model that one value needs, serialised."""
        return prefix_of(self.model, name).SerializeToString()

    def name_of(self, value: str) -> str:
        """Return the name of the node that makes a value; that of its first output where it has none."""
        node = self.makers[value]
        return node.name or next(filter(None, node.output))

    def constants(self, node: NodeProto) -> dict[str, TensorProto]:
        """Return the initializers that a node reads."""
        return {tensor.name: tensor for tensor in self.model.graph.initializer if tensor.name in node.input}

    def array(self, tensor: TensorProto) -> NDArray:
        """Return the data of an initializer, wherever they are."""
        return numpy_helper.to_array(tensor, os.fspath(self.folder) if self.folder is not None else "")


def _shared_names(theirs: Any, mine: Any, makers: Mapping[str, NodeProto]) -> list[str]:
    """Return the values that both sessions have as tensors, in the order of the nodes."""
    both = [{output.name for output in session.get_outputs() if output.type.startswith("tensor(")} for session in (theirs, mine)]
    return [name for name in makers if name in both[0] and name in both[1]]


def _groups(
    mine: Any, theirs: Any, names: Sequence[str], inputs: Feeds, memory: int, progress: Callable[[float], None]
) -> Iterator[list[tuple[str, NDArray, NDArray]]]:
    """Yield the values with both providers, in order, in groups of which one is in memory at once."""
    at, size, largest = 0, FIRST_GROUP, 1
    while at < len(names):
        group = names[at : at + size]
        values = list(zip(group, mine.run(group, inputs), theirs.run(group, inputs), strict=True))
        largest = max(largest, *(a.nbytes + b.nbytes for _, a, b in values))
        yield values
        del values
        at += len(group)
        progress(at / (len(names) + 1))
        size = max(min(GROWTH * size, memory // largest), 1)


def _inherited(
    ours: _Given, theirs: Any, limit: _Limit, compared: Sequence[Agreement], inputs: Feeds, options: Mapping[str, object], threads: int
) -> set[str]:
    """Return those of some values beyond the limit whose nodes agree on the inputs that the CPU provider has.

    Only values after an 8-bit one that differs are tried.
    """
    tried = []
    for each in compared:
        if limit.rounded and not limit.allows(each) and each.output in ours.makers:
            tried.append(each.output)
        limit.rounded = limit.rounded or (each.dtype in BYTES and each.different > 0)
    if not tried:
        return set()
    model, read = nodes_apart(ours.model, tried)
    made = [name for name in read if name not in inputs]
    given = {
        **{name: inputs[name] for name in read if name in inputs},
        **dict(zip(made, theirs.run(made, inputs) if made else (), strict=True)),
    }
    for info in model.graph.input:
        array = given[info.name]
        info.CopyFrom(helper.make_tensor_value_info(info.name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
    session = make_session(model.SerializeToString(), EP_NAME, options, threads, folder=ours.folder)
    own = agree(tried, session.run(None, given), theirs.run(tried, inputs))
    return {each.output for each in own if limit.allows(each)}


def _in_prefixes(
    ours: _Given,
    theirs: Any,
    names: Sequence[str],
    inputs: Feeds,
    options: Mapping[str, object],
    threads: int,
    limit: _Limit,
    progress: Progress,
) -> tuple[str, NDArray, NDArray]:
    """Return the first of `names` that differs where the model ends with it. The last one does; halves are searched."""
    step = "search in beginnings of the model"
    progress(step, 0)
    low, high = 0, len(names) - 1
    tries, total = 0, max(math.ceil(math.log2(len(names))), 1)
    found = None
    while low < high or found is None:
        middle = (low + high) // 2 if low < high else high
        name = names[middle]
        session = make_session(ours.prefix(name), EP_NAME, options, threads, folder=ours.folder)
        used = {each.name: inputs[each.name] for each in session.get_inputs()}
        (value,), (reference,) = session.run([name], used), theirs.run([name], inputs)
        compared = agree([name], [value], [reference])
        if low == high or any(not limit.allows(each) for each in compared):
            high, found = middle, (name, value, reference)
        else:
            low = middle + 1
        tries += 1
        progress(step, min(tries / (total + 2), 0.99))
    progress(step, 1)
    return found


def _described(
    reference: _Given,
    ours: _Given,
    value: str,
    mine: NDArray,
    theirs: NDArray,
    fused: bool,
    before: Mapping[str, ValueComparison],
    limit: _Limit,
) -> FirstDifference:
    """Describe the first value that differs."""
    node = reference.makers[value]
    (agreement,) = agree([value], [mine], [theirs])
    same = mine.shape == theirs.shape
    in_steps = agreement.dtype in BYTES
    unit, most = (1.0, float(STEPS)) if in_steps and not limit.chosen else (agreement.scale or 1.0, limit.tolerance)
    ends = POWERS_OF_TWO if in_steps else DECADES
    bin_unit = 1.0 if in_steps else unit
    beyond, histogram, worst = _errors(mine, theirs, most * unit, bin_unit, ends) if same else (1.0, (), ())
    return FirstDifference(
        number=next(i for i, each in enumerate(reference.nodes, 1) if value in each.output),
        node=reference.name_of(value),
        op_type=node.op_type,
        value=value,
        fused=fused,
        agreement=agreement,
        beyond=beyond,
        inputs={name: before[name].agreement.max_relative for name in node.input if name in before},
        weights=tuple(_weights(reference, ours, value)) if ours is not reference else (),
        reference=Statistics.of(theirs),
        ours=Statistics.of(mine),
        histogram=histogram,
        worst=worst,
    )


def _errors(
    mine: NDArray, theirs: NDArray, most: float, unit: float, ends: Sequence[float]
) -> tuple[float, tuple[tuple[float, int], ...], tuple[Element, ...]]:
    """Return the share of errors above `most`, the histogram of errors in `unit` with bins up to `ends`, and the worst elements."""
    a, b = mine.astype(np.float64).ravel(), theirs.astype(np.float64).ravel()
    with np.errstate(invalid="ignore"):
        error = np.abs(a - b)
    error[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    error[np.isnan(error)] = np.inf
    bins = np.searchsorted(ends, error / unit, side="left")
    counts = np.bincount(bins, minlength=len(ends) + 1)
    order = np.argsort(-error, kind="stable")[:WORST]
    places = [tuple(map(int, np.unravel_index(i, mine.shape))) for i in order]
    worst = tuple(Element(place, float(a[i]), float(b[i])) for place, i in zip(places, order, strict=True))
    return float((error > most).mean()), tuple(zip((*ends, math.inf), map(int, counts), strict=True)), worst


def _weights(reference: _Given, ours: _Given, value: str) -> Iterator[WeightDifference]:
    """Yield the constants of a value's node that are not the same in both models, by the places at which the nodes read them."""
    node, other = reference.makers[value], ours.makers[value]
    known, others = reference.constants(node), ours.constants(other)
    for name, its in zip(node.input, other.input, strict=False):
        if name not in known or its not in others:
            continue
        a, b = reference.array(known[name]), ours.array(others[its])
        if a.shape != b.shape or a.dtype != b.dtype:
            yield WeightDifference(its, a.size, None, None)
        elif different := int(np.count_nonzero(a != b)):
            yield WeightDifference(its, a.size, different, float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max()))
