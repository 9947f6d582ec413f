"""Expected times of an operator: what must hold for each. Their numbers are pinned in tests/partition/test_cost.py."""

import pytest

from onnxruntime_ep_sparse.ops import costs
from onnxruntime_ep_sparse.ops.costs import Estimate, Work
from support.nodes import one_node


def test_time_grows_with_density_up_to_that_of_dense_kernels():
    """Rows that share columns are a bound."""
    estimate = Estimate(ort=5.0, fixed=1.0, dense=8.0, most=4.0)
    assert [estimate.ours(density) for density in (0.0, 0.25, 0.5, 1.0)] == [1.0, 3.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("shape", "rows", "expected"),
    [
        ((3, 4, 5, 6), 128, (3, 4, 5, 6)),
        (("n", 64, "h", None), 128, (1, 64, 28, 28)),
        (("n", "t", 768), 128, (1, 128, 768)),
        (("n", 768), 8, (8, 768)),
        ((768, "n"), 8, (768, 8)),
        ((-1, 5), 8, (8, 5)),
        ((), 128, ()),
    ],
)
def test_nominal_sizes(shape, rows, expected):
    """Numbers stand in for dimensions that are open."""
    graph, _ = one_node("Relu", [shape], shape)
    assert costs.sizes(graph, "y", rows) == expected


def test_large_weights_are_read_from_memory():
    """A product with one pixel takes as long as reading its weights."""
    near, far = int(costs.NEAR_BYTES / 4) - 1, int(costs.NEAR_BYTES / 4) + 1
    assert costs.dense_seconds(1, far) > 2 * costs.dense_seconds(1, near)
    assert costs.dense_seconds(1e12, 1) == 1e12 / costs.ORT_MACS


@pytest.mark.parametrize("pixels", [1, 4, 8, 9, 100])
@pytest.mark.parametrize("transposes", [True, False])
def test_more_pixels_take_longer(pixels, transposes):
    """On both sides, whichever kernel serves them."""

    def estimate(n):
        return costs.product_seconds(Work(256 * 256 * n, 256 * 256, 1, n, 256 * n, 256 * n, 1, transposes))

    less, more = estimate(pixels), estimate(2 * pixels)
    assert less.ort <= more.ort
    assert less.fixed < more.fixed
    assert less.dense <= more.dense
