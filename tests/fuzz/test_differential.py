"""A short series of the cases that differential.py tries by the hundred thousand, and what it does with cases that fail."""

import os
import sys

import numpy as np
import pytest
from differential import supervised
from differential_cases import KINDS, cases, kind_of

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse.ops import dynamic, integer_products, quantized, quantized_pools
from onnxruntime_ep_sparse.ops.row import FUSED
from onnxruntime_ep_sparse.ops.table import OPS
from support.random_graphs import RandomGraph

COUNT = 120
ELSEWHERE = {
    **{
        row.op_type: "tests/ops/test_quantized.py"
        for module in (quantized, quantized_pools, integer_products, dynamic)
        for row in module.ROWS
    },
    **dict.fromkeys(("BiasGelu", "FastGelu", "FusedConv", "FusedGemm", "FusedMatMul"), "tests/ops/test_fused.py"),
    **dict.fromkeys(("LRN", "Upsample"), "tests/ops/test_resample.py"),
    **dict.fromkeys(
        ("And", "Equal", "Greater", "GreaterOrEqual", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Xor"), "tests/ops/test_truths.py"
    ),
    **dict.fromkeys(("CumSum", "GatherND"), "tests/ops/test_integers.py"),
    **dict.fromkeys(("GroupQueryAttention", "RotaryEmbedding"), "tests/ops/test_rotary.py"),
    "Attention": "tests/ops/test_attention.py",
    "Cast": "tests/ops/test_casts.py",
    **dict.fromkeys(("ScatterND", "Trilu"), "tests/ops/test_parts.py"),
}
"""Operators that random graphs do not have, and the tests that try them at random."""


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")
@pytest.mark.parametrize("isa", kernels.available_isas())
def test_series(isa, monkeypatch):
    """No case fails, and each kind has some."""
    monkeypatch.setenv("ORT_SPARSE_ISA", isa)
    at = kernels.available_isas().index(isa)
    found = list(cases(1, range(at, 3 * COUNT, 3), isa))
    assert [case for case in found if case[2] is not None] == []
    assert len(found) == COUNT
    assert len({kind for _, kind, _ in found}) > len(KINDS) - 4


def test_shares():
    """They sum up to a hundred, and every kind has its share."""
    rng = np.random.default_rng(0)
    drawn = [kind_of(rng) for _ in range(5000)]
    assert sum(share for share, _ in KINDS.values()) == 100
    for kind, (share, _) in KINDS.items():
        assert abs(drawn.count(kind) / 50 - share) < 2


def test_a_case_is_a_function_of_its_number(monkeypatch):
    """Whatever ran before it."""
    monkeypatch.setenv("ORT_SPARSE_ISA", "baseline")
    draws = []
    for kind, (share, _) in KINDS.items():
        monkeypatch.setitem(KINDS, kind, (share, lambda rng, isa: draws.append(rng.integers(2**32))))
    list(cases(7, [3, 4, 5, 5, 4], "baseline"))
    assert draws[3:] == draws[2:0:-1]
    assert len(set(draws)) == 3


def test_failures_are_reported(monkeypatch):
    """Also pytest's own, and the series goes on."""
    monkeypatch.setenv("ORT_SPARSE_ISA", "baseline")
    errors = iter([AssertionError("one\nline"), pytest.fail.Exception("did not raise")])

    def fails(rng, isa):
        raise next(errors)

    for kind, (share, _) in KINDS.items():
        monkeypatch.setitem(KINDS, kind, (share, fails))
    found = list(cases(0, [8, 9], "baseline"))
    assert [(number, words) for number, _, words in found] == [
        (8, None),
        (8, "AssertionError: one line"),
        (9, None),
        (9, "Failed: did not raise"),
    ]


def test_a_dead_process_costs_one_case():
    """It is reported, and the next process begins behind it."""
    code = """if True:
        import json, os, sys
        for i in map(int, sys.argv[1:]):
            print(json.dumps([i, "kind", None]), flush=True)
            if i == 5:
                os.abort()
    """
    found = list(supervised(lambda numbers: [sys.executable, "-c", code, *map(str, numbers)], range(1, 11, 2), dict(os.environ)))
    assert found == [
        (i, "kind", words) for i in (1, 3, 5, 7, 9) for words in ([None, "the process died: exit status -6"] if i == 5 else [None])
    ]


def test_other_instruction_set(monkeypatch):
    """Cases without an option of their own follow the environment."""
    monkeypatch.setenv("ORT_SPARSE_ISA", "baseline")
    with pytest.raises(ValueError, match="ORT_SPARSE_ISA is not another"):
        next(cases(0, [0], "another"))


def test_random_graphs_have_every_operator():
    """Those of our table but for ELSEWHERE; operators that only passes make are made of others."""
    used = {node.op_type for seed in range(1000) for node in RandomGraph(seed).nodes}
    assert {name for name, row in OPS.items() if row.domains != (FUSED,)} - ELSEWHERE.keys() <= used
