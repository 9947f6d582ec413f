"""Generated sources: every kernel variant of the table is written, and every function of the kernel table is filled."""

import os
import re
from dataclasses import replace

import pytest

from onnxruntime_ep_sparse_kernels import generate
from onnxruntime_ep_sparse_kernels.elementwise import Act, Op
from onnxruntime_ep_sparse_kernels.isa import DEPTHWISE, ISAS, SHARED, TOLD_FEATURES, byte_sets_for, kernel_name
from support.kernel_sets import BYTE_SETS, SETS, SOURCES

PACKAGE = SOURCES / "onnxruntime_ep_sparse_kernels"
EVERY_SET = pytest.mark.parametrize("isa", SETS, ids=lambda isa: isa.name)


def module_of(isa, folder):
    """The source of an instruction set's module."""
    target = folder / f"{isa.module}.pyx"
    generate.write_kernels(isa, PACKAGE, target)
    return target.read_text()


@EVERY_SET
def test_tile_kernels(isa, tmp_path):
    """The module has every tile kernel of the row by its name, and no other; each stands at its place in the kernel table."""
    source = module_of(isa, tmp_path)
    with_pixel = f"spmm_f32_{SHARED}x{isa.pixel_vectors}p_{isa.name}"
    assert re.findall(r"cdef void (spmm\w+)\(", source) == [*(kernel_name(isa, mr, nv) for mr, nv in isa.tiles), with_pixel]
    assert f"\nkernels.spmm_pixel = {with_pixel}\n" in source
    placed = {(int(mr), int(nv)): name for mr, nv, name in re.findall(r"^kernels\.spmm\[(\d+)\]\[(\d+)\] = (\w+)$", source, re.M)}
    assert placed == {(mr, nv): kernel_name(isa, mr, nv) for mr, nv in isa.tiles}
    widest = {int(mr): int(nv) for mr, nv in re.findall(r"^kernels\.widest\[(\d+)\] = (\d+)$", source, re.M)}
    assert widest == {mr: isa.widest(mr) for mr, _ in isa.tiles}


@EVERY_SET
def test_depthwise_kernels(isa, tmp_path):
    """The module has every 3x3 depthwise kernel of the list, and uses each."""
    source = module_of(isa, tmp_path)
    expected = {f"depthwise_3x3_{stride}{'_dilated' * d}" for stride, d in DEPTHWISE}
    assert set(re.findall(r"cdef void (depthwise_3x3_\w+)\(", source)) == expected
    assert set(re.findall(r"= (depthwise_3x3_\w+)$", source, re.M)) == expected


@EVERY_SET
def test_elementwise_kernels(isa, tmp_path):
    """The module has a kernel for each activation and binary operator, computes its expression and calls it for its number."""
    source = module_of(isa, tmp_path)
    functions = re.split(r"^cdef void (\w+)", source, flags=re.M)
    bodies = dict(zip(functions[1::2], functions[2::2], strict=True))
    for family, caller, prefix, kind in (("activate", "rows_activated", "ACT", Act), ("binary", "binary", "BINARY", Op)):
        expected = {f"{family}_{member.name.lower()}": member for member in kind}
        assert [name for name in bodies if name.startswith(f"{family}_")] == list(expected)
        assert all(member.expression in bodies[name] for name, member in expected.items())
        called = re.findall(rf"if \w+ == {prefix}_(\w+):\n        (\w+)\(", bodies[caller])
        assert called == [(member.name, name) for name, member in expected.items()]


@EVERY_SET
def test_kernel_table(isa, tmp_path):
    """The module fills every function of `table.pxd`."""
    declared = (PACKAGE / "table.pxd").read_text().split("ctypedef struct KernelTable:")[1]
    functions = re.findall(r"\(\*(\w+)\)\(", declared)
    assert len(functions) > 10
    assert sorted(re.findall(r"^kernels\.(\w+) = \1$", module_of(isa, tmp_path), re.M)) == sorted(functions)


@pytest.mark.parametrize("row", BYTE_SETS, ids=lambda row: row.name)
def test_byte_kernel_table(row, tmp_path):
    """The module of a set of kernels for bytes fills every function of `table_bytes.pxd`, those of tiles with kernels of its name."""
    generate.write_byte_kernels(row, PACKAGE, tmp_path / "source.pyx")
    source = (tmp_path / "source.pyx").read_text()
    declared = (PACKAGE / "table_bytes.pxd").read_text().split("ctypedef struct ByteKernels:")[1]
    functions, tiles = re.findall(r"\(\*(\w+)\)\(", declared), re.findall(r"spmm_bytes_t (\w+)", declared)
    assert len(functions) > 5
    assert sorted(re.findall(r"^kernels\.(\w+) = \1$", source, re.M)) == sorted(functions)
    assert dict(re.findall(r"^kernels\.(\w+) = (spmm_\w+)$", source, re.M)) == {form: f"spmm_u8_{form}_{row.name}" for form in tiles}


def test_families():
    """Every template is part of a generated source, once."""
    modules = ["module", "module_bytes"]
    text = "".join((PACKAGE / "templates" / f"{module}.pyx.in").read_text() for module in modules)
    families = re.findall(r'\{\{include\("(\w+)"\)\}\}', text)
    assert sorted([*families, *modules, "cpu"]) == sorted(path.name.split(".")[0] for path in (PACKAGE / "templates").iterdir())


def test_unchanged_source_is_left_alone(tmp_path):
    """Writing the same text again does not touch the file, so that nothing is compiled again."""
    for write in (lambda target: generate.write_kernels(ISAS[-1], PACKAGE, target), lambda target: generate.write_cpu(PACKAGE, target)):
        target = tmp_path / "source.pyx"
        target.unlink(missing_ok=True)
        write(target)
        os.utime(target, (1, 1))
        write(target)
        assert target.stat().st_mtime == 1


def test_features_of_a_new_row(tmp_path, monkeypatch):
    """A row brings its features into `_cpu.pyx`; the compiler is asked for them on x86 alone if the row is for x86."""
    rows = replace(ISAS[0], name="more", features=("more1",)), replace(ISAS[-1], name="other", machines=("other",), features=("more2",))
    monkeypatch.setattr(generate, "ISAS", (*ISAS, *rows))
    generate.write_cpu(PACKAGE, tmp_path / "cpu.pyx")
    source = (tmp_path / "cpu.pyx").read_text()
    names = re.search(r"names = \((.*)\)", source)[1].replace("'", "").split(", ")
    needed = {feature for row in byte_sets_for((*ISAS, *rows)) for feature in row.features}
    assert set(names) == needed | set(TOLD_FEATURES)
    asked = re.findall(r'case (\d+): return __builtin_cpu_supports\("([^"]+)"\)', source)
    assert all(names[int(number)] == name for number, name in asked)
    assert {name for _, name in asked} == set(names) - {"more2", "f16c"}  # gcc 12 cannot be asked for f16c: CPUID is
