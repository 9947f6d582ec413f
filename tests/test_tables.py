"""What stands in a table stands nowhere else: one test per axis on which people add, each fails when a second place appears."""

import ast
import re
from pathlib import Path

import pytest

from onnxruntime_ep_sparse import reasons
from onnxruntime_ep_sparse.ops import activations, integer_products, quantized
from onnxruntime_ep_sparse.ops.table import OPS
from onnxruntime_ep_sparse.program import enums, limits
from onnxruntime_ep_sparse.program.enums import StepKind
from onnxruntime_ep_sparse.program.kinds.table import ROWS
from onnxruntime_ep_sparse_kernels import elementwise, isa
from support.repository import ROOT, sources

SOURCES = sorted(sources())
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


PROVIDER = ROOT / "provider" / "onnxruntime_ep_sparse"
OTHERS = ("passes", "models", "cli", "prune")
"""Folders that name operators for other reasons: what exporters write as several nodes, nets that the package builds, sizes of layers,
weights that can be pruned."""
COMPRESSED = {"formats/compressing.py", "formats/schema.py", "ort/_custom_ops.pyx", "ort/custom_op_shapes.py", "formats/constants.py"}
"""Files that name the operators of compressed models, which are three of ONNX's, and those that compute their weights of constants."""
INTEGERS = {"ops/numbers.py", "ops/integers.py"}
"""The tables of operators on integers, few and many, some of which have the names of operators on floats."""


def strings_of(path):
    """The string literals of a source file that are not its documentation."""
    text = path.read_text()
    if path.suffix != ".py":
        return set(re.findall(r'"(\w+)"', text))
    tree = ast.parse(text)
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in documents}


def test_operators_are_named_in_one_file():
    """How an operator is run stands in one file of ops/, and no other file asks for its name."""
    places = {}
    for path in sorted(p for p in PROVIDER.rglob("*") if p.suffix in (".py", ".pyx", ".pxd")):
        name = path.relative_to(PROVIDER).as_posix()
        if name.split("/")[0] not in OTHERS and name not in COMPRESSED | INTEGERS:
            for op_type in strings_of(path) & OPS.keys():
                places.setdefault(op_type, []).append(name)
    assert {op_type: names for op_type, names in places.items() if len(names) > 1 or not names[0].startswith("ops/")} == {}
    assert places.keys() == OPS.keys()


@pytest.mark.parametrize("act", [act for act in elementwise.Act if act != elementwise.Act.NONE], ids=lambda act: act.name)
def test_every_function_of_the_kernels_is_an_activation(act):
    """A function that no operator computes is dead code."""
    assert any(re.search(rf"Act\.{act.name}\b", Path(module.__file__).read_text()) for module in (activations, integer_products, quantized))


@pytest.mark.parametrize("kind", [elementwise.Act, elementwise.Op], ids=lambda kind: kind.__name__)
def test_functions_are_chosen_in_one_file(kind):
    """The file with the rows of the operators, and the steps that compute an operator by several functions."""
    table = {elementwise.Act: "activations", elementwise.Op: "elementwise"}[kind]
    several = (
        "ops/recurrent.py",
        "ops/normalization.py",
        "ops/reductions.py",
        "ops/parts.py",
        "ops/pairs.py",
        "ops/attention.py",
        "ops/group_query.py",
        "program/kinds/reduce.py",
    )
    integers = ("ops/quantized.py", "ops/quantized_pools.py", "ops/integer_products.py")
    allowed = {*several, *integers, "program/builder.py", "program/steps.py", f"ops/{table}.py", "ops/elementwise.py"}
    named = rf"\b{kind.__name__}\.(?:{'|'.join(kind.__members__)})\b"
    found = {path.relative_to(PROVIDER).as_posix() for path in PROVIDER.rglob("*.py") if re.search(named, path.read_text())}
    assert found <= allowed


@pytest.mark.parametrize("reason", reasons.REASONS, ids=lambda reason: reason.code)
def test_every_reason_is_given(reason):
    """The constant is named like the code, and some file uses it."""
    name = reason.code.upper().replace("-", "_")
    assert getattr(reasons, name) is reason
    assert any(re.search(rf"\breasons\.{name}\b", path.read_text()) for path in SOURCES if path.name != "reasons.py")


def test_reasons_are_rows():
    """No other file makes a reason, or gives one as text."""
    for path in SOURCES:
        text = path.read_text()
        if path.name != "reasons.py":
            assert not re.search(r"\b(?:Finding|Reason)\(", text), path
        if path.is_relative_to(PROVIDER) and path.relative_to(PROVIDER).parts[0] in ("ops", "ort", "partition"):
            assert not re.search(r"""(?:\breason=|\.reason\b[^=\n]* = )f?["']\w""", text), path


def naming(pattern, folder=""):
    """The source files of the provider, or of a folder of it, in which a pattern occurs."""
    inside = [path for path in SOURCES if path.is_relative_to(PROVIDER / folder) and re.search(pattern, path.read_text())]
    return [path.relative_to(PROVIDER).as_posix() for path in inside]


def test_every_kind_of_step_has_two_rows():
    """One in each table, with data of its own type, or without data."""
    assert set(ROWS) == set(StepKind)
    types = [row.spec for row in ROWS.values() if row.spec is not type(None)]
    assert len(set(types)) == len(types)
    listed = re.findall(r"^row\(STEP_(\w+), \w+\)$", (PROVIDER / "runtime/_step_kinds.pyx").read_text(), re.M)
    assert sorted(listed) == sorted(StepKind.__members__)


@pytest.mark.parametrize("kind", StepKind, ids=lambda kind: kind.name)
def test_a_kind_of_step_is_named_once(kind):
    """In C in the table only; in Python in the file of its data, by the operators that become such steps, and by what fuses them."""
    assert naming(rf"\bSTEP_{kind.name}\b", "runtime/") == ["runtime/_step_kinds.pyx"]
    python = naming(rf"\bStepKind\.{kind.name}\b")
    assert len([name for name in python if name.startswith("program/kinds/")]) == 1
    assert all(name.startswith(("program/kinds/", "ops/")) or name == "program/builder.py" for name in python)


def test_families_do_not_know_the_table():
    """The table imports the families; of the rest of the runtime only what builds programs needs it."""
    assert naming(r"\b_step_kinds c?import\b") == ["runtime/_build.pyx"]
