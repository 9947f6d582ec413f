"""Gemm and MatMul: which operand is the weight, and why a node cannot run. Results are those of test_products.py."""

from math import inf, nan

import pytest

from onnxruntime_ep_sparse.ops import table as ops
from onnxruntime_ep_sparse.ops.costs import FEW_ROWS
from support.nodes import C, one_node

FEATURES = 7
FORMS = [
    ("Gemm", [(5, 3), (C, 3, FEATURES)], {}, 1),
    ("Gemm", [(5, 3), (C, FEATURES, 3)], {"transB": 1}, 1),
    ("Gemm", [(C, FEATURES, 3), (3, 5)], {}, 0),
    ("Gemm", [(C, 3, FEATURES), (3, 5)], {"transA": 1}, 0),
    ("Gemm", [(3, 5), (C, 3, FEATURES), (C, FEATURES)], {"transA": 1}, 1),
    ("MatMul", [(5, 3), (C, 3, FEATURES)], {}, 1),
    ("MatMul", [(2, 5, 3), (C, 2, 3, FEATURES)], {}, 1),
    ("MatMul", [(C, FEATURES, 3), (3, 5)], {}, 0),
    ("MatMul", [(C, 2, FEATURES, 3), (2, 3, 5)], {}, 0),
]
"""Operator, inputs, attributes, and the index of the weight, whose outputs are its dimension of this size."""


@pytest.mark.parametrize(("op_type", "inputs", "attributes", "index"), FORMS)
def test_output_axis(op_type, inputs, attributes, index):
    """The axis of the weight that holds its output features, on either side and transposed."""
    graph, node = one_node(op_type, inputs, (None,) * len(inputs[0]), attributes)
    assert ops.can_run(graph, node) is None
    assert ops.weights_of(graph, node) == (f"x{index}",)
    assert graph.load(f"x{index}").shape[ops.output_axis(graph, node)] == FEATURES


def test_output_axis_of_a_vector():
    """The only axis."""
    assert ops.output_axis(*one_node("MatMul", [(C, 3), (3, 5)], (5,))) == -1
    assert ops.output_axis(*one_node("MatMul", [(5, 3), (C, 3)], (5,))) == -1


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "code"),
    [
        ("Gemm", [(5, 3), (3, 7)], {}, None),
        ("Gemm", [(2, 5, 3), (3, 7)], {}, "unsupported-rank"),
        ("Gemm", [(5, 3), (3, 7), (5, 7)], {"beta": 0.5}, "gemm-beta"),
        ("Gemm", [(5, 3), (3, 7)], {"alpha": inf}, "unsupported-attribute"),
        ("Gemm", [(C, 5, 3), (C, 3, 7)], {}, "all-constant"),
        ("Gemm", [(2, 5, 3), (C, 3, 7)], {}, "unsupported-rank"),
        ("Gemm", [(5, 0), (C, 0, 7)], {}, "weight-empty"),
        ("Gemm", [(5, 3), (C, 3, 7), (5, 7)], {"beta": 0.5}, "gemm-beta"),
        ("Gemm", [(5, 3), (C, 3, 7), (C, 7)], {"beta": 0.5}, None),
        ("Gemm", [(5, 3), (C, 3, 7), (5, 7)], {}, None),
        *[("Gemm", [(5, 3), (C, 3, 7)], {"alpha": alpha}, None) for alpha in (0.0, -0.5, 1e15)],
        *[("Gemm", [(5, 3), (C, 3, 7)], {"alpha": alpha}, "unsupported-attribute") for alpha in (inf, -inf, nan, 1e30, -1e-30)],
        ("MatMul", [(C, 5, 3), (C, 3, 7)], {}, "all-constant"),
        ("MatMul", [(5, 0), (C, 0, 7)], {}, "weight-empty"),
        ("MatMul", [(), (C, 3, 7)], {}, "unsupported-rank"),
    ],
)
def test_products_that_cannot_run(op_type, inputs, attributes, code):
    """Each has its reason."""
    finding = ops.can_run(*one_node(op_type, inputs, (None, None), attributes))
    assert (finding and finding.code) == code


@pytest.mark.parametrize(
    ("shape", "counts"),
    [(("n", 768), (None, *FEW_ROWS)), ((None, 768), (None, *FEW_ROWS)), ((32, 768), (None,)), (("n", "t", 768), (None,))],
)
def test_an_open_number_of_rows_is_judged_by_several(shape, counts):
    """It may be 1. Batch times sequence is rarely that."""
    graph, node = one_node("MatMul", [shape, (C, 768, 64)], (*shape[:-1], 64))
    assert ops.row_for(node).row_counts(graph, node) == counts
