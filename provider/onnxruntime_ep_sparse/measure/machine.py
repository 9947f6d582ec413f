"""The machine that a measurement runs on."""

from __future__ import annotations

import os
from typing import Any

from .. import options
from .._version import __version__
from ..cpus import cpu_model
from ..ort import registration


def environment() -> dict[str, Any]:
    """Return the versions and the machine on which a measurement depends."""
    return {
        "version": __version__,
        "onnxruntime": registration.runtime().__version__,
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "isa": options.isa_of(options.parse({})).name,
        "byte_set": options.byte_set_of(options.parse({})),
    }
