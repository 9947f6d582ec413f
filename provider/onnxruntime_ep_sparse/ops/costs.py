"""Work of a node with both providers, from which `partition` expects times.

Work is a set of amounts by name: multiply-adds, floats moved, and so on. `ops/rates.py` says how long one of each takes on an instruction
set. `tests/benchmarks/calibrate.py` measures these rates by the functions of this file, so that what decides is what was measured.

ONNX Runtime computes most 2-D convolutions in blocks of channels (NCHWc), others by im2col and GEMM
(`onnxruntime/core/optimizer/nchwc_transformer.cc`, `core/mlas/lib/convolve.cpp`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from onnxruntime_ep_sparse_kernels.isa import APART, FAR_BYTES, FEW_VECTORS, STRIPS, Isa

from ..graph.ir import Graph, Node, shape_of
from ..program.enums import AutoPad
from ..program.packing import BLOCK_FLOATS, NOMINAL_WIDTH, pitch_bound, tap_layout
from ..program.steps import Window

NOMINAL_BATCH = 1
NOMINAL_SPATIAL = NOMINAL_WIDTH
NOMINAL_ROWS = 128
NOMINAL_TIMES = 64
"""Sizes in place of those that are only known at run time: of a batch, of an image, of a matrix or sequence, and of a recurrent node."""
FEW_ROWS = (1, 2, 3, 5, 8, 17)
"""Other numbers of rows that an unknown one may be, besides NOMINAL_ROWS: few, and one more than fills a vector or two."""
FEW_SEQUENCES = (1, 4, 16)
"""Numbers of sequences that an unknown one may be."""
NEAR_FLOATS, SHARED_FLOATS = 1 << 18, 4_200_000
"""Floats that a core's own cache holds (1 MB), and floats that the cache of all cores holds (16 MB, and a bias with them)."""

PRUNED = 0.1
"""Share of a weight that is not zero, where work hardly depends on it."""
NARROW = 2
"""Vectors of outputs that a product of few rows has at least: with fewer, a multiply-add waits for the one before."""
LEAST_BLOCK, ALIGNED = 8, 4
"""Channels of a block of ONNX Runtime's layout where vectors are shorter, and what numbers of channels must be a multiple of."""
ORT_SPLIT_MACS, ORT_SPLIT_RESULTS = 1 << 16, 1 << 15
"""From how many multiply-adds ONNX Runtime shares a matrix product between threads (`MLAS_SGEMM_THREAD_COMPLEXITY` in
`onnxruntime/core/mlas/lib/mlasi.h`), and from about how many results an operator without weights (`TryParallelFor` in
`core/common/threadpool.cc`, where 100,000 cycles are too few)."""
OUR_SPLIT, OUR_CELL_SPLIT = 40_000, 20_000
"""The same of our steps: above so many multiply-adds by nonzeros, or so many floats (PARALLEL_FROM in `runtime/_sections.pxd`); and of a
recurrent step, in a time (PARALLEL_MACS in `runtime/_recurrent.pyx`)."""

Amounts = Mapping[str, float]
NONE: Amounts = {}


