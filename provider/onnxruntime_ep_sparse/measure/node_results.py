"""The result of `compare_nodes()`: the values that were compared, and the first that differs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ort.sessions import Ownership
from ..records import Record, Tabular
from .agreement import BYTES, Agreement


@dataclass(frozen=True)
class Statistics:
    """Statistics of a value's finite elements: `zeros` is the share of zeros, `not_finite` the number of NaN and infinities."""

    least: float
    largest: float
    mean: float
    deviation: float
    zeros: float
    not_finite: int

    @classmethod
    def of(cls, value: NDArray) -> Statistics:
        """Return the statistics of an array; all are 0 if it has no finite element."""
        flat = value.astype(np.float64).ravel()
        finite = flat[np.isfinite(flat)]
        if not finite.size:
            return cls(0.0, 0.0, 0.0, 0.0, 0.0, flat.size)
        least, largest, mean = float(finite.min()), float(finite.max()), float(finite.mean())
        return cls(least, largest, mean, float(finite.std()), float((finite == 0).mean()), flat.size - finite.size)


@dataclass(frozen=True)
class Element:
    """An element of a value with both providers. Numbers that are not finite are None in documents."""

    index: tuple[int, ...]
    ours: float
    reference: float


@dataclass(frozen=True)
class WeightDifference:
    """A constant of a node that differs between two models: how many of its `size` elements, and by how much at most.

    Both are None where the constants differ in shape or type.
    """

    name: str
    size: int
    different: int | None
    largest: float | None


@dataclass(frozen=True)
class ValueComparison:
    """A value of the model: the node that makes it, and how far both providers are from each other.

    `inherited`: it differs because 8-bit integers before it were rounded the other way. Its node agrees with the CPU provider on the
    inputs that the CPU provider has.
    """

    node: str
    op_type: str
    agreement: Agreement
    ok: bool
    inherited: bool = False

    @property
    def value(self) -> str:
        """Return the name of the value."""
        return self.agreement.output


@dataclass(frozen=True)
class FirstDifference:
    """The first value that leaves the tolerance, and its node.

    `number` counts the node from 1. `beyond` is the share of elements beyond the tolerance. `inputs` are the largest relative errors of the
    values that the node reads. `histogram` has for each bin its upper end and the number of elements. The ends are relative to the value's
    scale, and steps if the value has 8-bit integers.
    `fused` says that the value differs only where the provider fuses its node with others.
    """

    number: int
    node: str
    op_type: str
    value: str
    fused: bool
    agreement: Agreement
    beyond: float
    inputs: dict[str, float]
    weights: tuple[WeightDifference, ...]
    reference: Statistics
    ours: Statistics
    histogram: tuple[tuple[float, int], ...]
    worst: tuple[Element, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields as keys. Numbers that are not finite become None."""
        return _jsonable({**asdict(self), "agreement": self.agreement.to_dict()})


@dataclass(frozen=True)
class NodeComparison(Tabular):
    """The result of `compare_nodes()`. `first` is None if no value leaves the tolerance.

    `values` are all that were compared, in the order of the nodes, up to the first that differs; `nodes` is the number of nodes.
    `outputs` compares the model's own outputs without a cut, and `ownership` counts the nodes of the provider there.
    `to_pandas()` and `to_csv()` have the rows of `records()`, which Jupyter shows as a table.
    """

    model: str
    other: str | None
    tolerance: float
    nodes: int
    ownership: Ownership
    outputs: tuple[Agreement, ...]
    values: tuple[ValueComparison, ...]
    first: FirstDifference | None

    @property
    def agrees(self) -> bool:
        """Return whether there were values to compare, and none leaves the tolerance."""
        return self.first is None and bool(self.values)

    def records(self) -> list[Record]:
        """Return a row per value, with the fields of its `Agreement`."""
        about = [{"node": each.node, "op_type": each.op_type, "value": each.value} for each in self.values]
        figures = [{key: x for key, x in each.agreement.to_dict().items() if key != "output"} for each in self.values]
        return [
            {**who, **what, "ok": each.ok, "inherited": each.inherited} for who, what, each in zip(about, figures, self.values, strict=True)
        ]

    def caption(self) -> str:
        """Return which node is the first that differs."""
        if self.first is None:
            return f"{len(self.values)} values agree within {self.tolerance:g}"
        agreement = self.first.agreement
        if agreement.dtype in BYTES:
            return f"the first value that differs by more than a step: {self.first.value} of {self.first.node}, by {agreement.max_abs:g}"
        error = f"{agreement.max_relative:.1e} of its scale"
        return f"the first value that differs by more than {self.tolerance:g}: {self.first.value} of {self.first.node}, by {error}"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict with the fields as keys, and `agrees`."""
        outputs = [output.to_dict() for output in self.outputs]
        about = {"model": self.model, "other": self.other, "tolerance": self.tolerance, "nodes": self.nodes, "agrees": self.agrees}
        first = None if self.first is None else self.first.to_dict()
        return {**about, "ownership": self.ownership.to_dict(), "outputs": outputs, "first": first, "values": self.records()}


def _jsonable(value: Any) -> Any:
    """Return a value without numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
