"""Every set of kernels that the tests run: those of the build, and those of the widest vectors compiled for narrower ones."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import onnxruntime_ep_sparse_kernels as kernels
from onnxruntime_ep_sparse_kernels import generate
from onnxruntime_ep_sparse_kernels.isa import ISAS, kernel_name
from support.repository import ROOT

SOURCES = ROOT / "kernels"
WIDE, NARROWER = ISAS[:2]
EMULATED = replace(WIDE, name=f"{WIDE.name}_emulated", features=NARROWER.features, flags=NARROWER.flags, header=ISAS[-1].header)
"""The templates and the tiles of the widest vectors, for CPUs without them: the compiler makes two narrower vectors of one."""

SETS = (*ISAS, EMULATED)
TILES = [pytest.param(isa, mr, nv, id=kernel_name(isa, mr, nv)) for isa in SETS for mr, nv in isa.tiles]


@cache
def table_of(isa):
    """The capsule of a set's kernels; skips the test where this CPU or build lacks them."""
    if isa.name in kernels.available_isas():
        return kernels.table(isa.name)
    if isa is not EMULATED or not all(kernels.cpu_features()[feature] for feature in isa.features):
        pytest.skip(f"{isa.name} kernels cannot run here")
    with TemporaryDirectory() as folder:
        return build(isa, Path(folder)).table


def build(isa, folder):
    """Generate, compile and import the module of an instruction set, outside the package."""
    import importlib.util

    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    source = folder / f"{isa.module}.pyx"
    package = SOURCES / "onnxruntime_ep_sparse_kernels"
    generate.write_kernels(isa, package, source)
    extension = Extension(
        source.stem, [str(source)], include_dirs=[str(package)], extra_compile_args=["-O2", "-Wno-psabi", *isa.compile_args]
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