ORT_WORK = {
    "call": "a run, besides its nodes",
    "node": "a node, besides its work",
    "wake": "a run that needs more threads than its caller's, to wake them",
    "section": "a node that several threads share, besides its work",
    "conv_mac": "multiply-add of a convolution in blocked layout, for whole blocks of channels",
    "first_conv_mac": "the same with fewer input channels than a block",
    "im2col_mac": "multiply-add of another convolution",
    "grouped_mac": "the same with groups",
    "expanded": "float that im2col writes, of a window of stride 1",
    "expanded_strided": "the same of another stride",
    "expanded_row": "row of an image that im2col writes for a tap",
    "depthwise_tap": "tap of an output pixel of a depthwise convolution in blocked layout, for whole blocks of channels",
    "depthwise_row": "row of outputs of it, of one channel",
    "recurrent_mac": "multiply-add of a time step with several sequences",
    "recurrent_few_mac": "the same of so few sequences that ONNX Runtime reads R once for all of them",
    "cell": "gate of a hidden unit",
    "pooled_channel": "channel that a global pool reads",
}
"""Kinds of ONNX Runtime's work that have a rate."""
ORT_MOVED = {
    "float": "float that a product reads or writes",
    "weight": "weight that a product reads",
    "gemm_mac": "multiply-add of a matrix product of more than 16 rows, by the cache that holds the weights",
    "few_rows_mac": "multiply-add of a matrix product with 2 to 16 rows, by the cache that holds the weights",
    "few_rows_weight": "weight that a pass over its rows reads",
    "one_row_weight": "weight that a product with one row reads",
    "recurrent_weight": "weight of R that a time step reads",
    "depthwise_float": "float that a depthwise convolution in blocked layout reads or writes",
    "clipped": "float of a product's result that is clamped otherwise than by Relu",
    "reordered": "float that changes between the blocked layout and ours",
    "transposed_float": "float of a transposed convolution's product that is added to its result",
}
"""Those whose rate depends on the cache that holds the floats, as in `moved`."""
OUR_WORK = {
    "region": "a region, besides its steps",
    "step": "a step, besides its work",
    "section": "a step that several threads share, besides its work",
    "row_tile": "row of a weight and tile of pixels",
    "nonzero_tile": "nonzero of a 1x1 window and tile",
    "nonzero_vector": "nonzero of a 1x1 window and vector of pixels",
    "window_tile": "nonzero of another window and tile",
    "window_vector": "nonzero of another window and vector of pixels",
    "few_rows_output": "output of a matrix and vector of few rows, without its zeros",
    "few_rows_several": "a product of several rows, besides its work: to gather them and to write their results",
    "few_rows_vectors": "the same of more rows than fill a vector",
    "rows_tile": "nonzero of a matrix and tile of rows",
    "rows_vector": "nonzero of a matrix and vector of rows",
    "shared_vector": "weight of rows that share columns, and vector of pixels",
    "pair_mac": "multiply-add of a product of two values that a run computes, for whole vectors of columns",
    "pair_packed": "float of the second of them",
    "depthwise_tap": "tap of an output of a depthwise convolution with an output in each lane",
    "depthwise_output": "output of it",
    "depthwise_strip": "strip of an output of one that goes down planes",
    "depthwise_strip_tap": "tap of a vector of it",
    "depthwise_wide_output": "output of a 3x3 one that goes along rows",
    "depthwise_wide_strided_output": "the same of stride 2",
    "recurrent_node": "a recurrent node, besides its work: its threads wait for each other",
    "recurrent": "cost of `FewPixels` of a time step",
    "recurrent_dense": "the same where R is multiplied with all its zeros, of one sequence",
    "recurrent_dense_several": "the same of several sequences",
    "cell": "gate of a hidden unit",
    "pooled_channel": "channel that a global pool reads",
}
"""Kinds of our work that have a rate."""
OUR_MOVED = {
    "gathered": "float gathered into a tile",
    "stored": "float of a result",
    "row_vector": "row of a weight and vector of pixels, for each block of inputs",
    "rows_gathered": "float of a matrix, transposed into a tile",
    "rows_row_vector": "row of a matrix and vector of rows, for each block of inputs",
    "few_rows": "cost of `FewPixels` of the nonzeros of a matrix",
    "few_rows_dense": "the same of a matrix with all its zeros",
    "depthwise_float": "float that a depthwise convolution reads or writes",
}
BOTH_MOVED = {
    "added": "result of an operator with two operands",
    "clamp": "result of another activation without exponential",
    "copied": "float that is copied",
    "erf": "result of erf, Gelu",
    "exp": "result of an activation with an exponential",
    "hard_swish": "result of HardSwish",
    "silu": "result of x * sigmoid(x)",
    "normalized": "result of a normalization",
    "pool_tap": "tap of a pool",
    "pooled": "float that a global pool reads",
    "resized": "result of a Resize",
    "transposed": "float of a Transpose",
}
"""Those of both providers."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Work of a node: amounts by the names of rates.

    `ort` is ONNX Runtime's; `ours` what we do whatever the weight; `apart` what we do for a weight without zeros where each row of the
    weight has columns of its own, `shared` where rows share columns. These two are multiplied by a share of the weight. `dense`, if any, is
    what we do instead where that is less, by multiplying zeros too; `rows` is what we do for the rows of the weight otherwise, whatever is
    left of them. `second` is our work for another weight of the node, with as many zeros: R of an LSTM.

    `ort_splits` says whether ONNX Runtime shares the node between threads, where there are several. Our step is shared if it moves more
    than OUR_SPLIT `floats`, or multiplies as often; it multiplies `macs` times by a weight without zeros. A step that is not shared takes
    the time of one thread.
    """

    ort: Amounts
    ours: Amounts
    apart: Amounts = field(default_factory=dict)
    shared: Amounts = field(default_factory=dict)
    dense: Amounts = field(default_factory=dict)
    rows: Amounts = field(default_factory=dict)
    second: Estimate | None = None
    ort_splits: bool = True
    floats: float = math.inf
    macs: float = 0.0

    @property
    def alone_to(self) -> float:
        """Return the largest share of the multiply-adds with which our step stays on its caller's thread, for any number of threads."""
        if self.floats > OUR_SPLIT:
            return -1.0
        return OUR_SPLIT / self.macs if self.macs else math.inf


