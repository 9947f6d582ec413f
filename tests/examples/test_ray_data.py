"""The example of Ray Data: its README's commands, stopped jobs, lost workers and hosts, wrong use."""

import fcntl
import json
import os
import runpy
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from support.examples import EXAMPLES, commands, words
from support.photos import by_single_session, fixed_batch_model

EXAMPLE = EXAMPLES / "ray_data"
CLASSIFY = [sys.executable, EXAMPLE / "classify.py"]
MAKE, RUN, AGAIN, CPU = commands(EXAMPLE / "README.md")[1:]
MANY = 1200
"""Images of jobs that are disturbed: enough that a part is written long before the end."""
DAMAGED = "0000/damaged.jpg"


@pytest.fixture(scope="module")
def environment():
    """Ray writes to a folder of its own, with a short name because of sockets in it; the token would else go to the home folder."""
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    folder = tempfile.mkdtemp(prefix="ray")
    own = {"RAY_TMPDIR": folder, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "RAY_USAGE_STATS_ENABLED": "0"}
    yield {**os.environ, **own, "PYTHONPATH": os.pathsep.join(paths)}
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def started(environment, tmp_path):
    """Start a command there as a context manager, which kills it, and all that it has started, if it still runs at the end."""

    @contextmanager
    def running(*command):
        with (tmp_path / "stderr.txt").open("w") as errors:
            process = subprocess.Popen(
                list(map(str, command)),
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()

    return running


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of many images, one of them damaged."""
    folder = tmp_path_factory.mktemp("many") / "photos"
    subprocess.run([sys.executable, EXAMPLE / "make_images.py", folder, "--count", str(MANY), "--size", "224"], check=True)
    (folder / DAMAGED).write_bytes((folder / "0000" / "0000007.jpg").read_bytes()[:2000])
    return folder


def rows_of(results):
    """All rows of a folder of results."""
    from pyarrow import parquet

    return [row for part in sorted(results.glob("part-*.parquet")) for row in parquet.read_table(part).to_pylist()]


def wait_for_part(results, process):
    """Return the rows of the first part once it is there."""
    for _ in range(2400):
        if rows := rows_of(results):
            return rows
        assert process.poll() is None, "the job ended before it wrote a part"
        time.sleep(0.05)
    raise AssertionError("no part was written in 120 s")


def check_each_once(rows, folder):
    """Every image has one row, and the damaged one has an error that says so."""
    assert sorted(row["path"] for row in rows) == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
    assert [row["path"] for row in rows if row["error"]] == [DAMAGED]
    assert all(len(row["classes"]) == len(row["values"]) == 5 for row in rows if not row["error"])


def test_readme(run, tmp_path):
    """The commands do what the README says, and results are those of a single session."""
    run(*words(MAKE, count="50"))
    assert "0 of 50 images had results, 50 are new, 0 cannot be read" in run(*words(RUN)).stdout
    assert run(*words(AGAIN)).stdout == "50 of 50 images had results, 0 are new, 0 cannot be read\n"
    assert "0 of 50 images had results, 50 are new, 0 cannot be read" in run(*words(CPU)).stdout
    outputs = by_single_session(tmp_path / "photos")
    for folder, exact in (("results", True), ("results-cpu", False)):
        rows = rows_of(tmp_path / folder)
        assert sorted(row["path"] for row in rows) == sorted(outputs)
        for row in rows:
            values = outputs[row["path"]][row["classes"]]
            np.testing.assert_allclose(row["values"], values, rtol=0, atol=0 if exact else 1e-4 * abs(outputs[row["path"]]).max())
            assert row["error"] is None


def test_own_model(run, tmp_path, many):
    """A model of a fixed batch, channels last; the whole output; errors are tried again once an image is mended."""
    photos = shutil.copytree(
        many / "0000", tmp_path / "photos", ignore=lambda _, names: [n for n in names if n[:7] > "0000009" and n[0] == "0"]
    )
    (tmp_path / "own.onnx").write_bytes(fixed_batch_model())
    image = "mean=0.5,std=0.5,fit=stretch"
    command = [*CLASSIFY, "photos", "results", "--model", "own.onnx", "--image", image, "--top", 0, "--workers", 1, "--json", "-"]
    summary = json.loads(run(*command).stdout)
    assert (summary["images"], summary["done"], summary["errors"]) == (11, 11, 1)
    shutil.copy(photos / "0000003.jpg", photos / "damaged.jpg")
    assert json.loads(run(*command).stdout)["done"] == 0
    assert json.loads(run(*command, "--retry-errors").stdout)["done"] == 1
    outputs = by_single_session(photos, fixed_batch_model(), image)
    rows = rows_of(tmp_path / "results")
    assert sorted(row["path"] for row in rows) == sorted(outputs)
    for row in rows:
        np.testing.assert_array_equal(np.array(row["values"], np.float32), outputs[row["path"]])


def test_worker_killed(started, tmp_path, many):
    """A worker dies by SIGKILL in mid-job: another one takes its place, and every image is in the results once."""
    with started(*CLASSIFY, many, "results", "--workers", 2, "--write-every", 0.1, "--json", "-") as job:
        rows = wait_for_part(tmp_path / "results", job)
        killed = rows[-1]["worker"]
        os.kill(int(killed.rpartition(":")[2]), signal.SIGKILL)
        summary = json.loads(job.communicate(timeout=240)[0])
    assert job.returncode == 0
    assert len(rows) < MANY
    assert summary["by_worker"].keys() > {killed}
    check_each_once(rows_of(tmp_path / "results"), many)


def test_job_killed(run, started, tmp_path, many):
    """The command itself dies by SIGKILL: nothing that was written is lost, and the same command does the rest."""
    command = [*CLASSIFY, many, "results", "--write-every", 0.1, "--json", "-"]
    results = tmp_path / "results"
    with started(*command) as job:
        wait_for_part(results, job)
        job.kill()
        job.wait()
        written = {path: path.read_bytes() for path in results.glob("part-*.parquet")}
        before = len(rows_of(results))
    summary = json.loads(run(*command).stdout)
    assert 0 < before <= MANY
    assert (summary["done_before"], summary["done"]) == (before, MANY + 1 - before)
    assert all(path.read_bytes() == content for path, content in written.items())
    check_each_once(rows_of(results), many)


@pytest.fixture
def hosts(environment, tmp_path):
    """Two network namespaces with a link and a Ray node of one CPU each; the addresses and commands that run in them."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("NOT TESTED: two hosts need root rights and the command ip (package iproute2)")
    tag = f"ray{os.getpid()}"
    names, addresses = (f"{tag}a", f"{tag}b"), ("10.77.0.1", "10.77.0.2")
    ray = Path(sys.executable).parent / "ray"
    node = ("--num-cpus", "1", "--object-store-memory", "200000000", "--disable-usage-stats")
    probe = subprocess.run(["ip", "netns", "add", names[0]], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"NOT TESTED: two hosts need network namespaces: {probe.stderr.strip()}")
    try:
        ip("netns", "add", names[1])
        ip("link", "add", "ray0", "netns", names[0], "type", "veth", "peer", "name", "ray0", "netns", names[1])
        for name, address in zip(names, addresses, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "ray0")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "ray0", "up")
        starts = (
            ("--head", "--port", "6379", "--include-dashboard", "false", "--temp-dir", environment["RAY_TMPDIR"]),
            ("--address", f"{addresses[0]}:6379"),
        )
        for name, address, start in zip(names, addresses, starts, strict=True):
            command = ["ip", "netns", "exec", name, str(ray), "start", *start, "--node-ip-address", address, *node]
            # to a file: daemons keep it open
            with (tmp_path / f"{name}.txt").open("w") as file:
                subprocess.run(command, env=environment, stdout=file, stderr=file, timeout=120, check=True)
        yield dict(zip(addresses, names, strict=True))
    finally:
        for name in names:
            kill_all_in(name)
            subprocess.run(["ip", "netns", "delete", name], check=False)


