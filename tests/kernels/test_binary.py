"""Binary operators against numpy: every bit, for operands of equal length and for numbers."""

import numpy as np
import pytest

from onnxruntime_ep_sparse_kernels import call
from onnxruntime_ep_sparse_kernels.elementwise import Op
from support.kernel_sets import SETS, table_of

FORMULAS = {
    Op.ADD: np.add,
    Op.SUB: np.subtract,
    Op.MUL: np.multiply,
    Op.DIV: np.divide,
    Op.MAX: np.maximum,
    Op.MIN: np.minimum,
    Op.PRELU: lambda a, b: np.where(a < 0, a * b, a),
    Op.FILL: lambda a, b: np.where(np.isnan(b), a, b),
    Op.EQUAL: np.equal,
    Op.UNEQUAL: np.not_equal,
    Op.LESS: np.less,
    Op.LESS_EQUAL: np.less_equal,
}
SPECIAL = np.array([0.0, 1.5, np.inf, -np.inf, np.nan, 1e-45, 3.4e38], np.float32)


def test_all():
    """Each operator has its formula here."""
    assert set(FORMULAS) == set(Op)


@pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("op", Op, ids=lambda op: op.name.lower())
def test_formula(isa, op):
    """Each length and each pair of special values gives what numpy gives; a number serves for all elements."""
    rng = np.random.default_rng(0)
    left, right = (np.concatenate([rng.standard_normal(30).astype(np.float32), x.ravel()]) for x in np.meshgrid(SPECIAL, SPECIAL))
    with np.errstate(all="ignore"):
        for a, b in ((left, right), (left, right[:1]), (left[:1], right), (left[:1], right[:1])):
            for n in range(max(len(a), len(b)) + 1):
                own, other = (x[:n] if len(x) > 1 else x for x in (a, b))
                np.testing.assert_array_equal(call.binary(table_of(isa), own, other, op), FORMULAS[op](own, other))


def test_wrong_arguments():
    """Operands of different lengths are refused."""
    with pytest.raises(ValueError, match="operands of 2 and 3 elements do not fit each other"):
        call.binary(table_of(SETS[-2]), np.ones(2, np.float32), np.ones(3, np.float32), Op.ADD)
