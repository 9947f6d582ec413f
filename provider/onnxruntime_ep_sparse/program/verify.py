"""Whether a program that comes from a file may be run: all that the C side relies upon, which `pipeline.py` gives by construction.

Numbers of values, ranks, windows, tables of taps, packed weights, cells. What depends on the shapes of the inputs is checked when a plan is
made, in C; the ranks found here are what that relies upon.
"""

from __future__ import annotations

import math
from itertools import pairwise
from itertools import product as cartesian

import numpy as np

from onnxruntime_ep_sparse_kernels.isa import APART, SHARED, STRIP

from .enums import Cell, ShapeRule, StepKind
from .limits import MAX_BLOCK, MAX_HIDDEN, MAX_RANK, MAX_SCALE, MAX_SIZE, MAX_WINDOW
from .separable import separates
from .steps import Depthwise, GatherGroup, Panel, Product, ProgramSpec, Recurrent, Step, Window
from .windows import check_pool, check_window

GATES: dict[Cell, tuple[tuple[int, ...], ...]] = {Cell.LSTM: ((4,),), Cell.GRU: ((3,), (2, 1)), Cell.RNN: ((1,),)}
"""Gates of each phase, in every way that a cell can have."""
VALUES_PER_PART = 16
"""Numbers of values that a step, input or constant may stand for: fused nodes leave some unused."""


def check(program: ProgramSpec) -> None:
    """ValueError that names the first step and what is wrong with it."""
    values = _Values(program)
    for i, step in enumerate(program.steps):
        try:
            _check_step(step, values, i)
        except ValueError as error:
            raise ValueError(f"step {i} ({step.name[:80]}): {error}") from None
    outputs = list(program.outputs.values())
    require(all(v in values.made for v in outputs) and len(set(outputs)) == len(outputs), "outputs that no step makes, or twice the same")
    if program.separable:
        require(all(separates(step, program.constants, values.ranks) for step in program.steps), "the batch cannot be cut")


def require(holds: bool, message: str) -> None:
    """ValueError with this message unless it holds."""
    if not holds:
        raise ValueError(message)


class _Values:
    """The ranks of the values that are known by now; every value is made once, and read only afterwards."""

    def __init__(self, program: ProgramSpec) -> None:
        inputs, constants = list(program.inputs.values()), program.constants
        parts = len(inputs) + len(constants) + len(program.steps)
        require(0 < program.n_values <= VALUES_PER_PART * parts, f"{program.n_values} values in {parts} inputs, constants and steps")
        require(len(program.outputs) > 0, "a program without outputs")
        self.n_values = program.n_values
        self.constants = constants
        self.ranks: dict[int, int] = {}
        self.made: set[int] = set()
        self.projected: dict[int, int] = {}
        """Values that products of matrices make, and their rows."""
        self.joined: dict[int, tuple[int, int]] = {}
        """Rank and axis of results of Concat that are not complete."""
        self.complete = {step.y: i for i, step in enumerate(program.steps) if step.kind == StepKind.CONCAT}
        require(len(program.ranks) == len(inputs), f"{len(program.ranks)} ranks of {len(inputs)} inputs")
        for value, rank in zip(inputs, program.ranks, strict=True):
            self.define(value, rank)
        for value, array in constants.items():
            require(math.prod(max(d, 1) for d in array.shape) <= MAX_SIZE, f"a constant has the shape {array.shape}")
            self.define(value, array.ndim)
        self.made.clear()

    def define(self, value: int, rank: int) -> None:
        """A value that was not there before."""
        fresh = value not in self.ranks and value not in self.joined
        require(fresh and 0 <= value < self.n_values, f"value {value} is made twice or is none")
        require(0 <= rank <= MAX_RANK, f"value {value} has {rank} dimensions, at most {MAX_RANK} are supported")
        self.ranks[value] = rank
        self.made.add(value)

    def rank(self, value: int) -> int:
        """Of a value that is read."""
        require(value in self.ranks, f"value {value} is read before it is made")
        return self.ranks[value]


