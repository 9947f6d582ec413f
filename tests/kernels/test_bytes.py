"""Kernels for bytes of every set against int64 and numpy: equal, whatever the weights, the activations and the order of packing."""

import numpy as np
import pytest

from onnxruntime_ep_sparse_kernels import call_bytes
from onnxruntime_ep_sparse_kernels.pack import compress
from onnxruntime_ep_sparse_kernels.pack_bytes import count_blocks, pack_blocks, pack_quads
from onnxruntime_ep_sparse_kernels.quantised import Out
from support.kernel_sets import BYTE_SETS, byte_table_of

SETS = [pytest.param(row, id=row.name) for row in BYTE_SETS]
WIDTH = 640
LENGTHS = (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 65, 130)
RUNS = (*((3 * i % 8, 2 * sum(LENGTHS[:i]), length) for i, length in enumerate(LENGTHS)), (-1, 1, 1), (-1, 3, 3))
"""Source or -1, target and length: around the widths of words and of vectors."""
KERNELS = [pytest.param(row, form, id=f"{row.name}_{form}") for row in BYTE_SETS for form in ("quads", "blocks", "few")]


def weights(rng, rows, depth, density, extreme=False):
    """A pruned matrix of 8-bit weights; one row in three is empty unless it is dense. `extreme`: only -128, -127 and 127."""
    dense = rng.choice([-128, -127, 127], (rows, depth)) if extreme else rng.integers(-128, 128, (rows, depth))
    kept = rng.random((rows, depth)) < density
    if density < 1:
        kept[::3] = False
    return np.where(kept, dense, 0)


