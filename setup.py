"""Build of the two packages: kernels generated per instruction set, the provider as a Cython extension that is also the plugin library."""

from __future__ import annotations

import importlib
import os
import platform
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
PROVIDER = Path("provider/onnxruntime_ep_sparse")
KERNELS = Path("kernels/onnxruntime_ep_sparse_kernels")

os.chdir(ROOT)


def import_source(package: Path, *names: str) -> list[ModuleType]:
    """Import modules of a package from the source tree. Its `__init__.py`, which needs the extensions built here, is left out."""
    stub = sys.modules[package.name] = ModuleType(package.name)
    stub.__path__ = [str(package)]
    return [importlib.import_module(f"{package.name}.{name}") for name in names]


isa, elementwise, quantised, generate = import_source(KERNELS, "isa", "elementwise", "quantised", "generate")
enums, limits, version = import_source(PROVIDER, "program.enums", "program.limits", "_version")

runtime_constants = {**{name: getattr(limits, name) for name in limits.C_LIMITS}, "N_STEP_KINDS": len(enums.StepKind)}
generate.write_enums(quantised.C_PREFIXES, {}, KERNELS / "_byte_enums.pxd")
generate.write_enums(elementwise.C_PREFIXES, {name: getattr(isa, name) for name in isa.C_CONSTANTS}, KERNELS / "_enums.pxd")
generate.write_enums(enums.C_PREFIXES, runtime_constants, PROVIDER / "runtime" / "_enums.pxd")

# -g0: Python's own flags ask for debug information, which is most of a module's size; ORT_SPARSE_CFLAGS=-g1 brings it back
common = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden", "-Wno-unused-function"]
# names of what a module keeps to itself are a twelfth of the wheel; a debugger wants them
link = ["-Wl,--strip-all"] if sys.platform == "linux" and not os.environ.get("ORT_SPARSE_CFLAGS") else []
if os.environ.get("ORT_SPARSE_CFLAGS"):
    common += os.environ["ORT_SPARSE_CFLAGS"].split()


def index_page(version: str) -> str:
    """Return the README as a package index shows it: links into the repository lead to the files of this version's tag on the web.

    So do the pictures.
    """
    source = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
    text = re.sub(r"\]\((?![\w+.-]+:|#)", f"]({source}/blob/v{version}/", (ROOT / "README.md").read_text())
    return re.sub(r'\b(src|srcset)="(?![\w+.-]+:)', rf'\1="{source}/raw/v{version}/', text)


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
        extra_link_args=link + ([f"-Wl,--version-script={script}"] if script.exists() and sys.platform == "linux" else []),
    )


extensions = []
for row in isa.isas_for(platform.machine()):
    source = KERNELS / f"{row.module}.pyx"
    generate.write_kernels(row, KERNELS, source)
    headers = [path for path in sorted((KERNELS / "simd").glob("*.h")) if not path.stem.startswith("bytes")]
    extensions.append(extension(source, [*row.compile_args], [KERNELS / "isa.py", *headers]))
for row in isa.byte_sets_for(isa.isas_for(platform.machine())):
    source = KERNELS / f"{row.module}.pyx"
    generate.write_byte_kernels(row, KERNELS, source)
    extensions.append(extension(source, [*row.compile_args], [KERNELS / "isa.py", *sorted((KERNELS / "simd").glob("*.h"))]))
generate.write_cpu(KERNELS, KERNELS / "_cpu.pyx")
LOOPLESS = ("_arenas", "_build", "_cpu", "_gaps", "_mapped_files", "_program", "_weight_store")
for package in (KERNELS, PROVIDER):
    for source in sorted(package.rglob("*.pyx")):
        if not source.stem.startswith(("_isa_", "_bytes_")):
            # `ort/`, the calls of kernels from Python and LOOPLESS have no loops over elements that -O3 could widen: with it they are a
            # quarter larger and no faster
            small = source.parent.name == "ort" or source.stem.startswith("call") or source.stem in LOOPLESS
            extensions.append(extension(source, ["-O2"] if small else []))

# ORT_SPARSE_CYTHON_DEBUG=1 builds with the checks of Cython that cost time: indices of arrays, memoryviews without data.
debug = os.environ.get("ORT_SPARSE_CYTHON_DEBUG", "0") == "1"
directives = {
    "language_level": 3,
    "boundscheck": debug,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": debug,
    "freethreading_compatible": True,
}
workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class BuildExtensions(build_ext):
    """Translates the Cython sources when modules are built, and not for an sdist or for metadata: that takes 11 s on two cores."""

    def run(self) -> None:
        """Translate, compile and link what has changed."""
        # cythonize looks at time stamps alone: other directives than those of the last build make all sources anew
        stamp = ROOT / "build" / "cython_directives.txt"
        last = stamp.read_text() if stamp.exists() else None
        if last != str(directives):
            stamp.parent.mkdir(exist_ok=True)
            stamp.write_text("")  # some sources may have the new directives already if this build does not end
        translated = cythonize(
            self.extensions,
            include_path=["provider", "kernels"],
            nthreads=workers,
            force=last not in (None, str(directives)),
            compiler_directives=directives,
        )
        stamp.write_text(str(directives))
        sources = {module.name: module.sources for module in translated}
        for module in self.extensions:
            module.sources = sources[module.name]
        super().run()


setup(
    long_description=index_page(version.__version__),
    long_description_content_type="text/markdown",
    packages=find_packages("provider") + find_packages("kernels"),
    include_package_data=False,
    package_data={"": ["py.typed", "*.pyi", "*.j2", "*.css", "*.js"]},
    options={"build_ext": {"parallel": workers}},
    ext_modules=extensions,
    cmdclass={"build_ext": BuildExtensions},
)