def _check_step(step: Step, values: _Values, index: int) -> None:
    kind, x = step.kind, values.rank(step.x)
    takes_second = kind in (StepKind.PRODUCT, StepKind.DEPTHWISE, StepKind.BINARY, StepKind.NORMALIZE)
    require(takes_second or step.r == -1, "a second operand")
    r = values.rank(step.r) if step.r != -1 else None
    weights = {StepKind.PRODUCT: Product, StepKind.DEPTHWISE: Depthwise}.get(kind, type(None))
    require(isinstance(step.product, weights), "weights of another kind of step, or none")
    require((step.recurrent is None) == (kind != StepKind.RECURRENT), "a cell of another kind of step, or none")
    if kind == StepKind.CONCAT:
        _join(step, x, values, index)
        return
    rank = _RANK_OF[kind](step, x, r, values)
    require(kind not in (StepKind.PRODUCT, StepKind.DEPTHWISE) or r in (None, rank), "the addend has another rank than the product")
    values.define(step.y, rank)


def _join(step: Step, rank: int, values: _Values, index: int) -> None:
    """An operand of a Concat: the first begins the result, nobody reads that before the last."""
    require(0 <= step.axis < rank, f"axis {step.axis} of {rank} dimensions")
    if step.begins:
        require(step.y not in values.joined, "a Concat that begins twice")
        values.define(step.y, rank)
        del values.ranks[step.y]
        values.joined[step.y] = rank, step.axis
    require(values.joined.get(step.y) == (rank, step.axis), "operands of a Concat that do not fit")
    if values.complete[step.y] == index:
        del values.joined[step.y]
        values.ranks[step.y] = rank


# ranks of results, kind by kind


def _product(step: Step, x: int, r: int | None, values: _Values) -> int:
    product = step.product
    assert isinstance(product, Product)
    _check_product(product, step.window)
    if product.rule == ShapeRule.CONV:
        assert step.window is not None
        return _expect(x, len(step.window.kernel) + 2)
    if product.rule == ShapeRule.GEMM:
        return _expect(x, 2)
    require(x >= 1, "a matrix times a scalar")
    if product.rule == ShapeRule.MATMUL_RIGHT and not product.vector_operand:
        values.projected[step.y] = product.m
    return max(x - 2, len(product.batch), 0) + (x > 1) + (not product.vector_operand)


def _depthwise(step: Step, x: int, r: int | None, values: _Values) -> int:
    weights, window = step.product, step.window
    assert isinstance(weights, Depthwise)
    window = _proper(window)
    require(0 < weights.channels <= MAX_SIZE and 0 < weights.m <= MAX_SIZE, f"{weights.channels} channels, {weights.m} outputs")
    _shape(weights.value__mt, (weights.m, math.prod(window.kernel)), "the weights")
    _shape(weights.bias__m, (weights.m,), "the bias")
    return _expect(x, len(window.kernel) + 2)


def _pool(step: Step, x: int, r: int | None, values: _Values) -> int:
    require(step.window is not None, "a pool without a window")
    assert step.window is not None
    reason = check_pool(step.window)
    require(reason is None, str(reason))
    require(len(step.window.kernel) <= 2 and (step.is_max or not step.ceil_mode), "a pool of a form that is not supported")
    return _expect(x, len(step.window.kernel) + 2)


def _global_pool(step: Step, x: int, r: int | None, values: _Values) -> int:
    require(x >= 3, f"a pool over {x} dimensions")
    return x


def _same(step: Step, x: int, r: int | None, values: _Values) -> int:
    return x


def _binary(step: Step, x: int, r: int | None, values: _Values) -> int:
    require(r is not None, "one operand")
    return max(x, r or 0)


