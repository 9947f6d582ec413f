"""Sparse tile kernels, one module per instruction set, imported only where the CPU and the system allow it.

Private to `onnxruntime_ep_sparse`: the map is `docs/architecture.md`, the table of instruction sets and kernel variants `isa.py`.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
from functools import cache

from . import _cpu
from .isa import ISAS, byte_sets_for, isa_named, isas_for


def cpu_features() -> dict[str, bool]:
    """Return feature name -> whether CPU and operating system support it, for every feature that an instruction set needs."""
    return _cpu.features()


@cache
def compiled_isas() -> tuple[str, ...]:
    """Return the names of the instruction sets for which this build has kernels, best first."""
    return tuple(isa.name for isa in isas_for(platform.machine()) if importlib.util.find_spec(f"{__name__}.{isa.module}") is not None)


@cache
def available_isas() -> tuple[str, ...]:
    """Return the names of the compiled instruction sets that this CPU can run, best first. The last one runs on every CPU."""
    features = cpu_features()
    return tuple(isa.name for isa in ISAS if isa.name in compiled_isas() and all(features[f] for f in isa.features))


@cache
def available_byte_sets() -> tuple[str, ...]:
    """Return the names of the compiled sets of kernels for bytes that this CPU can run, best first."""
    features = cpu_features()
    return tuple(row.name for row in byte_sets_for(ISAS) if row.isa.name in available_isas() and all(features[f] for f in row.dot.features))


def best_byte_set(isa: str) -> str:
    """Return the name of the best set of kernels for bytes of an instruction set that this CPU can run, "" where there is none."""
    return next((row.name for row in byte_sets_for(ISAS) if row.isa.name == isa and row.name in available_byte_sets()), "")


def byte_table(name: str) -> object:
    """Return the capsule with the ByteKernels (see `table_bytes.pxd`) of a set: its name, or that of an instruction set for its best one.

    Raises ValueError for a set that cannot run here.
    """
    for row in byte_sets_for(ISAS):
        if name in (row.name, row.isa.name) and row.name in available_byte_sets():
            return importlib.import_module(f"{__name__}.{row.module}").table
    raise ValueError(f"kernels for bytes {name!r} are not available here; available: {', '.join(available_byte_sets())}")


def table(isa: str) -> object:
    """Return the capsule with the KernelTable (see `table.pxd`) of the instruction set named `isa`.

    Raises ValueError, which names the best available instruction set, for one that cannot run here.
    """
    if isa not in available_isas():
        raise ValueError(f"instruction set {isa!r} is not available here; best available: {available_isas()[0]!r}")
    return importlib.import_module(f"{__name__}.{isa_named(isa).module}").table