@dataclass(frozen=True)
class Setting:
    """The setting on which estimates depend besides a node: the graph, the instruction set, and sizes that are only known at run time.

    `open_sizes` holds the sizes that symbols stand for, the same wherever they appear. `rows`, if given, is the number of rows of a matrix
    and of sequences instead, where that is unknown. `weights` is the number of floats in all constants, which a run reads.
    `products` are the results of products that one node alone reads: both providers compute an activation together with these.
    """

    graph: Graph
    isa: Isa
    open_sizes: Mapping[str, int]
    rows: int | None = None
    weights: int = 0
    products: frozenset[str] = frozenset()

    def sizes(self, name: str) -> tuple[int, ...]:
        """Return the shape of a value with nominal sizes for unknown ones."""
        return tuple(self.size(d, axis, len(shape)) for shape in (shape_of(self.graph, name),) for axis, d in enumerate(shape))

    def size(self, d: int | str | None, axis: int, rank: int) -> int:
        """Return the size of a dimension, an assumed one if it is unknown."""
        if isinstance(d, int) and d >= 0:
            return d
        if rank <= 2 and self.rows is not None:
            return self.rows
        return self.open_sizes[d] if isinstance(d, str) and d in self.open_sizes else nominal_size(axis, rank)

    def with_rows(self, rows: int | None) -> Setting:
        """Return the setting with another number of rows."""
        return replace(self, rows=rows)


def nominal_size(axis: int, rank: int) -> int:
    """Return what stands in for an unknown size, by its place in a shape."""
    if rank <= 2:
        return NOMINAL_ROWS
    return NOMINAL_BATCH if axis == 0 else NOMINAL_SPATIAL if rank > 3 else NOMINAL_ROWS


def kinds_of_work() -> tuple[list[str], list[str]]:
    """Return the names of all rates, ONNX Runtime's and ours."""
    levels = ("", "_shared", "_far")
    names = ((ORT_WORK, ORT_MOVED), (OUR_WORK, OUR_MOVED))
    theirs, ours = ([*plain, *(f"{name}{level}" for name in (*moving, *BOTH_MOVED) for level in levels)] for plain, moving in names)
    return theirs, ours


def moved(name: str, floats: float, among: float | None = None) -> Amounts:
    """Return floats that are read or written, by the cache that holds the floats `among` which they stand, themselves without."""
    among = floats if among is None else among
    return {name if among <= NEAR_FLOATS else f"{name}_shared" if among <= SHARED_FLOATS else f"{name}_far": floats}