class Case:
    """Weights, activations and bias, packed as quads or as blocks of four channels, with K cut at `cuts`."""

    def __init__(self, row, form, weight__mk, *, seed=0, high=256, cuts=()):
        rng = np.random.default_rng(seed)
        self.table, self.form, self.blocks = byte_table_of(row), form, form != "quads"
        self.width = call_bytes.pixels(self.table, form)
        self.weight__mk = weight__mk
        rows, depth = weight__mk.shape
        self.x__kp = (
            rng.integers(0, high, (depth, self.width)).astype(np.uint8) if high > 1 else np.full((depth, self.width), 255, np.uint8)
        )
        self.bias__m = rng.integers(-(2**20), 2**20, rows).astype(np.int32)
        self.scale__m = (rng.random(rows) * 2**-12).astype(np.float32)
        columns = -(-depth // 4) if self.blocks else depth
        self.cuts = [0, *(min(columns, cut) for cut in cuts), columns]

    def run(self, out=Out.SUMS, **how):
        """The results of the kernel."""
        matrix = compress(self.weight__mk.astype(np.float32))
        bounds = np.array(self.cuts, np.int64)
        row_start__bg, row__bgr, k__nc, value__nr = pack_blocks(matrix, 1, bounds) if self.blocks else pack_quads(matrix, bounds)
        offset__nc = np.zeros(k__nc.shape, np.uint16)
        tiles = []
        for b, (begin, end) in enumerate(zip(self.cuts, self.cuts[1:], strict=False)):
            entries = slice(row_start__bg[b, 0], row_start__bg[b, -1])
            offset__nc[entries] = (k__nc[entries].astype(int) - begin) * self.width
            assert not k__nc[entries].size or begin <= k__nc[entries].min() <= k__nc[entries].max() <= max(begin, end - 1)
            tiles.append(self.tile(begin, end))
        return call_bytes.spmm(
            self.table, self.form, row_start__bg, row__bgr, offset__nc, value__nr, tiles, self.bias__m, self.scale__m, out, **how
        )

    def tile(self, begin, end):
        """Rows of x for columns [begin, end), as the kernels read them. One vector more, for rows without weights in an empty block."""
        if not self.blocks:
            return np.concatenate([self.x__kp[begin:end].reshape(-1), np.zeros(self.width, np.uint8)])
        fours = np.zeros((4 * (end - begin), self.width), np.uint8)
        part = self.x__kp[4 * begin : 4 * end]
        fours[: len(part)] = part
        dwords = fours.reshape(-1, 4, self.width).transpose(0, 2, 1).copy().view(np.int32)
        return np.concatenate([dwords.reshape(-1), np.zeros(self.width, np.int32)])

    def sums(self):
        """The sums as int64."""
        return self.weight__mk.astype(np.int64) @ self.x__kp.astype(np.int64) + self.bias__m[:, None]


@pytest.mark.parametrize(("row", "form"), KERNELS)
@pytest.mark.parametrize("density", [0, 0.1, 0.5, 1])
def test_sums(row, form, density):
    """From empty to dense; odd numbers of rows and all remainders of K."""
    rng = np.random.default_rng(1)
    for rows, depth in ((1, 1), (2, 2), (3, 7), (9, 37), (33, 64), (40, 130)):
        case = Case(row, form, weights(rng, rows, depth, density))
        np.testing.assert_array_equal(case.run(), case.sums())


@pytest.mark.parametrize(("row", "form"), KERNELS)
def test_extreme_weights(row, form):
    """No sum of two products saturates: weights of -128 and 127 times activations of 255."""
    rng = np.random.default_rng(2)
    for sign in (0, 1, -1):
        weight__mk = weights(rng, 16, 61, 0.6, extreme=True)
        weight__mk = weight__mk if not sign else np.where(np.sign(weight__mk) == sign, weight__mk, 0)
        case = Case(row, form, weight__mk, high=1)
        np.testing.assert_array_equal(case.run(), case.sums())


@pytest.mark.parametrize(("row", "form"), KERNELS)
def test_blocks_of_depth(row, form):
    """A product cut along K continues from its sums; blocks may be empty."""
    rng = np.random.default_rng(3)
    weight__mk = weights(rng, 35, 90, 0.3)
    for cuts in ((1, 5), (0, 7, 7), (20, 21, 22)):
        case = Case(row, form, weight__mk, cuts=cuts)
        np.testing.assert_array_equal(case.run(), case.sums())


def quantised(sums, scale__m, zero, low, high, divisor=1.0):
    """The results as ONNX Runtime computes them: float32 product, clamp, half to even, zero point."""
    with np.errstate(over="ignore"):
        scaled = sums.astype(np.float32) * scale__m[:, None] / np.float32(divisor)
    return np.rint(np.clip(scaled, np.float32(low - zero), np.float32(high - zero))).astype(np.int64) + zero


@pytest.mark.parametrize(("row", "form"), KERNELS)
@pytest.mark.parametrize("signed", [False, True])
def test_bytes(row, form, signed):
    """Requantised to u8 and s8 with the zero points at both ends and within; narrower bounds, as of Relu6; scales that overflow int32.

    With a divisor as well.
    """
    rng = np.random.default_rng(4)
    least, most = (-128, 127) if signed else (0, 255)
    case = Case(row, form, weights(rng, 20, 50, 0.4))
    case.scale__m[:4] = 1e-9, 1.0, 1e6, 1e30
    for zero, divisor in ((least, 1.0), (most, 1.0), (least + 77, 1.0), (least, 0.37), (least + 77, 1e-30)):
        for low, high in ((least, most), (max(least, zero), min(most, zero + 31))):
            result = case.run(Out.BYTES, zero=zero, low=low, high=high, signed=signed, divisor=divisor)
            assert result.dtype == (np.int8 if signed else np.uint8)
            np.testing.assert_array_equal(result, quantised(case.sums(), case.scale__m, zero, low, high, divisor))


@pytest.mark.parametrize(("row", "form"), KERNELS)
def test_ties(row, form):
    """Halves are rounded to even, in both directions from zero."""
    case = Case(row, form, np.ones((8, 1), np.int64))
    case.bias__m = np.arange(-300, 300, 75).astype(np.int32)
    case.scale__m = np.full(8, 0.5, np.float32)
    sums = case.sums()
    assert (sums % 2 == 1).any()
    np.testing.assert_array_equal(case.run(Out.BYTES, zero=100), quantised(sums, case.scale__m, 100, 0, 255))


@pytest.mark.parametrize(("row", "form"), KERNELS)
def test_floats(row, form):
    """Sums beyond 2**24 are rounded once on the way to float32, and their product with the scale once."""
    rng = np.random.default_rng(5)
    case = Case(row, form, weights(rng, 7, 2100, 1), high=1)
    case.weight__mk = np.abs(case.weight__mk) % 128
    assert case.sums().max() > 2**24
    np.testing.assert_array_equal(case.run(Out.FLOATS), case.sums().astype(np.int32).astype(np.float32) * case.scale__m[:, None])


def pairs_of(value__nr):
    """The weights of all pairs, int (n, 2)."""
    return np.ascontiguousarray(value__nr).view(np.int8).reshape(-1, 2).astype(int)


@pytest.mark.parametrize("form", ["quads", "blocks"])
@pytest.mark.parametrize("extreme", [False, True])
def test_pairs_are_safe(form, extreme):
    """Two products of a pair always fit 16 bits, and no weight is lost."""
    rng = np.random.default_rng(6)
    weight__mk = weights(rng, 30, 120, 0.3, extreme=extreme)
    matrix = compress(weight__mk.astype(np.float32))
    if form == "quads":
        _, _, _, value__nr = pack_quads(matrix, np.array([0, 64, 120]))
    else:
        row_start__bg, _, _, value__nr = pack_blocks(matrix, 1, np.array([0, 13, 30]))
        assert count_blocks(matrix, 1) <= value__nr.size
        assert count_blocks(matrix, 1) >= (np.count_nonzero(weight__mk.reshape(30, 30, 4).any(axis=2)))
        assert row_start__bg[-1, -1] == len(value__nr)
    pairs__n2 = pairs_of(value__nr)
    opposite = pairs__n2[:, 0] * pairs__n2[:, 1] <= 0
    assert (opposite | (np.abs(pairs__n2).sum(axis=1) <= 128)).all()
    assert sorted(pairs__n2[pairs__n2 != 0]) == sorted(weight__mk[weight__mk != 0])


def test_few_zeros_are_added():
    """Weights of both signs in turn, and small ones of one sign, need no zeros beside them."""
    turn = np.where(np.arange(64) % 2, 127, -128)[None]
    for weight__mk in (turn, np.full((1, 64), 64)):
        row_start__bg, _, _, _ = pack_quads(compress(weight__mk.astype(np.float32)), np.array([0, 64]))
        assert row_start__bg[-1, -1] == 16


def test_taps_of_blocks():
    """Blocks are four channels at the same tap, which are as many columns apart as there are taps; channels that lack are zeros."""
    weight__mck = np.zeros((1, 6, 9), int)
    weight__mck[0, 1, 4], weight__mck[0, 3, 4], weight__mck[0, 5, 8] = 5, -7, 9
    _, _, k__nc, value__nr = pack_blocks(compress(weight__mck.reshape(1, -1).astype(np.float32)), 9, np.array([0, 18]))
    assert k__nc[:, 0].tolist() == [4, 17]
    assert value__nr[:, 0].copy().view(np.int8).reshape(-1, 4).tolist() == [[0, 5, 0, -7], [0, 9, 0, 0]]


@pytest.mark.parametrize("weight", [128, -129, 0.5, np.nan, np.inf])
def test_other_weights(weight):
    """A weight that is not an integer of 8 bits is an error."""
    matrix = compress(np.array([[1, weight]], np.float32))
    for pack in (lambda: pack_quads(matrix, np.array([0, 2])), lambda: pack_blocks(matrix, 1, np.array([0, 1]))):
        with pytest.raises(ValueError, match="is not an integer of 8 bits"):
            pack()


def test_wrong_arguments():
    """What the kernels cannot check, their caller does."""
    case = Case(BYTE_SETS[-2], "quads", np.ones((4, 9), int))
    case.bias__m = case.bias__m[:2]
    with pytest.raises(ValueError, match="row does not fit 2 rows"):
        case.run()
    case = Case(BYTE_SETS[-2], "quads", np.ones((4, 9), int))
    case.scale__m = None
    with pytest.raises(ValueError, match="every row needs a scale"):
        case.run(Out.FLOATS)
    with pytest.raises(ValueError, match="do not fit 4x9 weights"):
        pack_quads(compress(case.weight__mk.astype(np.float32)), np.array([0, 8]))


@pytest.mark.parametrize("row", SETS)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("blocks", "narrow"), [(False, False), (True, False), (True, True)])
def test_runs(row, stride, blocks, narrow):
    """Runs are copied, channel after channel or four channels together. What no run names stays; of blocks it may become zero points."""
    rng = np.random.default_rng(stride)
    for channels in (1, 4, 7, 9):
        x__cp, named = rng.integers(0, 256, (channels, 420)).astype(np.uint8), np.zeros(WIDTH, bool)
        runs = sorted((run for run in RUNS if run[2] < (16 if narrow else WIDTH)), key=lambda run: run[1]) if blocks else RUNS
        runs = [run for run, after in zip(runs, (*runs[1:], (0, WIDTH, 0)), strict=True) if not blocks or run[1] + run[2] <= after[1]]
        tile = call_bytes.gather(byte_table_of(row), x__cp, runs, WIDTH, stride, 201, blocks)
        expected = np.full((-(-channels // 4) * 4 if blocks else channels, WIDTH), 77, np.uint8)
        if blocks:
            expected = np.zeros((4 * len(tile), WIDTH), np.uint8)
            expected[::4] = 77  # the lowest byte of an int32
            x__cp = np.concatenate([x__cp, np.repeat(x__cp[-1:], 4 * len(tile) - channels, axis=0)])
        for source, target, length in runs:
            part = x__cp[:, source : source + length * stride : stride] if source >= 0 else 201
            expected[:, target : target + length] = part
            named[target : target + length] = True
        found = tile.view(np.uint8).reshape(len(tile), WIDTH, 4).transpose(0, 2, 1).reshape(-1, WIDTH) if blocks else tile
        if blocks:
            between = found[:, ~named]
            assert ((between == expected[:, ~named]) | (between == 201)).all()
            found, expected = found[:, named], expected[:, named]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("row", SETS)
def test_rows(row):
    """Matrices are transposed both ways, whatever remains of 16 bytes and of a unit."""
    rng = np.random.default_rng(0)
    for rows, depth in ((1, 1), (3, 16), (16, 17), (33, 40), (65, 31), (130, 48)):
        x__rk = rng.integers(0, 256, (rows, depth)).astype(np.uint8)
        tile__kp = call_bytes.gather_rows(byte_table_of(row), x__rk)
        np.testing.assert_array_equal(tile__kp[:, :rows], x__rk.T)
        assert (tile__kp[:, rows:] == x__rk[-1][:, None]).all()
        np.testing.assert_array_equal(call_bytes.scatter_rows(byte_table_of(row), tile__kp, rows), x__rk)
