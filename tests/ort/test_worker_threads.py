"""Prefork servers (gunicorn --preload, uwsgi): the parent loads the application, forks workers, and forks again when one dies.

Each worker's session has as many threads as the worker can use: by its affinity mask, by the quota of its container.
"""

import contextlib
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork") or not os.path.isdir("/proc/self/task"), reason="not Linux")

SERVER = """\
import json, os, signal, sys
import numpy as np
import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import cpus

model, root, cpu_count, preload, pin = sys.argv[1:]
if root:  # the files of another machine
    usable = cpus.usable
    os.sched_getaffinity = lambda process: set(range(int(cpu_count)))
    cpus.usable, cpus.cores = lambda: usable(cpus.Path(root)), lambda: int(cpu_count)

factory = sparse.SessionFactory(model, {"policy": "always", "profile": "1"}, require_owned=True)
x = np.random.default_rng(1).standard_normal((2, 16, 12, 12)).astype(np.float32)
if preload == "session":
    session = factory()
    expected = session.run(None, {"x": x})[0]
else:
    session = expected = None

def serve(number, requests, answers):
    if pin == "pinned":
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[number % len(os.sched_getaffinity(0))]})
    sparse.register()  # onnxruntime has a thread of its own
    before = len(os.listdir("/proc/self/task"))
    mine = factory()
    os.write(answers, json.dumps({
        "threads": mine.get_session_options().intra_op_num_threads,
        "started": len(os.listdir("/proc/self/task")) - before,
        "cut_for": sorted({step.threads for step in sparse.step_times(mine)}),
    }).encode())
    while os.read(requests, 1):
        os.write(answers, mine.run(None, {"x": x})[0].tobytes())
    os._exit(0)

class Worker:
    def __init__(self, number):
        self.request, self.answers = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.request[1])
            for other in workers:
                os.close(other.request[1])
            serve(number, self.request[0], self.answers[1])
        os.close(self.request[0])
        os.close(self.answers[1])
        self.report = json.loads(os.read(self.answers[0], 4096))

    def ask(self):
        os.write(self.request[1], b"x")
        data = b""
        while len(data) < 2 * 24 * 12 * 12 * 4:
            data += os.read(self.answers[0], 65536)
        return data

    def end(self, how):
        if how:
            os.kill(self.pid, how)
        os.close(self.request[1])
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

workers = []
for number in range(3):
    workers.append(Worker(number))
answers = {worker.ask() for worker in workers for _ in range(3)}
dead = workers.pop(0)
assert dead.end(signal.SIGKILL) == -signal.SIGKILL
workers.append(Worker(3))
answers |= {worker.ask() for worker in workers}
assert len(answers) == 1
reports = [dead.report] + [worker.report for worker in workers]
assert [worker.end(None) for worker in workers] == [0, 0, 0]
assert (session or factory()).run(None, {"x": x})[0].tobytes() in answers
assert expected is None or expected.tobytes() in answers
print(json.dumps(reports))
"""


@pytest.fixture
def server(tmp_path, model_file, anywhere):
    """Serve with three workers, one of which is killed, and return what the four of them report."""

    def serve(*, root="", cpu_count=0, preload="session", pin="", before=()):
        script = tmp_path / "server.py"
        script.write_text(SERVER)
        command = [*before, sys.executable, script, model_file, root, str(cpu_count), preload, pin]
        process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=anywhere, cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout)

    return serve


def report(threads):
    """What a worker says of a session with so many threads: the caller's and those that it has started."""
    return {"threads": threads, "started": threads - 1, "cut_for": [threads]}


@pytest.mark.parametrize("preload", ["factory", "session"])
def test_pinned_workers(server, preload):
    """A worker that is pinned to a CPU after the fork has one thread, whatever the parent had."""
    assert server(preload=preload, pin="pinned") == [report(1)] * 4


@pytest.mark.parametrize(
    ("quota", "threads", "preload"), [("100000 100000", 1, "session"), ("150000 100000", 2, "factory"), ("max 100000", 3, "session")]
)
def test_workers_under_a_quota(server, tmp_path, quota, threads, preload):
    """Each worker has the threads that the quota of their container allows, on a machine with three CPUs."""
    for name, text in {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": quota + "\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert server(root=str(tmp_path), cpu_count=3, preload=preload) == [report(threads)] * 4


@pytest.fixture
def one_cpu_group():
    """The folder of a control group with a quota of one CPU, made for the test."""
    name = f"onnxruntime_ep_sparse_test_{uuid.uuid4().hex}"
    quotas = {"/sys/fs/cgroup/cpu": {"cpu.cfs_quota_us": "100000", "cpu.cfs_period_us": "100000"}, "/sys/fs/cgroup": {"cpu.max": "100000"}}
    for mounted, files in quotas.items():
        group = Path(mounted, name)
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            for file, text in files.items():
                if not (group / file).exists():
                    break
                (group / file).write_text(text)
            else:
                yield group
                return
        finally:
            with contextlib.suppress(OSError):  # it was never made
                group.rmdir()
    pytest.skip("NOT RUN under a real quota: needs the right to make a control group with a quota (root, writable /sys/fs/cgroup)")


def test_workers_under_a_real_quota(server, one_cpu_group):
    """The same in a control group of this system."""
    enter = ["sh", "-c", f'echo $$ > {one_cpu_group}/cgroup.procs && exec "$@"', "sh"]
    assert server(before=enter) == [report(1)] * 4
