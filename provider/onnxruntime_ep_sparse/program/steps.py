"""The steps of a program as plain data: what lowering says to `runtime/_build.pyx`. Sizes count elements.

The data that only one kind of step has are a dataclass in `program/kinds/`. The C side is `runtime/_structs.pxd`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.elementwise import Act

from .enums import AutoPad, ElementType, NumberOp, StepKind

BYTES = frozenset((ElementType.UINT8, ElementType.INT8))
"""The element types of 8-bit integers."""


@dataclass(frozen=True, slots=True)
class Activation:
    """`act` with its parameters: low and high for CLAMP, else alpha and beta as ONNX defines them."""

    act: Act = Act.NONE
    alpha: float = 0.0
    beta: float = 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """Spatial attributes of Conv and pooling, one entry a spatial dimension (1 to 3).

    `image` has the sizes of the only images that the window is for, 0 where any will do; without, all will.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pad_begin: tuple[int, ...]
    pad_end: tuple[int, ...]
    auto_pad: AutoPad = AutoPad.EXPLICIT
    image: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on values, which are numbered; `r` is the residual of a product or the second operand, -1 if there is none.

    `spec` has the data of the kind: a dataclass of the type that the row of the kind names (`kinds/table.py`), None where it needs none.
    `completes`: the step adds what the step before it has added where both operands have one shape; then it has nothing to do.
    `name` says which nodes the step computes, `description` what that is, both for people.
    """

    kind: StepKind
    x: int
    y: int
    r: int = -1
    activation: Activation = Activation()
    spec: Any = None
    completes: bool = False
    name: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Numbers:
    """One list of numbers, of one dimension or two, or a single one where `shape` is ().

    It is the value `y`, computed by `op` from the values `operands`.

    `before`: so many steps of the program come before. `places` are the dimensions that SHAPE tells, or the numbers that PICK takes.
    `integers` or `floats` are those of LITERAL.
    """

    op: NumberOp
    y: int
    operands: tuple[int, ...] = ()
    before: int = 0
    shape: tuple[int, ...] = ()
    places: tuple[int, ...] = ()
    integers: tuple[int, ...] = ()
    floats: tuple[float, ...] = ()

    @property
    def count(self) -> int:
        """Return how many numbers there are."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """A whole program: values are numbered 0..n_values-1; `inputs`, `outputs` and `constants` name some of them.

    `separable`: cutting all inputs along their first dimension cuts all outputs along their first one, so that a batch may run in parts.
    `types` has the element types of all values that are not float32: inputs, outputs, values between steps, and constants, whose bits then
    take the place of those of floats. `ranks` are those of the inputs, in their order; without, any. `computed` are numbers that the plan
    computes, in the order of `before`; they can be outputs. `integers` are the constants of int64.
    """

    n_values: int
    inputs: dict[str, int]
    outputs: dict[str, int]
    constants: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    separable: bool = False
    types: dict[int, ElementType] = field(default_factory=dict)
    ranks: tuple[int, ...] = ()
    computed: tuple[Numbers, ...] = ()
    integers: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    def type_of(self, value: int) -> ElementType:
        """Return the element type of a value."""
        return self.types.get(value, ElementType.FLOAT32)

    @property
    def all_constants(self) -> dict[int, NDArray]:
        """Return the constants of all element types by the numbers of their values."""
        return {**self.constants, **self.integers}

    @property
    def has_bytes(self) -> bool:
        """Return whether any value has elements of 8 bits, truths included, for which there are kernels of their own."""
        return not {*BYTES, ElementType.BOOL}.isdisjoint(self.types.values())