@lru_cache(1024)
def convolution(
    isa: Isa,
    weights: int,
    x: tuple[int, ...],
    whole: tuple[int, ...],
    weight: tuple[int, ...],
    y: tuple[int, ...],
    window: Window,
    groups: int,
) -> Estimate:
    """Return the work of a Conv of these shapes; `weights` as in `Setting`.

    `whole` is the weight of the model; `weight` and `window` are what is left of it without the taps that never meet the image.
    """
    ort = ort_convolution(isa.lanes, weights, x, whole, y, window, groups)
    outputs, pixels = math.prod(y), math.prod(y[2:])
    if groups > 1 and weight[1] == 1:
        return Estimate(ort, depthwise(isa, x, weight, y, window), floats=math.prod(x) + outputs)
    if pixels == 1 and math.prod(weight[2:]) == 1 and groups == 1:
        # each image reads the weights
        one = matrix_product(isa, weights, 1, weight[1], weight[0], math.prod(weight))
        apart, dense = scaled(one.apart, y[0]), scaled(one.dense, y[0])
        return Estimate(ort, one.ours, apart, dense=dense, rows=scaled(one.rows, y[0]), floats=0, macs=one.macs * y[0])
    vectors, tiles = y[0] * math.ceil(pixels / isa.lanes), y[0] * math.ceil(pixels / isa.lanes / isa.widest(APART))
    width, tile = x[-1], min(isa.lanes * isa.widest(APART), math.ceil(pixels / isa.lanes) * isa.lanes)
    pitch = pitch_bound(window, width)
    size = math.prod(weight)
    segments, _, _ = tap_layout(window, width, tile, PRUNED * size / weight[1])
    per_channel = sum(tile + reach_y * pitch + reach_x for *_, reach_y, reach_x in segments)
    kind = "nonzero" if max(window.kernel) == 1 else "window"
    blocks = math.ceil(weight[1] * per_channel / BLOCK_FLOATS)
    return Estimate(
        ort,
        {
            "step": 1,
            "row_tile": weight[0] * tiles,
            **moved("row_vector", weight[0] * vectors * blocks, outputs),
            **moved("gathered", tiles * weight[1] * groups * per_channel),
            **moved("stored", outputs),
        },
        {f"{kind}_tile": size * tiles, f"{kind}_vector": size * vectors},
        {"shared_vector": size * vectors},
        floats=0,
        macs=size * vectors * isa.lanes,
    )


def depthwise(isa: Isa, x: tuple[int, ...], weight: tuple[int, ...], y: tuple[int, ...], window: Window) -> Amounts:
    """Return our work of a depthwise convolution: output by output, by strips or by rows, or with an output in each lane."""
    outputs, taps, stride = math.prod(y), math.prod(weight[2:]), max(window.stride)
    fixed = {"step": 1, **moved("depthwise_float", math.prod(x) + outputs)}
    wide = weight[2:] == (3, 3) and (stride == 1 or (stride == 2 and max(window.dilation) == 1)) and 2 * (x[-1] - 2) > 3 * isa.lanes
    if goes_by_strips(isa, x, weight, y, window, wide):
        strips = math.prod(y[:2]) * math.ceil(y[-1] / isa.lanes)
        return {"depthwise_strip": strips, "depthwise_strip_tap": strips * y[-2] * taps, **fixed}
    if wide:
        return {"depthwise_wide_output" if stride == 1 else "depthwise_wide_strided_output": outputs, **fixed}
    lanes = math.ceil(y[1] / isa.lanes) * isa.lanes / y[1] * outputs
    return {"depthwise_tap": lanes * taps, "depthwise_output": lanes, **fixed}


