"""Instruction sets: what is built, what runs where, and that nothing else needs more than the baseline."""

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
from onnxruntime_ep_sparse_kernels.isa import ISAS, SHARED, X86, isas_for, kernel_name
from support.kernel_sets import SOURCES

PACKAGES = [Path(package.__file__).parent for package in (kernels, onnxruntime_ep_sparse)]
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.so"))
ON_X86 = platform.machine().lower() in X86


def test_table():
    """The best comes first, the baseline last; names differ; every feature is one that can be asked for."""
    lanes = [isa.lanes for isa in ISAS]
    assert lanes == sorted(lanes, reverse=True)
    assert ISAS[-1].features == ()
    assert len({isa.name for isa in ISAS}) == len(ISAS)
    assert {feature for isa in ISAS for feature in isa.features} <= set(kernels.cpu_features())


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_tiles(isa):
    """Tiles fit the kernel table and the vector registers, and every width up to the widest exists."""
    limits = dict(re.findall(r"(MAX_\w+) = (\d+)", (SOURCES / "onnxruntime_ep_sparse_kernels" / "table.pxd").read_text()))
    assert len(set(isa.tiles)) == len(isa.tiles)
    for mr, nv in isa.tiles:
        assert mr <= int(limits["MAX_MR"])
        assert nv <= int(limits["MAX_NV"])
        assert mr * nv + (nv if mr == SHARED else 0) + 1 <= isa.registers
    for mr in {mr for mr, _ in isa.tiles}:
        assert {nv for m, nv in isa.tiles if m == mr} == set(range(1, isa.widest(mr) + 1))


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_generate(isa, tmp_path):
    """The source has every kernel of the table, by its name; an unchanged file is left alone."""
    target = tmp_path / "kernels.pyx"
    for _ in range(2):
        generate.write_kernels(isa, SOURCES / "onnxruntime_ep_sparse_kernels", target)
        target.chmod(0o444)
    names = re.findall(r"cdef void (spmm\w+)\(", target.read_text())
    assert names == [kernel_name(isa, mr, nv) for mr, nv in isa.tiles]


def test_compiled():
    """The build has what this machine is worth; the baseline always runs."""
    assert kernels.compiled_isas() == tuple(isa.name for isa in isas_for(platform.machine()))
    assert kernels.available_isas()[-1] == "baseline"


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists() or not ON_X86, reason="needs Linux on x86")
def test_features():
    """They are those that the system reports."""
    reported = set(re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M)[1].split())
    assert kernels.cpu_features() == {name: name in reported for name in kernels.cpu_features()}


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
print([name for name in sys.modules if "._isa_" in name])
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
    isa = re.match(r"_isa_([^.]+)", module.name)
    lanes = next(i.lanes for i in ISAS if i.name == isa[1]) if isa else ISAS[-1].lanes
    assert ("%zmm" in code) == (lanes == 16)
    assert ("%ymm" in code) <= (lanes >= 8)
    assert (re.search(r"\tv[a-z]+ps ", code) is not None) == (lanes >= 8)
