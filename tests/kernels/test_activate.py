"""Activations against their formulas in float64, over all magnitudes of float32."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from onnxruntime_ep_sparse_kernels import call
from onnxruntime_ep_sparse_kernels.elementwise import Act
from support.kernel_sets import SETS, table_of

EPS = float(np.finfo(np.float32).eps)
SMALL = 2.0**-124
ERF = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class Formula:
    """What an activation computes. Exact if `ulps` is 0; else the error is at most `ulps` * 2**-23 * max(|y|, `floor(x)`), and values on
    the way that are no larger than 2**-124 may be lost."""

    y: object
    ulps: float = 0
    floor: object = lambda x: 0
    alpha: float = 0
    beta: float = 0


def sigmoid(x):
    """The logistic function."""
    return 1 / (1 + np.exp(-x))


def f32(x):
    """Parameters are float32."""
    return float(np.float32(x))


def quantized(x, scale, low):
    """The integer of 256 from `low` on; NaN becomes the first."""
    return np.where(np.isnan(x), low, np.clip(np.rint(x / scale), low, low + 255))


SIXTH = f32(1 / 6)
ROOT = math.sqrt(2 / math.pi)
FORMULAS = {
    Act.NONE: Formula(lambda x: x),
    Act.CLAMP: Formula(lambda x: np.clip(x, -0.5, 6), alpha=-0.5, beta=6),
    Act.LEAKY_RELU: Formula(lambda x: np.where(x < 0, f32(0.01) * x, x), 0.5, alpha=0.01),
    Act.SIGMOID: Formula(sigmoid, 2),
    Act.SILU: Formula(lambda x: x * sigmoid(f32(1.702) * x), 3, lambda x: x * x * sigmoid(f32(1.702) * x), alpha=1.702),
    Act.HARD_SIGMOID: Formula(lambda x: np.clip(f32(0.2) * x + 0.5, 0, 1), 1, lambda x: 0.5, alpha=0.2, beta=0.5),
    Act.HARD_SWISH: Formula(lambda x: x * np.clip(x / 6 + 0.5, 0, 1), 2, lambda x: np.minimum(np.abs(x), 3)),
    Act.TANH: Formula(np.tanh, 3),
    Act.GELU_ERF: Formula(lambda x: x / 2 * (1 + ERF(x / math.sqrt(2))), 1.5, lambda x: np.minimum(np.abs(x), 6)),
    Act.GELU_TANH: Formula(lambda x: x / 2 * (1 + np.tanh(ROOT * (x + 0.044715 * x**3))), 2, lambda x: np.minimum(np.abs(x), 6)),
    Act.ERF: Formula(ERF, 1.5),
    Act.ABS: Formula(np.abs),
    Act.NEG: Formula(np.negative),
    Act.SQRT: Formula(np.sqrt, 0.5),
    Act.EXP: Formula(np.exp, 1.5),
    Act.LOG: Formula(np.log, 1),
    Act.SIN: Formula(np.sin, 1),
    Act.COS: Formula(np.cos, 1),
    Act.ELU: Formula(lambda x: np.where(x < 0, f32(1.7) * np.expm1(x), f32(1.1) * x), 2, alpha=1.7, beta=1.1),
    Act.SOFTPLUS: Formula(lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), 2),
    Act.SOFTSIGN: Formula(lambda x: x / (1 + np.abs(x)), 1.5),
    Act.THRESHOLDED_RELU: Formula(lambda x: np.where(x > 0.25, x, 0), alpha=0.25),
    Act.SCALED_TANH: Formula(lambda x: f32(1.7159) * np.tanh(f32(2 / 3) * x), 4, alpha=1.7159, beta=2 / 3),
    Act.MISH: Formula(lambda x: x * np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))), 5),
    Act.CELU: Formula(lambda x: np.where(x < 0, f32(1.7) * np.expm1(x * f32(1 / 1.7)), x), 3, alpha=1.7, beta=1 / 1.7),
    Act.POWER: Formula(lambda x: x**3, 1.5, alpha=3),
    Act.ROUND: Formula(lambda x: np.rint(np.clip(x, -20, 235)), alpha=-20, beta=235),
    Act.QUANTIZE: Formula(lambda x: quantized(x, 0.5, -20), alpha=0.5, beta=-20),
    Act.AFFINE: Formula(lambda x: f32(1.1) * x + 0.5, 1.5, lambda x: np.abs(x) + 0.5, alpha=1.1, beta=0.5),
}


@pytest.fixture(scope="module")
def x():
    """Every sign, exponent and kind of float32, denormals included, and a closer look at where curves bend."""
    patterns = np.arange(0, 2**32, 40009, dtype=np.uint64).astype(np.uint32).view(np.float32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.4e38, -3.4e38], np.float32)
    return np.concatenate(
        [patterns, special, np.linspace(-110, 110, 100_003, dtype=np.float32), np.linspace(-6, 6, 100_003, dtype=np.float32)]
    )


def test_all():
    """Each activation has its formula here."""
    assert set(FORMULAS) == set(Act)


@pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
@pytest.mark.parametrize(("act", "alpha"), [*((act, FORMULAS[act].alpha) for act in Act), *((Act.SILU, a) for a in (1, 0, -1))])
def test_formula(isa, act, alpha, x):
    """Within the stated error; NaN and infinities where the formula has them. SiLU of 1 has a formula of its own."""
    formula = FORMULAS[act]
    if act == Act.SILU:
        formula = Formula(lambda x: x * sigmoid(f32(alpha) * x), 3, lambda x: x * x * sigmoid(f32(alpha) * x), alpha=alpha)
    with np.errstate(all="ignore"):
        y = call.activate(table_of(isa), x, act, formula.alpha, formula.beta).astype(np.float64)
        expected = formula.y(x.astype(np.float64))
        lost = SMALL * np.clip(np.abs(x), 1, 1000) if formula.ulps else 0
        bound = formula.ulps * EPS * np.maximum(np.abs(expected), formula.floor(x.astype(np.float64))) + lost
        rounded = expected.astype(np.float32)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
        np.testing.assert_array_equal(y[np.isinf(rounded)], rounded[np.isinf(rounded)])
        wrong = np.isfinite(rounded) & ~(np.abs(y - expected) <= bound)
    assert not wrong.any(), [(float(x[i]), y[i], expected[i]) for i in np.flatnonzero(wrong)[:5]]


@pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("exponent", range(-8, 9))
def test_powers(isa, exponent):
    """Every exponent that nodes may have, for numbers whose powers are neither large nor small."""
    x = np.concatenate([np.linspace(-4, -0.25, 1001), np.linspace(0.25, 4, 1001), [np.nan, np.inf, -np.inf]]).astype(np.float32)
    y = call.activate(table_of(isa), x, Act.POWER, exponent)
    np.testing.assert_allclose(y, x.astype(np.float64) ** exponent, rtol=1e-6)


@pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("act", Act, ids=lambda act: act.name.lower())
def test_length_and_residual(isa, act):
    """Vector loops and their ends compute the same; a residual is added before."""
    rng = np.random.default_rng(0)
    x, residual = rng.standard_normal((2, 70)).astype(np.float32)
    formula = FORMULAS[act]
    whole = call.activate(table_of(isa), x + residual, act, formula.alpha, formula.beta)
    for n in range(len(x) + 1):
        y = call.activate(table_of(isa), x[:n], act, formula.alpha, formula.beta, residual[:n])
        np.testing.assert_array_equal(y, whole[:n])
