"""What `pipeline.py` says to `runtime/_build.pyx`: the steps of a program as plain data. Sizes count elements.

The C side is `runtime/_structs.pxd`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from onnxruntime_ep_sparse_kernels.elementwise import Act, Op

from .enums import AutoPad, Cell, Coordinates, Interpolation, ShapeRule, StepKind


@dataclass(frozen=True, slots=True)
class Resize:
    """New height and width: `size` where it is not -1, else `scale` times the old one."""

    interpolation: Interpolation
    coordinates: Coordinates
    scale: tuple[float, float] = (1.0, 1.0)
    size: tuple[int, int] = (-1, -1)


@dataclass(frozen=True, slots=True)
class Activation:
    """`act` with its parameters: low and high for CLAMP, else alpha and beta as ONNX defines them."""

    act: Act = Act.NONE
    alpha: float = 0.0
    beta: float = 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """Spatial attributes of Conv and pooling, one entry a spatial dimension (1 to 3)."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pad_begin: tuple[int, ...]
    pad_end: tuple[int, ...]
    auto_pad: AutoPad = AutoPad.EXPLICIT


@dataclass(frozen=True, slots=True)
class Panel:
    """`rows` rows from `row_begin`, packed by the kernels' `pack`."""

    mr: int
    row_begin: int
    rows: int
    row_start__bg: NDArray[np.int32]
    row__bgr: NDArray[np.int32]
    k__nc: NDArray[np.uint32]
    value__nr: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class GatherGroup:
    """Input channels that are gathered together, in blocks of units that begin at `bounds`, for the rows of `panel`.

    `nonzeros` of `weights` are to be multiplied with; neither counts the zeros that packing adds.
    """

    channel_begin: int
    channels: int
    bounds: tuple[int, ...]
    panel: Panel
    nonzeros: int
    weights: int


@dataclass(frozen=True, slots=True)
class Product:
    """A packed weight: Conv, Gemm or MatMul. See `runtime/_structs.pxd` for the fields."""

    rule: ShapeRule
    x_rows: bool
    y_rows: bool
    m: int
    channels: int
    segments: tuple[tuple[int, int, int, int, int], ...]
    unit_segment: tuple[int, ...]
    taps: tuple[tuple[int, int, int], ...]
    bias__m: NDArray[np.float32]
    max_vectors: int
    groups: tuple[GatherGroup, ...]
    batch: tuple[int, ...] = ()
    vector_operand: bool = False


@dataclass(frozen=True, slots=True)
class PendingProduct:
    """A product while steps are still fused: what that asks of it, and `pack`, which makes it of the bias that it has in the end.

    `size` counts the elements of the weight.
    """

    rule: ShapeRule
    y_rows: bool
    m: int
    bias__m: NDArray[np.float32]
    size: int
    pack: Callable[[NDArray[np.float32]], Product]
    batch: tuple[int, ...] = ()
    vector_operand: bool = False


@dataclass(frozen=True, slots=True)
class Depthwise:
    """Weights of a Conv whose outputs each read one channel, output m channel m * channels // M: every tap, zeros too."""

    m: int
    channels: int
    value__mt: NDArray[np.float32]
    bias__m: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recurrent:
    """What a recurrent node does after its input projection, which is x of the step: all gates of all directions, times by sequences.

    Rows of the projection, and of `products` by R (direction by direction, phase by phase), stand in the order of `recurrent.order_of`:
    `gates` says how many a phase has. `activations` are f, g and h of each direction. `peephole__dgh` has the gates i, o, f;
    `late__dh` is the bias of R that a GRU scales by its reset gate. `couples`: f = 1 - i. The last five number values, -1 for none:
    `lengths` is int32 data, `last_h` and `last_c` are results besides y.
    """

    cell: Cell
    hidden: int
    reverse: tuple[bool, ...]
    gates: tuple[int, ...]
    products: tuple[Product, ...]
    activations: tuple[Activation, ...]
    clip: float
    peephole__dgh: NDArray[np.float32] | None
    late__dh: NDArray[np.float32] | None
    couples: bool
    batch_first: bool
    lengths: int
    initial_h: int
    initial_c: int
    last_h: int
    last_c: int


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on values, which are numbered; `r` is the residual of a product or the second operand, -1 if there is none.

    RESHAPE makes `target`, two dimensions that meet at `flatten_axis`, or takes away `removed` axes of 1 or brings `inserted` ones.
    A CONCAT step writes one operand behind those of the steps before it; the first of them `begins` y. PAD puts `fill` around x, `before`
    and `after` it in every dimension. SHUFFLE is DepthToSpace, or SpaceToDepth where `to_depth`; `depth_first` is the order CRD.
    NORMALIZE is LayerNormalization over the last dimension, `r` its weights as (2, n): factors, then addends. TRANSPOSE orders dimensions
    as `target` says.
    `name` says which nodes it computes, `description` what that is, both for people.
    """

    kind: StepKind
    x: int
    y: int
    r: int = -1
    activation: Activation = Activation()
    op: Op = Op.ADD
    window: Window | None = None
    is_max: bool = False
    ceil_mode: bool = False
    count_include_pad: bool = False
    product: Product | Depthwise | PendingProduct | None = None
    target: tuple[int, ...] = ()
    allow_zero: bool = False
    flatten_axis: int = -1
    removed: tuple[int, ...] = ()
    inserted: tuple[int, ...] = ()
    axis: int = 0
    begins: bool = False
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    fill: float = 0.0
    block: int = 1
    depth_first: bool = False
    to_depth: bool = False
    resize: Resize | None = None
    recurrent: Recurrent | None = None
    epsilon: float = 0.0
    name: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """A whole program: values are numbered 0..n_values-1; `inputs`, `outputs` and `constants` name some of them.

    `separable`: cutting all inputs along their first dimension cuts all outputs along theirs, so that a batch may run in parts.
    `integers` are values of int32, which recurrent steps read as lengths. `ranks` are those of the inputs, in their order; without, any.
    """

    n_values: int
    inputs: dict[str, int]
    outputs: dict[str, int]
    constants: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    separable: bool = False
    integers: frozenset[int] = frozenset()
    ranks: tuple[int, ...] = ()
