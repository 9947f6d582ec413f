"""Memory that a session needs, measured in a fresh process."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..options import EP_NAME
from ..ort import registration
from ..ort.sessions import Feeds, Model, make_session


def memory_of(model: Model, provider: str, feeds: Feeds, options: Mapping[str, object] | None = None, threads: int = 0) -> float | None:
    """Return the resident memory in MB that a session needs, or None without /proc.

    It is the peak of a fresh process after three runs, minus the memory of the process before the session. RuntimeError if that fails.
    """
    if not Path("/proc/self/status").exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(model, bytes):
            path = Path(folder, "model.onnx")
            path.write_bytes(model)
        else:
            path = Path(model).absolute()
        inputs = Path(folder, "inputs.npz")
        np.savez(inputs, *feeds.values())
        job = {
            "model": os.fspath(path),
            "provider": provider,
            "options": {key: str(value) for key, value in (options or {}).items()},
            "threads": threads,
            "inputs": os.fspath(inputs),
            "names": list(feeds),
        }
        # -P: no module is imported from the working directory
        command = [sys.executable, "-P", "-c", f"from {__name__} import main; main()"]
        child = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False)
    if child.returncode:
        last = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise RuntimeError(f"measuring the memory of {provider} failed: {last}")
    return float(child.stdout.split()[-1])


def _memory_job(job: dict[str, Any]) -> float:
    """Return the memory that a session needs, in the fresh process of `memory_of`."""
    registration.runtime()
    if job["provider"] == EP_NAME:
        registration.register()
    with np.load(job["inputs"]) as archive:
        feeds = dict(zip(job["names"], archive.values(), strict=True))
    before = resident_mb("VmRSS")
    session = make_session(job["model"], job["provider"], job["options"], job["threads"])
    for _ in range(3):
        session.run(None, feeds)
    return resident_mb("VmHWM") - before


def resident_mb(field: str) -> float:
    """Return VmRSS (now) or VmHWM (peak) of this process in MB."""
    # not getrusage: its maximum outlives exec, and would be that of the parent process
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else math.nan


def main() -> None:
    """Read a job from stdin, and print the memory that it needs."""
    print(_memory_job(json.load(sys.stdin)))
