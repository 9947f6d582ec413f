"""Instruction sets: one table, what is built, what runs where, and that nothing else needs more than the last row."""

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import onnxruntime_ep_sparse
import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels import generate
from onnxruntime_ep_sparse_kernels.isa import ISAS, SHARED, TOLD_FEATURES, X86, byte_sets_for, isa_named, isas_for
from support.kernel_sets import SOURCES
from support.repository import ROOT, is_generated, name_of

PACKAGE = SOURCES / "onnxruntime_ep_sparse_kernels"
PACKAGES = [Path(package.__file__).parent for package in (kernels, onnxruntime_ep_sparse)]
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.so"))
ON_X86 = platform.machine().lower() in X86
MAY_NAME_THEM = {
    "docs/generate.py": "the table of instruction sets for users",
    "docs/pictures.py": "the figures of the machine whose roofline it draws",
    "kernels/onnxruntime_ep_sparse_kernels/isa.py": "the table",
    "provider/onnxruntime_ep_sparse/ops/rates.py": "what calibrate.py has measured; one without rates takes those of the next",
    "provider/onnxruntime_ep_sparse/ops/quantized_costs.py": "what int8_rates.py has measured of ONNX Runtime",
    "provider/onnxruntime_ep_sparse/ops/byte_costs.py": "what int8_rates.py has measured of our products on bytes",
    "tests/kernels/test_isas.py": "the pattern of this test",
}
"""Files outside `simd/` that may name an instruction set or its intrinsics -> the reason."""


def test_table():
    """The best row comes first. The last one needs nothing and is built everywhere. Names differ, and every feature can be asked for."""
    lanes = [isa.lanes for isa in ISAS]
    assert lanes == sorted(lanes, reverse=True)
    assert (ISAS[-1].features, ISAS[-1].flags, ISAS[-1].machines) == ((), (), None)
    assert len({isa.name for isa in ISAS}) == len(ISAS)
    assert all(re.fullmatch("[a-z0-9]+", isa.name) for isa in ISAS)  # as compiled models may name them: ort/ep_context.py
    needed = {feature for row in byte_sets_for(ISAS) for feature in row.features}
    assert needed | set(TOLD_FEATURES) == set(kernels.cpu_features())
    assert not needed & set(TOLD_FEATURES)
    assert [isa_named(isa.name) for isa in ISAS] == list(ISAS)


@pytest.mark.parametrize("row", byte_sets_for(ISAS), ids=lambda row: row.name)
def test_flags_need_features(row):
    """On x86 the compiler may use exactly the features that are checked before the module is imported, and PREFETCHW, else a NOP."""
    if row.isa.machines == X86:
        flags = {flag for flag in row.isa.flags if "=" not in flag}
        assert flags - {"-mprfchw"} == {f"-m{feature}" for feature in row.isa.features}
        assert set(row.dot.flags) == {f"-m{feature}" for feature in row.dot.features}


def test_byte_sets():
    """Every instruction set has kernels for bytes that need nothing else, after the others; names differ and are no instruction set's."""
    sets = byte_sets_for(ISAS)
    names = {row.name for row in sets}
    assert len(names) == len(sets)
    assert not names & {isa.name for isa in ISAS}
    assert all((isa.dots[-1].features, isa.dots[-1].flags) == ((), ()) and all(dot.features for dot in isa.dots[:-1]) for isa in ISAS)
    available = kernels.available_byte_sets()
    assert {f"{name}_{isa_named(name).dots[-1].name}" for name in kernels.available_isas()} <= set(available) <= names
    for name in kernels.available_isas():
        best = next(found for found in available if found.rpartition("_")[0] == name)
        assert kernels.byte_table(name) is kernels.byte_table(best)
    with pytest.raises(ValueError, match="kernels for bytes 'none' are not available here; available: "):
        kernels.byte_table("none")


def test_machines():
    """A machine gets the rows that list it and those for all machines, in the order of the table; its name may be in capitals."""
    assert isas_for("unheard-of") == tuple(isa for isa in ISAS if isa.machines is None)
    for machine in {machine for isa in ISAS for machine in isa.machines or ()}:
        expected = tuple(isa for isa in ISAS if isa.machines is None or machine in isa.machines)
        assert isas_for(machine) == isas_for(machine.upper()) == expected


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_tiles(isa):
    """Tiles fit the vector registers, and every width up to the widest exists."""
    assert len(set(isa.tiles)) == len(isa.tiles)
    for mr, nv in isa.tiles:
        assert mr * nv + (nv if mr == SHARED else 0) + 1 <= isa.registers
    for mr in {mr for mr, _ in isa.tiles}:
        assert {nv for m, nv in isa.tiles if m == mr} == set(range(1, isa.widest(mr) + 1))
    for pixels in range(1, isa.dense_rows + 1):
        assert isa.dense_vectors(pixels) * (pixels + 1) + 1 <= isa.registers
    assert len(isa.few.sell) == len(isa.sell_pixels)


