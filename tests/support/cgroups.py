"""Control groups of Linux with a quota of CPUs, as container engines make them for `--cpus`."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

MOUNTED = Path("/sys/fs/cgroup")
PERIOD = 100_000
"""Microseconds, the kernel's own choice."""


def _controllers(file):
    return file.read_text().split() if file.exists() else []


@contextmanager
def quota(cpus):
    """Make a group that may use so many CPUs; yields the file that a process writes 0 to in order to join it. Skips the test elsewhere."""
    name = f"onnxruntime_ep_sparse_test_{os.getpid()}"
    if "cpu" in _controllers(MOUNTED / "cgroup.subtree_control"):
        group, limits = MOUNTED / name, {"cpu.max": f"{int(cpus * PERIOD)} {PERIOD}"}
    else:
        group, limits = MOUNTED / "cpu" / name, {"cpu.cfs_period_us": f"{PERIOD}", "cpu.cfs_quota_us": f"{int(cpus * PERIOD)}"}
    try:
        group.mkdir()
        for file, value in limits.items():
            (group / file).write_text(value)
    except OSError as error:
        pytest.skip(f"needs the right to make control groups: {error}")
    try:
        yield group / "cgroup.procs"
    finally:
        group.rmdir()
