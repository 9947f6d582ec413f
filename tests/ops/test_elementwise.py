"""Binary operators and squares: what channels of known numbers become, and why a node cannot run."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from onnxruntime_ep_sparse.ops import table as ops
from onnxruntime_ep_sparse.ops.elementwise import BINARY
from support.nodes import C, one_node

SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.5, 3e38, 1e-40], np.float32)


@pytest.mark.parametrize("name", BINARY)
def test_known_channels_are_what_onnx_computes(name):
    """numpy's function of a row is ONNX's operator, special numbers included."""
    infos = [helper.make_tensor_value_info(x, TensorProto.FLOAT, None) for x in "aby"]
    graph = helper.make_graph([helper.make_node(name, ["a", "b"], ["y"])], "g", infos[:2], infos[2:])
    reference = ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    a, b = np.meshgrid(SPECIAL, SPECIAL)
    if name == "PRelu":  # the reference multiplies 0 by its slope, ONNX Runtime does not
        b = np.nan_to_num(b)
    with np.errstate(all="ignore"):
        (expected,) = reference.run(None, {"a": a, "b": b})
        np.testing.assert_array_equal(BINARY[name].ufunc(a, b), expected)


@pytest.mark.parametrize(
    ("op_type", "inputs", "arrays", "code"),
    [
        ("Add", [(2, 3), (3,)], {}, None),
        ("Max", [(2, 3), (C, 3)], {}, None),
        ("Add", [(2, 3)] * 3, {}, "unsupported-operand-count"),
        ("PRelu", [(2, 3)], {}, "unsupported-operand-count"),
        ("PRelu", [(2, 3), (C, 3)], {}, None),
        ("Max", [(2, 3)], {}, None),
        ("Min", [(2, 3)] * 3, {}, None),
        ("Sum", [(2, 3)] * 3, {}, None),
        ("Mean", [(C, 3), (C, 3)], {}, "all-constant"),
        ("Mul", [(C, 2, 3), (C, 3)], {}, "all-constant"),
        ("Pow", [(2, 3), ()], {1: np.float32(2)}, None),
        ("Pow", [(2, 3), (1, 1)], {1: np.array([[2]])}, None),
        ("Pow", [(2, 3), ()], {1: np.float32(3)}, None),
        ("Pow", [(2, 3), ()], {1: np.int64(-8)}, None),
        ("Pow", [(2, 3), ()], {1: np.float32(9)}, "exponent"),
        ("Pow", [(2, 3), ()], {1: np.float32(0.5)}, None),
        ("Pow", [(2, 3), ()], {1: np.float32(0.25)}, "exponent"),
        ("Pow", [(2, 3), ()], {1: np.float32(np.nan)}, "exponent"),
        ("Pow", [(2, 3), (1, 1, 1)], {1: np.array([[[2]]])}, "exponent"),
        ("Pow", [(2, 3), (2, 3)], {}, "exponent"),
    ],
)
def test_nodes_that_cannot_run(op_type, inputs, arrays, code):
    """Each has its reason."""
    finding = ops.can_run(*one_node(op_type, inputs, (None, None), arrays=arrays))
    assert (finding and finding.code) == code


def test_broadcasting_by_axis_is_declined():
    """Before opset 7 an attribute said where the second operand stands."""
    for name, row in BINARY.items():
        finding = ops.can_run(*one_node(name, [(2, 3), (3,)], (2, 3), version=6))
        assert (finding and finding.code) == ("opset-too-old" if row.first_version > 6 else None)
