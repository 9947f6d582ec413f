"""Build of the two packages: kernels generated per instruction set, the provider as a Cython extension that is also the plugin library."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup

ROOT = Path(__file__).parent
PROVIDER = Path("provider/onnxruntime_ep_sparse")
KERNELS = Path("kernels/onnxruntime_ep_sparse_kernels")

os.chdir(ROOT)


def load_source(name: str, path: Path):
    """Import one build-time module from the source tree without importing its package (which needs the extensions built here)."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


instruction_sets = load_source("isa", KERNELS / "isa.py")
elementwise = load_source("elementwise", KERNELS / "elementwise.py")
generate = load_source("generate", KERNELS / "generate.py")
enums = load_source("enums", PROVIDER / "program" / "enums.py")
limits = load_source("limits", PROVIDER / "program" / "limits.py")

KERNEL_CONSTANTS = {name: getattr(instruction_sets, name) for name in ("APART", "SHARED", "STRIP")}
generate.write_enums(elementwise.C_PREFIXES, KERNEL_CONSTANTS, KERNELS / "_enums.pxd")
generate.write_enums(enums.C_PREFIXES, {name: getattr(limits, name) for name in limits.C_LIMITS}, PROVIDER / "runtime" / "_enums.pxd")

common = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden", "-Wno-unused-function"]
if os.environ.get("ORT_SPARSE_CFLAGS"):
    common += os.environ["ORT_SPARSE_CFLAGS"].split()


def extension(source: Path, flags: list[str] = (), depends: list[Path] = ()) -> Extension:
    """The extension module of one source; no module but the kernels of an instruction set gets `-m` flags.

    cythonize finds the .pxd files that a source cimports; `depends` lists what it cannot see.
    """
    script = source.with_suffix(".map")
    return Extension(
        ".".join(source.with_suffix("").parts[1:]),
        [str(source)],
        include_dirs=[str(KERNELS)],
        depends=[*map(str, depends)],
        extra_compile_args=[*common, *flags],
        extra_link_args=[f"-Wl,--version-script={script}"] if script.exists() and sys.platform == "linux" else [],
    )


extensions = []
for isa in instruction_sets.isas_for(platform.machine()):
    source = KERNELS / f"_isa_{isa.name}.pyx"
    generate.write(isa, KERNELS / "_isa.pyx.in", source)
    extensions.append(extension(source, [*isa.flags], [KERNELS / "simd.h"]))
for package in (KERNELS, PROVIDER):
    extensions += [extension(source) for source in sorted(package.rglob("*.pyx")) if not source.stem.startswith("_isa_")]

workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
setup(
    packages=find_packages("provider") + find_packages("kernels"),
    include_package_data=False,
    package_data={"": ["py.typed", "*.pyi"]},
    options={"build_ext": {"parallel": workers}},
    ext_modules=cythonize(
        extensions,
        include_path=["provider", "kernels"],
        nthreads=workers,
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "freethreading_compatible": True,
        },
    ),
)
