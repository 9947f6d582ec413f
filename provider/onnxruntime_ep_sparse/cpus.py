"""The CPUs of this process: how many it may use at once, by its affinity mask and the quotas of its container; and what they are."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from fractions import Fraction
from math import ceil
from pathlib import Path

ROOT = Path("/")


def usable(root: Path = ROOT) -> int:
    """Return the number of CPUs that threads of this process can use at once, at least 1.

    That is the number of CPUs in the affinity mask, or a smaller quota of a control group of Linux (version 1 or 2) that the process is
    in. A quota of one and a half CPUs counts as two, as in Java: where calls are short and rare, two threads end sooner.
    `root` is the folder in which `proc` and `sys` are.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, *map(ceil, quotas(root)), allowed)


def cores(root: Path = ROOT) -> int | None:
    """Return the number of physical cores of the machine, None if it does not tell.

    ONNX Runtime's pool has so many threads where nothing else is said, whatever the process may use.
    """
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list")
    return len({text for file in files if (text := _read(file))}) or None


def quotas(root: Path = ROOT) -> Iterator[Fraction]:
    """Yield the quotas, in CPUs, of all control groups that the process is in: its own ones and those around them."""
    mounted = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            for group in _and_around(path):
                yield from _quota(_read(mounted / group / "cpu.max").split())
        elif "cpu" in controllers.split(","):
            for group in _and_around(path):
                yield from _quota([_read(mounted / "cpu" / group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")])


def _and_around(path: str) -> Iterator[str]:
    """Yield the path of a control group and of all groups around it. Some of these do not exist inside of a container."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        yield "/".join(parts[:length])


def _quota(words: list[str]) -> Iterator[Fraction]:
    """Yield quota over period; nothing where there is no quota ("max" in version 2, -1 in version 1)."""
    if len(words) == 2 and all(word.isdecimal() and int(word) for word in words):
        yield Fraction(int(words[0]), int(words[1]))


def _read(file: Path) -> str:
    """Return the text of a file, nothing if it cannot be read."""
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""


def cpu_model() -> str:
    """Return the name of the CPU's model."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
