"""The elementwise functions that kernels compute: activations and binary operators, one member each.

The build writes their numbers to `_enums.pxd` and their expressions into the kernels. Plain Python without imports from the package,
because setup.py loads it before anything is built. Compiled models hold the names.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar

Member = TypeVar("Member", bound=IntEnum)


def numbered(kind: type[Member], expression: str) -> Member:
    """Return the next member of an enum, with its `expression`."""
    number = len(kind.__members__)
    member = int.__new__(kind, number)
    member._value_ = number
    member.expression = expression  # type: ignore[attr-defined]  # declared by the enums below
    return member


class Act(IntEnum):
    """An activation of `x` with the numbers `alpha` and `beta`: `expression` over vectors, in the functions of `simd/`."""

    expression: str

    def __new__(cls, expression: str) -> Act:
        """Number the members in their order."""
        return numbered(cls, expression)

    NONE = "x"
    CLAMP = "vf_min(beta, vf_max(alpha, x))"
    """Relu, Clip: alpha = low, beta = high."""
    LEAKY_RELU = "vf_leaky(x, alpha)"
    """alpha * x below 0."""
    SIGMOID = "vf_sigmoid(x)"
    SILU = "vf_silu(x, alpha)"
    """x * sigmoid(alpha * x)."""
    HARD_SIGMOID = "vf_unit(vf_fma(alpha, x, beta))"
    """max(0, min(1, alpha * x + beta))."""
    HARD_SWISH = "vf_mul(x, vf_unit(vf_fma(x, vf_set(<float>(1.0 / 6.0)), vf_set(0.5))))"
    """x * max(0, min(1, x / 6 + 1 / 2))."""
    TANH = "vf_tanh(x)"
    GELU_ERF = "vf_gelu_erf(x)"
    """x / 2 * (1 + erf(x / sqrt 2))."""
    GELU_TANH = "vf_gelu_tanh(x)"
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))."""
    ERF = "vf_erf(x)"
    ABS = "vf_abs(x)"
    NEG = "vf_neg(x)"
    SQRT = "vf_sqrt(x)"
    EXP = "vf_exp(x)"
    ELU = "vf_elu(x, alpha, beta)"
    """beta * x, below 0 alpha * (e^x - 1): Elu, Selu."""
    SOFTPLUS = "vf_softplus(x)"
    """log(1 + e^x)."""
    SOFTSIGN = "vf_softsign(x)"
    """x / (1 + |x|)."""
    THRESHOLDED_RELU = "vf_above(x, alpha)"
    """x above alpha, else 0."""
    SCALED_TANH = "vf_mul(alpha, vf_tanh(vf_mul(beta, x)))"
    """alpha * tanh(beta * x)."""
    AFFINE = "vf_fma(alpha, x, beta)"
    """alpha * x + beta."""
    MISH = "vf_mish(x)"
    """x * tanh(log(1 + e^x))."""
    CELU = "vf_celu(x, alpha, beta)"
    """x, below 0 alpha * (e^(beta * x) - 1), where beta is 1 / alpha."""
    POWER = "vf_power(x, alpha)"
    """x to the power of alpha, an integer."""
    ROUND = "vf_rint(vf_min(beta, vf_max(alpha, x)))"
    """x clamped to [alpha, beta], both integers, and rounded half to even."""
    QUANTIZE = "vf_quantized(x, alpha, beta)"
    """x / alpha rounded half to even, clamped to the 256 integers from beta on."""
    LOG = "vf_log(x)"
    SIN = "vf_sin(x)"
    COS = "vf_cos(x)"


class Op(IntEnum):
    """A binary operator of the floats `a` and `b`. NaN wins in MAX and MIN."""

    expression: str

    def __new__(cls, expression: str) -> Op:
        """Number the members in their order."""
        return numbered(cls, expression)

    ADD = "a + b"
    SUB = "a - b"
    MUL = "a * b"
    DIV = "a / b"
    MAX = "f_max(b, a) if b == b else b"
    MIN = "f_min(b, a) if b == b else b"
    PRELU = "a * b if a < 0 else a"
    """a, below 0 b times as much."""
    FILL = "b if b == b else a"
    """a where b is NaN, else b."""
    EQUAL = "1 if a == b else 0"
    UNEQUAL = "1 if a != b else 0"
    LESS = "1 if a < b else 0"
    LESS_EQUAL = "1 if a <= b else 0"


C_PREFIXES = {Act: "ACT", Op: "BINARY"}
"""Each enum with the prefix of its members in C."""
