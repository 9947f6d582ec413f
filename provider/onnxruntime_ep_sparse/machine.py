"""The machine that this process runs on."""

from __future__ import annotations

import platform
from pathlib import Path


def cpu_model() -> str:
    """Return the name of the CPU's model."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