def test_primitives():
    """Every header of primitives defines the functions that the header which includes it lists, and a row names it."""
    headers = {path.name for path in (PACKAGE / "simd").iterdir()} - {"simd.h", "math.h", "bytes.h"}
    assert headers == {isa.header for isa in ISAS} | {isa.byte_header for isa in ISAS}
    for base, names in (("simd.h", {isa.header for isa in ISAS}), ("bytes.h", {isa.byte_header for isa in ISAS})):
        own = re.findall(r"\bv[fi]_\w+(?=\()", (PACKAGE / "simd" / base).read_text().split("*/")[0])
        for name in names:
            defined = re.findall(r"^static inline \w+ (v[fi]_\w+)\(", (PACKAGE / "simd" / name).read_text(), re.M)
            assert set(defined) - {"vi_zip"} == set(own), name


def test_named_in_one_place():
    """Only the table and the headers of primitives know instruction sets: adding one changes nothing else."""
    names = [isa.name for isa in ISAS if isa.features]
    pattern = re.compile("|".join([*names, *(f"__{name.upper()}" for name in names), r"immintrin", r"arm_neon", r"\b_mm\d*_"]))
    suffixes = (".py", ".pyi", ".pyx", ".pxd", ".in", ".h", ".toml")
    files = {path for folder in ("kernels", "provider", "tests", "docs") for path in (ROOT / folder).rglob("*")} | {*ROOT.glob("*.*")}
    found = {
        name_of(path)
        for path in files
        if path.suffix in suffixes and not is_generated(path) and path.parent != PACKAGE / "simd" and pattern.search(path.read_text())
    }
    assert found == set(MAY_NAME_THEM)


def test_compiled():
    """The build has the rows of this machine, and the last one can always run."""
    assert kernels.compiled_isas() == tuple(isa.name for isa in isas_for(platform.machine()))
    assert kernels.available_isas()[-1] == ISAS[-1].name


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists() or not ON_X86, reason="needs Linux on x86")
def test_features():
    """They are those that the system reports."""
    reported = set(re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M)[1].split())
    reported = {re.sub(r"[._]", "", feature) for feature in reported}
    assert kernels.cpu_features() == {name: re.sub(r"[.-]", "", name) in reported for name in kernels.cpu_features()}


def test_features_on_other_machines(tmp_path):
    """The code that asks for features compiles where the compiler knows nothing of x86."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    generate.write_cpu(PACKAGE, tmp_path / "cpu.pyx")
    (code,) = re.findall(r'cdef extern from \*:\n    """\n(.*?)"""', (tmp_path / "cpu.pyx").read_text(), re.S)
    (tmp_path / "cpu.c").write_text(code)
    command = ["cc", "-fsyntax-only", "-Wall", "-Werror", "-Wno-unused-function", "-U__x86_64__", "-U__i386__", "cpu.c"]
    subprocess.run(command, cwd=tmp_path, check=True)


def test_imported_where_they_run():
    """On a CPU without extensions no module with instructions of its own is loaded, whatever is asked for."""
    code = """
import sys
import onnxruntime_ep_sparse_kernels as kernels
known = dict.fromkeys(kernels.cpu_features(), False)
kernels.cpu_features = lambda: known
import onnxruntime_ep_sparse
from onnxruntime_ep_sparse import options
assert kernels.available_isas() == ("baseline",)
assert options.isa_of(options.parse({})).name == "baseline"
for isa in kernels.compiled_isas():
    try:
        kernels.table(isa)
    except ValueError as error:
        assert str(error) == f"instruction set {isa!r} is not available here; best available: 'baseline'"
    else:
        assert isa == "baseline"
print([name for name in sys.modules if "._isa_" in name or "._bytes_" in name])
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.stdout.strip() == "['onnxruntime_ep_sparse_kernels._isa_baseline']", process.stderr


@pytest.mark.skipif(not ON_X86, reason="reads x86 code")
@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name.split(".")[0])
def test_registers(module):
    """Machine code uses wide registers in the modules of the instruction sets that have them, and nowhere else."""
    objdump = shutil.which("objdump")
    if objdump is None:
        pytest.skip("needs objdump of binutils")
    code = subprocess.run([objdump, "-d", "--no-show-raw-insn", module], capture_output=True, text=True, check=True).stdout
    modules = {isa.module: isa.lanes for isa in ISAS} | {row.module: row.isa.lanes for row in byte_sets_for(ISAS)}
    lanes = modules.get(module.name.split(".")[0], ISAS[-1].lanes)
    assert ("%zmm" in code) == (lanes == 16)
    assert ("%ymm" in code) <= (lanes >= 8)
    assert (re.search(r"\tv[a-z]+ps ", code) is not None) == (lanes >= 8)
    assert ("vpdpbusd" in code) == any(row.module == module.name.split(".")[0] and bool(row.dot.features) for row in byte_sets_for(ISAS))