def goes_by_strips(isa: Isa, x: tuple[int, ...], weight: tuple[int, ...], y: tuple[int, ...], window: Window, wide: bool) -> bool:
    """Return whether a depthwise convolution goes down planes, as `depthwise_way` of the kernels chooses for whole planes."""
    side, stride, vectors = weight[-1], window.stride[-1], y[-1] / isa.lanes
    square = weight[2:] == (side, side) and window.stride == (stride, stride) and max(window.dilation) == 1
    if not square or (side, stride) not in {strip[:2] for strip in STRIPS}:
        return False
    top, left = window.pad_begin if window.auto_pad == AutoPad.EXPLICIT else ((side - stride) // 2,) * 2
    if top > side - stride:
        return False
    centred = stride == 1 and left == side // 2
    if not isa.features:
        return side == 3 and 3 <= vectors <= 6
    if side == 3:
        return 0.4 <= vectors <= 6 and (y[-2] >= 7 or not wide)
    return centred and (0.8 <= vectors < 1 or isa.lanes + left <= y[-1] <= 2 * isa.lanes)


def ort_convolution(
    lanes: int, weights: int, x: tuple[int, ...], weight: tuple[int, ...], y: tuple[int, ...], window: Window, groups: int
) -> Amounts:
    """Return ONNX Runtime's work of a Conv of these shapes, on a CPU with vectors of so many lanes; the others as in `convolution`."""
    block, (m, c), floats = max(lanes, LEAST_BLOCK), weight[:2], math.prod(x) + math.prod(y)
    if is_blocked(block, x, weight, groups):
        outputs = y[0] * math.ceil(m / block) * block * taps_inside(window, x[2:], y[2:])  # taps beside the image are skipped
        if groups > 1 and c == 1:
            return {"node": 1, "depthwise_tap": outputs, "depthwise_row": math.prod(y[:3]), **moved("depthwise_float", floats)}
        kind, inputs = ("conv", math.ceil(c / block) * block) if c >= block else ("first_conv", c)
        work: dict[str, float] = {f"{kind}_mac": outputs * inputs}
    else:
        macs = math.prod(y) * math.prod(weight[1:])
        work = {"grouped_mac" if groups > 1 else "im2col_mac": macs}
        if max(window.kernel) > 1 or max(window.stride) > 1 or max(*window.pad_begin, *window.pad_end) > 0:
            rows = math.prod(y[:-1]) * math.prod(weight[1:]) * groups / m
            work |= {"expanded" if window.stride[-1] == 1 else "expanded_strided": rows * y[-1], "expanded_row": rows}
    return {"node": 1, **work, **moved("float", floats), **moved("weight", math.prod(weight), weights)}


def is_blocked(block: int, x: tuple[int, ...], weight: tuple[int, ...], groups: int) -> bool:
    """Return whether ONNX Runtime runs a Conv in its layout of blocks of so many channels, which it fills up with zeros."""
    m, c = weight[:2]
    if len(x) != 4:
        return False
    if groups == 1:
        return c < block or c % ALIGNED == 0
    return m % ALIGNED == 0 if c == 1 and m == groups else c % block == 0 and m // groups % block == 0


def taps_inside(window: Window, image: tuple[int, ...], output: tuple[int, ...]) -> int:
    """Return how many taps of all output pixels together stand inside the image."""
    inside = 1
    for axis, (size, count) in enumerate(zip(image, output, strict=True)):
        stride, starts = window.stride[axis], range(window.kernel[axis])
        begins = [k * window.dilation[axis] - window.pad_begin[axis] for k in starts]
        inside *= sum(max(0, min(count, -((begin - size) // stride)) - max(0, -(begin // stride))) for begin in begins)
    return inside


@lru_cache(1024)
def matrix_product(isa: Isa, weights: int, rows: int, depth: int, outputs: int, size: int) -> Estimate:
    """Return the work of (rows, depth) times a constant of `size` weights, which gives (rows, outputs); `weights` as in `Setting`."""
    ort, splits = ort_matrix_product(isa.lanes, weights, rows, depth, outputs, size), rows * size >= ORT_SPLIT_MACS
    vectors, ours = math.ceil(rows / isa.lanes), {"step": 1, **moved("rows_gathered", rows * depth)}
    if vectors <= FEW_VECTORS:
        each = widened(isa.lanes, outputs, size) / isa.lanes
        apart = moved("few_rows", each * isa.nonzero_cost(rows), weights)
        # what memory adds beyond the caches, the rate says
        dense = moved("few_rows_dense", each * isa.dense_cost(rows, min(size, FAR_BYTES // 4)), weights)
        ours |= {"few_rows_several": rows > 1, "few_rows_vectors": vectors > 1}
        each_row = {"few_rows_output": outputs * vectors}
        return Estimate(ort, ours, apart, dense=dense, rows=each_row, ort_splits=splits, floats=0, macs=size * rows)
    tiles = math.ceil(vectors / isa.widest(APART))
    blocks = math.ceil(depth * min(vectors, isa.widest(APART)) * isa.lanes / BLOCK_FLOATS)
    ours |= {"row_tile": outputs * tiles, **moved("rows_row_vector", outputs * vectors * blocks, rows * outputs)}
    apart, shared = {"rows_tile": size * tiles, "rows_vector": size * vectors}, {"shared_vector": size * vectors}
    return Estimate(ort, ours, apart, shared, ort_splits=splits, floats=0, macs=size * vectors * isa.lanes)


def ort_matrix_product(lanes: int, weights: int, rows: int, depth: int, outputs: int, size: int) -> Amounts:
    """Return ONNX Runtime's work of the same product, on a CPU with vectors of so many lanes."""
    wide = widened(lanes, outputs, size)
    if rows == 1:
        return {"node": 1, **moved("one_row_weight", wide, weights)}
    floats = moved("float", rows * (depth + outputs))
    if rows <= 16:
        passes = math.ceil(rows / (2 if lanes < 8 else 6))  # its kernels compute so many rows with one pass over the weights
        return {"node": 1, **moved("few_rows_mac", rows * wide, weights), **moved("few_rows_weight", passes * wide, weights), **floats}
    return {"node": 1, **moved("gemm_mac", rows * wide, weights), **moved("weight", size, weights), **floats}


def widened(lanes: int, outputs: int, size: int) -> float:
    """Return the `size` of a matrix as if it had NARROW vectors of outputs at least, because fewer take as long."""
    return size * max(1.0, NARROW * lanes / max(outputs, 1))


def shared(work: Amounts) -> Amounts:
    """Return the work of a node or step that several threads share; what has none of its own, as a fused activation, shares another's."""
    return combined(work, {"section": 1}) if "node" in work or "step" in work else work


def scaled(work: Amounts, times: float) -> Amounts:
    """Return `times` some work."""
    return {name: times * amount for name, amount in work.items()}


def combined(first: Amounts, second: Amounts) -> Amounts:
    """Return the sum of some work and other work."""
    return {name: first.get(name, 0.0) + second.get(name, 0.0) for name in {**first, **second}}


def elementwise(name: str, amount: float) -> Estimate:
    """Return the work of a node that takes `amount` times the rate `name` with either provider."""
    return without_weights({"node": 1, **moved(name, amount)}, {"step": 1, **moved(name, amount)}, amount)


def without_weights(ort: Amounts, ours: Amounts, results: float) -> Estimate:
    """Return the work of a node without weights that makes so many results of as many floats."""
    return Estimate(ort, ours, ort_splits=results >= ORT_SPLIT_RESULTS, floats=2 * results)


def activation(setting: Setting, node: Node, name: str, free: bool) -> Estimate:
    """Return the work of an activation, which takes the rate `name` per element, and less as part of a product.

    `free` says that ONNX Runtime's products do it without taking longer.
    """
    elements = math.prod(setting.sizes(node.outputs[0]))
    amounts = moved(name, elements)
    if node.inputs[0] not in setting.products:
        return without_weights({"node": 1, **amounts}, {"step": 1, **amounts}, elements)
    ort, ours = activation_work(name, elements, free)
    return without_weights(ort if name == "clamp" else {"node": 1, **ort}, ours, elements)


def activation_work(name: str, elements: int, free: bool) -> tuple[Amounts, Amounts]:
    """Return the work of an activation within a product, ONNX Runtime's and ours; the arguments are those of `activation`."""
    if name == "clamp":
        return NONE if free else moved("clipped", elements), NONE
    return moved(name, elements), moved(name, elements)


def work_of(name: str) -> Callable[[Setting, Node], Estimate]:
    """Return the estimate of a node that takes the rate `name` per element of its result with either provider."""

    def estimate(setting: Setting, node: Node) -> Estimate:
        return elementwise(name, math.prod(setting.sizes(node.outputs[0])))

    return estimate


copied = work_of("copied")


def no_work(setting: Setting, node: Node) -> Estimate:
    """Return the estimate of a node that moves no data."""
    return without_weights({"node": 1}, NONE, 0)


def nothing(setting: Setting, node: Node) -> Estimate:
    """Return the estimate of a node that computes a few numbers, which no decision is made for."""
    return without_weights(NONE, NONE, 0)


def one_count(graph: Graph, node: Node) -> tuple[int | None, ...]:
    """Return None as the only number of rows to judge by: no other sizes than the nominal ones."""
    return (None,)


def no_open_sizes(graph: Graph, node: Node) -> Mapping[str, int]:
    """Return no sizes: the operator does not tell what its symbols stand for."""
    return {}


def open_sizes_of(shape: tuple[int | str | None, ...], sizes: Iterable[int]) -> dict[str, int]:
    """Return the symbols in a shape with their sizes."""
    return {d: size for d, size in zip(shape, sizes, strict=False) if isinstance(d, str)}