def _reshape(step: Step, x: int, r: int | None, values: _Values) -> int:
    if step.removed or step.inserted:
        axes, rank = step.removed or step.inserted, x + len(step.inserted)
        require(not (step.removed and step.inserted) and len(set(axes)) == len(axes), "axes that are there twice")
        require(all(0 <= axis < min(rank, MAX_RANK) for axis in axes), f"axes {axes} of {rank} dimensions")
        return rank - len(step.removed)
    if step.flatten_axis != -1:
        require(0 <= step.flatten_axis <= x, f"axis {step.flatten_axis} of {x} dimensions")
        return 2
    require(all(-1 <= d <= MAX_SIZE for d in step.target) and step.target.count(-1) <= 1, f"the shape {step.target[:9]}")
    return len(step.target)


def _pad(step: Step, x: int, r: int | None, values: _Values) -> int:
    require(len(step.before) == len(step.after) == x > 0, f"pads of {x} dimensions")
    require(all(0 <= n <= MAX_SIZE for n in step.before + step.after), "pads that are negative or too large")
    return x


def _resize(step: Step, x: int, r: int | None, values: _Values) -> int:
    require(step.resize is not None, "a Resize without sizes")
    assert step.resize is not None
    require(all(1 / MAX_SCALE <= scale <= MAX_SCALE for scale in step.resize.scale), f"scales {step.resize.scale}")
    require(all(-1 <= size <= MAX_SIZE for size in step.resize.size), f"sizes {step.resize.size}")
    return _expect(x, 4)


def _shuffle(step: Step, x: int, r: int | None, values: _Values) -> int:
    require(0 < step.block <= MAX_BLOCK, f"blocks of {step.block}")
    return _expect(x, 4)


def _normalize(step: Step, x: int, r: int | None, values: _Values) -> int:
    weights = values.constants.get(step.r)
    require(x > 0 and weights is not None and weights.ndim == 2 and len(weights) == 2, "factors and addends are not constant rows")
    return x


def _transpose(step: Step, x: int, r: int | None, values: _Values) -> int:
    require(sorted(step.target) == list(range(x)), f"{step.target[:9]} is no order of {x} dimensions")
    return x


def _recurrent(step: Step, x: int, r: int | None, values: _Values) -> int:
    cell = step.recurrent
    assert cell is not None
    _check_cell(cell)
    rows = len(cell.reverse) * sum(cell.gates) * cell.hidden
    require(x == 3 and values.projected.get(step.x) == rows, f"x is no projection to {rows} rows")
    for value, rank in ((cell.lengths, 1), (cell.initial_h, 3), (cell.initial_c, 3)):
        require(value == -1 or values.rank(value) == rank, f"value {value} does not have {rank} dimensions")
    for value in (cell.last_h, cell.last_c):
        if value != -1:
            values.define(value, 3)
    return 4


_RANK_OF = {
    StepKind.PRODUCT: _product,
    StepKind.POOL: _pool,
    StepKind.GLOBAL_POOL: _global_pool,
    StepKind.ACTIVATE: _same,
    StepKind.BINARY: _binary,
    StepKind.RESHAPE: _reshape,
    StepKind.PAD: _pad,
    StepKind.RESIZE: _resize,
    StepKind.SHUFFLE: _shuffle,
    StepKind.DEPTHWISE: _depthwise,
    StepKind.RECURRENT: _recurrent,
    StepKind.NORMALIZE: _normalize,
    StepKind.TRANSPOSE: _transpose,
}


def _expect(rank: int, expected: int) -> int:
    require(rank == expected, f"x has {rank} dimensions, {expected} are expected")
    return rank


def _shape(array: np.ndarray, expected: tuple[int, ...], what: str) -> None:
    require(array.shape == expected, f"{what} have the shape {array.shape}, {expected} is expected")


# packed weights