def ip(*arguments):
    """Run a command of iproute2 and return its output."""
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout


def kill_all_in(namespace):
    """Kill the processes of a host."""
    for pid in ip("netns", "pids", namespace).split():
        with suppress(ProcessLookupError):  # it has ended with its parent
            os.kill(int(pid), signal.SIGKILL)


def test_two_hosts(hosts, started, tmp_path, many):
    """Both hosts work. One is lost in mid-job: the other one does the rest, and every image is in the results once."""
    here, there = hosts
    inside = ["ip", "netns", "exec", hosts[here]]
    with started(*inside, *CLASSIFY, many, "results", "--address", f"{here}:6379", "--write-every", 0.1, "--json", "-") as job:
        while {row["worker"].partition(":")[0] for row in wait_for_part(tmp_path / "results", job)} != {here, there}:
            time.sleep(0.05)
        before = len(rows_of(tmp_path / "results"))
        kill_all_in(hosts[there])
        summary = json.loads(job.communicate(timeout=240)[0])
    assert job.returncode == 0
    assert before < MANY
    assert {worker.partition(":")[0] for worker in summary["by_worker"]} == {here, there}
    check_each_once(rows_of(tmp_path / "results"), many)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "results"], "there is no folder nowhere"),
        (["photos", "results", "--model", "none.onnx"], "there is no file none.onnx"),
        (["photos", "results", "--model", "text.onnx"], "cannot load text.onnx"),
        (["photos", "results", "--workers", "0"], "--workers must be at least 1"),
        (["photos", "results", "--by-path"], "--by-path needs --model"),
        (["photos", "results", "--output", "nothing"], "no output 'nothing'; the model has"),
        (["photos", "results", "--address", "127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1:1"),
        (["photos", "results", "--image", "size=much"], "expected size=224"),
    ],
)
def test_wrong_use(run, tmp_path, arguments, message):
    """One line that says what is wrong, before Ray is started."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no image")
    (tmp_path / "text.onnx").write_text("no model")
    (line,) = run(*CLASSIFY, *arguments, expect=2).stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_results_of_another_job(run, tmp_path):
    """Results of different jobs, or of two at a time, do not mix."""
    (tmp_path / "photos").mkdir()
    assert json.loads(run(*CLASSIFY, "photos", "results", "--json", "-").stdout)["images"] == 0
    error = run(*CLASSIFY, "photos", "results", "--top", 3, expect=2).stderr
    assert error == "error: results has results of another job (top differ): choose another folder for the results\n"
    with (tmp_path / "results" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(*CLASSIFY, "photos", "results", expect=2).stderr == "error: another job writes to results now\n"


def test_too_few_cpus(run, tmp_path):
    """Workers that wait for CPUs which are not there would wait for ever: an error."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no image")
    error = run(*CLASSIFY, "photos", "results", "--workers", 3, "--cpus", 2, expect=2).stderr
    assert error.splitlines()[-1] == "error: 3 workers with 1 thread(s) need 3 CPUs, and Ray has 2"


