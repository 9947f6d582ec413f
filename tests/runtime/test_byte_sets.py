"""Sets of kernels for bytes against each other, and random steps on each of them against exact results."""

import numpy as np
import pytest

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels.isa import ISAS, byte_sets_for
from support.byte_programs import ByteCase, Depthwise
from support.making import MORE
from support.random_bytes import CASES, check

COUNT = 40 * MORE


@pytest.mark.parametrize("isa", kernels.available_isas())
@pytest.mark.parametrize("kind", CASES)
def test_random_cases(kind, isa):
    """Every set of kernels of an instruction set computes what int64 says."""
    for seed in range(COUNT):
        check(kind, np.random.default_rng(seed), isa)


@pytest.mark.parametrize("case", [ByteCase((40, 50, 3, 3), zeros=0.8), Depthwise((40, 1, 5, 5), zeros=0)], ids=["product", "depthwise"])
@pytest.mark.parametrize("result", ["uint8", "float32"])
def test_same_bits(case, result):
    """Every set of kernels gives the same bits, with any number of workers."""
    case.result = result
    x = case.x(2, 50 if case.kind == ByteCase.kind else 40, 13, 13)
    available = [row for row in byte_sets_for(ISAS) if row.name in kernels.available_byte_sets()]
    programs = (case.program(row, case.conv(row, pads=(1, 1, 1, 1)), 4, workers) for row in available for workers in (1, 2, 3))
    assert len({program.run(x)[0].tobytes() for program in programs}) == 1
