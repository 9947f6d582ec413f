"""BatchNormalization and LayerNormalization: why a node cannot run. Results are those of test_pools_and_elementwise.py and of passes/."""

import pytest

from onnxruntime_ep_sparse.ops import table as ops
from support.nodes import C, one_node

STATISTICS = [(C, 4)] * 4


@pytest.mark.parametrize(
    ("inputs", "attributes", "code"),
    [
        ([(1, 4, 8), *STATISTICS], {}, None),
        ([(1, 4), *STATISTICS], {"epsilon": 1e-3}, None),
        ([(4,), *STATISTICS], {}, "unsupported-rank"),
        ([(1, 4, 8), *STATISTICS], {"training_mode": 1}, "unsupported-attribute"),
        ([(1, 4, 8), *STATISTICS], {"spatial": 0}, "unsupported-attribute"),
        ([(1, 4, 8), *STATISTICS[:2], (4,), (C, 4)], {}, "parameter-not-constant"),
        ([(1, "c", 8), *STATISTICS], {}, "mismatched"),
        ([(1, "c", 8), *[(C, 1)] * 4], {}, "mismatched"),
        ([(1, 1, 8), *STATISTICS], {}, "mismatched"),
    ],
)
def test_batch_normalizations_that_cannot_run(inputs, attributes, code):
    """Each has its reason."""
    finding = ops.can_run(*one_node("BatchNormalization", inputs, inputs[0], attributes))
    assert (finding and finding.code) == code


def test_batch_normalization_before_opset_7_trains():
    """Version 6 means something else."""
    assert ops.can_run(*one_node("BatchNormalization", [(1, 4, 8), *STATISTICS], (1, 4, 8), version=6)).code == "opset-too-old"


@pytest.mark.parametrize(
    ("inputs", "attributes", "code"),
    [
        ([(2, 3, 8), (C, 8), (C, 8)], {}, None),
        ([(2, 3, 8), (C, 8)], {"axis": 2}, None),
        ([(2, 3, 8), (C, 8), None], {"axis": -1}, None),
        ([(2, 3, 8), (C, 3, 8)], {"axis": 1}, "unsupported-axes"),
        ([(2, 3, 8), (C, 8)], {"stash_type": 11}, "unsupported-attribute"),
        ([(2, 3, 8), (8,)], {}, "parameter-not-constant"),
        ([(2, 3, 8), (C, 1)], {}, "mismatched"),
        ([(2, 3, 8), (C, 8), (C, 3, 8)], {}, "mismatched"),
        ([(2, 3, 0), (C, 0)], {}, "mismatched"),
        ([(2, 3, "c"), (C, 8)], {}, "mismatched"),
    ],
)
def test_layer_normalizations_that_cannot_run(inputs, attributes, code):
    """Each has its reason."""
    finding = ops.can_run(*one_node("LayerNormalization", inputs, inputs[0], attributes))
    assert (finding and finding.code) == code