def _check_product(product: Product, window: Window | None) -> None:
    require(0 < product.m <= MAX_SIZE and 0 < product.channels <= MAX_SIZE, f"{product.m} outputs of {product.channels} channels")
    require(0 < product.max_vectors <= MAX_WINDOW, f"tiles of {product.max_vectors} vectors")
    _shape(product.bias__m, (product.m,), "the bias")
    rows = {ShapeRule.MATMUL_RIGHT: (True, True), ShapeRule.GEMM: (product.x_rows, product.y_rows)}.get(product.rule, (False, False))
    require((product.x_rows, product.y_rows) == rows, "operands in another order than their shapes say")
    require(bool(product.groups), "no weights")
    if product.rule == ShapeRule.CONV:
        require(not product.batch and not product.vector_operand, "a convolution with operands of MatMul")
        _check_taps(product, window)
        begin = 0
        for group in product.groups:
            require(group.panel.row_begin == begin, "rows that do not follow each other")
            begin += group.panel.rows
        require(begin == product.m, f"{begin} rows, {product.m} are expected")
    else:
        require(window is None, "a matrix with a window")
        pointwise = (product.segments, product.unit_segment, product.taps) == (((0, 0, 0, 0, 0),), (0, 1), ((0, 0, 0),))
        require(pointwise, "a matrix with taps")
        require(all(0 < d <= MAX_SIZE for d in product.batch) and len(product.batch) <= MAX_RANK - 2, f"matrices by {product.batch[:9]}")
        require(product.rule != ShapeRule.GEMM or not (product.batch or product.vector_operand), "Gemm with operands of MatMul")
        require(not product.vector_operand or (product.m == 1 and not product.batch), "a vector of several rows")
        require(len(product.groups) == math.prod(product.batch), f"{len(product.groups)} matrices, {product.batch} are expected")
        for i, group in enumerate(product.groups):
            whole = (group.panel.row_begin, group.panel.rows, group.channel_begin, group.channels)
            require(whole == (i * product.m, product.m, 0, product.channels), f"matrix {i} is a part of one")
    for group in product.groups:
        _check_group(group, product)


def _proper(window: Window | None) -> Window:
    reason = "none" if window is None else check_window(window)
    require(reason is None, f"a convolution without a proper window: {reason}")
    assert window is not None
    return window


def _check_taps(product: Product, window: Window | None) -> None:
    """Segments, units and taps are those of the window, in one of the forms that `packing.tap_layout` makes."""
    window = _proper(window)
    kernel, stride, dilation = ((1,) * (3 - len(window.kernel)) + v for v in (window.kernel, window.stride, window.dilation))
    count, units, segments = math.prod(kernel), len(product.unit_segment) - 1, product.segments
    require(len(product.taps) == count, f"{len(product.taps)} taps of a window of {count}")
    require(0 < units <= count and count % units == 0, f"{count} taps in {units} units")
    require(product.unit_segment[0] == 0 and product.unit_segment[-1] == len(segments) <= count, "units that do not hold all segments")
    require(all(a < b for a, b in pairwise(product.unit_segment)), "units without segments")
    reach = [(0, 0)] * len(segments)
    for i, (place, (segment, dy, dx)) in enumerate(zip(cartesian(*map(range, kernel)), product.taps, strict=True)):
        unit = i // (count // units)
        require(product.unit_segment[unit] <= segment < product.unit_segment[unit + 1], f"tap {i} is in another unit's segment")
        kd, y, x, _, _ = segments[segment]
        found = (kd, y + dy * stride[1], x + dx * stride[2])
        expected = (place[0], place[1] * dilation[1], place[2] * dilation[2])
        require(found == expected and dy >= 0 and dx >= 0 and y >= 0 and x >= 0, f"tap {i} reads {found}, not {expected}")
        reach[segment] = max(reach[segment][0], dy), max(reach[segment][1], dx)
    require(all(tuple(segment[3:]) == far for segment, far in zip(segments, reach, strict=True)), "segments that end elsewhere than taps")


