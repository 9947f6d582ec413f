"""Sparse tile kernels, one module an instruction set, imported only where the CPU and the system allow it.

Private to `onnxruntime_ep_sparse`: the map is `docs/architecture.md`, the list of variants `isa.py`.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
from functools import cache

from . import _cpu
from .isa import ISAS, isas_for


def cpu_features() -> dict[str, bool]:
    """Instruction-set extensions of this CPU that the operating system lets programs use."""
    return _cpu.features()


@cache
def compiled_isas() -> tuple[str, ...]:
    """Names of the instruction sets this build has kernels for, best first."""
    return tuple(isa.name for isa in isas_for(platform.machine()) if importlib.util.find_spec(f"{__name__}._isa_{isa.name}") is not None)


@cache
def available_isas() -> tuple[str, ...]:
    """Names of the compiled instruction sets that this CPU can run, best first; `baseline` is always among them."""
    features = cpu_features()
    return tuple(isa.name for isa in ISAS if isa.name in compiled_isas() and all(features[f] for f in isa.features))


def table(isa: str) -> object:
    """The capsule with `isa`'s KernelTable (see `table.pxd`). ValueError for one that cannot run here, naming the best that can."""
    if isa not in available_isas():
        raise ValueError(f"instruction set {isa!r} is not available here; best available: {available_isas()[0]!r}")
    return importlib.import_module(f"{__name__}._isa_{isa}").table
