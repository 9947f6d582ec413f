"""Quantised operators against exact integers: random ones, their edges, and what is declined."""

import numpy as np

from onnxruntime_ep_sparse import pipeline
from onnxruntime_ep_sparse.ops import table as ops
from onnxruntime_ep_sparse.passes.quantized import read_quantized
from onnxruntime_ep_sparse.runtime._program import Program
from support import quantized
from support.kernel_sets import table_of
from support.making import MORE
from support.programs import EVERY_SET

CASES = 50 * MORE


def run(case, isa, workers=1):
    """The result of a case in a program of ours, or the reason why it cannot run."""
    graph = quantized.graph_of(case)
    for node in read_quantized(graph).nodes:
        finding = ops.can_run(read_quantized(graph), node)
        if finding is not None:
            return finding.code
    program = Program(pipeline.lower_to_spec(graph, isa), table_of(isa), workers)
    (y,) = program.run(*(case[4][name] for name in program.input_names))
    return y


@EVERY_SET
def test_random_cases(isa):
    """Equal to the exact reference in every element, on every set of kernels; few have sums beyond what float32 holds."""
    declined = 0
    for seed in range(CASES):
        case = quantized.random_case(seed)
        y = run(case, isa, 1 + seed % 3)
        if isinstance(y, str):
            assert y == "sum-too-large", (seed, y)
            declined += 1
            continue
        assert y.dtype == case[5].dtype, seed
        np.testing.assert_array_equal(y, case[5], err_msg=f"seed {seed}: {[node.op_type for node in case[0]]}")
    assert declined < CASES // 20