def test_results_folder(tmp_path):
    """Parts follow each other, and errors can be taken out of them."""
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install '.[ray]'")
    results_class = runpy.run_path(str(EXAMPLE / "results.py"))["Results"]

    def table(*paths, error=None):
        return pa.table({"path": list(paths), "error": pa.array([error] * len(paths), pa.string())})

    with results_class(tmp_path, {"top": 5}) as results:
        results.add(table("a", "b"))
        results.write()
        results.add(table("c", error="broken"))
        assert len(results.parts()) == 1
    with results_class(tmp_path, {"top": 5}) as results:
        assert [path.name for path in results.parts()] == ["part-000000.parquet", "part-000001.parquet"]
        assert results.done == {"a", "b", "c"}
        results.forget_errors()
        assert results.done == {"a", "b"}
        results.add(table("c"))
    assert [row["path"] for row in rows_of(tmp_path)] == ["a", "b", "c"]


def test_blocks(monkeypatch):
    """All paths in their order, in whole batches; the last blocks are small, so that no worker ends long after the others."""
    monkeypatch.syspath_prepend(EXAMPLE)
    pytest.importorskip("ray", reason="needs ray: pip install '.[ray]'")
    example = runpy.run_path(str(EXAMPLE / "classify.py"))
    for count in (1, 15, 16, 17, 500, 3000):
        paths = [f"{number}.jpg" for number in range(count)]
        for workers in (1, 2, 8):
            blocks = [block["path"].to_pylist() for block in example["blocks"](paths, 16, workers)]
            assert [path for block in blocks for path in block] == paths
            assert all(len(block) % 16 == 0 for block in blocks[:-1])
            sizes = [len(block) for block in blocks]
            assert sizes == sorted(sizes, reverse=True)
            assert sizes[0] <= 16 * example["BLOCK_BATCHES"]
            assert all(len(block) <= 16 for block in blocks[-workers:])
