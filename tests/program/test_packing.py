"""Packing: what is packed is the weight that was given, cut and ordered as the kernels want it, and taps read what a convolution reads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxruntime_ep_sparse.graph.nonzeros import Nonzeros
from onnxruntime_ep_sparse.program import packing
from onnxruntime_ep_sparse.program.enums import ShapeRule
from onnxruntime_ep_sparse.program.kinds.product import check_product
from onnxruntime_ep_sparse.program.steps import Window
from onnxruntime_ep_sparse_kernels.isa import APART, ISAS, SHARED, STRIP
from support.making import PATTERNS, examples, noise, pruned
from support.programs import Conv

ISA = ISAS[-1]
LANES = pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)


def dense_of(group, depth):
    """The rows of a panel as a dense matrix (rows, depth); every entry stands in the block that its column belongs to."""
    panel = group.panel
    matrix = np.zeros((panel.rows, depth), np.float32)
    for b, (row__gr, start__g) in enumerate(zip(panel.row__bgr, panel.row_start__bg, strict=True)):
        for g, rows in enumerate(row__gr):
            own = [r for r in range(panel.mr) if r == 0 or rows[r] != rows[r - 1]]
            for entry in range(start__g[g], start__g[g + 1]):
                for r in own:
                    k = panel.k__nc[entry, r if panel.mr == APART else 0]
                    assert group.bounds[b] <= k * (group.bounds[-1] / depth) < group.bounds[b + 1]
                    # an entry that only fills up is zero
                    matrix[rows[r], k] += panel.value__nr[entry, r]
    return matrix


def packed_matrix(weight, isa=ISA):
    """`packing.matrices` of one matrix."""
    product = packing.matrices([weight], None, ShapeRule.MATMUL_RIGHT, x_rows=True, y_rows=True, isa=isa)
    check_product(product)
    return product


def packed_convolution(conv, image, isa=ISA):
    """`packing.convolution` of a `Conv`; `image` as there."""
    rank, attributes = conv.weight.ndim - 2, conv.attributes
    pads = attributes.get("pads", (0,) * 2 * rank)
    sizes = [attributes.get(name, (1,) * rank) for name in ("strides", "dilations")]
    window = Window(conv.weight.shape[2:], *sizes, pads[:rank], pads[rank:])
    product = packing.convolution(conv.weight, conv.bias, window, attributes["group"], image, isa)
    check_product(product)
    return product


def convolved(product, x):
    """The convolution of x (channels, *spatial) in float64, from nothing but segments, taps and packed weights."""
    window, rank = product.window, x.ndim - 1
    x = np.pad(x.astype(np.float64), [(0, 0), *zip(window.pad_begin, window.pad_end, strict=True)])
    reach = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilation, strict=True)]
    out = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:], reach, window.stride, strict=True)]
    ones = (1,) * (3 - rank)
    x, size = x.reshape(len(x), *ones, *x.shape[1:]), (*ones, *out)
    stride, dilation = ones + window.stride, ones + window.dilation
    y = np.zeros((product.m, *size))
    for group in product.groups:
        matrix = dense_of(group, group.channels * len(product.taps)).reshape(-1, group.channels, len(product.taps))
        planes = x[group.channel_begin : group.channel_begin + group.channels]
        for tap, (segment, dy, dx) in enumerate(product.taps):
            kd, phase_y, phase_x, reach_y, reach_x = product.segments[segment]
            assert dy <= reach_y
            assert dx <= reach_x
            first = (kd * dilation[0], phase_y + dy * stride[1], phase_x + dx * stride[2])
            read = [slice(f, f + (n - 1) * s + 1, s) for f, n, s in zip(first, size, stride, strict=True)]
            rows = slice(group.panel.row_begin, group.panel.row_begin + group.panel.rows)
            y[rows] += np.einsum("mc,cdhw->mdhw", matrix[:, :, tap].astype(np.float64), planes[(slice(None), *read)])
    return y.reshape(product.m, *out) + product.bias__m.reshape(-1, *[1] * rank)


# which weights


@examples(60)
@given(
    rows=st.integers(1, 150),
    depth=st.integers(1, 400),
    zeros=st.sampled_from([0.0, 0.5, 0.9, 0.99]),
    pattern=st.sampled_from(PATTERNS),
    seed=st.integers(0, 2**32 - 1),
)
def test_matrix_comes_back(rows, depth, zeros, pattern, seed):
    """All nonzeros of a matrix are packed, in their row and column, whatever the pattern."""
    weight = pruned(np.random.default_rng(seed), (rows, depth), zeros, pattern)
    product = packed_matrix(weight)
    (group,) = product.groups
    assert np.array_equal(dense_of(group, depth), weight)
    assert (group.nonzeros, group.weights) == (np.count_nonzero(weight), weight.size)
    places = np.flatnonzero(weight)
    from_nonzeros = packed_matrix(Nonzeros.at(places, weight.reshape(-1)[places], weight.shape))
    assert np.array_equal(dense_of(from_nonzeros.groups[0], depth), weight)


def test_rows_stay_in_their_strip():
    """Rows are ordered within strips, by their nonzeros in each block: neighbours end together."""
    weight = pruned(np.random.default_rng(0), (150, 900), 0.9)
    (group,) = packed_matrix(weight).groups
    for b, row__gr in enumerate(group.panel.row__bgr):
        first, end = group.bounds[b], group.bounds[b + 1]
        rows = row__gr.reshape(-1)[: group.panel.rows]
        assert np.array_equal(np.sort(rows), np.arange(150))
        assert np.array_equal(rows // STRIP, np.arange(150) // STRIP)
        lengths = np.count_nonzero(weight[rows, first:end], axis=1)
        assert all((np.diff(lengths[strip : strip + STRIP]) >= 0).all() for strip in range(0, 150, STRIP))


@pytest.mark.parametrize(
    ("pattern", "zeros", "expected"),
    [
        ("dense", 0, SHARED),
        ("blocks", 0.9, SHARED),
        ("shuffled blocks", 0.9, SHARED),
        ("columns", 0.9, SHARED),
        ("unstructured", 0.2, SHARED),
        ("unstructured", 0.9, APART),
        ("2:4", 0.5, APART),
        ("all zero", 1, APART),
    ],
)
def test_rows_apart_or_shared(pattern, zeros, expected):
    """Rows share columns where enough nonzeros stand under each other."""
    weight = pruned(np.random.default_rng(1), (256, 512), zeros, pattern)
    assert packed_matrix(weight).groups[0].panel.mr == expected


@pytest.mark.parametrize("rows", [64, 67, 1000])
def test_blocks_in_any_order(rows):
    """Outputs in blocks of 4 are brought together wherever they stand, except the weights of recurrent nodes, whose units stay in order."""
    rng = np.random.default_rng(1)
    weight = pruned(rng, (rows, 512), 0.9, "blocks")
    shuffled = weight[rng.permutation(rows)]
    (group,) = packed_matrix(shuffled).groups
    assert group.panel.mr == SHARED
    assert np.array_equal(dense_of(group, 512), shuffled)
    (plain,) = packed_matrix(weight).groups
    assert len(group.panel.value__nr) <= len(plain.panel.value__nr) + 512  # the last block may lack outputs
    kept = packing.matrices([shuffled], None, ShapeRule.MATMUL_RIGHT, x_rows=True, y_rows=True, isa=ISA, any_order=False)
    assert kept.groups[0].panel.mr == APART


# cuts of K


@LANES
@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("depth", [1, 50, 700, 4608])
def test_cuts_of_k(isa, depth, zeros):
    """Blocks are equal, near the size wanted or as much larger as rows need for their nonzeros, and within reach of 16 bits."""
    product = packed_matrix(pruned(np.random.default_rng(2), (64, depth), zeros), isa)
    (group,) = product.groups
    floats = product.max_vectors * isa.lanes
    sizes = np.diff(group.bounds)
    assert sizes.sum() == depth
    assert sizes.max() - sizes.min() <= 1
    assert sizes.max() * floats <= packing.MAX_BLOCK_FLOATS
    if len(sizes) == 1:
        return
    # one block less would be too large, for the cache and for what rows need
    larger = -(-depth // (len(sizes) - 1))
    shares = group.panel.mr == SHARED
    needed = (packing.SHARED_ENTRIES if shares else isa.entries[1]) / (group.nonzeros / group.weights)
    assert larger * floats > (packing.SHARED_BLOCK_FLOATS if shares else packing.BLOCK_FLOATS)
    assert larger > needed or larger * floats > packing.MAX_BLOCK_FLOATS


def test_sparser_rows_have_longer_blocks():
    """A row should keep several nonzeros a block, because each block reloads its sums."""
    blocks = [len(packed_matrix(pruned(np.random.default_rng(3), (64, 4608), zeros)).groups[0].bounds) - 1 for zeros in (0.6, 0.9, 0.97)]
    assert blocks == sorted(blocks, reverse=True)
    assert blocks[0] > blocks[-1]


# taps

LAYOUTS = {
    "pointwise": (Conv(10, 9, (1, 1)), (9, 7), (9, 7), 1),
    "small image": (Conv(10, 9, (3, 3), pads=(1,) * 4), (9, 7), (9, 7), 1),
    "unknown width": (Conv(10, 9, (3, 3), pads=(1,) * 4), (None, None), (9, 7), 3),
    "large image": (Conv(10, 9, (3, 3), pads=(1,) * 4), (5, 1000), (5, 30), 3),
    "far dilation": (Conv(10, 3, (2, 3), dilations=(1, 12000), pads=(1, 12000, 0, 12000)), (None, None), (4, 13), 6),
    "rows that are mostly padding": (Conv(200, 3, (3, 3), dilations=(6, 6), pads=(6,) * 4), (9, 9), (9, 9), 9),
    "unknown rows of padding": (Conv(200, 3, (3, 3), dilations=(12, 12), pads=(12,) * 4), (None, None), (9, 9), 9),
    "padding for few outputs": (Conv(4, 3, (3, 3), dilations=(3, 3), pads=(3,) * 4), (9, 9), (9, 9), 1),
    "stride": (Conv(10, 9, (3, 3), strides=(2, 2), pads=(1,) * 4), (14, 14), (14, 14), 1),
    "uneven": (Conv(9, 5, (2, 4), strides=(3, 1), dilations=(2, 3), pads=(0, 2, 3, 1)), (None, None), (17, 23), 2),
    "one dimension": (Conv(10, 9, (5,), strides=(3,), dilations=(2,), pads=(1, 4)), (61,), (61,), 1),
    "three dimensions": (Conv(5, 4, (3, 2, 3), strides=(2, 1, 2), dilations=(1, 2, 1), pads=(1,) * 6), (7, 9, 8), (7, 9, 8), None),
    "groups": (Conv(20, 24, (3, 3), group=4, pads=(1,) * 4), (9, 7), (9, 7), 1),
    "wide groups": (Conv(40, 256, (3, 3), group=2, pads=(1,) * 4), (9, 7), (9, 7), 1),
    "empty": (Conv(10, 9, (3, 3), zeros=1), (9, 7), (9, 7), 1),
}
"""A convolution, the spatial sizes that packing knows, those of an image, and the units that a channel has."""


@LANES
@pytest.mark.parametrize("name", LAYOUTS)
def test_taps_read_what_a_convolution_reads(isa, name):
    """Whatever form a tile takes, its segments and taps give the convolution in float64."""
    conv, known, image, units = LAYOUTS[name]
    product = packed_convolution(conv, known, isa)
    if units is not None:
        assert len(product.unit_segment) - 1 == units
    x = noise(np.random.default_rng(4), conv.c, *image)
    np.testing.assert_allclose(convolved(product, x), conv.exact(x[None])[0][0], rtol=1e-9, atol=1e-9)


def test_small_groups_are_packed_together():
    """As a block-diagonal matrix up to one tile; large ones stay apart."""
    small = packed_convolution(Conv(64, 64, (3, 3), group=16, pads=(1,) * 4), (9, 7))
    large = packed_convolution(Conv(40, 256, (3, 3), group=2, pads=(1,) * 4), (9, 7))
    assert len(small.groups) < 16
    assert [group.channels for group in large.groups] == [128, 128]
    assert sum(group.nonzeros for group in small.groups) == np.count_nonzero(Conv(64, 64, (3, 3), group=16, pads=(1,) * 4).weight)


def test_depthwise():
    """Every tap of every output, zeros too."""
    conv = Conv(6, 3, (3, 5), group=3)
    window = Window((3, 5), (1, 1), (1, 1), (0, 0), (0, 0))
    packed = packing.depthwise(conv.weight, None, 3, window)
    assert (packed.m, packed.channels, packed.window) == (6, 3, window)
    assert np.array_equal(packed.value__mt, conv.weight.reshape(6, 15))
    assert not packed.bias__m.any()


def test_matrices_of_a_batch():
    """One group for each, rows after those of the ones before."""
    weights = [pruned(np.random.default_rng(seed), (21, 40), 0.7) for seed in range(6)]
    product = packing.matrices(weights, None, ShapeRule.MATMUL_LEFT, x_rows=False, y_rows=False, isa=ISA, batch=(2, 3))
    check_product(product)
    for i, (group, weight) in enumerate(zip(product.groups, weights, strict=True)):
        assert group.panel.row_begin == 21 * i
        assert np.array_equal(dense_of(group, 40), weight)
