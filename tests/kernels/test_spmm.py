"""Every tile kernel of every instruction set against float64, and against each other bit for bit."""

import numpy as np
import pytest

from onnxruntime_ep_sparse_kernels import call
from onnxruntime_ep_sparse_kernels.isa import APART, SHARED
from onnxruntime_ep_sparse_kernels.pack import compress, pack
from support.kernel_sets import SETS, TILES, table_of

EPS = np.finfo(np.float32).eps
DEPTH = 37


def weights(rng, rows, depth, density):
    """A pruned matrix; one row in three is empty unless it is dense."""
    dense = rng.standard_normal((rows, depth)).astype(np.float32)
    kept = rng.random((rows, depth)) < density
    if density < 1:
        kept[::3] = False
    return np.where(kept, dense, np.float32(0))


class Case:
    """Weights, a tile in which entry k begins anywhere, bias and residual for `groups` row groups of `mr`."""

    def __init__(self, isa, mr, nv, groups, density, *, seed=0, blocks=(0, DEPTH), pixel=False):
        rng = np.random.default_rng(seed)
        rows, self.width, self.pixel = groups * mr, nv * isa.lanes + pixel, pixel
        self.table, self.mr, self.nv, self.blocks = table_of(isa), mr, nv, np.array(blocks, np.int64)
        self.weight__mk = weights(rng, rows, blocks[-1], density)
        self.place__k = rng.integers(0, 1000, blocks[-1]).astype(np.uint16)
        self.tile = rng.standard_normal(1000 + max(i.lanes * i.widest(APART) for i in SETS)).astype(np.float32)
        self.bias__m = rng.standard_normal(rows).astype(np.float32)
        self.residual__mp = rng.standard_normal((rows, self.width + 5)).astype(np.float32)

    def run(self, *, residual=False, low=-np.inf, high=np.inf, finish=True):
        """All K blocks, one call each; the columns beyond the kernel's width must stay as they were."""
        row_start__bg, row__bgr, k__nc, value__nr = pack(compress(self.weight__mk), self.blocks, self.mr)
        y__mp = np.full((len(self.weight__mk), self.width + 5), 4711, np.float32)
        for b, row_start in enumerate(row_start__bg):
            last = b == len(row_start__bg) - 1
            call.spmm(
                self.table, self.mr, self.nv, row_start, row__bgr[b], self.place__k[k__nc], value__nr, self.tile,
                self.bias__m if b == 0 else None, y__mp, self.residual__mp if residual else None, low, high, finish and last,
                pixel=self.pixel,
            )  # fmt: skip  # an argument per line would hide the call
        assert (y__mp[:, self.width :] == 4711).all()
        return y__mp[:, : self.width]

    def expected(self, *, residual=False, low=-np.inf, high=np.inf):
        """The same in float64, and the error that the project promises not to exceed."""
        x__kp = np.stack([self.tile[p : p + self.width] for p in self.place__k.astype(int)]).astype(np.float64)
        weight__mk, bias__m = self.weight__mk.astype(np.float64), self.bias__m.astype(np.float64)[:, None]
        y__mp = weight__mk @ x__kp + bias__m
        size__mp = np.abs(weight__mk) @ np.abs(x__kp) + np.abs(bias__m)
        if residual:
            y__mp = y__mp + self.residual__mp[:, : self.width]
            size__mp = size__mp + np.abs(self.residual__mp[:, : self.width])
        return np.clip(y__mp, low, high), 4 * EPS * np.sqrt(len(x__kp)) * size__mp

    def check(self, **how):
        """Run and compare."""
        expected, bound = self.expected(**how)
        assert (np.abs(self.run(**how) - expected) <= bound).all()


@pytest.mark.parametrize(("isa", "mr", "nv"), TILES)
@pytest.mark.parametrize("density", [0, 0.1, 0.5, 1])
def test_density(isa, mr, nv, density):
    """From empty to dense; one to nine row groups, because the narrow kernels take two groups at once."""
    for groups in range(1, 10):
        Case(isa, mr, nv, groups, density, seed=groups).check()


@pytest.mark.parametrize(("isa", "mr", "nv"), TILES)
def test_blocks(isa, mr, nv):
    """A product cut along K continues from y and gives the very bits of the whole; blocks may be empty."""
    for groups in (1, 6):
        whole = Case(isa, mr, nv, groups, 0.4).run()
        for blocks in ((0, 1, 20, DEPTH), (0, 0, 13, DEPTH, DEPTH)):
            assert Case(isa, mr, nv, groups, 0.4, blocks=blocks).run().tobytes() == whole.tobytes()


