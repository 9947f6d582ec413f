"""Servers that fork their workers: what a session of the parent can still do in a child, by os.fork and by gunicorn --preload."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

MAKE = """
import json, os, sys, numpy as np, onnxruntime as ort, onnxruntime_ep_sparse as sparse
def make(path, threads, **entries):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    for key, value in entries.items():
        options.add_session_config_entry("session." + key, value)
    providers = [(sparse.EP_NAME, {"policy": "always"}), "CPUExecutionProvider"]
    session = ort.InferenceSession(path, options, providers=providers, enable_fallback=0)
    assert all(decision.taken for decision in sparse.explain(session))
    return session
def run(session):
    return session.run(None, {"x": np.ones((2, 16, 12, 12), np.float32)})[0]
sparse.register()
"""


@pytest.mark.parametrize("threads", [0, 2, 3])
@pytest.mark.parametrize("depth", [1, 2])
def test_threads_are_lost(fresh, model_file, threads, depth):
    """A child, and a child's child, are told that the parent's session has lost its threads; the parent's session goes on."""
    code = """
session = make(sys.argv[1], int(sys.argv[2]))
before = run(session)

def told():
    try:
        run(session)
    except Exception as error:
        return "created before a fork" in str(error) and "intra_op_num_threads=1" in str(error)
    return False

def code_of_child(depth):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    # not at the interpreter's end, where ONNX Runtime waits for threads that do not exist
    os._exit(code_of_child(depth - 1) if depth > 1 else 0 if told() else 1)

assert code_of_child(int(sys.argv[3])) == 0
assert np.array_equal(run(session), before)
"""
    fresh(MAKE + code, model_file, threads, depth)


@pytest.mark.parametrize("setting", ["options", "entry", "variable"])
def test_one_thread_survives(fresh, model_file, monkeypatch, setting):
    """A session of one thread, whatever asks for that, computes the same bits in children of any depth; they end by themselves."""
    if setting == "variable":
        monkeypatch.setenv("ORT_INTRA_OP_NUM_THREADS", "1")
    if setting != "options" and tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 28):
        pytest.skip(f"ONNX Runtime {onnxruntime.__version__} does not know this setting, 1.28 does")
    # The telemetry of ONNX Runtime 1.32 has a thread, for which every forked process waits when it ends, whatever it did
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    code = """
threads = 1 if sys.argv[2] == "options" else 0
session = make(sys.argv[1], threads, **({"intra_op_num_threads": "1"} if sys.argv[2] == "entry" else {}))
before = run(session)
for _ in range(2):
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        break
    assert np.array_equal(run(session), before)
"""
    fresh(MAKE + code, model_file, setting)


def test_session_of_the_child(fresh, model_file):
    """A child makes sessions of its own with threads, though its parent has registered the provider and has a session."""
    code = """
lost = make(sys.argv[1], 2)
child = os.fork()
if child == 0:
    own = make(sys.argv[1], 2)
    os._exit(0 if np.array_equal(run(own), run(own)) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
run(lost)
"""
    fresh(MAKE + code, model_file)


APPLICATION = """
session = make(sys.argv[-1], THREADS) if WHERE == "master" else None

def application(environ, start_response):
    global session
    session = session or make(sys.argv[-1], THREADS)
    try:
        status, answer = "200 OK", {"process": os.getpid(), "values": run(session).ravel()[:100].tolist()}
    except Exception as error:
        status, answer = "500 Internal Server Error", {"process": os.getpid(), "error": str(error)}
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
"""


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = str(path)

    def connect(self):
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def get(path):
    """The status and the answer to a request."""
    connection = Connection(path)
    connection.request("GET", "/")
    response = connection.getresponse()
    return response.status, json.loads(response.read())


@pytest.fixture
def gunicorn(tmp_path, model_file, anywhere):
    """A function that starts gunicorn with two preloaded workers, gets answers of both, and stops it; returns the answers."""
    pytest.importorskip("gunicorn", reason="needs gunicorn: pip install '.[test]'")

    def serve(where, threads, grace, *arguments):
        text = APPLICATION.replace("sys.argv[-1]", repr(str(model_file))).replace("WHERE", repr(where)).replace("THREADS", str(threads))
        (tmp_path / "server.py").write_text(MAKE + text)
        path = tmp_path / "socket"
        command = ["-m", "gunicorn", "--preload", "--workers", "2", "--graceful-timeout", str(grace), "--bind", f"unix:{path}", *arguments]
        log = (tmp_path / "log").open("w+")
        environment = {**anywhere, "ORT_DISABLE_TELEMETRY": "1"}
        server = subprocess.Popen([sys.executable, *command, "server:application"], cwd=tmp_path, env=environment, stderr=log)
        try:
            end = time.monotonic() + 120
            while not path.exists() or "Booting worker" not in (tmp_path / "log").read_text():
                assert server.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < end, (tmp_path / "log").read_text()
                time.sleep(0.1)
            answers = []
            while len({answer["process"] for _, answer in answers}) < 2:
                assert time.monotonic() < end, answers
                with ThreadPoolExecutor(4) as pool:
                    answers += pool.map(get, [path] * 4)
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=120) == 0
        finally:
            server.kill()
            server.wait()
            log.close()
        assert server.pid not in {answer["process"] for _, answer in answers}
        return answers

    return serve


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "threads", "arguments"),
    [("worker", 2, []), ("master", 1, []), ("master", 1, ["--worker-class", "gthread", "--threads", "2"])],
    ids=["session-of-the-worker", "one-thread", "one-thread-for-two-callers"],
)
def test_preload(gunicorn, session, model_file, where, threads, arguments):
    """The master registers the provider. Workers make sessions of their own, or share the master's if it has one thread; they end."""
    expected = session(model_file, {"policy": "always"}).run(None, {"x": np.ones((2, 16, 12, 12), np.float32)})[0].ravel()[:100].tolist()
    answers = gunicorn(where, threads, 3600, *arguments)  # seconds after which gunicorn would kill a worker that does not end
    assert all((status, answer["values"]) == (200, expected) for status, answer in answers), answers


@pytest.mark.slow
def test_preload_with_threads(gunicorn):
    """The master's session with threads: each request is answered, with the reason why it cannot be computed."""
    answers = gunicorn("master", 2, 1)
    assert all(status == 500 and "created before a fork" in answer["error"] for status, answer in answers), answers
