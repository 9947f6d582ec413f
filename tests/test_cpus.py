"""How many CPUs a process may use: every form in which a container's quota is written, in folders made for it."""

import os

import pytest

from onnxruntime_ep_sparse import cpus, options
from support.cgroups import quota

MANY = 12
"""CPUs in the affinity mask of these tests."""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that writes the files of a machine, and returns its root folder."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(MANY)), raising=False)

    def make(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return make


V2 = {"proc/self/cgroup": "0::/pod/box\n"}
V1 = {"proc/self/cgroup": "9:name=systemd:/\n5:cpuset,cpuacct:/x\n4:cpu,cpuacct:/pod/box\n0::/\n"}


@pytest.mark.parametrize(
    ("files", "usable"),
    [
        ({}, MANY),
        ({"proc/self/cgroup": ""}, MANY),
        (V2, MANY),
        (V2 | {"sys/fs/cgroup/pod/box/cpu.max": "max 100000\n"}, MANY),
        (V2 | {"sys/fs/cgroup/pod/box/cpu.max": "200000 100000\n"}, 2),
        (V2 | {"sys/fs/cgroup/pod/box/cpu.max": "150000 100000\n"}, 2),
        (V2 | {"sys/fs/cgroup/pod/box/cpu.max": "1000 100000\n"}, 1),
        (V2 | {"sys/fs/cgroup/pod/box/cpu.max": "2400000 100000\n"}, MANY),
        (V2 | {"sys/fs/cgroup/pod/box/cpu.max": "max 100000\n", "sys/fs/cgroup/pod/cpu.max": "300000 100000\n"}, 3),
        (V2 | {"sys/fs/cgroup/pod/box/cpu.max": "400000 100000\n", "sys/fs/cgroup/pod/cpu.max": "300000 100000\n"}, 3),
        (V2 | {"sys/fs/cgroup/pod/box/cpu.max": "300000 100000\n", "sys/fs/cgroup/pod/cpu.max": "800000 100000\n"}, 3),
        # Inside of a container, the path may be the host's: only the container's own group is mounted.
        (V2 | {"sys/fs/cgroup/cpu.max": "50000 10000\n"}, 5),
        ({"proc/self/cgroup": "0::/../../box\n", "sys/fs/cgroup/cpu.max": "50000 10000\n"}, 5),
        ({"proc/self/cgroup": "0::/a:b\n", "sys/fs/cgroup/a:b/cpu.max": "50000 10000\n"}, 5),
        (V2 | {"sys/fs/cgroup/cpu.max": "nonsense\n"}, MANY),
        (V2 | {"sys/fs/cgroup/cpu.max": "100000 0\n"}, MANY),
        (V2 | {"sys/fs/cgroup/cpu.max": "100000\n"}, MANY),
        (V1 | {f"sys/fs/cgroup/cpu/pod/box/cpu.cfs_{key}_us": text for key, text in (("quota", "250000\n"), ("period", "100000\n"))}, 3),
        (V1 | {f"sys/fs/cgroup/cpu/cpu.cfs_{key}_us": text for key, text in (("quota", "400000\n"), ("period", "100000\n"))}, 4),
        (V1 | {f"sys/fs/cgroup/cpu/pod/cpu.cfs_{key}_us": text for key, text in (("quota", "-1\n"), ("period", "100000\n"))}, MANY),
        (V1 | {"sys/fs/cgroup/cpu/pod/cpu.cfs_quota_us": "100000\n"}, MANY),
    ],
)
def test_usable(machine, files, usable):
    """The smallest quota of the groups around the process, or the affinity mask."""
    assert cpus.usable(machine(files)) == usable


@pytest.mark.parametrize(("limit", "expected"), [(0.5, 1), (1, 1), (1.5, 2)])
def test_real_group(fresh, limit, expected):
    """A process in a control group of this system, if it may make one."""
    code = """
import sys
from onnxruntime_ep_sparse import cpus
before = cpus.usable()
open(sys.argv[1], "w").write("0")
assert cpus.usable() == min(before, int(sys.argv[2])), (before, cpus.usable())
"""
    with quota(limit) as group:
        fresh(code, group, expected)


def test_without_affinity(machine, monkeypatch):
    """Where the system has no affinity mask, all CPUs count."""
    root = machine({})
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert cpus.usable(root) == 7


def test_cores(machine):
    """CPUs with the same siblings are one core; without these files nothing is known."""
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    assert cpus.cores(machine({})) is None
    assert cpus.cores(machine({topology.format(i): f"{i % 6},{i % 6 + 6}\n" for i in range(12)})) == 6


@pytest.mark.parametrize(
    ("pool", "usable", "cores", "expected"),
    [(0, 8, 4, 4), (0, 2, 4, 2), (0, 8, None, 8), (1, 8, 4, 1), (8, 2, 4, 2), (8, 16, 4, 8), (6, 8, 4, 6)],
)
def test_expected_threads(monkeypatch, pool, usable, cores, expected):
    """A pool's threads that can work at once; ONNX Runtime's own choice is one per core."""
    monkeypatch.setattr(cpus, "usable", lambda: usable)
    monkeypatch.setattr(cpus, "cores", lambda: cores)
    assert options.expected_threads(pool) == expected
    assert options.workers_of(options.from_session({}, {}, pool)) == expected
    assert options.workers_of(options.from_session({options.SESSION_PREFIX + "threads": "5"}, {}, pool)) == 5
