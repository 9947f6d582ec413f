"""Every set of kernels that the tests run: those of the build, and those of the widest vectors compiled for narrower ones."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels import generate
from onnxruntime_ep_sparse_kernels.isa import ISAS, byte_sets_for, kernel_name
from support.repository import ROOT

SOURCES = ROOT / "kernels"
WIDE, NARROWER = ISAS[:2]
EMULATED = replace(
    WIDE,
    name=f"{WIDE.name}_emulated",
    features=NARROWER.features,
    flags=NARROWER.flags,
    header=ISAS[-1].header,
    byte_header=ISAS[-1].byte_header,
    dots=ISAS[-1].dots,
)
"""The templates and the tiles of the widest vectors, for CPUs without them: the compiler makes two narrower vectors of one."""

SETS = (*ISAS, EMULATED)
TILES = [pytest.param(isa, mr, nv, id=kernel_name(isa, mr, nv)) for isa in SETS for mr, nv in isa.tiles]
BYTE_SETS = byte_sets_for(SETS)
"""The sets of kernels for bytes."""
EVERY_BYTE_SET = pytest.mark.parametrize("row", BYTE_SETS, ids=lambda row: row.name)


@cache
def table_of(isa):
    """The capsule of a set's kernels; skips the test where this CPU or build lacks them."""
    if isa.name in kernels.available_isas():
        return kernels.table(isa.name)
    if isa is not EMULATED or not all(kernels.cpu_features()[feature] for feature in isa.features):
        pytest.skip(f"{isa.name} kernels cannot run here")
    with TemporaryDirectory() as folder:
        return build(isa, generate.write_kernels, Path(folder)).table


@cache
def byte_table_of(row):
    """The capsule of a set's kernels for bytes; skips the test where this CPU or build lacks them."""
    if row.name in kernels.available_byte_sets():
        return kernels.byte_table(row.name)
    if row.isa is not EMULATED or not all(kernels.cpu_features()[feature] for feature in row.features):
        pytest.skip(f"{row.name} kernels cannot run here")
    with TemporaryDirectory() as folder:
        return build(row, generate.write_byte_kernels, Path(folder)).table


def build(row, write, folder):
    """Generate, compile and import a module of kernels, outside the package. `write` writes its source."""
    import importlib.util

    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    source = folder / f"{row.module}.pyx"
    package = SOURCES / "onnxruntime_ep_sparse_kernels"
    write(row, package, source)
    extension = Extension(
        source.stem, [str(source)], include_dirs=[str(package)], extra_compile_args=["-O2", "-Wno-psabi", *row.compile_args]
    )
    modules = cythonize([extension], include_path=[str(SOURCES)], compiler_directives={"cdivision": True}, quiet=True)
    command = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
    command.build_lib = command.build_temp = str(folder)
    command.ensure_finalized()
    command.run()
    spec = importlib.util.spec_from_file_location(source.stem, command.get_ext_fullpath(source.stem))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
