"""Sparse tile kernels, one module per instruction set, imported only where the CPU and the system allow it.

Private to `onnxruntime_ep_sparse`: the map is `docs/architecture.md`, the table of instruction sets and kernel variants `isa.py`.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
from functools import cache

from . import _cpu
from .isa import ISAS, isa_named, isas_for


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


def table(isa: str) -> object:
    """Return the capsule with the KernelTable (see `table.pxd`) of the instruction set named `isa`.

    Raises ValueError, which names the best available instruction set, for one that cannot run here.
    """
    if isa not in available_isas():
        raise ValueError(f"instruction set {isa!r} is not available here; best available: {available_isas()[0]!r}")
    return importlib.import_module(f"{__name__}.{isa_named(isa).module}").table