def _check_group(group: GatherGroup, product: Product) -> None:
    units = len(product.unit_segment) - 1
    require(0 < group.channels <= product.channels, f"{group.channels} of {product.channels} channels")
    require(0 <= group.channel_begin <= product.channels - group.channels, f"channels from {group.channel_begin} on")
    require(len(group.bounds) > 1 and group.bounds[0] == 0 and group.bounds[-1] == group.channels * units, "blocks that are not all of K")
    require(all(a < b for a, b in pairwise(group.bounds)), "blocks that do not ascend")
    require(group.nonzeros >= 0 and group.weights >= 0, "a negative number of weights")
    per_unit = len(product.taps) // units
    _check_panel(group.panel, [bound * per_unit for bound in group.bounds])


def _check_panel(panel: Panel, bounds: list[int]) -> None:
    """Rows and columns of packed weights: entries block by block within `bounds`, all rows in every block, each in its strip."""
    rows, mr, blocks = panel.rows, panel.mr, len(bounds) - 1
    require(mr in (APART, SHARED) and 0 < rows <= MAX_SIZE, f"{rows} rows by {mr}")
    groups, entries = -(-rows // mr), panel.value__nr.size // mr
    _shape(panel.value__nr, (entries, mr), "the values")
    _shape(panel.k__nc, (entries, mr if mr == APART else 1), "the columns")
    _shape(panel.row_start__bg, (blocks, groups + 1), "the beginnings of rows")
    _shape(panel.row__bgr, (blocks, groups, mr), "the rows")
    start = panel.row_start__bg
    require(start[0, 0] == 0 and start[-1, -1] == entries and bool((start[1:, 0] == start[:-1, -1]).all()), "entries that are no row's")
    require(bool((start[:, 1:] >= start[:, :-1]).all()), "rows that do not follow each other")
    require(entries * mr <= MAX_SIZE, f"{entries} entries")
    order = panel.row__bgr.reshape(blocks, -1)
    own, place = order[:, :rows], np.arange(rows)
    in_strip = bool((own // STRIP == place // STRIP).all()) and bool((np.sort(own, axis=1) == place).all())
    require(in_strip and bool((order[:, rows:] == order[:, rows - 1 : rows]).all()), "rows that are missing, or not in their strip")
    for b in range(blocks):
        k = panel.k__nc[start[b, 0] : start[b, -1]]
        require(not k.size or bounds[b] <= int(k.min()) <= int(k.max()) < bounds[b + 1], f"columns outside block {b}")


# recurrent cells


def _check_cell(cell: Recurrent) -> None:
    directions, phases, hidden = len(cell.reverse), len(cell.gates), cell.hidden
    gates = GATES[cell.cell]
    require(directions in (1, 2) and cell.gates in gates, f"{cell.cell.name} with gates {cell.gates[:9]} in {directions} directions")
    require(0 < hidden <= MAX_HIDDEN, f"{hidden} hidden units")
    require(len(cell.activations) == 3 * directions, f"{len(cell.activations)} activations")
    require(len(cell.products) == directions * phases, f"{len(cell.products)} weights")
    require(cell.clip > 0, f"clipped to {cell.clip}")
    for i, product in enumerate(cell.products):
        _check_product(product, None)
        found = product.rule, product.m, product.channels, product.batch, product.vector_operand
        expected = ShapeRule.MATMUL_RIGHT, cell.gates[i % phases] * hidden, hidden, (), False
        require(found == expected, f"weights {found}, {expected} are expected")
    if cell.peephole__dgh is not None:
        require(cell.cell == Cell.LSTM, "peepholes are an LSTM's")
        _shape(cell.peephole__dgh, (directions, 3, hidden), "the peepholes")
    require((cell.late__dh is not None) == (cell.cell == Cell.GRU and phases == 1), "a late bias of another cell, or none")
    if cell.late__dh is not None:
        _shape(cell.late__dh, (directions, hidden), "the late bias")
