"""What stands in a table stands nowhere else: one test per axis on which people add, each fails when a second place appears."""

import re
from pathlib import Path

import pytest

from onnxruntime_ep_sparse.program import enums, limits
from onnxruntime_ep_sparse_kernels import elementwise, isa

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for package in ("provider", "kernels")
    for path in (ROOT / package).rglob("*")
    if path.suffix in (".py", ".pyx", ".pxd", ".h", ".in") and not re.match(r"_enums\.pxd|_isa_\w+\.pyx|_cpu\.pyx|_plugin\.h", path.name)
)
ENUMS = {**enums.C_PREFIXES, **elementwise.C_PREFIXES}


def numbered_in_c(text):
    """Names that a C enum in this source defines."""
    return {name for block in re.findall(r"^ *cdef enum.*:\n((?: +.*\n)+)", text, re.M) for name in re.findall(r"^ +(\w+)", block, re.M)}


def test_enums_are_written_once():
    """No C source defines what is generated for it."""
    generated = {f"{prefix}_{member.name}" for kind, prefix in ENUMS.items() for member in kind} | {*limits.C_LIMITS, *isa.C_CONSTANTS}
    for path in SOURCES:
        assert not numbered_in_c(path.read_text()) & generated, path


@pytest.mark.parametrize("kind", ENUMS, ids=lambda kind: kind.__name__)
def test_enums_count_from_zero(kind):
    """Tables in C are indexed by these numbers."""
    assert list(kind) == list(range(len(kind)))