@pytest.mark.parametrize(("isa", "mr", "nv"), TILES)
def test_end_of_chain(isa, mr, nv):
    """Residual and clamp, together and alone; neither unless asked to finish."""
    for groups in (1, 5, 7):
        case = Case(isa, mr, nv, groups, 0.3)
        case.check(residual=True)
        case.check(low=0.0)
        case.check(low=-0.5, high=0.5)
        case.check(residual=True, low=0.0, high=1.0)
        assert case.run(residual=True, low=0.0, high=1.0, finish=False).tobytes() == case.run().tobytes()


@pytest.mark.parametrize(("isa", "mr", "nv"), TILES)
def test_residual_in_place(isa, mr, nv):
    """The result may be written over the residual, also where the last group of rows is computed twice."""
    for groups in (1, 2, 7):
        case = Case(isa, mr, nv, groups, 0.3)
        row_start__bg, row__bgr, k__nc, value__nr = pack(compress(case.weight__mk), case.blocks, mr)
        y__mp = case.residual__mp.copy()
        arguments = row_start__bg[0], row__bgr[0], case.place__k[k__nc], value__nr, case.tile, case.bias__m
        call.spmm(case.table, mr, nv, *arguments, y__mp, y__mp)
        assert y__mp[:, : case.width].tobytes() == case.run(residual=True).tobytes()
        assert y__mp[:, case.width :].tobytes() == case.residual__mp[:, case.width :].tobytes()


@pytest.mark.parametrize(("isa", "mr", "nv"), TILES)
def test_not_a_number(isa, mr, nv):
    """The clamp keeps NaN and bounds infinities."""
    case = Case(isa, mr, nv, 6, 1)
    case.tile[:] = np.nan
    assert np.isnan(case.run(low=0.0, high=1.0)).all()
    case.tile[:] = np.inf
    case.weight__mk[:] = 1
    case.weight__mk[-case.mr :] = -1
    y__mp = case.run(low=-2.0, high=3.0)
    assert (y__mp[: -case.mr] == 3).all()
    assert (y__mp[-case.mr :] == -2).all()


@pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("density", [0.1, 1])
def test_same_bits(isa, density):
    """Neither the width of a tile nor the grouping of rows changes a bit of the result."""
    widest = Case(isa, APART, isa.widest(APART), 6, density).run()
    for mr, nv in isa.tiles:
        case = Case(isa, mr, nv, 12 // mr, density)
        assert case.run().tobytes() == widest[:, : case.width].tobytes()


@pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("density", [0, 0.3, 1])
def test_one_pixel_more(isa, density):
    """The pixel behind the vectors gets the bits that it has as one of a vector, with K in one block or several."""
    for groups in (1, 6):
        case = Case(isa, SHARED, isa.pixel_vectors, groups, density, pixel=True)
        case.check(residual=True)
        case.check(residual=True, low=-0.5, high=0.5)
        wider = Case(isa, SHARED, isa.pixel_vectors + 1, groups, density).run()
        assert case.run().tobytes() == wider[:, : case.width].tobytes()
        cut = Case(isa, SHARED, isa.pixel_vectors, groups, density, pixel=True, blocks=(0, 0, 13, DEPTH)).run()
        assert cut.tobytes() == case.run().tobytes()
        case.tile[:] = np.nan
        assert density < 1 or np.isnan(case.run(low=0.0, high=1.0)).all()


@pytest.mark.parametrize(("isa", "mr", "nv"), TILES)
def test_farthest_offset(isa, mr, nv):
    """Offsets use all of their 16 bits."""
    case = Case(isa, mr, nv, 3, 0.5)
    case.tile = np.resize(case.tile, 65536 + case.width)
    case.place__k[::2] = 65535
    case.check()


def test_wrong_arguments():
    """What the kernels cannot check, their caller does."""
    isa = SETS[-2]
    case = Case(isa, APART, 2, 3, 0.5)
    with pytest.raises(ValueError, match="no kernel with MR=2, NV=9"):
        Case(isa, APART, 9, 3, 0.5).run()
    with pytest.raises(ValueError, match="no kernel with MR=2, NV=2 and a pixel"):
        Case(isa, APART, 2, 3, 0.5, pixel=True).run()
    case.tile = case.tile[:900]
    case.place__k[:] = 899
    with pytest.raises(ValueError, match="reads beyond the tile"):
        case.run()
    case.bias__m = case.bias__m[:2]
    with pytest.raises(ValueError, match="must have 6 rows"):
        case.run()
